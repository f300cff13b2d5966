// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// Outcome is what a client learned of an operation in the end.
type Outcome uint8

// The outcomes. Refused is a condition that did not hold, judged when it was applied; NotDone is certain never to take effect.
const (
	Done Outcome = iota + 1
	Refused
	NotDone
	Unknown
)

var outcomeNames = [...]string{Done: "done", Refused: "refused", NotDone: "not done", Unknown: "unknown"}

// Op is one operation of one client on one key.
type Op struct {
	Client, Group, Key int
	Call, Return       Time
	Outcome            Outcome
	// Value is what was written or read, 0 is nothing; no two writes have one value. Version is that which was written or
	// found: the slot; 0 is a key that was never changed.
	Value       uint64
	Version     consensus.Slot
	Conditional bool
	Expect      consensus.Slot
	// Floor is the highest version that any operation on the key had returned before this one was called.
	Floor consensus.Slot

	verb         verb
	session, seq uint64
}

// Read reports whether the operation changes nothing.
func (o *Op) Read() bool { return o.verb == verbGet }

func (o Op) String() string {
	s := fmt.Sprintf("client %d [%v, %v] %s g%d.%d", o.Client, o.Call, o.Return, o.verb, o.Group, o.Key)
	if o.Value != 0 {
		s += fmt.Sprintf(" %x", o.Value)
	}
	if o.Conditional {
		s += fmt.Sprintf(" if @%d", o.Expect)
	}
	if o.seq != 0 {
		s += fmt.Sprintf(" (session %d/%d)", o.session, o.seq)
	}
	return s + fmt.Sprintf(" -> %s @%d", outcomeNames[o.Outcome], o.Version)
}

// resolve settles what is unknown with the chosen log: a write that took effect becomes Done, with its version,
// and returned at the latest when its slot was first seen; one that did not is dropped, and so is what changed nothing and told nobody.
// effects says what became of the request (session, seq) of a group. settled is how many were unknown.
func resolve(ops []Op, effects func(group int, session, seq uint64) (result, bool), end Time) (out []Op, settled int) {
	out = make([]Op, 0, len(ops))
	var late []int
	for _, o := range ops {
		if o.verb == verbOpen || o.Outcome == NotDone {
			continue
		}
		if o.Outcome == Unknown {
			settled++
			if o.Read() {
				continue
			}
			r, ok := effects(o.Group, o.session, o.seq)
			if !ok || r.status == statusRefused {
				continue
			}
			o.Outcome, o.Version, o.Return = Done, r.version, end
			late = append(late, len(out))
		}
		out = append(out, o)
	}
	settleReturns(out, late)
	return out, settled
}

// settleReturns gives operations whose answer was never seen the time by which they had certainly taken effect: when the first operation
// returned that saw or made their version, or a later one of the key.
func settleReturns(ops []Op, late []int) {
	type at struct {
		version consensus.Slot
		back    Time
	}
	seen := map[[2]int][]at{}
	for i := range ops {
		if _, found := slices.BinarySearch(late, i); !found {
			o := &ops[i]
			k := [2]int{o.Group, o.Key}
			seen[k] = append(seen[k], at{o.Version, o.Return})
		}
	}
	for _, list := range seen {
		slices.SortFunc(list, func(a, b at) int { return cmp.Compare(a.version, b.version) })
		for i := len(list) - 2; i >= 0; i-- {
			list[i].back = min(list[i].back, list[i+1].back)
		}
	}
	for _, i := range late {
		o := &ops[i]
		list := seen[[2]int{o.Group, o.Key}]
		j, _ := slices.BinarySearchFunc(list, o.Version, func(a at, v consensus.Slot) int { return cmp.Compare(a.version, v) })
		if j < len(list) {
			o.Return = max(o.Call, min(o.Return, list[j].back))
		}
	}
}

// witness checks resolved operations by their versions in linear time (after sorting): every completed operation saw or made a version
// at least as high as any that was returned before it was called, a write a higher one; a version has one value, which somebody wrote
// and nobody wrote twice; what a condition expected is the version before its own. It returns how many operations it looked at.
func witness(ops []Op) (int, error) {
	byCall := slices.Clone(ops)
	slices.SortStableFunc(byCall, func(a, b Op) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Call, b.Call))
	})
	for lo := 0; lo < len(byCall); {
		hi := lo
		for hi < len(byCall) && byCall[hi].Group == byCall[lo].Group && byCall[hi].Key == byCall[lo].Key {
			hi++
		}
		if err := witnessKey(byCall[lo:hi]); err != nil {
			return lo, err
		}
		lo = hi
	}
	return len(ops), nil
}

// witnessKey checks the operations on one key, which are in the order of their calls.
func witnessKey(ops []Op) error {
	writes := map[consensus.Slot]*Op{}
	for i := range ops {
		o := &ops[i]
		if o.Read() || o.Outcome != Done {
			continue
		}
		if prior := writes[o.Version]; prior != nil {
			return fmt.Errorf("one version, two writes: %v; %v", *prior, *o)
		}
		writes[o.Version] = o
	}
	if err := witnessValues(ops, writes); err != nil {
		return err
	}
	byReturn := slices.Clone(ops)
	slices.SortStableFunc(byReturn, func(a, b Op) int { return cmp.Compare(a.Return, b.Return) })
	var newest *Op
	next := 0
	for i := range ops {
		o := &ops[i]
		for ; next < len(byReturn) && byReturn[next].Return < o.Call; next++ {
			if r := &byReturn[next]; newest == nil || r.Version > newest.Version {
				newest = r
			}
		}
		if newest == nil || o.Version > newest.Version {
			continue
		}
		if o.Version < newest.Version {
			return fmt.Errorf("stale: %v; %v", *newest, *o)
		}
		if !o.Read() && o.Outcome == Done {
			return fmt.Errorf("a write of a version that was there before: %v; %v", *newest, *o)
		}
	}
	return nil
}

// witnessValues holds values and conditions against the writes.
func witnessValues(ops []Op, writes map[consensus.Slot]*Op) error {
	versions := make([]consensus.Slot, 0, len(writes))
	for i := range ops {
		if o := &ops[i]; !o.Read() && o.Outcome == Done {
			versions = append(versions, o.Version)
		}
	}
	slices.Sort(versions)
	for i := range ops {
		o := &ops[i]
		switch {
		case o.Read() && o.Version == 0:
			if o.Value != 0 {
				return fmt.Errorf("a value without a version: %v", *o)
			}
		case o.Read():
			wr := writes[o.Version]
			if wr == nil {
				return fmt.Errorf("a read of what nobody wrote: %v", *o)
			}
			if wr.Value != o.Value {
				return fmt.Errorf("one version, two values: %v; %v", *wr, *o)
			}
			if wr.Call > o.Return {
				return fmt.Errorf("a read of what was not yet written: %v; %v", *wr, *o)
			}
		case o.Conditional && o.Outcome == Done:
			at, _ := slices.BinarySearch(versions, o.Version)
			base := consensus.Slot(0)
			if at > 0 {
				base = versions[at-1]
			}
			if base != o.Expect {
				return fmt.Errorf("written over version %d: %v", base, *o)
			}
		case o.Outcome == Refused && o.Version == o.Expect:
			return fmt.Errorf("refused although the condition held: %v", *o)
		}
	}
	return nil
}
