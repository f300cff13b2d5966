// SPDX-License-Identifier: AGPL-3.0-only

package history

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// generate makes a history that did happen: sequential clients on registers, each operation taking effect at one moment
// between its call and its return. It returns the log of changes as well.
func generate(rng *rand.Rand, clients, count, keys int, unknown float64) ([]Op, []Change) {
	type pending struct {
		op Op
		at int64
	}
	now := make([]int64, clients)
	var all []pending
	for i := range count {
		c := i % clients
		call := now[c] + 1 + rng.Int64N(50)
		at := call + rng.Int64N(40)
		ret := at + rng.Int64N(40)
		now[c] = ret
		o := Op{Client: c, Key: fmt.Sprintf("t.k%d", rng.IntN(keys)), Call: call, Return: ret}
		switch n := rng.IntN(10); {
		case n < 4:
			o.Kind = Read
		case n < 9:
			o.Kind, o.Value = Write, fmt.Sprintf("c%d-%d", c, i)
			o.Conditional = n < 6
		default:
			o.Kind = Delete
		}
		all = append(all, pending{o, at})
	}
	slices.SortStableFunc(all, func(a, b pending) int { return cmp.Compare(a.at, b.at) })
	state := map[string]register{}
	version := uint64(100)
	var log []Change
	var ops []Op
	for _, p := range all {
		o, r := p.op, state[p.op.Key]
		lost := rng.Float64() < unknown
		switch {
		case o.Kind == Read:
			o.Outcome, o.Present, o.Value = Done, r.present, r.value
			if r.present {
				o.Version = r.version
			}
		case lost && rng.IntN(2) == 0: // never applied
			o.Outcome = Refused
		default:
			if o.Conditional {
				// Usually what is there, sometimes what is not.
				if o.Expect = r.version; !r.present {
					o.Expect = 0
				}
				if rng.IntN(4) == 0 {
					o.Expect++
				}
			}
			if ok, _ := step(r, Op{Kind: Write, Outcome: Done, Conditional: o.Conditional, Expect: o.Expect, Version: version + 1}); !ok {
				o.Outcome = Refused
				break
			}
			version += 1 + rng.Uint64N(3)
			o.Outcome, o.Version = Done, version
			state[o.Key] = register{version: version, present: o.Kind == Write, value: o.Value}
			log = append(log, Change{Key: o.Key, Version: version, Deleted: o.Kind == Delete})
		}
		if lost {
			o = Op{
				Client: o.Client, Key: o.Key, Kind: o.Kind, Value: o.Value, Conditional: o.Conditional, Expect: o.Expect,
				Outcome: Unknown, Call: o.Call, Return: Never,
			}
			if o.Kind == Read {
				o.Value = ""
			}
		}
		ops = append(ops, o)
	}
	return ops, log
}

func seeded(t *testing.T, seed uint64) *rand.Rand {
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestAcceptsWhatHappened runs both checkers over histories that are right by construction.
func TestAcceptsWhatHappened(t *testing.T) {
	for seed := range uint64(20) {
		ops, log := generate(seeded(t, seed), 8, 800, 1+int(seed%5), float64(seed%4)*0.05)
		if err := Assumptions(ops); err != nil {
			t.Fatal(err)
		}
		checked, err := Witness(ops)
		if err != nil || checked != len(ops) {
			t.Fatalf("witness looked at %d of %d: %v", checked, len(ops), err)
		}
		resolved, err := Resolve(ops, log)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Witness(resolved); err != nil {
			t.Fatalf("resolved: %v", err)
		}
		if err := Linearizable(resolved, time.Minute, ""); err != nil {
			t.Fatal(err)
		}
	}
}

// TestSeesStaleRead plants one stale read in histories with unknown outcomes: both checkers must see each.
func TestSeesStaleRead(t *testing.T) {
	planted := 0
	for seed := range uint64(20) {
		rng := seeded(t, seed)
		ops, log := generate(rng, 8, 800, 2, 0.05)
		if !plantStale(rng, ops) {
			continue
		}
		planted++
		if _, err := Witness(ops); err == nil || !strings.Contains(err.Error(), "stale") {
			t.Errorf("witness says %v", err)
		}
		resolved, err := Resolve(ops, log)
		if err != nil {
			continue // the log contradicts it already
		}
		if err := Linearizable(resolved, time.Minute, ""); err == nil || errors.Is(err, ErrUndecided) {
			t.Errorf("porcupine says %v", err)
		}
	}
	if planted < 15 {
		t.Errorf("planted only %d", planted)
	}
}

// plantStale gives one read the value of a write that another write had replaced before the read was called.
func plantStale(rng *rand.Rand, ops []Op) bool {
	for range 1000 {
		r := &ops[rng.IntN(len(ops))]
		if r.Kind != Read || r.Outcome != Done || !r.Present {
			continue
		}
		var before []Op
		for _, o := range ops {
			if o.Kind == Write && o.Outcome == Done && o.Key == r.Key && o.Return < r.Call {
				before = append(before, o)
			}
		}
		if len(before) < 2 {
			continue
		}
		slices.SortFunc(before, func(a, b Op) int { return cmp.Compare(a.Version, b.Version) })
		old := before[len(before)-2]
		r.Value, r.Version = old.Value, old.Version
		return true
	}
	return false
}

// TestPlanted states one violation a row, and which rule names it.
func TestPlanted(t *testing.T) {
	op := func(client int, call, ret int64, kind Kind, value string, version uint64) Op {
		return Op{
			Client: client, Key: "t.k", Kind: kind, Outcome: Done, Call: call, Return: ret, Value: value,
			Present: kind == Read && value != "", Version: version,
		}
	}
	cas := func(o Op, expect uint64) Op { o.Conditional, o.Expect = true, expect; return o }
	as := func(o Op, out Outcome) Op {
		if o.Outcome = out; out == Unknown {
			o.Return = Never
		}
		return o
	}
	rows := []struct {
		name string
		ops  []Op
		want string
	}{
		{"stale read", []Op{op(1, 1, 2, Write, "a", 1), op(1, 3, 4, Write, "b", 2), op(2, 5, 6, Read, "a", 1)}, "stale read"},
		{"read goes back", []Op{op(1, 1, 9, Write, "b", 2), op(3, 1, 2, Write, "a", 1), op(2, 3, 4, Read, "b", 2), op(2, 5, 6, Read, "a", 1)}, "stale read"},
		{"lost write", []Op{op(1, 1, 2, Write, "a", 1), op(2, 3, 4, Read, "", 0)}, "found nothing"},
		{"undone by a crash", []Op{op(1, 1, 2, Write, "a", 1), op(2, 3, 4, Read, "a", 1), op(2, 5, 6, Read, "", 0)}, "found nothing"},
		{"deleted comes back", []Op{op(1, 1, 2, Write, "a", 1), op(1, 3, 4, Delete, "", 2), op(2, 5, 6, Read, "a", 1)}, "stale read"},
		{"refused appears", []Op{as(op(1, 1, 2, Write, "a", 0), Refused), op(2, 3, 4, Read, "a", 1)}, "what was refused"},
		{"invented", []Op{op(2, 3, 4, Read, "x", 1)}, "nobody wrote"},
		{"from the future", []Op{op(2, 1, 2, Read, "a", 1), op(1, 3, 4, Write, "a", 1)}, "not yet written"},
		{"version twice", []Op{op(1, 1, 2, Write, "a", 1), op(2, 1, 2, Write, "b", 1)}, "one version, two values"},
		{"value moved", []Op{op(1, 1, 2, Write, "a", 1), op(2, 3, 4, Read, "a", 2)}, "one value, two versions"},
		{"version goes back", []Op{op(1, 1, 2, Write, "a", 5), op(2, 3, 4, Write, "b", 4)}, "below an earlier version"},
		{"no version", []Op{op(1, 1, 2, Write, "a", 0)}, "without a version"},
		{"both compare-and-sets won", []Op{op(1, 1, 2, Write, "a", 1), cas(op(1, 3, 9, Write, "b", 2), 1), cas(op(2, 3, 9, Write, "c", 3), 1)}, "over a later version"},
		{"created twice", []Op{cas(op(1, 1, 9, Write, "a", 1), 0), cas(op(2, 1, 9, Write, "b", 2), 0)}, "expected nothing"},
		{"fine: unknown then seen", []Op{as(op(1, 1, 2, Write, "a", 0), Unknown), op(2, 3, 4, Read, "", 0), op(2, 5, 6, Read, "a", 1)}, ""},
		{"fine: unknown delete", []Op{op(1, 1, 2, Write, "a", 1), as(op(1, 3, 4, Delete, "", 0), Unknown), op(2, 5, 6, Read, "", 0)}, ""},
		{"fine: created again", []Op{cas(op(1, 1, 2, Write, "a", 1), 0), op(1, 3, 4, Delete, "", 2), cas(op(2, 5, 6, Write, "b", 3), 0)}, ""},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := Witness(row.ops)
			if row.want == "" && err != nil {
				t.Errorf("refused what is fine: %v", err)
			}
			if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("says %v, want %q", err, row.want)
			}
		})
	}
}

// TestPorcupineSees states what only the search or both must refuse.
func TestPorcupineSees(t *testing.T) {
	base := Op{Client: 1, Key: "t.k", Kind: Write, Outcome: Done, Call: 1, Return: 2, Value: "a", Version: 1}
	gone := Op{Client: 2, Key: "t.k", Kind: Read, Outcome: Done, Call: 3, Return: 4}
	picture := filepath.Join(t.TempDir(), "history.html")
	if err := Linearizable([]Op{base, gone}, time.Minute, picture); err == nil || !strings.Contains(err.Error(), picture) {
		t.Errorf("a lost write passes: %v", err)
	}
	wrong := Op{Client: 2, Key: "t.k", Kind: Write, Outcome: Refused, Call: 3, Return: 4, Value: "b", Conditional: true, Expect: 1}
	if err := Linearizable([]Op{base, wrong}, time.Minute, ""); err == nil {
		t.Error("a refusal of a condition that held passes")
	}
	base.Outcome, base.Return = Unknown, Never
	if err := Linearizable([]Op{base}, time.Minute, ""); !errors.Is(err, ErrAssumption) {
		t.Errorf("an unresolved operation gives %v", err)
	}
}

// TestResolveSees states logs that contradict what was answered.
func TestResolveSees(t *testing.T) {
	done := Op{Client: 1, Key: "t.k", Kind: Write, Outcome: Done, Call: 1, Return: 2, Value: "a", Version: 7}
	lost := Op{Client: 2, Key: "t.k", Kind: Write, Outcome: Unknown, Call: 1, Return: Never, Value: "b"}
	for name, row := range map[string]struct {
		ops  []Op
		log  []Change
		want string
	}{
		"answered and missing": {[]Op{done}, nil, "no such change"},
		"made by nobody":       {[]Op{done}, []Change{{"t.k", 7, false}, {"t.k", 8, false}}, "nobody made"},
		"another key":          {[]Op{done}, []Change{{"t.k", 7, false}, {"t.x", 8, false}}, "nobody wrote"},
		"twice":                {[]Op{done}, []Change{{"t.k", 7, false}, {"t.k", 7, false}}, "twice"},
		"another kind":         {[]Op{done}, []Change{{"t.k", 7, true}}, "no such change"},
		"fine":                 {[]Op{done, lost}, []Change{{"t.k", 7, false}, {"t.k", 9, false}}, ""},
		"fine, not applied":    {[]Op{done, lost}, []Change{{"t.k", 7, false}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ops, err := Resolve(row.ops, row.log)
			if row.want == "" && (err != nil || len(ops) != len(row.log)) {
				t.Errorf("gives %v, %v", ops, err)
			}
			if row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
				t.Errorf("says %v, want %q", err, row.want)
			}
		})
	}
}

// TestAssumptionsSee states histories that no checker may judge.
func TestAssumptionsSee(t *testing.T) {
	w := Op{Client: 1, Key: "t.k", Kind: Write, Outcome: Done, Call: 5, Return: 9, Value: "a", Version: 1}
	backwards, overlap, again := w, w, w
	backwards.Return = 4
	overlap.Call, overlap.Value = 8, "b"
	again.Client, again.Call, again.Return = 2, 20, 21
	for name, ops := range map[string][]Op{"return before call": {backwards}, "overlap": {w, overlap}, "value twice": {w, again}} {
		if err := Assumptions(ops); !errors.Is(err, ErrAssumption) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCheckersAgree: on small histories with one answer changed at random, what the witness refuses porcupine refuses too.
func TestCheckersAgree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		ops, log := generate(rng, 4, 60, 2, 0)
		i := rapid.IntRange(0, len(ops)-1).Draw(t, "changed")
		if ops[i].Kind != Read || len(log) == 0 {
			t.Skip("only reads are changed")
		}
		var donor Op
		for _, o := range ops {
			if o.Kind == Write && o.Outcome == Done && o.Key == ops[i].Key {
				donor = o
			}
		}
		ops[i].Present, ops[i].Value, ops[i].Version = donor.Version != 0, donor.Value, donor.Version
		_, witness := Witness(ops)
		search := Linearizable(ops, time.Minute, "")
		if witness != nil && search == nil {
			t.Fatalf("witness refuses what porcupine accepts: %v", witness)
		}
	})
}

func BenchmarkWitness(b *testing.B) {
	ops, _ := generate(rand.New(rand.NewPCG(1, 1)), 16, 20000, 4, 0.1)
	for b.Loop() {
		if _, err := Witness(ops); err != nil {
			b.Fatal(err)
		}
	}
}
