// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
)

// TestExplore visits all states of every setup, and prints how many there are. ATLAS_LONG=1 adds the larger ones.
func TestExplore(t *testing.T) {
	setups := Setups()
	if os.Getenv("ATLAS_LONG") != "" {
		setups = append(setups, LongSetups()...)
	}
	for _, s := range setups {
		t.Run(s.Name, func(t *testing.T) {
			s.Bounds.States = min(s.Bounds.States, raceStates)
			begin := time.Now()
			stats, v := Explore(&s)
			cut := "all"
			if stats.Cut {
				cut = "CUT, not all"
			}
			t.Logf("%s: %s", s.Name, s.About)
			t.Logf("  bounds: %s", s.Bounds)
			t.Logf("  %d distinct states (%s), %d transitions, depth %d, %.1f s; %d states of single nodes, %d messages, core run %d times",
				stats.States, cut, stats.Transitions, stats.Depth, time.Since(begin).Seconds(), stats.Locals, stats.Messages, stats.Steps)
			if stats.Symmetry > 1 {
				t.Logf("  but for symmetry: %d permutations of nodes are one", stats.Symmetry)
			}
			if stats.Uneven != nil {
				t.Logf("  without symmetry: %v", stats.Uneven)
			}
			t.Logf("  reached: %+v", stats.Reached)
			if v != nil {
				t.Errorf("%s", v.Transcript())
			}
			if stats.Cut && s.Bounds.States == defaultStates {
				t.Error("a setup of the default suite is to be explored whole")
			}
			if v == nil && raceStates > longStates {
				holdReached(t, &s, &stats.Reached)
			}
		})
	}
}

// holdReached fails if the bounds allow what never came to pass: then some invariant was judged of nothing.
func holdReached(t *testing.T, s *Setup, r *Reached) {
	t.Helper()
	b, last := &s.Bounds, s.Configurations[len(s.Configurations)-1].Version
	before := 0 // ballots that the prelude wins, or may
	for _, line := range s.Prelude {
		if strings.HasPrefix(line, "campaign") {
			before++
		}
	}
	for _, want := range []struct {
		asked, seen bool
		what        string
	}{
		{b.Slots > 0, r.Chosen >= int(b.Slots), "all slots are chosen"},
		{true, r.Won >= before+min(int(b.Campaigns), 1), "a ballot is won after the prelude"},
		{b.Campaigns > 0 && b.Locals > 0, r.Won >= before+2, "a local and a global ballot are won"},
		{b.Crashes > 0, r.Lives > 0, "a node crashes"},
		{b.Reads > 0, r.Reads > 0, "a read is answered"},
		{b.Compacts > 0, r.Trimmed && r.Snapshots > 0, "a log is trimmed, and a snapshot sent"},
		{b.Configure, r.Established == last, "the last configuration is established"},
		{b.Seals, r.Retired, "a configuration is retired"},
		{s.Fabric, r.Leased > 0 && r.Unleased > 0, "an owner holds a lease, and one does not"},
	} {
		if want.asked && !want.seen {
			t.Errorf("never: %s", want.what)
		}
	}
}

// TestTranscripts replays what explorations found.
func TestTranscripts(t *testing.T) {
	datadriven.Walk(t, "testdata/found", func(t *testing.T, path string) {
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			if d.Cmd != "replay" {
				t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
			}
			var name string
			d.ScanArgs(t, "setup", &name)
			for _, s := range append(Setups(), LongSetups()...) {
				if s.Name == name {
					return Replay(&s, lines(d.Input))
				}
			}
			t.Fatalf("%s: no setup %q", d.Pos, name)
			return ""
		})
	})
}
