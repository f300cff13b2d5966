// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package consensus

import (
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
	storytest "github.com/atlas-edge/atlas/internal/story"
)

// TestStoriesSeePlants: each story is told differently with each plant that it names.
func TestStoriesSeePlants(t *testing.T) { storytest.RunArmed(t, "testdata/stories", newStory) }

// TestSimulationSeesPlants arms each planted mistake and requires the simulation to find it within a budget of seeds.
func TestSimulationSeesPlants(t *testing.T) {
	for _, site := range []failpoint.Site{
		failpoint.ConsensusAckBeforeSync,
		failpoint.ConsensusIgnoreAccepted,
		failpoint.ConsensusCountOldAcks,
		failpoint.ConsensusCountHealthy,
		failpoint.ConsensusAcceptOutside,
		failpoint.ConsensusCompactUnapplied,
		failpoint.ConsensusLocalByPromise,
		failpoint.ConsensusOmitCommitted,
		failpoint.ConsensusQ2Short,
		failpoint.ConsensusResumeBallot,
	} {
		t.Run(string(site), func(t *testing.T) {
			disarm, err := failpoint.Arm(site, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			const budget = 2000
			found := 0
			var first error
			for seed := range uint64(budget) {
				if found == 5 {
					break
				}
				if _, err := simulate(seed, silent); err != nil {
					if found++; found == 1 {
						first = err
						t.Logf("found by seed %d: %v", seed, err)
					}
				}
			}
			if reached, fired := failpoint.Counts(site); fired == 0 {
				t.Fatalf("the plant was reached %d times and never fired", reached)
			}
			t.Logf("found by %d seeds, at most %d tried", found, budget)
			if first == nil {
				t.Error("not found")
			}
		})
	}
}
