// SPDX-License-Identifier: AGPL-3.0-only

package quorum

import (
	"fmt"
	"slices"
)

// Reason says why a shape bears fewer losses than it was asked to.
type Reason uint8

const (
	// FewVoters: a region has n_z < 2Fn+1 voters, so that it bears f_z < Fn losses.
	FewVoters Reason = iota + 1
	// FewRegions: there are Z < 2Fz+1 regions, so that after the loss of Fz of them a phase-2 quorum is lacking.
	FewRegions
)

// Degraded is one way in which a shape bears fewer losses than it was asked to.
type Degraded struct {
	Reason Reason
	Region Region // the region of FewVoters; empty for FewRegions
	Have   int    // voters of the region, or regions
	Want   int    // 2Fn+1 or 2Fz+1
	Bears  int    // the losses that are borne
	Asked  int    // Fn or Fz
}

// String is the sentence that an operator reads.
func (d Degraded) String() string {
	if d.Reason == FewVoters {
		return fmt.Sprintf("region %s has %d voters, fewer than the %d that Fn=%d needs: it bears %d lost", d.Region, d.Have, d.Want, d.Asked, d.Bears)
	}
	return fmt.Sprintf("%d regions, fewer than the %d that Fz=%d needs: %d may be lost with writes going on", d.Have, d.Want, d.Asked, d.Bears)
}

// Survival is what a shape bears, as facts of the configuration. A region is lost when all of its nodes are.
type Survival struct {
	// Regions holds each region's shape by name; Losses in it may be lost in every region at once, also on top of
	// RegionLosses whole regions, with writes, ownership moves and all acknowledged writes intact.
	Regions []RegionShape
	// RegionLosses is the number of whole regions whose loss leaves a Q1 and a Q2 of the home: reads, writes and moves go on.
	RegionLosses int
	// RegionLossesDurable is the number of whole regions that may be lost for good without losing an acknowledged write. At
	// 0, the loss of one region can lose acknowledged writes.
	RegionLossesDurable int
	// Degraded lists where the shape falls short of what was asked, FewRegions first, then regions by name.
	Degraded []Degraded
}

// Survives says what the shape bears when phase 2 is confined to home; All() is the home of a ballot that is not confined. It means
// something for a home that CheckHome admits.
func (c *Config) Survives(home Home) Survival {
	fz := c.RegionLosses()
	s := Survival{
		Regions:             slices.Clone(c.shapes),
		RegionLosses:        max(0, min(fz, home.Len()-fz-1)),
		RegionLossesDurable: fz,
	}
	// Compared by halves: 2Fz+1 could overflow.
	if n := len(c.shapes); (n-1)/2 < c.fz {
		s.Degraded = append(s.Degraded, Degraded{
			Reason: FewRegions, Have: n, Want: doubledPlusOne(c.fz), Bears: min(fz, n-fz-1), Asked: c.fz,
		})
	}
	for _, r := range c.shapes {
		if r.Losses < c.fn {
			s.Degraded = append(s.Degraded, Degraded{
				Reason: FewVoters, Region: r.Region, Have: r.Voters, Want: doubledPlusOne(c.fn), Bears: r.Losses, Asked: c.fn,
			})
		}
	}
	return s
}

// doubledPlusOne is 2f+1, or the largest int where that does not fit.
func doubledPlusOne(f int) int {
	const intMax = int(^uint(0) >> 1)
	if f > (intMax-1)/2 {
		return intMax
	}
	return 2*f + 1
}

// SmallestQ1 is the phase-1 quorum that a node would use whose nearness to the voters is the order of nearest: no member can
// be left out, and its farthest member is as near as can be. Voters that nearest omits come last, by (region, node); nodes
// that are no voters, or stand twice, are skipped. The result is in the order of nearness.
func (c *Config) SmallestQ1(nearest []NodeID) []NodeID {
	return c.smallest(nearest, c.IsQ1)
}

// SmallestQ2 is SmallestQ1 for phase 2 of a ballot with this home. It is nil if the home has no Q2.
func (c *Config) SmallestQ2(nearest []NodeID, home Home) []NodeID {
	return c.smallest(nearest, func(s Set) bool { return c.IsQ2(s, home) })
}

// SmallestQL is SmallestQ1 for phase 1 of a local ballot with this home. It is nil if the home has no QL.
func (c *Config) SmallestQL(nearest []NodeID, home Home) []NodeID {
	return c.smallest(nearest, func(s Set) bool { return c.IsQL(s, home) })
}

// Nearest is the order of nearness of a node that knows how far the regions are, for SmallestQ1 and its kind: itself, then
// the voters of each region in turn, by node. Regions that the list omits come last, by name; unknown ones are skipped.
func (c *Config) Nearest(self NodeID, regions []Region) []NodeID {
	order := make([]NodeID, 0, len(c.voters)+1)
	order = append(order, self)
	var seen Home
	add := func(z int) {
		if seen.Has(z) {
			return
		}
		seen.regions = seen.regions.With(z)
		for i, v := range c.voters {
			if c.masks[z].Has(i) && v.Node != self {
				order = append(order, v.Node)
			}
		}
	}
	for _, r := range regions {
		if z, ok := c.regionIndex(r); ok {
			add(z)
		}
	}
	for z := range c.shapes {
		add(z)
	}
	return order
}

// smallest takes the shortest beginning of the order that is a quorum, and leaves out, from the farthest, who is not needed.
func (c *Config) smallest(nearest []NodeID, isQuorum func(Set) bool) []NodeID {
	var (
		order []int
		seen  Set
	)
	add := func(i int) {
		if !seen.Has(i) {
			seen = seen.With(i)
			order = append(order, i)
		}
	}
	for _, id := range nearest {
		if i, ok := c.Index(id); ok {
			add(i)
		}
	}
	for i := range c.voters {
		add(i)
	}
	var set Set
	for n, i := range order {
		if set = set.With(i); isQuorum(set) {
			return c.trim(order[:n+1], isQuorum)
		}
	}
	return nil
}

func (c *Config) trim(order []int, isQuorum func(Set) bool) []NodeID {
	keep := slices.Clone(order)
	for n := len(keep) - 1; n >= 0; n-- {
		var without Set
		for m, i := range keep {
			if m != n {
				without = without.With(i)
			}
		}
		if isQuorum(without) {
			keep = slices.Delete(keep, n, n+1)
		}
	}
	ids := make([]NodeID, len(keep))
	for n, i := range keep {
		ids[n] = c.voters[i].Node
	}
	return ids
}
