// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"encoding/binary"
	"fmt"
	"testing"
)

// TestPruningLosesNothing explores small setups with and without what takes useless messages off the network. The states of
// the nodes, and what was chosen, must be the same sets.
func TestPruningLosesNothing(t *testing.T) {
	if raceStates < 1<<20 {
		t.Skip("takes whole explorations; the race detector has nothing to find in one goroutine")
	}
	for _, s := range []Setup{
		{Name: "streams", Nodes: 3, Bounds: Bounds{Campaigns: 2, Slots: 1, Proposers: nodes(1, 2), Inflight: 1}},
		{Name: "crash", Nodes: 3, Bounds: Bounds{Campaigns: 2, Slots: 1, Crashes: 1, Inflight: 1, Proposers: nodes(1)}},
		{Name: "any order", Nodes: 3, Bounds: Bounds{Campaigns: 1, Slots: 1, Network: Reorder, Proposers: nodes(1)}},
		{Name: "repeat", Nodes: 3, Bounds: Bounds{Campaigns: 1, Slots: 1, Network: Repeat, Proposers: nodes(1)}},
		{Name: "lease", Nodes: 3, Fabric: true, Prelude: steady, Bounds: Bounds{Campaigns: 1, Leases: true, Epochs: 1, Inflight: 1, Proposers: nodes(1, 2)}},
		{Name: "release", Nodes: 3, Fabric: true, Prelude: steady, Bounds: Bounds{Releases: 1, Slots: 1, Inflight: 1, Proposers: nodes(1, 2)}},
		{Name: "read", Nodes: 3, Prelude: steady, Bounds: Bounds{Campaigns: 1, Reads: 1, Inflight: 1, Proposers: nodes(1, 2)}},
		{Name: "snapshot", Nodes: 3, Prelude: []string{"campaign 1", "run", "propose 1", "run 1 2"}, Bounds: Bounds{Campaigns: 1, Compacts: 1, Inflight: 1, Proposers: nodes(3)}},
		{Name: "local", Configurations: only(twoAndOne), Homes: homes(regions{"a"}, regions{"a"}, regions{"b"}), Nodes: 3, Prelude: steady, Bounds: Bounds{Campaigns: 1, Locals: 1, Inflight: 1}},
		{Name: "remove", Configurations: from1to2(threeRegions0, twoRegions0), Nodes: 3, Prelude: steady, Bounds: Bounds{Campaigns: 1, StopSigns: 1, Configure: true, Inflight: 1, Proposers: nodes(1, 2)}},
	} {
		if s.Configurations == nil {
			s.Configurations = only(three)
		}
		s.Bounds.Asymmetric = true
		pruned, a := nodeStates(t, s)
		s.Bounds.Unpruned = true
		all, b := nodeStates(t, s)
		missing := 0
		for h := range all {
			if !pruned[h] {
				missing++
			}
		}
		t.Logf("%s: %d states pruned, %d not; %d and %d of the nodes", s.Name, a, b, len(pruned), len(all))
		if missing > 0 || len(pruned) != len(all) {
			t.Errorf("%s: %d states of the nodes are not reached when messages are pruned", s.Name, missing)
		}
	}
}

// nodeStates are the hashes of all states without the network and what is used of the bounds.
func nodeStates(t *testing.T, s Setup) (set map[hash128]bool, states int) {
	t.Helper()
	set = map[hash128]bool{}
	var hashes []hash128
	stats, v := explore(&s, func(x *explorer, w *world) {
		for id := len(hashes); id < len(x.locals); id++ {
			hashes = append(hashes, hashOf(x.locals[id].appendTo(nil, x, 0)))
		}
		var bytes []byte
		for n := range s.Nodes {
			h := hashes[w.node[n]]
			bytes = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(bytes, h.hi), h.lo)
		}
		set[hashOf(x.histories[w.hist].appendTo(fmt.Append(bytes, x.fabrics[w.fab])))] = true
	})
	if v != nil {
		t.Fatal(v)
	}
	return set, stats.States
}
