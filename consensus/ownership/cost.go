// SPDX-License-Identifier: AGPL-3.0-only

package ownership

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Map is the regions, how far they are from each other, and which nodes are alive. It never changes.
type Map struct {
	regions []Region   // by name
	rtt     [][]uint64 // by index, in microseconds; within a region: between two of its nodes. 0 is not known, but within
	live    []NodeID   // by number
	all     bool       // all are alive, whatever live says
}

// NewMap makes a map. rtt[i][k] is the round-trip time from regions[i] to regions[k]; 0 is not known, but within a region.
// Those nodes are alive that live has; all, if it is nil. ErrInvalid: a region twice or without a name, more than RegionsMax,
// rows of another length.
func NewMap(regions []Region, rtt [][]Timestamp, live []NodeID) (*Map, error) {
	n := len(regions)
	if n == 0 || n > RegionsMax {
		return nil, fmt.Errorf("%w: %d regions, not between 1 and %d", ErrInvalid, n, RegionsMax)
	}
	if len(rtt) != n {
		return nil, fmt.Errorf("%w: %d rows of round-trip times for %d regions", ErrInvalid, len(rtt), n)
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
		if len(rtt[i]) != n {
			return nil, fmt.Errorf("%w: %d round-trip times from %s to %d regions", ErrInvalid, len(rtt[i]), regions[i], n)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(regions[a], regions[b]) })
	m := &Map{live: slices.Clone(live), all: live == nil}
	slices.Sort(m.live)
	for _, i := range order {
		if last := len(m.regions) - 1; regions[i] == "" || last >= 0 && m.regions[last] == regions[i] {
			return nil, fmt.Errorf("%w: region %q has no name or comes twice", ErrInvalid, regions[i])
		}
		m.regions = append(m.regions, regions[i])
		row := make([]uint64, n)
		for to, k := range order {
			row[to] = (min(rtt[i][k], RTTMax) + microsecond - 1) / microsecond
		}
		m.rtt = append(m.rtt, row)
	}
	return m, nil
}

// Regions are the regions, by name. The caller must not change them.
func (m *Map) Regions() []Region { return m.regions }

func (m *Map) index(r Region) (int, bool) { return slices.BinarySearch(m.regions, r) }

// alive reports whether the node is.
func (m *Map) alive(id NodeID) bool {
	_, ok := slices.BinarySearch(m.live, id)
	return ok || m.all
}

// between is the round-trip time in microseconds.
func (p *Policy) between(from, to Region) uint64 {
	i, ok := p.m.index(from)
	k, ok2 := p.m.index(to)
	if ok && ok2 && (p.m.rtt[i][k] > 0 || i == k) {
		return p.m.rtt[i][k]
	}
	return p.unknownRTT
}

// site is a region of a configuration, seen from another.
type site struct {
	region Region
	rtt    uint64 // microseconds; 0 from itself when it needs nobody else for its part of a Q2
	whole  bool   // enough of its voters are alive for its part of a Q2
	inHome bool
}

// sites are the regions of the configuration, nearest to z first.
func (p *Policy) sites(c *quorum.Config, z Region) []site {
	out := make([]site, 0, 8)
	for _, shape := range c.Regions() {
		s := site{region: shape.Region, rtt: p.between(z, shape.Region)}
		if shape.Region == z && shape.Q2 == 1 {
			s.rtt = 0
		}
		s.whole = p.liveVoters(c, shape.Region) >= shape.Q2
		out = append(out, s)
	}
	slices.SortStableFunc(out, func(a, b site) int { return cmp.Compare(a.rtt, b.rtt) })
	return out
}

// liveVoters counts the live voters of a region.
func (p *Policy) liveVoters(c *quorum.Config, r Region) int {
	n := 0
	for _, v := range c.Voters() {
		if v.Region == r && p.m.alive(v.Node) {
			n++
		}
	}
	return n
}

// markHome marks the home that an owner in z has: Bounds.Home, or z, the fz regions nearest to it, and Options.HomeSpare more.
// Regions that are not whole come last. Requires: sites are those of z.
func (p *Policy) markHome(sites []site, b *Bounds, z Region) {
	if len(b.Home) > 0 {
		for i := range sites {
			sites[i].inHome = slices.Contains(b.Home, sites[i].region)
		}
		return
	}
	left := b.Config.RegionLosses() + 1 + p.options.HomeSpare
	take := func(want func(*site) bool) {
		for i := range sites {
			if s := &sites[i]; left > 0 && !s.inHome && want(s) {
				s.inHome = true
				left--
			}
		}
	}
	take(func(s *site) bool { return s.region == z })
	take(func(s *site) bool { return s.whole })
	take(func(*site) bool { return true })
}

// Home is the home for an owner in z, by name: Bounds.Home if it has any, else z, the fz regions nearest to it, and
// Options.HomeSpare more, where regions that have lost too many nodes for their part of a Q2 come last.
func (p *Policy) Home(b *Bounds, z Region) []Region {
	sites := p.sites(b.Config, z)
	p.markHome(sites, b, z)
	var home []Region
	for i := range sites {
		if sites[i].inHome {
			home = append(home, sites[i].region)
		}
	}
	slices.Sort(home)
	return home
}

// estimate is what an owner in a region would cost.
type estimate struct {
	region Region
	commit uint64 // microseconds to the nearest Q2 of live nodes of its home; Options.UnknownRTT if there is none
	pause  uint64 // microseconds to the farthest region of the nearest Q1
	cost   uint64 // J: weight times microseconds
	whole  bool   // its home has a Q2 of live nodes
}

// estimate computes J(z) and what goes into it.
func (p *Policy) estimate(g *Group, b *Bounds, z Region) estimate {
	e := estimate{region: z}
	sites := p.sites(b.Config, z)
	p.markHome(sites, b, z)
	fz := b.Config.RegionLosses()
	e.pause = sites[len(sites)-fz-1].rtt
	e.commit = p.unknownRTT
	parts := 0
	for i := range sites {
		if !sites[i].inHome || !sites[i].whole {
			continue
		}
		if parts++; parts == fz+1 {
			e.commit, e.whole = sites[i].rtt, true
		}
	}
	for i := range g.origins {
		o := &g.origins[i]
		e.cost += (o.reads+o.writes)*p.between(o.region, z) + o.writes*e.commit
	}
	return e
}
