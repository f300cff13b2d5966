// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus"
)

// TestWitnessSees states one violation a row, and whether porcupine has to see it too.
func TestWitnessSees(t *testing.T) {
	op := func(v verb, call, back Time, value uint64, version consensus.Slot) Op {
		return Op{verb: v, Call: call, Return: back, Outcome: Done, Value: value, Version: version}
	}
	cas := func(o Op, expect consensus.Slot) Op {
		o.verb, o.Conditional, o.Expect = verbCas, true, expect
		return o
	}
	refused := func(o Op) Op { o.Outcome = Refused; return o }
	for _, row := range []struct {
		name, want string
		ops        []Op
	}{
		{"fine", "", []Op{op(verbPut, 1, 2, 7, 1), op(verbPut, 3, 9, 8, 2), op(verbGet, 4, 5, 7, 1), op(verbGet, 6, 7, 8, 2)}},
		{"stale read", "stale", []Op{op(verbPut, 1, 2, 7, 1), op(verbPut, 3, 4, 8, 2), op(verbGet, 5, 6, 7, 1)}},
		{"read goes back", "stale", []Op{op(verbPut, 1, 2, 7, 1), op(verbPut, 1, 20, 8, 2), op(verbGet, 5, 6, 8, 2), op(verbGet, 7, 8, 7, 1)}},
		{"lost write", "stale", []Op{op(verbPut, 1, 2, 7, 1), op(verbGet, 5, 6, 0, 0)}},
		{"invented", "nobody wrote", []Op{op(verbGet, 5, 6, 7, 1)}},
		{"from the future", "not yet written", []Op{op(verbGet, 1, 2, 7, 1), op(verbPut, 3, 4, 7, 1)}},
		{"value moved", "two values", []Op{op(verbPut, 1, 2, 7, 1), op(verbGet, 3, 4, 8, 1)}},
		{"version twice", "two writes", []Op{op(verbPut, 1, 2, 7, 1), op(verbPut, 1, 2, 8, 1)}},
		{"version goes back", "stale", []Op{op(verbPut, 1, 2, 7, 5), op(verbPut, 3, 4, 8, 4)}},
		{"both conditions won", "written over", []Op{op(verbPut, 1, 2, 7, 1), cas(op(verbCas, 3, 9, 8, 2), 1), cas(op(verbCas, 3, 9, 9, 3), 1)}},
		{"refused wrongly", "condition held", []Op{op(verbPut, 1, 2, 7, 1), refused(cas(op(verbCas, 3, 4, 8, 1), 1))}},
		{"refused stale", "stale", []Op{op(verbPut, 1, 2, 7, 1), op(verbPut, 3, 4, 8, 2), refused(cas(op(verbCas, 5, 6, 9, 1), 2))}},
		{"value without version", "without a version", []Op{op(verbGet, 1, 2, 7, 0)}},
	} {
		t.Run(row.name, func(t *testing.T) {
			n, err := witness(row.ops)
			if row.want == "" && (err != nil || n != len(row.ops)) {
				t.Errorf("says %v of what is fine, looked at %d", err, n)
			}
			if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("says %v, want %q", err, row.want)
			}
			if _, err := search(row.ops); (err != nil) != (row.want != "") {
				t.Errorf("porcupine says %v", err)
			}
		})
	}
}

// TestResolve: what was unknown is settled by the log, and returns when somebody first saw it.
func TestResolve(t *testing.T) {
	ops := []Op{
		{Client: 1, verb: verbPut, Call: 1, Return: 9, Outcome: Unknown, Value: 7, session: 1, seq: 1},
		{Client: 2, verb: verbPut, Call: 1, Return: 9, Outcome: Unknown, Value: 8, session: 2, seq: 1},
		{Client: 3, verb: verbGet, Call: 3, Return: 4, Outcome: Done, Value: 7, Version: 5},
		{Client: 3, verb: verbGet, Call: 5, Return: 6, Outcome: NotDone},
		{Client: 4, verb: verbCas, Call: 2, Return: 9, Outcome: Unknown, Value: 9, session: 3, seq: 1, Conditional: true, Expect: 1},
	}
	effects := map[uint64]result{1: {status: statusDone, version: 5}, 3: {status: statusRefused, version: 5}}
	out, settled := resolve(ops, func(_ int, session, _ uint64) (result, bool) { r, ok := effects[session]; return r, ok }, 100)
	if len(out) != 2 || settled != 3 {
		t.Fatalf("%d operations, %d settled: %v", len(out), settled, out)
	}
	if o := out[0]; o.Outcome != Done || o.Version != 5 || o.Return != 4 {
		t.Errorf("%v", o)
	}
	if _, err := witness(out); err != nil {
		t.Error(err)
	}
}
