// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// renewOptions draws options of a core, some of which are refused. A core of one voter is as likely as one of several.
func renewOptions(rng *rand.Rand) Options {
	o := Options{Self: NodeID(rng.IntN(4)), Log: failingLog{}}
	q := layout([]int{1}, 0, 0)
	if rng.IntN(2) == 0 {
		q = layout([]int{2, 1}, 1, 0)
	}
	o.Configurations = configs(1+rng.Uint64N(4), q)
	if rng.IntN(3) == 0 {
		o.Configurations = append(o.Configurations, Configuration{Version: o.Configurations[0].Version + rng.Uint64N(2), Quorums: layout([]int{1}, 0, 0)})
	}
	if rng.IntN(4) == 0 {
		o.Home = []quorum.Region{"a"}
	}
	if rng.IntN(4) == 0 {
		tuning := DefaultTuning()
		tuning.RetainedEntries = rng.IntN(4) - 1
		o.Tuning = &tuning
	}
	o.MinCfg = rng.Uint64N(2)
	switch rng.IntN(4) {
	case 0: // untouched
	case 1:
		o.Record, o.Tail = logOf(Slot(rng.IntN(3)), 2, "a", "b", "c")
	case 2:
		o.Record = sampleRecords[rng.IntN(len(sampleRecords))]
		if rng.IntN(2) == 0 {
			o.Configurations[len(o.Configurations)-1].Version = 4
		}
	default:
		last := Slot(1 + rng.IntN(9))
		b := Ballot{1, 1 + rng.Uint64N(9), NodeID(1 + rng.IntN(3))}
		o.Record = Record{
			Promised: b, Accepted: b, Last: last, Commit: last, Applied: last, First: last + 1,
			LastTime: 5, AppliedTime: 5, LastChain: rng.Uint64(), Established: rng.Uint64N(2),
		}
		o.Record.AppliedChain = o.Record.LastChain
	}
	if rng.IntN(8) == 0 {
		o.Record.First += Slot(rng.IntN(3))
		o.Record.LastTime += Timestamp(rng.IntN(2))
	}
	return o
}

// useCore does something with a core, and writes down all that it says.
func useCore(c *Core, rng *rand.Rand) string {
	var b bytes.Buffer
	for range rng.IntN(12) {
		switch rng.IntN(8) {
		case 0:
			fmt.Fprintln(&b, c.Campaign(Global))
		case 1:
			c.Tick(Timestamp(rng.IntN(1 << 40)))
		case 2:
			r := c.Ready()
			if r.Record != nil {
				fmt.Fprintf(&b, "%+v\n", *r.Record)
			}
			r.Record = nil
			fmt.Fprintf(&b, "%+v\n", r)
		case 3:
			c.Advance()
		case 4:
			ballot := Ballot{c.newest().Version, 1 + rng.Uint64N(20), 3}
			fmt.Fprintln(&b, c.Step(Message{Type: Prepare, From: 3, To: c.self, Ballot: ballot, Scope: Global}))
		case 5:
			fmt.Fprintln(&b, c.SetHome([]quorum.Region{"b"}))
		default:
			slot, at, err := c.Propose(Timestamp(rng.IntN(1<<20)), Proposal{Payload: bytes.Repeat([]byte{7}, rng.IntN(9))})
			fmt.Fprintln(&b, slot, at, err)
		}
		rec, known := c.Stored()
		fmt.Fprintf(&b, "%+v %+v %v %v %v %x\n", c.Status(), rec, known, c.HasReady(), c.Err(), c.AppendState(nil))
	}
	return b.String()
}

// scribble makes something of all numbers and flags in a value.
func scribble(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Field(i)
			scribble(reflect.NewAt(f.Type(), unsafe.Pointer(f.UnsafeAddr())).Elem()) // also what is not exported
		}
	case reflect.Array:
		for i := range v.Len() {
			scribble(v.Index(i))
		}
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanUint() {
			v.SetUint(3)
		} else if v.CanInt() {
			v.SetInt(3)
		}
	}
}

// TestRenewIsNew: a core that was used for anything, or could not be renewed for something else, is renewed to what New makes of the same options, with
// the same error if they are refused, and goes on like it. What it was used for before does not come back, and another that is used meanwhile is not disturbed.
func TestRenewIsNew(t *testing.T) {
	const seeds = 3_000
	made, refused := 0, 0
	for seed := range uint64(seeds) {
		rng := rand.New(rand.NewPCG(seed, 1))
		used := new(Core)
		for range 1 + rng.IntN(3) {
			if used.Renew(renewOptions(rng)) == nil {
				useCore(used, rng)
			}
		}
		if rng.IntN(2) == 0 {
			scribble(reflect.ValueOf(used).Elem())
		}
		o := renewOptions(rng)
		fresh, err := New(o)
		o.Tail = slices.Clone(o.Tail) // each core keeps the one that it is given
		if again := used.Renew(o); fmt.Sprint(again) != fmt.Sprint(err) {
			t.Fatalf("seed %d: Renew says %v, New %v, of %+v", seed, again, err, o)
		}
		if err != nil {
			refused++
			continue
		}
		made++
		if !reflect.DeepEqual(used, fresh) {
			t.Fatalf("seed %d: renewed\n%+v\nwant\n%+v", seed, used, fresh)
		}
		if len(o.Tail) == 0 && (cap(used.tail) != 1 || &used.tail[:1][0] != &used.room[0]) {
			t.Fatalf("seed %d: the tail of a renewed core is not in its own room", seed)
		}
		use := rng.Uint64()
		got, want := useCore(used, rand.New(rand.NewPCG(use, 2))), useCore(fresh, rand.New(rand.NewPCG(use, 2)))
		for i, line := range strings.Split(want, "\n") {
			if said := strings.Split(got, "\n"); i >= len(said) || said[i] != line {
				t.Fatalf("seed %d: in line %d a renewed core says\n%s\nwant\n%s", seed, i, got, line)
			}
		}
	}
	t.Logf("%d cores renewed, %d refused", made, refused)
	if made < seeds/10 || refused < seeds/10 {
		t.Fatal("nothing was tested")
	}
}
