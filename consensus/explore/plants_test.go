// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package explore

import (
	"testing"
	"time"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestRetireUnsealed: retiring a configuration that is not sealed loses what an owner in it goes on choosing.
func TestRetireUnsealed(t *testing.T) {
	s := Setup{
		Name: "p-retire", Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3, Prelude: []string{"campaign 3", "run"}, Unsealed: true,
		Bounds: Bounds{Campaigns: 1, Slots: 1, Configure: true, Seals: true, Proposers: nodes(1, 3), Inflight: 1},
	}
	begin := time.Now()
	stats, v := Explore(&s)
	if v == nil {
		t.Fatalf("not found in %d states", stats.States)
	}
	t.Logf("| retire without seal | %s | %d | %.2f | %d | %v |", s.Name, stats.States, time.Since(begin).Seconds(), len(v.Trace), v.Err)
}

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
		})
	}
}

var plants = []struct {
	site  failpoint.Site
	setup string
}{
	{failpoint.ConsensusPerSlotRecovery, "p-two-ends"},
	{failpoint.ConsensusIgnoreAccepted, "a-steal"},
	{failpoint.ConsensusOmitCommitted, "a-steal"},
	{failpoint.ConsensusAckBeforeSync, "a-start"},
	{failpoint.ConsensusCountOldAcks, "p-unpruned"},
	{failpoint.ConsensusResumeBallot, "p-unpruned"},
	{failpoint.ConsensusCountHealthy, "a-start"},
	{failpoint.ConsensusQ2Short, "a-start"},
	{failpoint.ConsensusCountLearned, "c-teach"},
	{failpoint.ConsensusLocalByPromise, "b-regions0"},
	{failpoint.ConsensusAcceptOutside, "b-regions0"},
	{failpoint.ConsensusSkipOldQ1, "c-leave"},
	{failpoint.ConsensusAppendPastStop, "c-leave"},
	{failpoint.ConsensusIgnoreFort, "d-lease"},
	{failpoint.ConsensusForgetMinEpoch, "d-lease"},
	{failpoint.ConsensusFreeByOlder, "d-former"},
	{failpoint.ConsensusFreeUnretired, "p-next"},
	{failpoint.ConsensusSkipQuarantine, "p-quarantine"},
	{failpoint.ConsensusLeaseAfterStop, "p-lease-stop"},
	{failpoint.ConsensusReadUnconfirmed, "d-read"},
	{failpoint.ConsensusOverBeforeSync, "p-over"},
	{failpoint.ConsensusCompactUnapplied, "p-compact"},
	{failpoint.ConsensusCountNonMember, "p-learner"},
	{failpoint.ConsensusAckGap, "f-reorder"},
	{failpoint.ConsensusLeaveGap, "a-start"},
	{failpoint.ConsensusOlderSnapshot, "p-older"},
}

// plantSetups are those that show a mistake and nothing else that the default suite does not.
func plantSetups() []Setup {
	return []Setup{
		{
			Name: "p-unpruned", Configurations: only(three), Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 2, Proposers: nodes(1), Inflight: 1, Crashes: 1, Unpruned: true, States: 2e6},
		},
		{
			// Two owners before left an end of the log that only they have.
			Name: "p-two-ends", Configurations: only(three), Nodes: 3,
			Prelude: []string{
				"campaign 1", "run", "propose 1", "run 9", "campaign 2", "deliver 2->3 PrePrepare", "deliver 3->2 PrePromise",
				"deliver 2->3 Prepare", "deliver 3->2 Promise", "propose 2", "run 9", "crash 1 keep=0", "crash 2 keep=0",
			},
			Bounds: Bounds{Campaigns: 2, Slots: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "p-compact", Configurations: only(three), Nodes: 3, Prelude: []string{"campaign 1", "run"},
			Bounds: Bounds{Slots: 1, Proposers: nodes(1), Inflight: 1, Compacts: 1},
		},
		{
			Name: "p-learner", Nodes: 4, Prelude: []string{"campaign 1", "run"},
			Configurations: []consensus.Configuration{{Version: 1, Quorums: three, Learners: nodes(4)}},
			Bounds:         Bounds{Campaigns: 1, Slots: 1, Proposers: nodes(1, 2), Inflight: 1, States: 2e6},
		},
		{
			// The snapshot that node 3 lacks comes twice.
			Name: "p-older", Configurations: only(three), Nodes: 3,
			Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2"},
			Bounds:  Bounds{Slots: 2, Compacts: 2, Ticks: true, Network: Repeat, Proposers: nodes(1), States: 2e6},
		},
		{
			Name: "p-over", Configurations: only(three), Nodes: 3, Fabric: true, Prelude: []string{"campaign 1", "run"},
			Bounds: Bounds{Campaigns: 2, Stalls: 1, Proposers: nodes(1, 2), Inflight: 1, States: 2e6},
		},
		{
			Name: "p-next", Configurations: from1to2(three, threeOthers), Nodes: 4, Fabric: true,
			Prelude: []string{"campaign 1", "run", "configure 1 v2", "configure 2 v2", "configure 3 v2", "configure 4 v2"},
			Bounds:  Bounds{Campaigns: 1, Proposers: nodes(3), Inflight: 1},
		},
		{
			Name: "p-quarantine", Configurations: only(three), Nodes: 3, Fabric: true, Prelude: []string{"campaign 1", "run"},
			Bounds: Bounds{Campaigns: 1, Slots: 1, Leases: true, Crashes: 1, Proposers: nodes(1, 2), Inflight: 1, States: 2e6},
		},
		{
			Name: "p-lease-stop", Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3, Fabric: true, Prelude: []string{"campaign 3", "run"},
			Bounds: Bounds{Campaigns: 1, Slots: 1, StopSigns: 1, Configure: true, Proposers: nodes(1, 3), Leases: true, Inflight: 1, States: 2e6},
		},
	}
}
