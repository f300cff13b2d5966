// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// only is one configuration, of version 1.
func only(q *quorum.Config) []consensus.Configuration {
	return []consensus.Configuration{{Version: 1, Quorums: q}}
}

func nodes(ids ...consensus.NodeID) []consensus.NodeID { return ids }

// from1to2 are two configurations.
func from1to2(first, second *quorum.Config) []consensus.Configuration {
	return []consensus.Configuration{{Version: 1, Quorums: first}, {Version: 2, Quorums: second}}
}

// The grids of the setups.
var (
	// shared: grids do not change. Three nodes in one region, of which two are a quorum.
	three = grid(1, 0, 3)
	// shared: one of which is replaced.
	threeOthers = mustGrid([]quorum.Voter{{Node: 1, Region: "a"}, {Node: 3, Region: "a"}, {Node: 4, Region: "a"}}, 1, 0)
	// shared: two nodes in region a, one in b: a Q2 in a is both of its nodes, a Q1 is one of a and that of b.
	twoAndOne = grid(1, 0, 2, 1)
	// shared: three regions of one node.
	threeRegions0 = grid(0, 0, 1, 1, 1)
	threeRegions1 = grid(0, 1, 1, 1, 1)
	twoRegions0   = grid(0, 0, 1, 1)
	// shared: three regions of one node, of which region a has gone and d come.
	otherRegions1 = mustGrid([]quorum.Voter{{Node: 2, Region: "b"}, {Node: 3, Region: "c"}, {Node: 4, Region: "d"}}, 0, 1)
)

func homes(of ...[]quorum.Region) map[consensus.NodeID][]quorum.Region {
	m := map[consensus.NodeID][]quorum.Region{}
	for i, h := range of {
		m[consensus.NodeID(i+1)] = h
	}
	return m
}

type regions = []quorum.Region

// steady is the prelude after which node 1 owns.
//
// shared: it does not change.
var steady = []string{"campaign 1", "run"}

// The most states that one exploration of the default suite and of ATLAS_LONG visits. The former reach it nowhere.
const (
	defaultStates = 700_000
	longStates    = 5_000_000
)

// Setups are the explorations of the default suite.
func Setups() []Setup {
	list := []Setup{
		{
			Name: "a-start", About: "three nodes of one region, two of which want to own",
			Configurations: only(three), Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 2, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "a-steal", About: "one owns, and another steals or it begins anew",
			Configurations: only(three), Nodes: 3, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "a-crash", About: "the same, and any node crashes once, at any point",
			Configurations: only(three), Nodes: 3, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Crashes: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "a-retry", About: "one owner whose messages are lost and sent again",
			Configurations: only(three), Nodes: 3,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Ticks: true, Proposers: nodes(1), Inflight: 1},
		},
		{
			Name: "b-regions0", About: "an owner whose home is one region of two nodes, Fz=0; the other takes over locally, another region steals",
			Configurations: only(twoAndOne), Nodes: 3, Homes: homes(regions{"a"}, regions{"a"}, regions{"b"}),
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 1, Locals: 1, Slots: 1, Inflight: 1},
		},
		{
			Name: "b-regions1", About: "three regions of one node, Fz=1, homes of two regions; a local and a global ballot compete",
			Configurations: only(threeRegions1), Nodes: 3, Homes: homes(regions{"a", "b"}, regions{"a", "b"}, regions{"b", "c"}),
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 1, Locals: 1, Slots: 1, Inflight: 1},
		},
		{
			Name: "c-remove", About: "three regions of one node become two, Fz=0: by phase 1 in both, or by a stop-sign",
			Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3,
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 2, Slots: 1, StopSigns: 1, Configure: true, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "c-leave", About: "the same, and the owner is in the region that goes",
			Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3,
			Prelude: []string{"campaign 3", "run"},
			Bounds:  Bounds{Campaigns: 1, Slots: 2, StopSigns: 1, Configure: true, Proposers: nodes(1, 3), Inflight: 1},
		},
		{
			Name: "c-replace", About: "of three regions one is replaced, Fz=1",
			Configurations: from1to2(threeRegions1, otherRegions1), Nodes: 4,
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 1, Slots: 1, StopSigns: 1, Configure: true, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "c-teach", About: "the same, with a log that only two nodes have",
			Configurations: from1to2(threeRegions1, otherRegions1), Nodes: 4,
			Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2", "tick 1", "run 1 2"},
			Bounds:  Bounds{Campaigns: 1, Slots: 1, Configure: true, Proposers: nodes(2), Inflight: 1},
		},
		{
			Name: "c-seal", About: "the region that goes is sealed and its configuration retired, by phase 1 in both",
			Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3,
			Prelude: []string{"campaign 3", "run"},
			Bounds:  Bounds{Campaigns: 1, Slots: 1, Configure: true, Seals: true, Proposers: nodes(1, 3), Inflight: 1},
		},
		{
			Name: "c-stop-lease", About: "a stop-sign that was cut off by another owner, with a lease, before a third campaigns in the next version",
			Configurations: from1to2(three, threeOthers), Nodes: 4, Fabric: true,
			Prelude: []string{
				"campaign 1", "run", "configure 1 v2", "stop-sign 1", "run 9", // to nobody
				"lose 1 2", "expire 2 1", "lose 1 3", "expire 3 1", "campaign 2", "run 2 3", "tick 2", "run", "configure 3 v2",
			},
			Bounds: Bounds{Campaigns: 1, Configure: true, Proposers: nodes(3), Inflight: 1},
		},
		{
			Name: "d-lease", About: "an owner with a lease, its epoch rises, support is lost and given again, another steals",
			Configurations: only(three), Nodes: 3, Fabric: true, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Leases: true, Epochs: 1, Renewals: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "d-former", About: "an owner with a lease that one node has not heard of, which is tied to the owner before; others steal",
			Configurations: only(three), Nodes: 3, Fabric: true,
			Prelude: []string{"campaign 2", "run", "release 2 1", "deliver 2->1 Release", "run 1 2"},
			Bounds:  Bounds{Campaigns: 1, Leases: true, Proposers: nodes(2, 3), Inflight: 1},
		},
		{
			Name: "d-write", About: "an owner with a lease writes, another steals",
			Configurations: only(three), Nodes: 3, Fabric: true, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Slots: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "d-release", About: "an owner with a lease gives the group away",
			Configurations: only(three), Nodes: 3, Fabric: true, Prelude: steady,
			Bounds: Bounds{Slots: 1, Releases: 1, Leases: true, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "d-read", About: "a read without a lease while another steals",
			Configurations: only(three), Nodes: 3,
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 1, Slots: 1, Reads: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "e-snapshot", About: "the log is trimmed above what a node has; it gets a snapshot, or steals",
			Configurations: only(three), Nodes: 3,
			Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2"},
			Bounds:  Bounds{Campaigns: 1, Slots: 1, Compacts: 1, Ticks: true, Proposers: nodes(2, 3), Inflight: 1},
		},
		{
			Name: "f-reorder", About: "messages in any order, and one of them twice",
			Configurations: only(three), Nodes: 3,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Network: Reorder, Repeats: 1, Proposers: nodes(1)},
		},
		{
			Name: "f-repeat", About: "messages in any order and any number of times, while another steals",
			Configurations: only(three), Nodes: 3, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Slots: 1, Network: Repeat, Proposers: nodes(1, 2)},
		},
		{
			Name: "f-stall", About: "a node that takes inputs while its disk is slow",
			Configurations: only(three), Nodes: 3, Prelude: steady,
			Bounds: Bounds{Campaigns: 1, Slots: 1, Stalls: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
	}
	for i := range list {
		list[i].Bounds.States = defaultStates
	}
	return list
}

// LongSetups are those that ATLAS_LONG adds: some of their own, and the same with wider bounds.
func LongSetups() []Setup {
	list := []Setup{
		{
			Name: "d-next", About: "an owner with a lease, and another campaigns in the next configuration, before the first is retired and after",
			Configurations: from1to2(three, threeOthers), Nodes: 4, Fabric: true,
			Prelude: []string{"campaign 1", "run", "configure 1 v2", "configure 2 v2", "configure 3 v2", "configure 4 v2"},
			Bounds:  Bounds{Campaigns: 1, Seals: true, Proposers: nodes(3), Inflight: 1, States: longStates},
		},
		{
			Name: "a-three", About: "three ballots, two slots, one crash: from the steady state of the first ballot on",
			Configurations: only(three), Nodes: 3,
			Prelude: steady,
			Bounds:  Bounds{Campaigns: 2, Slots: 2, Crashes: 1, Proposers: nodes(1, 2), Inflight: 1, States: 5 * longStates},
		},
		{
			Name: "e-reorder", About: "the same as e-snapshot with messages in any order, and a slow disk",
			Configurations: only(three), Nodes: 3,
			Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2"},
			Bounds:  Bounds{Campaigns: 1, Slots: 2, Compacts: 2, Network: Reorder, Stalls: 1, Proposers: nodes(2, 3), States: longStates},
		},
		{
			Name: "f-crash", About: "messages in any order, two ballots from the start, one crash",
			Configurations: only(three), Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 1, Crashes: 1, Network: Reorder, Proposers: nodes(1, 2), States: longStates},
		},
	}
	wider := map[string]func(*Bounds){
		"a-start":    func(b *Bounds) { b.Campaigns, b.Slots = 3, 1 },
		"a-steal":    func(b *Bounds) { b.Campaigns = 2 },
		"b-regions0": func(b *Bounds) { b.Crashes, b.Locals = 1, 2 },
		"b-regions1": func(b *Bounds) { b.Crashes, b.Locals = 1, 2 },
		"c-remove":   func(b *Bounds) { b.Crashes = 1 },
		"c-leave":    func(b *Bounds) { b.Crashes = 1 },
		"c-replace":  func(b *Bounds) { b.Slots, b.Campaigns = 2, 2 },
		"d-lease":    func(b *Bounds) { b.Slots, b.Crashes = 1, 1 },
		"d-former":   func(b *Bounds) { b.Campaigns = 2 },
		"d-release":  func(b *Bounds) { b.Reads, b.Campaigns = 1, 1 },
		"d-read":     func(b *Bounds) { b.Crashes, b.Reads, b.Campaigns = 1, 2, 2 },
		"e-snapshot": func(b *Bounds) { b.Crashes, b.Slots = 1, 2 },
		"f-repeat":   func(b *Bounds) { b.Campaigns = 2 },
		"f-stall":    func(b *Bounds) { b.Stalls, b.Crashes = 2, 1 },
	}
	for _, s := range Setups() {
		widen, ok := wider[s.Name]
		if !ok {
			continue
		}
		widen(&s.Bounds)
		s.Name += "-long"
		s.Bounds.States = longStates
		list = append(list, s)
	}
	return list
}
