// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package explore

import (
	"testing"
	"time"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestPlants arms each mistake that the explorer is to find, and explores the setup that shows it.
func TestPlants(t *testing.T) {
	setups := map[string]Setup{}
	for _, s := range append(Setups(), plantSetups()...) {
		setups[s.Name] = s
	}
	for _, p := range plants {
		t.Run(string(p.site), func(t *testing.T) {
			s, ok := setups[p.setup]
			if !ok {
				t.Fatalf("no setup %q", p.setup)
			}
			disarm, err := failpoint.Arm(p.site, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			begin := time.Now()
			stats, v := Explore(&s)
			if reached, fired := failpoint.Counts(p.site); fired == 0 {
				t.Fatalf("the plant was reached %d times and never fired", reached)
			}
			if v == nil {
				t.Fatalf("not found in %d states of %s", stats.States, s.Name)
			}
			t.Logf("| %s | %s | %d | %.2f | %d | %v |", p.site, s.Name, stats.States, time.Since(begin).Seconds(), len(v.Trace), v.Err)
			if p.wrong != "" && testing.Verbose() {
				t.Log(v.Transcript())
			}
		})
	}
}

var plants = []struct {
	site  failpoint.Site
	setup string
	wrong string
}{
	{failpoint.ConsensusIgnoreAccepted, "a-steal", ""},
	{failpoint.ConsensusAckBeforeSync, "a-crash", ""},
	{failpoint.ConsensusCountOldAcks, "p-unpruned", ""},
}

// plantSetups are those that show a mistake and nothing else that the default suite does not.
func plantSetups() []Setup {
	three := only(grid(1, 0, 3))
	return []Setup{
		{
			Name: "p-unpruned", Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 2, Proposers: nodes(1), Inflight: 1, Crashes: 1, Unpruned: true},
		},
	}
}
