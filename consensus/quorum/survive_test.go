// SPDX-License-Identifier: AGPL-3.0-only

package quorum_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// TestSurvivesIsTrue takes away, in every grid up to 5 x 5 and every home, the losses that Survives says are borne, and one
// region more, and looks whether quorums are left, and whether what a Q2 has accepted can be found.
func TestSurvivesIsTrue(t *testing.T) {
	checked := 0
	eachConfig(5, 5, func(w twin) {
		c := w.grid(t)
		for _, home := range w.homes() {
			s := c.Survives(w.home(t, c, home))
			checked++
			intact := func(regions int) bool { return w.intactAfter(home, s, regions) }
			if !intact(s.RegionLosses) {
				t.Fatalf("grid %v home %v: quorums are gone after %d regions", w, home, s.RegionLosses)
			}
			if intact(s.RegionLosses + 1) {
				t.Fatalf("grid %v home %v: bears more than %d regions", w, home, s.RegionLosses)
			}
			lost := s.RegionLossesDurable
			if found, gone := w.wipe(home, s, lost); !found || gone {
				t.Fatalf("grid %v home %v: a write is lost with %d regions", w, home, lost)
			}
			if _, gone := w.wipe(home, s, lost+1); !gone {
				t.Fatalf("grid %v home %v: no write is lost with more than %d regions", w, home, lost)
			}
		}
	})
	t.Logf("shapes checked=%d", checked)
}

// wipe wipes every choice of this many regions, and in each of the others the nodes that it is said to bear. It reports whether
// a Q1 is left each time, which finds what is on the rest, and whether a choice takes a whole Q2 of the home.
func (w twin) wipe(home []bool, s quorum.Survival, regions int) (found, gone bool) {
	found = true
	for mask := 0; mask < 1<<len(w.n); mask++ {
		left, wiped, lost := make([]int, len(w.n)), make([]int, len(w.n)), 0
		for z := range w.n {
			if wiped[z] = s.Regions[z].Losses; mask>>z&1 == 1 {
				wiped[z] = w.n[z]
				lost++
			}
			left[z] = w.n[z] - wiped[z]
		}
		if lost == regions {
			found, gone = found && w.isQ1(left), gone || w.isQ2(wiped, home)
		}
	}
	return found, gone
}

// intactAfter loses every choice of this many regions, and in each of the others the nodes that it is said to bear, and
// reports whether a Q1 and a Q2 were left each time.
func (w twin) intactAfter(home []bool, s quorum.Survival, regions int) bool {
	for mask := 0; mask < 1<<len(w.n); mask++ {
		count, lost := make([]int, len(w.n)), 0
		for z := range w.n {
			if mask>>z&1 == 1 {
				lost++
				continue
			}
			count[z] = w.n[z] - s.Regions[z].Losses
		}
		if lost == regions && (!w.isQ1(count) || !w.isQ2(count, home)) {
			return false
		}
	}
	return true
}

// TestSurvivesShapes reads the shapes that the design names, as an operator would.
func TestSurvivesShapes(t *testing.T) {
	for _, tc := range []struct {
		w    twin
		want string
	}{
		{twin{n: []int{1}}, "q1=1 q2=1 | regions 0 durable 0"},
		{twin{n: []int{3}, fn: 1}, "q1=2 q2=2 | regions 0 durable 0"},
		{twin{n: []int{1, 1, 1}, fz: 1}, "q1=1 q2=1 q1=1 q2=1 q1=1 q2=1 | regions 1 durable 1"},
		{twin{n: []int{1, 1, 1}}, "q1=1 q2=1 q1=1 q2=1 q1=1 q2=1 | regions 0 durable 0"},
		{twin{n: []int{3, 3, 3}, fn: 1}, "q1=2 q2=2 q1=2 q2=2 q1=2 q2=2 | regions 0 durable 0"},
		{twin{n: []int{2, 5}, fn: 1, fz: 1}, "q1=1 q2=2 q1=2 q2=4 | regions 0 durable 1" +
			" | 2 regions, fewer than the 3 that Fz=1 needs: 0 may be lost with writes going on" +
			" | region a has 2 voters, fewer than the 3 that Fn=1 needs: it bears 0 lost"},
	} {
		c := tc.w.grid(t)
		s := c.Survives(c.All())
		var parts []string
		for _, r := range s.Regions {
			parts = append(parts, fmt.Sprintf("q1=%d q2=%d", r.Q1, r.Q2))
		}
		got := fmt.Sprintf("%s | regions %d durable %d", strings.Join(parts, " "), s.RegionLosses, s.RegionLossesDurable)
		for _, d := range s.Degraded {
			got += " | " + d.String()
		}
		if got != tc.want {
			t.Errorf("%v:\n got %s\nwant %s", tc.w, got, tc.want)
		}
	}
	huge, err := quorum.New([]quorum.Voter{{Node: 1, Region: "a"}}, int(^uint(0)>>1), int(^uint(0)>>1))
	if err != nil {
		t.Fatal(err)
	}
	if got := len(huge.Survives(huge.All()).Degraded); got != 2 {
		t.Errorf("Fn and Fz of the largest int on one node: %d degraded, want 2", got)
	}
}

// TestSmallest checks on every grid up to 4 x 4 that the smallest quorums are quorums, lose that with any member less, and
// that no quorum has a nearer farthest member.
func TestSmallest(t *testing.T) {
	checked := 0
	eachConfig(4, 4, func(w twin) {
		c := w.grid(t)
		var order []quorum.NodeID
		for i := range 4 { // the first of each region, then the second of each, ...
			for z := range w.n {
				if i < w.n[z] {
					order = append(order, node(z, i))
				}
			}
		}
		for _, o := range [][]quorum.NodeID{order, reversed(order), nil, {99, order[0], order[0]}} {
			checked += 2
			all := c.All()
			checkSmallest(t, w, c, o, c.SmallestQ1(o), c.IsQ1)
			checkSmallest(t, w, c, o, c.SmallestQ2(o, all), func(s quorum.Set) bool { return c.IsQ2(s, all) })
		}
		if got := c.SmallestQ2(order, quorum.Home{}); got != nil {
			t.Fatalf("grid %v: Q2 of no home: %v", w, got)
		}
	})
	t.Logf("quorums checked=%d", checked)
}

func reversed(ids []quorum.NodeID) []quorum.NodeID {
	r := slices.Clone(ids)
	slices.Reverse(r)
	return r
}

func checkSmallest(t *testing.T, w twin, c *quorum.Config, order, got []quorum.NodeID, isQuorum func(quorum.Set) bool) {
	t.Helper()
	if len(got) == 0 || !isQuorum(c.SetOf(got...)) {
		t.Fatalf("grid %v order %v: %v is no quorum", w, order, got)
	}
	for i := range got {
		if isQuorum(c.SetOf(slices.Delete(slices.Clone(got), i, i+1)...)) {
			t.Fatalf("grid %v order %v: %v does not need %d", w, order, got, got[i])
		}
	}
	if far := slices.Index(order, got[len(got)-1]); far > 0 && isQuorum(c.SetOf(order[:far]...)) {
		t.Fatalf("grid %v order %v: %v reaches farther than it must", w, order, got)
	}
}

// TestSmallestStaysNear shows QUORUM INFO for three regions of three, seen from region b.
func TestSmallestStaysNear(t *testing.T) {
	c := twin{n: []int{3, 3, 3}, fn: 1}.grid(t)
	nearest := []quorum.NodeID{node(1, 0), node(1, 1), node(1, 2), node(0, 2), node(0, 0), node(0, 1), node(2, 0), node(2, 1), node(2, 2)}
	if got, want := c.SmallestQ2(nearest, c.All()), []quorum.NodeID{20, 21}; !slices.Equal(got, want) {
		t.Errorf("Q2 %v, want %v", got, want)
	}
	if got, want := c.SmallestQ1(nearest), []quorum.NodeID{20, 21, 12, 10, 30, 31}; !slices.Equal(got, want) {
		t.Errorf("Q1 %v, want %v", got, want)
	}
}
