// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Record is what an acceptor must not forget of a group: one small row on disk. A group without one is untouched, which the
// zero Record says.
//
//	Accepted <= Promised
//	First-1 <= Applied <= Commit <= Last
type Record struct {
	// Promised is the highest ballot that this node has promised or accepted at; it answers no lower one.
	Promised Ballot
	// Accepted is the ballot at which the log was last accepted. The log is the log of that ballot's owner, up to Last.
	Accepted Ballot
	Last     Slot // of the log
	Commit   Slot // known here to be chosen
	Applied  Slot // in the state machine: the record is written in the batch that applies
	First    Slot // of the log that is kept: those before it are only in the state. Last+1 when nothing is kept
	// The commit times and the chains of the slots Last and Applied.
	LastTime, AppliedTime   Timestamp
	LastChain, AppliedChain uint64
	// Established is the highest configuration in which a log is known here to be chosen; phase 1 need not ask older ones.
	Established uint64
	// AcceptedHome is the home of Accepted, relative to its configuration.
	AcceptedHome quorum.Home
	// GlobalPromises are the global ballots above Accepted that this node has promised and that were not cancelled: rising,
	// zero from the first that is not used.
	GlobalPromises [GlobalPromisesMax]GlobalPromise
	// Fort is the owner's life that this acceptor is tied to.
	Fort Fort
	// StopSlot is the slot of the last stop-sign known here to be chosen, 0 for none, and StopNext the configuration that it
	// leads to: nothing follows it at a ballot of a lower one.
	StopSlot Slot
	StopNext uint64
}

// GlobalPromise is a promise to a global ballot. A sticky one stands for several: it cannot be cancelled.
type GlobalPromise struct {
	Ballot Ballot
	Sticky bool
}

// Fort names a life of an owner; zero for none.
type Fort struct {
	Owner NodeID
	Epoch uint64
}

// RecordLenMax bounds the layout of a Record, in bytes.
const RecordLenMax = 528

// Layout of a record:
//
//	1        version, 2
//	1        flags: 1 = Accepted is Promised, 2 = Applied is Last
//	v v v    Promised: configuration, round, node
//	v v v    Accepted, unless flag 1
//	v v v    Last, Last-Commit, Commit-Applied; only the first if flag 2
//	v v      First, Established
//	v*4      AcceptedHome
//	(v v v v)*4  GlobalPromises: ballot, sticky
//	v v      Fort: owner, epoch
//	v v      StopSlot, StopNext
//	8        LastTime, little endian
//	8        LastChain, little endian
//	8 8      AppliedTime, AppliedChain, little endian, unless flag 2
//	4        CRC-32C of all that, little endian
//
// v is an unsigned varint in its shortest form, and a flag is set where it can be, so that a record has one layout only.
const (
	recordVersion = 2

	flagAcceptedIsPromised = 1 << 0
	flagAppliedIsLast      = 1 << 1
)

// Append appends r as it lies on disk, at most RecordLenMax bytes.
func (r *Record) Append(dst []byte) []byte {
	start := len(dst)
	flags := byte(0)
	if r.Accepted == r.Promised {
		flags |= flagAcceptedIsPromised
	}
	if r.Applied == r.Last {
		flags |= flagAppliedIsLast
	}
	w := writer{append(dst, recordVersion, flags)}
	w.ballot(r.Promised)
	if flags&flagAcceptedIsPromised == 0 {
		w.ballot(r.Accepted)
	}
	w.uvarint(uint64(r.Last))
	if flags&flagAppliedIsLast == 0 {
		w.uvarint(uint64(r.Last - r.Commit))
		w.uvarint(uint64(r.Commit - r.Applied))
	}
	w.uvarint(uint64(r.First))
	w.uvarint(r.Established)
	for _, h := range r.AcceptedHome.Words() {
		w.uvarint(h)
	}
	for i := range r.GlobalPromises {
		w.ballot(r.GlobalPromises[i].Ballot)
		if r.GlobalPromises[i].Sticky {
			w.uvarint(1)
		} else {
			w.uvarint(0)
		}
	}
	w.uvarint(uint64(r.Fort.Owner))
	w.uvarint(r.Fort.Epoch)
	w.uvarint(uint64(r.StopSlot))
	w.uvarint(r.StopNext)
	w.fixed64(r.LastTime)
	w.fixed64(r.LastChain)
	if flags&flagAppliedIsLast == 0 {
		w.fixed64(r.AppliedTime)
		w.fixed64(r.AppliedChain)
	}
	return w.checksum(start)
}

// DecodeRecord reads what Append wrote, and nothing after it. Every error is ErrCorrupt.
func DecodeRecord(src []byte) (Record, error) {
	var rec Record
	r := newReader(src, recordVersion, "record")
	flags := r.byte()
	rec.Promised = r.ballot()
	rec.Accepted = rec.Promised
	if flags&flagAcceptedIsPromised == 0 {
		rec.Accepted = r.ballot()
	}
	rec.Last = Slot(r.uvarint())
	rec.Commit, rec.Applied = rec.Last, rec.Last
	if flags&flagAppliedIsLast == 0 {
		rec.Commit = rec.Last - Slot(r.uvarint())
		rec.Applied = rec.Commit - Slot(r.uvarint())
	}
	rec.First = Slot(r.uvarint())
	rec.Established = r.uvarint()
	var home [quorum.HomeWords]uint64
	for i := range home {
		home[i] = r.uvarint()
	}
	rec.AcceptedHome = quorum.HomeFromWords(home)
	for i := range rec.GlobalPromises {
		rec.GlobalPromises[i] = GlobalPromise{r.ballot(), r.uvarint() != 0}
	}
	rec.Fort = Fort{NodeID(r.uvarint()), r.uvarint()}
	rec.StopSlot, rec.StopNext = Slot(r.uvarint()), r.uvarint()
	rec.LastTime = r.fixed64()
	rec.LastChain = r.fixed64()
	rec.AppliedTime, rec.AppliedChain = rec.LastTime, rec.LastChain
	if flags&flagAppliedIsLast == 0 {
		rec.AppliedTime = r.fixed64()
		rec.AppliedChain = r.fixed64()
	}
	if r.err == nil {
		switch {
		case flags&^(flagAcceptedIsPromised|flagAppliedIsLast) != 0:
			r.fail("unknown flags %#x", flags)
		case flags&flagAcceptedIsPromised == 0 && rec.Accepted == rec.Promised,
			flags&flagAppliedIsLast == 0 && rec.Applied == rec.Last:
			r.fail("a flag is not set that could be")
		}
	}
	if err := r.close(); err != nil {
		return Record{}, err
	}
	if err := rec.check(); err != nil {
		return Record{}, fmt.Errorf("%w: record: %w", ErrCorrupt, err)
	}
	return rec, nil
}

// check holds the record against the limits and its invariants. A difference that ran below zero when it was decoded is
// above SlotMax here.
func (r *Record) check() error {
	if *r == (Record{}) {
		return nil
	}
	switch {
	case r.Last > SlotMax || r.Commit > r.Last || r.Applied > r.Commit:
		return fmt.Errorf("applied %d, commit %d, last %d do not rise to at most %d", r.Applied, r.Commit, r.Last, SlotMax)
	case r.First == 0 || r.First > r.Applied+1:
		return fmt.Errorf("first %d is not between 1 and applied+1 = %d", r.First, r.Applied+1)
	case r.Promised.Less(r.Accepted):
		return fmt.Errorf("accepted %s is above promised %s", r.Accepted, r.Promised)
	case r.Applied == r.Last && (r.AppliedTime != r.LastTime || r.AppliedChain != r.LastChain):
		return fmt.Errorf("slot %d, applied and last, has two times or chains", r.Last)
	case r.Applied < r.Last && r.AppliedTime >= r.LastTime:
		return fmt.Errorf("time %d of slot %d does not rise to %d of slot %d", r.AppliedTime, r.Applied, r.LastTime, r.Last)
	}
	if err := checkPoint(r.Last, r.LastTime, r.LastChain); err != nil {
		return err
	}
	if err := checkPoint(r.Applied, r.AppliedTime, r.AppliedChain); err != nil {
		return err
	}
	for _, b := range [2]Ballot{r.Promised, r.Accepted} {
		if b.IsZero() {
			continue
		}
		if err := checkBallot(b); err != nil {
			return err
		}
	}
	return nil
}

// checkPoint checks what is remembered of a slot. Before the first slot there is nothing.
func checkPoint(slot Slot, at Timestamp, chain uint64) error {
	if slot == 0 && (at != 0 || chain != 0) {
		return fmt.Errorf("time %d and chain %016x before the first slot", at, chain)
	}
	if slot > 0 && (at == 0 || at > TimeMax) {
		return fmt.Errorf("time %d of slot %d is not between 1 and %d", at, slot, TimeMax)
	}
	return nil
}
