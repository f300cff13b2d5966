// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// image is what a disk holds of the group. Its slices are never changed in place: images share them.
type image struct {
	rec consensus.Record
	log []consensus.Entry // slots rising without a gap
	// The state machine: the last slot applied, and the chain of the log up to it, which stands for the state.
	slot   consensus.Slot
	chain  uint64
	minCfg uint64 // sealed below
	minEps []minEpoch
}

// minEpoch: the node will never again support an epoch of node below epoch.
type minEpoch struct {
	node  uint8 // index
	epoch uint8
}

// batch is one atomic write.
type batch struct {
	rec        *consensus.Record
	truncate   consensus.Slot
	compact    consensus.Slot
	entries    []consensus.Entry
	committed  []consensus.Entry
	snapshot   bool
	snapSlot   consensus.Slot
	snapChain  uint64
	withdrawal []minEpoch
}

func (b *batch) empty() bool {
	return b.rec == nil && b.truncate == 0 && b.compact == 0 && len(b.entries) == 0 && len(b.committed) == 0 && !b.snapshot && len(b.withdrawal) == 0
}

// write does the batch. An error is a violation: the core asks for what makes no sense.
func (im *image) write(b *batch) error {
	if b.snapshot {
		im.log, im.slot, im.chain = nil, b.snapSlot, b.snapChain
	}
	if b.truncate != 0 {
		im.log = before(im.log, b.truncate)
	}
	for i := range b.entries {
		if n := len(im.log); n > 0 && im.log[n-1].Slot+1 != b.entries[i].Slot {
			return fmt.Errorf("I5: slot %d is written after slot %d", b.entries[i].Slot, im.log[n-1].Slot)
		}
		im.log = append(im.log[:len(im.log):len(im.log)], b.entries[i])
	}
	for i := range b.committed {
		e := &b.committed[i]
		if e.Slot != im.slot+1 {
			return fmt.Errorf("I6: slot %d is applied after slot %d", e.Slot, im.slot)
		}
		im.slot, im.chain = e.Slot, e.Chain
	}
	if b.compact != 0 {
		n := 0
		for n < len(im.log) && im.log[n].Slot <= b.compact {
			n++
		}
		im.log = im.log[n:]
	}
	for _, w := range b.withdrawal {
		im.minEps = raise(im.minEps, w)
	}
	if b.rec != nil {
		if b.rec.Promised.Less(im.rec.Promised) {
			return fmt.Errorf("I3: promised %s after %s", b.rec.Promised, im.rec.Promised)
		}
		im.rec = *b.rec
	}
	return im.check()
}

// raise returns the list with w in it.
func raise(list []minEpoch, w minEpoch) []minEpoch {
	list = slices.Clone(list)
	for i := range list {
		if list[i].node == w.node {
			list[i].epoch = max(list[i].epoch, w.epoch)
			return list
		}
	}
	list = append(list, w)
	slices.SortFunc(list, func(a, b minEpoch) int { return int(a.node) - int(b.node) })
	return list
}

func before(log []consensus.Entry, slot consensus.Slot) []consensus.Entry {
	n := len(log)
	for n > 0 && log[n-1].Slot >= slot {
		n--
	}
	return log[:n:n]
}

// check holds the image against the record: I3, I5, I6, I9 and I10 as far as one disk shows them.
func (im *image) check() error {
	r := &im.rec
	switch {
	case *r == (consensus.Record{}):
		return nil
	case r.Promised.Less(r.Accepted):
		return fmt.Errorf("I3: accepted %s above promised %s", r.Accepted, r.Promised)
	case r.First == 0 || r.First > r.Applied+1 || r.Applied > r.Commit || r.Commit > r.Last:
		return fmt.Errorf("I6: first %d, applied %d, commit %d, last %d", r.First, r.Applied, r.Commit, r.Last)
	case im.slot != r.Applied || im.chain != r.AppliedChain:
		return fmt.Errorf("I6: state at slot %d chain %016x, record says %d %016x", im.slot, im.chain, r.Applied, r.AppliedChain)
	case consensus.Slot(len(im.log)) != r.Last+1-r.First:
		return fmt.Errorf("I5: log of %d entries, record says slots %d..%d", len(im.log), r.First, r.Last)
	}
	for i := range im.log {
		e := &im.log[i]
		if e.Slot != r.First+consensus.Slot(i) {
			return fmt.Errorf("I5: slot %d where %d belongs", e.Slot, r.First+consensus.Slot(i))
		}
		if i > 0 && e.Time <= im.log[i-1].Time {
			return fmt.Errorf("I9: slot %d has time %d after %d", e.Slot, e.Time, im.log[i-1].Time)
		}
		if i > 0 && stops(&im.log[i-1], e) {
			return fmt.Errorf("I10: slot %d at %s follows a stop-sign of its version", e.Slot, e.Ballot)
		}
	}
	if n := len(im.log); n > 0 && im.log[n-1].Chain != r.LastChain {
		return fmt.Errorf("I5: slot %d has chain %016x, record says %016x", r.Last, im.log[n-1].Chain, r.LastChain)
	}
	return nil
}

// entries implements consensus.Log over an image.
type logView struct{ im *image }

func (v *logView) Entries(lo, hi consensus.Slot, maxBytes int) ([]consensus.Entry, error) {
	log := v.im.log
	if len(log) == 0 || lo < log[0].Slot || hi > log[len(log)-1].Slot || lo > hi {
		return nil, fmt.Errorf("slots %d..%d are not in the log", lo, hi)
	}
	first := log[0].Slot
	var entries []consensus.Entry
	size := 0
	for s := lo; s <= hi && size <= maxBytes; s++ {
		entries = append(entries, log[s-first])
		size += len(log[s-first].Payload)
	}
	return entries, nil
}
