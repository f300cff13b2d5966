// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"fmt"
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

// model is a register whose versions rise.
// shared: only read.
var model = porcupine.Model{
	Init: func() any { return register{} },
	Step: func(state, input, _ any) (bool, any) {
		s, o := state.(register), input.(*Op)
		switch {
		case o.Read():
			return o.Version == s.version && o.Value == s.value, s
		case o.Outcome == Refused:
			return o.Version == s.version && s.version != o.Expect, s
		case o.Conditional && s.version != o.Expect:
			return false, s
		}
		return o.Version > s.version, register{o.Version, o.Value}
	},
	Equal: func(a, b any) bool { return a == b },
}

// search looks for an order in which the operations of each key could have happened one after the other. It returns how many it
// looked at.
func search(ops []Op) (int, error) {
	keys := map[[2]int][]porcupine.Operation{}
	for i := range ops {
		o := &ops[i]
		k := [2]int{o.Group, o.Key}
		keys[k] = append(keys[k], porcupine.Operation{ClientId: o.Client, Input: o, Call: int64(o.Call), Return: int64(o.Return)})
	}
	for k, list := range keys {
		switch porcupine.CheckOperationsTimeout(model, list, 20*time.Second) {
		case porcupine.Illegal:
			return 0, fmt.Errorf("I8: group %d key %d: no order explains what %d operations returned", k[0], k[1], len(list))
		case porcupine.Unknown:
			return 0, fmt.Errorf("%w: group %d key %d, %d operations", errUndecided, k[0], k[1], len(list))
		}
	}
	return len(ops), nil
}
