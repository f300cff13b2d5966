// SPDX-License-Identifier: AGPL-3.0-only

package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Violation is two operations that contradict each other; Second is the zero Op where one is enough.
type Violation struct {
	Rule          string
	First, Second Op
}

func (v *Violation) Error() string {
	if v.Second.Kind == 0 {
		return fmt.Sprintf("%s: %v", v.Rule, v.First)
	}
	return fmt.Sprintf("%s: %v; %v", v.Rule, v.First, v.Second)
}

// Witness checks the versions of a history in O(n log n), key by key:
//
//   - a version belongs to one value, and a value has one version;
//   - what is read was written, by an operation that had been called before the read returned;
//   - an operation sees or makes a version at least as high as any that an operation before it saw or made, and a write one
//     that is strictly higher;
//   - a conditional write's base is the version right before its own;
//   - a read that finds nothing falls into a gap between a deletion, or the beginning, and the next write.
//
// It returns the first violation in order of keys and calls, and the number of operations that it looked at. Unknown
// operations and refusals are no evidence by themselves, except that the value of a refused write must never be read.
func Witness(ops []Op) (checked int, err error) {
	keys := byKey(ops)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if v := witnessKey(keys[key]); v != nil {
			return checked, v
		}
		checked += len(keys[key])
	}
	return checked, nil
}

func witnessKey(ops []Op) *Violation {
	for _, check := range []func([]Op) *Violation{checkIdentity, checkBases, checkOrder} {
		if v := check(ops); v != nil {
			return v
		}
	}
	return nil
}

// checkIdentity holds versions and values against each other.
func checkIdentity(ops []Op) *Violation {
	writes := map[string]Op{}
	byVersion := map[uint64]Op{}
	byValue := map[string]Op{}
	for _, o := range ops {
		if o.Kind == Write {
			writes[o.Value] = o
		}
	}
	for _, o := range ops {
		if o.Outcome != Done || (o.Kind == Read && !o.Present) {
			continue
		}
		if o.Version == 0 {
			return &Violation{Rule: "an answered operation without a version", First: o}
		}
		prior, seen := byVersion[o.Version]
		if seen && (prior.Value != o.Value || (prior.Kind == Delete) != (o.Kind == Delete)) {
			return &Violation{"one version, two values", prior, o}
		}
		if seen && prior.Kind != Read && o.Kind != Read {
			return &Violation{"one version, two writes", prior, o}
		}
		if !seen || o.Kind != Read {
			byVersion[o.Version] = o
		}
		if o.Kind == Delete {
			continue
		}
		if prior, seen := byValue[o.Value]; seen && prior.Version != o.Version {
			return &Violation{"one value, two versions", prior, o}
		}
		byValue[o.Value] = o
		if o.Kind != Read {
			continue
		}
		w, written := writes[o.Value]
		switch {
		case !written:
			return &Violation{Rule: "a read of what nobody wrote", First: o}
		case w.Outcome == Refused:
			return &Violation{"a read of what was refused", w, o}
		case w.Call > o.Return:
			return &Violation{"a read of what was not yet written", w, o}
		}
	}
	return nil
}

// checkBases holds the conditions of writes against the versions that were there.
func checkBases(ops []Op) *Violation {
	var changes []Op // answered changes, and read versions, which are changes too
	for _, o := range ops {
		if o.Outcome == Done && o.Version != 0 {
			changes = append(changes, o)
		}
	}
	slices.SortStableFunc(changes, func(a, b Op) int { return cmp.Compare(a.Version, b.Version) })
	var base Op // the highest version below that of the operation at hand
	for i, o := range changes {
		if i > 0 && changes[i-1].Version < o.Version {
			base = changes[i-1]
		}
		if o.Kind == Read || !o.Conditional {
			continue
		}
		switch {
		case o.Expect == 0 && base.Version != 0 && base.Kind != Delete && !deletedBetween(ops, base.Version, o.Version):
			return &Violation{"a write that expected nothing, over a value", base, o}
		case o.Expect != 0 && base.Version > o.Expect:
			return &Violation{"a conditional write over a later version", base, o}
		}
	}
	return nil
}

// deletedBetween says whether a deletion may lie between two versions: one of unknown outcome may lie anywhere.
func deletedBetween(ops []Op, low, high uint64) bool {
	return slices.ContainsFunc(ops, func(o Op) bool {
		return o.Kind == Delete && (o.Outcome == Unknown || (o.Outcome == Done && o.Version > low && o.Version < high))
	})
}

// checkOrder holds versions against real time. It walks the calls in order, with the highest version that any operation
// had seen or made when it returned.
func checkOrder(ops []Op) *Violation {
	ended := slices.Clone(ops)
	slices.SortStableFunc(ended, func(a, b Op) int { return cmp.Compare(a.Return, b.Return) })
	gaps := gapsOf(ops)
	var floor Op
	next := 0
	for _, o := range ops {
		for ; next < len(ended) && ended[next].Return < o.Call; next++ {
			if e := ended[next]; e.Outcome == Done && e.Version > floor.Version {
				floor = e
			}
		}
		switch {
		case o.Outcome != Done:
		case o.Kind == Read && !o.Present:
			if v := checkNothing(o, floor, gaps); v != nil {
				return v
			}
		case o.Kind == Read && o.Version < floor.Version:
			return &Violation{"a stale read", floor, o}
		case o.Kind != Read && o.Version <= floor.Version:
			return &Violation{"a write below an earlier version", floor, o}
		}
	}
	return nil
}

// gap is a stretch of versions in which the key was absent: from a deletion, or the beginning, up to the next write.
type gap struct {
	from, to uint64
	by       Op // the deletion; the zero Op for the beginning
}

func gapsOf(ops []Op) []gap {
	var changes []Op
	for _, o := range ops {
		if o.Outcome == Done && o.Version != 0 {
			changes = append(changes, o)
		}
	}
	slices.SortStableFunc(changes, func(a, b Op) int { return cmp.Compare(a.Version, b.Version) })
	gaps := []gap{{}}
	for _, c := range changes {
		last := &gaps[len(gaps)-1]
		switch {
		case c.Kind == Delete && last.to != 0:
			gaps = append(gaps, gap{from: c.Version, by: c})
		case c.Kind != Delete && last.to == 0 && c.Version > last.from:
			last.to = c.Version
		}
	}
	for _, o := range ops {
		if o.Kind == Delete && o.Outcome == Unknown {
			// It may have made a gap anywhere after its call.
			gaps = append(gaps, gap{by: o})
		}
	}
	return gaps
}

func checkNothing(o, floor Op, gaps []gap) *Violation {
	for _, g := range gaps {
		open := g.to == 0 || g.to > floor.Version
		begun := g.by.Kind == 0 || g.by.Call < o.Return
		if open && begun {
			return nil
		}
	}
	return &Violation{"a read that found nothing where something was", floor, o}
}
