// SPDX-License-Identifier: AGPL-3.0-only

package history

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/anishathalye/porcupine"
)

// ErrUndecided is returned when the search did not end in time. It is a failure: nothing was shown.
var ErrUndecided = errors.New("linearizability not decided in time")

// register is the state of one key. A version of 0 is a key that was never written.
type register struct {
	version uint64
	present bool
	value   string
}

// model is a register with versions: each change sets a version above the last, and a conditional one happens only at
// the version that it expects.
func model() porcupine.Model {
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			index := map[string]int{}
			var parts [][]porcupine.Operation
			for _, o := range history {
				key := o.Input.(Op).Key
				i, ok := index[key]
				if !ok {
					i = len(parts)
					index[key] = i
					parts = append(parts, nil)
				}
				parts[i] = append(parts[i], o)
			}
			return parts
		},
		Init: func() any { return register{} },
		Step: func(state, input, _ any) (bool, any) { return step(state.(register), input.(Op)) },
		DescribeOperation: func(input, _ any) string {
			return input.(Op).String()
		},
		DescribeState: func(state any) string {
			r := state.(register)
			if !r.present {
				return fmt.Sprintf("nothing @%d", r.version)
			}
			return fmt.Sprintf("%q @%d", r.value, r.version)
		},
	}
}

func step(r register, o Op) (bool, any) {
	live := uint64(0)
	if r.present {
		live = r.version
	}
	switch {
	case o.Kind == Read && !o.Present:
		return !r.present, r
	case o.Kind == Read:
		return r.present && r.version == o.Version && r.value == o.Value, r
	case o.Outcome == Refused:
		// Only what a condition refused is evidence: at that moment the condition did not hold.
		return !o.Conditional || live != o.Expect, r
	case o.Version <= r.version, o.Conditional && live != o.Expect:
		return false, r
	case o.Kind == Delete:
		return true, register{version: o.Version}
	}
	return true, register{version: o.Version, present: true, value: o.Value}
}

// Linearizable searches, key by key, for an order of the operations that respects real time and a register with
// versions. Requires: the history is resolved; unknown operations are an error. On a violation it writes a picture to
// the file named, when it is not empty.
func Linearizable(ops []Op, timeout time.Duration, picture string) error {
	history := make([]porcupine.Operation, 0, len(ops))
	for _, o := range ops {
		if o.Outcome == Unknown {
			return fmt.Errorf("%w: %v is not resolved", ErrAssumption, o)
		}
		history = append(history, porcupine.Operation{ClientId: o.Client, Input: o, Call: o.Call, Output: o, Return: o.Return})
	}
	result, info := porcupine.CheckOperationsVerbose(model(), history, timeout)
	switch result {
	case porcupine.Ok:
		return nil
	case porcupine.Unknown:
		return fmt.Errorf("%w: %d operations in %v", ErrUndecided, len(ops), timeout)
	case porcupine.Illegal:
	}
	where := ""
	if picture != "" {
		if err := draw(info, picture); err != nil {
			return fmt.Errorf("history is not linearizable; and drawing it: %w", err)
		}
		where = ", drawn in " + picture
	}
	return fmt.Errorf("history of %d operations is not linearizable%s", len(ops), where)
}

func draw(info porcupine.LinearizationInfo, picture string) error {
	f, err := os.Create(picture)
	if err != nil {
		return err
	}
	if err := porcupine.Visualize(model(), info, f); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
