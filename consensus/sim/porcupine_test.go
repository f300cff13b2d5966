// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/atlas-edge/atlas/consensus"
)

// errUndecided: the search did not end. That is a failure: nothing was shown.
var errUndecided = errors.New("linearizability not decided in time")

// register is one key for porcupine: its version and what it holds.
type register struct {
	version consensus.Slot
	value   uint64
}

// input is an operation and, for a write, the version that it replaced: versions of a key are in the order of the chosen log, so that
// the search need not try others.
type input struct {
	*Op
	base consensus.Slot
}

// model is a register whose versions follow on each other, from what it holds at first.
func model(first register) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(state, in, _ any) (bool, any) {
			s, o := state.(register), in.(input)
			switch {
			case o.Read():
				return o.Version == s.version && o.Value == s.value, s
			case o.Outcome == Refused:
				return o.Version == s.version && s.version != o.Expect, s
			case o.Conditional && s.version != o.Expect:
				return false, s
			}
			return s.version == o.base, register{o.Version, o.Value}
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// windowOps is how many operations of a key are searched at once. What a search costs grows with the square of it. Windows are cut
// between two versions: whatever order explains all operations has those of a range of versions in one piece.
const windowOps = 2000

// search looks for an order in which the operations of each key could have happened one after the other. It returns how many it
// looked at.
func search(ops []Op) (int, error) {
	keys, versions := map[[2]int][]porcupine.Operation{}, map[[2]int][]consensus.Slot{}
	for i := range ops {
		if o := &ops[i]; !o.Read() && o.Outcome == Done {
			versions[[2]int{o.Group, o.Key}] = append(versions[[2]int{o.Group, o.Key}], o.Version)
		}
	}
	for _, list := range versions {
		slices.Sort(list)
	}
	for i := range ops {
		o := &ops[i]
		k := [2]int{o.Group, o.Key}
		in := input{Op: o}
		if at, _ := slices.BinarySearch(versions[k], o.Version); at > 0 {
			in.base = versions[k][at-1]
		}
		keys[k] = append(keys[k], porcupine.Operation{ClientId: o.Client, Input: in, Call: int64(o.Call), Return: int64(o.Return)})
	}
	for k, list := range keys {
		slices.SortStableFunc(list, func(a, b porcupine.Operation) int {
			return cmp.Compare(a.Input.(input).Version, b.Input.(input).Version)
		})
		first := register{}
		for len(list) > 0 {
			n := min(windowOps, len(list))
			for n < len(list) && list[n].Input.(input).Version == list[n-1].Input.(input).Version {
				n++
			}
			switch porcupine.CheckOperationsTimeout(model(first), list[:n], 30*time.Second) {
			case porcupine.Illegal:
				return 0, fmt.Errorf("I8: group %d key %d: no order explains what %d operations returned", k[0], k[1], n)
			case porcupine.Unknown:
				return 0, fmt.Errorf("%w: group %d key %d, %d operations", errUndecided, k[0], k[1], n)
			}
			for _, o := range list[:n] {
				if in := o.Input.(input); !in.Read() && in.Outcome == Done {
					first = register{in.Version, in.Value}
				}
			}
			list = list[n:]
		}
	}
	return len(ops), nil
}
