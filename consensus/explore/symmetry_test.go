// SPDX-License-Identifier: AGPL-3.0-only

package explore

import "testing"

// TestSymmetry explores setups with and without symmetry. The states without, each made the least of its images, must be as many
// as those with.
func TestSymmetry(t *testing.T) {
	if raceStates < 1<<20 {
		t.Skip("takes whole explorations; the race detector has nothing to find in one goroutine")
	}
	for _, s := range []Setup{
		{Name: "acceptors", Nodes: 3, Bounds: Bounds{Campaigns: 1, Slots: 2, Ticks: true, Inflight: 1, Proposers: nodes(1)}},
		{Name: "crash", Nodes: 3, Bounds: Bounds{Campaigns: 2, Slots: 1, Crashes: 1, Inflight: 1, Proposers: nodes(1)}},
		{Name: "any order", Nodes: 3, Bounds: Bounds{Campaigns: 1, Slots: 1, Network: Reorder, Proposers: nodes(1)}},
		{Name: "lease", Nodes: 3, Fabric: true, Bounds: Bounds{Campaigns: 1, Slots: 1, Epochs: 1, Leases: true, Inflight: 1, Proposers: nodes(1)}},
	} {
		s.Configurations = only(three)
		with, v := Explore(&s)
		if v != nil {
			t.Fatal(v)
		}
		if with.Symmetry < 2 {
			t.Fatalf("%s: no symmetry: %v", s.Name, with.Uneven)
		}
		s.Bounds.Asymmetric = true
		least := map[hash128]bool{}
		var sym *symmetry
		all, v := explore(&s, func(x *explorer, w *world) {
			if sym == nil {
				s.Bounds.Asymmetric = false
				start, err := x.begin()
				if err != nil {
					t.Fatal(err)
				}
				sym = newSymmetry(x, &start)
				s.Bounds.Asymmetric = true
			}
			u := *w
			u.net = append([]uint16(nil), w.net...)
			sym.canonical(&u)
			least[hashOf(u.encode(nil, s.Nodes))] = true
		})
		if v != nil {
			t.Fatal(v)
		}
		t.Logf("%s: %d states, %d but for symmetry of %d permutations; expected %d; uneven: %v", s.Name, all.States, with.States, with.Symmetry, len(least)+1, with.Uneven)
		if with.Uneven == nil && with.States != len(least)+1 {
			t.Errorf("%s: %d states with symmetry, want %d", s.Name, with.States, len(least)+1)
		}
	}
}
