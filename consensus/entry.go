// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"
	"hash/crc32"
)

// Entry is one slot of a log. Entries are values that never change: the core hands out the slices that it keeps.
type Entry struct {
	Slot    Slot
	Ballot  Ballot    // at which its owner first proposed it; a later owner that adopts the log leaves it as it is
	Time    Timestamp // commit time, above that of the slot before
	Payload []byte    // of a command: opaque to this package, at most PayloadLenMax
	Chain   uint64    // see chain
	Kind    EntryKind
	// Session and Seq are the identity of the request that a command came from; 0 and 0 for none.
	Session, Seq uint64
	// Next, of a stop-sign, is the configuration that it leads to.
	Next uint64
}

// EntryKind says what an entry is.
type EntryKind uint8

// The kinds.
const (
	// Command is a payload for the state machine.
	Command EntryKind = iota
	// StopSign ends the log for ballots of configurations below Next.
	StopSign
)

// chain is the hash of a log up to and with e, from the chain of the slot before it (0 before the first). Logs with equal
// chains at a slot are equal up to there. It detects mistakes and decay; it does not authenticate: whoever can choose
// payloads can make two with one hash.
//
// The payload goes in as two CRCs of different polynomials, since the standard library computes those at memory speed.
func chain(before uint64, e *Entry) uint64 {
	h := mix(before ^ 0x9e3779b97f4a7c15)
	h = mix(h ^ uint64(e.Slot))
	h = mix(h ^ e.Ballot.Cfg)
	h = mix(h ^ e.Ballot.Round)
	h = mix(h ^ uint64(e.Ballot.Node))
	h = mix(h ^ e.Time)
	h = mix(h ^ (uint64(len(e.Payload)) | uint64(e.Kind)<<32))
	h = mix(h ^ e.Session)
	h = mix(h ^ e.Seq)
	h = mix(h ^ e.Next)
	return mix(h ^ (uint64(crc32.Checksum(e.Payload, castagnoli))<<32 | uint64(crc32.ChecksumIEEE(e.Payload))))
}

// mix is the finalizer of MurmurHash3: a bijection of 64 bits in which each bit of the input moves half of the output.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// Layout of an entry:
//
//	1      version, 2
//	v      slot
//	v v v  ballot: configuration, round, node
//	8      commit time, little endian
//	8      chain, little endian
//	v v v v  kind, session, seq, next
//	v      length of the payload
//	...    payload
//	4      CRC-32C of all that, little endian
//
// v is an unsigned varint in its shortest form, so that an entry has one layout only.
const entryVersion = 2

// AppendTo appends e as it lies on disk and on the wire.
func (e *Entry) AppendTo(dst []byte) []byte {
	start := len(dst)
	w := writer{append(dst, entryVersion)}
	w.uvarint(uint64(e.Slot))
	w.ballot(e.Ballot)
	w.fixed64(e.Time)
	w.fixed64(e.Chain)
	w.uvarint(uint64(e.Kind))
	w.uvarint(e.Session)
	w.uvarint(e.Seq)
	w.uvarint(e.Next)
	w.uvarint(uint64(len(e.Payload)))
	w.buf = append(w.buf, e.Payload...)
	return w.checksum(start)
}

// DecodeEntry reads what AppendTo wrote, and nothing after it. Payload aliases src. Every error is ErrCorrupt.
func DecodeEntry(src []byte) (Entry, error) {
	var e Entry
	r := newReader(src, entryVersion, "entry")
	e.Slot = Slot(r.uvarint())
	e.Ballot = r.ballot()
	e.Time = r.fixed64()
	e.Chain = r.fixed64()
	kind := r.uvarint()
	if kind > uint64(StopSign) {
		r.fail("unknown kind %d", kind)
	}
	e.Kind = EntryKind(kind)
	e.Session, e.Seq, e.Next = r.uvarint(), r.uvarint(), r.uvarint()
	e.Payload = r.bytes(r.uvarint(), PayloadLenMax)
	if err := r.close(); err != nil {
		return Entry{}, err
	}
	if err := e.check(); err != nil {
		return Entry{}, fmt.Errorf("%w: entry: %w", ErrCorrupt, err)
	}
	return e, nil
}

// check holds the entry against the limits. Its errors have no class: who calls knows where the entry came from.
func (e *Entry) check() error {
	switch {
	case e.Slot == 0 || e.Slot > SlotMax:
		return fmt.Errorf("slot %d is not between 1 and %d", e.Slot, SlotMax)
	case e.Time == 0 || e.Time > TimeMax:
		return fmt.Errorf("time %d is not between 1 and %d", e.Time, TimeMax)
	case len(e.Payload) > PayloadLenMax:
		return fmt.Errorf("payload of %d bytes exceeds limit %d", len(e.Payload), PayloadLenMax)
	case e.Kind > StopSign:
		return fmt.Errorf("unknown kind %d", e.Kind)
	case (e.Session == 0) != (e.Seq == 0):
		return fmt.Errorf("session %d and seq %d: only one of them is 0", e.Session, e.Seq)
	case e.Kind == Command && e.Next != 0:
		return fmt.Errorf("a command that leads to configuration %d", e.Next)
	case e.Kind == StopSign && (e.Next <= e.Ballot.Cfg || e.Session != 0 || len(e.Payload) > 0):
		return fmt.Errorf("a stop-sign to configuration %d at ballot %s, session %d, payload of %d bytes", e.Next, e.Ballot, e.Session, len(e.Payload))
	}
	return checkBallot(e.Ballot)
}

func checkBallot(b Ballot) error {
	if b.Round == 0 || b.Round > RoundMax || b.Node == 0 {
		return fmt.Errorf("ballot %s: want a node and a round between 1 and %d", b, uint64(RoundMax))
	}
	return nil
}

// checkRun checks that the entries are a piece of one log: each within the limits, slots without a gap from the one after
// `before`, times rising, chains that follow from chainBefore.
func checkRun(before Slot, chainBefore uint64, entries []Entry) error {
	var timeBefore Timestamp
	for i := range entries {
		e := &entries[i]
		if err := e.check(); err != nil {
			return err
		}
		if e.Slot != before+1 {
			return fmt.Errorf("slot %d follows slot %d", e.Slot, before)
		}
		if e.Time <= timeBefore {
			return fmt.Errorf("slot %d: time %d does not rise from %d", e.Slot, e.Time, timeBefore)
		}
		if want := chain(chainBefore, e); e.Chain != want {
			return fmt.Errorf("slot %d: chain %016x, computed %016x", e.Slot, e.Chain, want)
		}
		before, chainBefore, timeBefore = e.Slot, e.Chain, e.Time
	}
	return nil
}
