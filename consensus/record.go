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

// check holds the record against the limits and its invariants. A difference that ran below zero when it was decoded has given a
// slot above the one that it was taken from.
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
	return r.checkTies()
}

// checkTies checks what binds this acceptor besides its ballots.
func (r *Record) checkTies() error {
	before := r.Accepted
	for i, p := range r.GlobalPromises {
		switch {
		case p == GlobalPromise{}:
			for _, rest := range r.GlobalPromises[i:] {
				if rest != (GlobalPromise{}) {
					return fmt.Errorf("global promise %s behind the last", rest.Ballot)
				}
			}
		case p.Ballot.Compare(before) <= 0 || r.Promised.Less(p.Ballot):
			return fmt.Errorf("global promise %s does not rise from %s to at most %s, promised", p.Ballot, before, r.Promised)
		default:
			if err := checkBallot(p.Ballot); err != nil {
				return fmt.Errorf("global promise: %w", err)
			}
			before = p.Ballot
		}
	}
	switch {
	case (r.Fort.Owner == 0) != (r.Fort.Epoch == 0):
		return fmt.Errorf("tied to node %d, epoch %d: only one of them is 0", r.Fort.Owner, r.Fort.Epoch)
	case (r.StopSlot == 0) != (r.StopNext == 0) || r.StopSlot > r.Commit:
		return fmt.Errorf("stop-sign to configuration %d in slot %d, commit %d", r.StopNext, r.StopSlot, r.Commit)
	case r.Accepted.IsZero() && !r.AcceptedHome.IsZero():
		return fmt.Errorf("a home of no accepted ballot")
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
