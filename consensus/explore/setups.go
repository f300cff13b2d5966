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

// Setups are the explorations of the default suite.
func Setups() []Setup {
	three := only(grid(1, 0, 3))
	return []Setup{
		{
			Name: "a-steal", About: "three nodes of one region, two of which own in turn",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 2, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "a-crash", About: "the same with one slot, and any node crashes once, at any point",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 1, Crashes: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
		{
			Name: "a-retry", About: "one owner whose messages are lost and sent again",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Ticks: true, Proposers: nodes(1), Inflight: 1},
		},
		{
			Name: "f-reorder", About: "messages in any order, and one of them twice",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 1, Slots: 2, Network: Reorder, Repeats: 1, Proposers: nodes(1)},
		},
		{
			Name: "f-repeat", About: "messages in any order and any number of times, while another steals",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 1, Network: Repeat, Proposers: nodes(1, 2)},
		},
		{
			Name: "f-stall", About: "a node that takes inputs while its disk is slow",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 2, Slots: 1, Stalls: 1, Proposers: nodes(1, 2), Inflight: 1},
		},
	}
}

// LongSetups are those that ATLAS_LONG adds.
func LongSetups() []Setup {
	three := only(grid(1, 0, 3))
	return []Setup{
		{
			Name: "a-long", About: "three nodes of one region, three ballots, two slots, one crash",
			Configurations: three, Nodes: 3,
			Bounds: Bounds{Campaigns: 3, Slots: 2, Crashes: 1, Proposers: nodes(1, 2), Inflight: 1, States: 100e6},
		},
	}
}
