// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package replication

import (
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestTellingTooSoonIsFound: a round that is made known before its sync has returned is seen.
func TestTellingTooSoonIsFound(t *testing.T) {
	for depth := 1; depth <= 2; depth++ {
		disarm, err := failpoint.Arm(failpoint.ReplicationTellBeforeSync, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		o := startOverlap(t, depth)
		eventually(t, "something told too soon", func() bool { return o.check() != nil })
		t.Logf("depth %d: %v", depth, o.check())
		if _, fired := failpoint.Counts(failpoint.ReplicationTellBeforeSync); fired == 0 {
			t.Fatal("it never fired: nothing was tested")
		}
		disarm()
		o.letGo()
		if got := <-o.first; got.err != nil {
			t.Fatal(got.err)
		}
	}
}

// TestSmallGroupsFindPlants: each planted mistake about what versions carry is seen by the random runs of TestSmallGroups, soon.
func TestSmallGroupsFindPlants(t *testing.T) {
	const seeds = 5
	for _, site := range []failpoint.Site{failpoint.ReplicationForgetIndex, failpoint.ReplicationStampSeveral} {
		t.Run(string(site), func(t *testing.T) {
			disarm, err := failpoint.Arm(site, 0.25, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			for seed := range uint64(seeds) {
				err := newSmallRun(t, seed).run(12)
				if _, fired := failpoint.Counts(site); err != nil && fired > 0 {
					t.Logf("found at seed %d after it fired %d times: %v", seed, fired, err)
					return
				}
			}
			t.Errorf("not found in %d runs", seeds)
		})
	}
}
