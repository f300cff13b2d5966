// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"fmt"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Limits of a setup. They size fixed arrays, so that a state is a few dozen bytes.
const (
	nodesMax = 5
	slotsMax = 6
	readsMax = 2
)

// Setup is one configuration to explore: a small group, where it begins, and what may happen to it how often.
type Setup struct {
	Name  string
	About string
	// Configurations of the group. All nodes know the first; a node learns a later one by the action configure.
	Configurations []consensus.Configuration
	// Nodes is how many there are: 1 to Nodes, at most nodesMax.
	Nodes int
	// Homes are the regions of the ballots that a node campaigns for globally; a node without has all regions.
	Homes map[consensus.NodeID][]quorum.Region
	// Prelude is run before the exploration begins: one action a line as in a trace, and `run`, which delivers all messages, or
	// `run 1 2`, which delivers those to nodes 1 and 2 and loses the others. Its messages are then gone, and its actions do not
	// count against the bounds.
	Prelude []string
	// Fabric: the nodes have leases. Without, nobody is ever blocked.
	Fabric bool
	// Unsealed retires configurations without sealing them: a mistake of the caller's.
	Unsealed bool
	Bounds   Bounds
}

// Bounds say what may happen, and how often in all. A zero bound is: never.
type Bounds struct {
	Campaigns uint8              // global ones
	Locals    uint8              // local ones
	Proposers []consensus.NodeID // who may campaign; empty: all
	Slots     consensus.Slot     // nobody proposes beyond
	Ticks     bool               // retries, any number: every Tick is late for everything
	Crashes   uint8              // crash and restart, between and inside of Readies
	Stalls    uint8              // a Ready that is done later than at once
	Reads     uint8              // ReadIndex, at most readsMax
	Releases  uint8
	Leases    bool  // HoldsLease is asked, which can send Fortify
	Epochs    uint8 // a node's epoch rises without a restart
	Renewals  uint8 // a node supports another again
	StopSigns uint8
	Configure bool // nodes learn the later configurations
	Seals     bool // nodes seal the first configuration, and retire it when that is allowed
	Compacts  uint8
	// Network is what may happen to messages, besides being lost; Repeats how often one stays under way when it is delivered.
	Network Network
	Repeats uint8
	// Inflight is how many messages a stream holds: one more, and the oldest is lost. 0 is no bound.
	Inflight uint8
	// Unpruned keeps messages under way that can have no effect any more.
	Unpruned bool
	// Asymmetric takes states for different that differ only in which of two interchangeable nodes does what.
	Asymmetric bool
	// States cuts the search; 0 is no cut.
	States int
}

// Network is the order in which messages arrive. Any of them may be lost in each: it is never delivered.
type Network uint8

const (
	// Streams: what goes from one node to another arrives in the order sent, as the transport has it.
	Streams Network = iota
	// Reorder: in any order.
	Reorder
	// Repeat: in any order, and any number of times.
	Repeat
)

var networkNames = [...]string{Streams: "streams", Reorder: "any order", Repeat: "any order, any number of times"}

func (n Network) String() string { return networkNames[n] }

func (b Bounds) String() string {
	var words []string
	add := func(format string, n int) {
		if n > 0 {
			words = append(words, fmt.Sprintf(format, n))
		}
	}
	flag := func(set bool, word string) {
		if set {
			words = append(words, word)
		}
	}
	add("ballots=%d", int(b.Campaigns))
	add("local=%d", int(b.Locals))
	add("proposers=%d", len(b.Proposers))
	add("slots=%d", int(b.Slots))
	flag(b.Ticks, "retries")
	add("crashes=%d", int(b.Crashes))
	add("stalls=%d", int(b.Stalls))
	add("reads=%d", int(b.Reads))
	add("releases=%d", int(b.Releases))
	flag(b.Leases, "leases asked for")
	add("epochs=%d", int(b.Epochs))
	add("renewals=%d", int(b.Renewals))
	add("stopsigns=%d", int(b.StopSigns))
	flag(b.Configure, "configure")
	flag(b.Seals, "seals")
	add("compacts=%d", int(b.Compacts))
	words = append(words, b.Network.String())
	add("repeats=%d", int(b.Repeats))
	add("inflight=%d", int(b.Inflight))
	flag(b.Unpruned, "unpruned")
	add("states<=%d", b.States)
	return strings.Join(words, " ")
}

// grid is the configuration of these regions: node 1.. by region, `grid(1, 0, 3)` is three nodes in region a.
func grid(fn, fz int, sizes ...int) *quorum.Config {
	var voters []quorum.Voter
	for z, n := range sizes {
		for range n {
			voters = append(voters, quorum.Voter{Node: quorum.NodeID(len(voters) + 1), Region: quorum.Region(rune('a' + z))})
		}
	}
	return mustGrid(voters, fn, fz)
}

func mustGrid(voters []quorum.Voter, fn, fz int) *quorum.Config {
	q, err := quorum.New(voters, fn, fz)
	if err != nil {
		panic(err) // the table of setups is wrong
	}
	return q
}
