// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package liveness

import (
	"errors"
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
	storytest "github.com/atlas-edge/atlas/internal/story"
)

// plants are the planted mistakes of this package, and what must be seen of each.
// shared: only read.
var plants = []struct {
	site failpoint.Site
	want error
}{
	// An ack of the life before answers what this life has not sent, or is taken for an ack of what it has.
	{failpoint.LivenessBumpBeforeSync, nil},
	{failpoint.LivenessCountFromReceipt, errBelief},
	{failpoint.LivenessCountLastRound, errBelief},
	{failpoint.LivenessForgetMinEpoch, errTwoLeases},
	{failpoint.LivenessKeepAfterJump, errBelief},
	{failpoint.LivenessSkipDriftBound, errBelief},
	{failpoint.LivenessSkipQuarantine, errBelief},
}

// TestStoriesSeePlants: each story is told differently with each plant that it names.
func TestStoriesSeePlants(t *testing.T) { storytest.RunArmed(t, "testdata", newStory) }

// TestSimulationSeesPlants arms each planted mistake and requires the simulation to find it within a budget of seeds.
func TestSimulationSeesPlants(t *testing.T) {
	const budget = 3000
	for _, plant := range plants {
		t.Run(string(plant.site), func(t *testing.T) {
			disarm, err := failpoint.Arm(plant.site, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			for seed := uint64(1); seed <= budget; seed++ {
				_, err := simulate(seed, settings{}, nil)
				if err != nil && (plant.want == nil || errors.Is(err, plant.want)) {
					t.Logf("found by seed %d: %v", seed, err)
					return
				}
			}
			reached, fired := failpoint.Counts(plant.site)
			t.Errorf("not found in %d seeds; reached %d times, fired %d", budget, reached, fired)
		})
	}
}

// TestExploreSeesPlants does the same with the explorer, whose clocks do not jump, and whose runs are too short for what was
// withdrawn, taken up in a new epoch, and lost in a crash.
func TestExploreSeesPlants(t *testing.T) {
	for _, plant := range plants {
		if plant.site == failpoint.LivenessKeepAfterJump || plant.site == failpoint.LivenessBumpBeforeSync {
			continue
		}
		t.Run(string(plant.site), func(t *testing.T) {
			disarm, err := failpoint.Arm(plant.site, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			for _, sc := range scopes() {
				x := &explorer{scope: sc}
				err := x.run()
				if err != nil && (plant.want == nil || errors.Is(err, plant.want)) {
					t.Logf("%s: found after %d states: %v", sc.name, len(x.seen), err)
					return
				}
				t.Logf("%s: not found in %d states: %v", sc.name, len(x.seen), err)
			}
			t.Error("not found")
		})
	}
}

// TestGroupSimulationSeesPlants: what the group's core must do with support is seen too.
func TestGroupSimulationSeesPlants(t *testing.T) {
	const budget = 1500 // an owner that outlives the withdrawal of its support is rare: one seed in some 200
	for _, plant := range []failpoint.Site{
		failpoint.ConsensusIgnoreFort, failpoint.ConsensusForgetMinEpoch, failpoint.ConsensusSkipQuarantine,
		failpoint.LivenessForgetMinEpoch, failpoint.LivenessSkipQuarantine,
	} {
		t.Run(string(plant), func(t *testing.T) {
			disarm, err := failpoint.Arm(plant, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			for seed := uint64(1); seed <= budget; seed++ {
				if _, err := simulate(seed, settings{group: true}, nil); err != nil {
					t.Logf("found by seed %d: %v", seed, err)
					return
				}
			}
			reached, fired := failpoint.Counts(plant)
			t.Errorf("not found in %d seeds; reached %d times, fired %d", budget, reached, fired)
		})
	}
}
