// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run only this seed, with its trace")
	simSeeds = flag.Int("sim.seeds", 0, "run this many seeds")
	simFrom  = flag.Uint64("sim.from", 1, "the first seed")
	simSet   = flag.String("sim.set", "", "options that are not drawn: `name=value ...`")
)

func draw(t testing.TB, seed uint64) Options {
	o := Draw(seed)
	if err := o.SetAll(*simSet); err != nil {
		t.Fatal(err)
	}
	return o
}

func TestSimulation(t *testing.T) {
	if *simSeed != 0 {
		o := draw(t, *simSeed)
		fmt.Printf("seed=%d options=%v\n", *simSeed, o.String())
		w := NewWorld(o, Setup{Trace: os.Stdout})
		if err := w.Run(); err != nil {
			t.Fatal(err)
		}
		w.stats.Print(os.Stdout, 1)
		return
	}
	n := *simSeeds
	if n == 0 {
		n = 20
	}
	var sum Stats
	bad := 0
	for seed := *simFrom; seed < *simFrom+uint64(n); seed++ {
		o := draw(t, seed)
		w := NewWorld(o, Setup{})
		if err := w.Run(); err != nil {
			t.Errorf("seed %d: %v", seed, err)
			if bad++; bad > 20 {
				break
			}
		}
		sum.Add(&w.stats)
	}
	sum.Print(os.Stdout, 1)
}
