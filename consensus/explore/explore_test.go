// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"os"
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
			if v != nil {
				t.Errorf("%s", v.Transcript())
			}
		})
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
