// SPDX-License-Identifier: AGPL-3.0-only

// Package quorum says which sets of nodes are a phase-1 or a phase-2 quorum of a group, for regions of any size.
//
// A [Config] is the voters by region with two numbers: Fn, the nodes that each region is to bear losing, and Fz, the
// regions. A region z with n_z voters of Z regions can be asked for no more than it has, so the numbers are cut:
//
//	f_z  = min(Fn, (n_z-1)/2)      fz = min(Fz, Z-1)
//	q1_z = f_z + 1                 q2_z = n_z - f_z
//
//	Q1     at least Z-fz regions with at least q1_z voters each
//	Q2(H)  at least fz+1 regions of the home H with at least q2_z voters each
//	QL(H)  at least max(fz+1, |H|-fz) regions of H with at least q2_z voters each
//
// What consensus rests on: every Q1 meets every Q2 of every home, since (Z-fz)+(fz+1) > Z gives them a common region and
// q1_z+q2_z = n_z+1 a common node in it; every QL(H) meets every Q2(H), every Q2 of a home inside H, every QL of a home inside
// H, and every Q1. The tests compare this package with a slow twin over all grids up to five regions of five nodes, and search
// all of these pairs for a disjoint one.
//
// Quorums of two configurations meet only where one set is a quorum of both: a ballot in a new configuration, whose phase 1
// holds a Q1 of each configuration that is not retired, meets the Q2 of every one of them. A Q1 of the new one alone need not
// meet a Q2 of the old: see TestTwoConfigurations.
//
// The published WPaxos text defines its quorums by how many nodes they hold in all. Those do not meet: see
// TestPrintedDefinitionDoesNotIntersect. Here a quorum is always "at least t nodes in at least k regions", and its size
// comes from the configuration alone, never from which nodes look healthy.
//
// Everything here is pure: no clock, no randomness, no goroutine, no package state. A Config never changes after New and
// may be shared freely. Iteration is by (region, node) and the same on every node.
package quorum

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"slices"
	"strconv"
	"unicode"
	"unicode/utf8"
)

// NodeID names a node for ever; 0 is no node.
type NodeID uint64

// Region names a failure domain of nodes. The WPaxos papers call it a zone.
type Region string

// Voter is a node that votes, and where it stands.
type Voter struct {
	Node   NodeID
	Region Region
}

// Limits of a configuration.
const (
	// VotersMax bounds the voters of a configuration, and so its regions. It is the width of a Set.
	VotersMax = 64 * setWords
	// RegionLenMax bounds the name of a region, in bytes.
	RegionLenMax = 128
)

const setWords = 4

// ErrInvalid is what every error of this package is.
var ErrInvalid = errors.New("invalid quorum configuration")

// Set is a set of the voters of one Config, by their index in it. It is a value: copying it copies the set. The zero Set is
// empty.
type Set struct{ words [setWords]uint64 }

// With returns s and the voter with this index. Requires: 0 <= index < VotersMax.
func (s Set) With(index int) Set {
	s.words[uint(index)/64] |= 1 << (uint(index) % 64)
	return s
}

// Has reports whether the voter with this index is in s. Requires: 0 <= index < VotersMax.
func (s Set) Has(index int) bool { return s.words[uint(index)/64]>>(uint(index)%64)&1 == 1 }

// Len is the number of voters in s.
func (s Set) Len() int {
	n := 0
	for _, w := range s.words {
		n += bits.OnesCount64(w)
	}
	return n
}

// lenIn is the number of voters in both.
func (s Set) lenIn(o *Set) int {
	n := 0
	for i, w := range s.words {
		n += bits.OnesCount64(w & o.words[i])
	}
	return n
}

// Home is a set of the regions of one Config, by their index in it: those whose nodes may vote in phase 2 of a ballot. The
// zero Home is empty and has no Q2.
type Home struct{ regions Set }

// Has reports whether the region with this index is in h. Requires: 0 <= index < VotersMax.
func (h Home) Has(index int) bool { return h.regions.Has(index) }

// Len is the number of regions in h.
func (h Home) Len() int { return h.regions.Len() }

// IsZero reports whether h is the empty home, which stands for none.
func (h Home) IsZero() bool { return h == Home{} }

// Equal reports whether h and o hold the same regions. It means something only for homes of one Config, since a region has
// another index in another.
func (h Home) Equal(o Home) bool { return h == o }

// HomeWords is how many words a Home has: see Words.
const HomeWords = setWords

// Words is h for a layout: the region with index i is bit i%64 of word i/64.
func (h Home) Words() [HomeWords]uint64 { return h.regions.words }

// HomeFromWords is the Home with these Words, whatever they are: CheckHome says whether a Config has it.
func HomeFromWords(words [HomeWords]uint64) Home { return Home{regions: Set{words: words}} }

// RegionShape is one region of a configuration and what is asked of it.
type RegionShape struct {
	Region Region
	Voters int // n_z
	Losses int // f_z: nodes that the region bears losing
	Q1     int // q1_z: nodes that count as this region's part of a Q1
	Q2     int // q2_z: nodes that count as this region's part of a Q2
}

// Config is a set of voters and the losses that they are to bear. It is made by New, never changes, and is safe for
// concurrent use.
type Config struct {
	voters []Voter // by (region, node)
	byNode []int   // indices into voters, by node
	shapes []RegionShape
	masks  []Set // voters of each region
	fn, fz int   // as given
}

// New makes a Config of the voters, in any order. It refuses, with an error that is ErrInvalid: no voter or more than
// VotersMax, node 0, a node that stands twice (also in different regions), a region name that is empty, longer than
// RegionLenMax, not UTF-8 or with a space or control character in it, and an fn or fz below 0. An fn or fz above what the
// voters allow is legal and is cut: see the package comment and Survives, which reports it. New keeps no reference to voters.
func New(voters []Voter, fn, fz int) (*Config, error) {
	if err := validate(voters, fn, fz); err != nil {
		return nil, err
	}
	c := &Config{voters: slices.Clone(voters), fn: fn, fz: fz}
	slices.SortFunc(c.voters, func(a, b Voter) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), cmp.Compare(a.Node, b.Node))
	})
	c.byNode = make([]int, len(c.voters))
	for i, v := range c.voters {
		c.byNode[i] = i
		if i == 0 || c.voters[i-1].Region != v.Region {
			c.shapes = append(c.shapes, RegionShape{Region: v.Region})
			c.masks = append(c.masks, Set{})
		}
		last := len(c.shapes) - 1
		c.shapes[last].Voters++
		c.masks[last] = c.masks[last].With(i)
	}
	slices.SortFunc(c.byNode, func(a, b int) int { return cmp.Compare(c.voters[a].Node, c.voters[b].Node) })
	for i := 1; i < len(c.byNode); i++ {
		if node := c.voters[c.byNode[i]].Node; node == c.voters[c.byNode[i-1]].Node {
			return nil, fmt.Errorf("%w: node %d stands twice", ErrInvalid, node)
		}
	}
	for i := range c.shapes {
		s := &c.shapes[i]
		s.Losses = min(fn, (s.Voters-1)/2)
		s.Q1 = s.Losses + 1
		s.Q2 = s.Voters - s.Losses
	}
	return c, nil
}

func validate(voters []Voter, fn, fz int) error {
	switch {
	case len(voters) == 0:
		return fmt.Errorf("%w: no voter", ErrInvalid)
	case len(voters) > VotersMax:
		return fmt.Errorf("%w: %d voters exceed limit %d", ErrInvalid, len(voters), VotersMax)
	case fn < 0:
		return fmt.Errorf("%w: Fn is %d, below 0", ErrInvalid, fn)
	case fz < 0:
		return fmt.Errorf("%w: Fz is %d, below 0", ErrInvalid, fz)
	}
	for _, v := range voters {
		if v.Node == 0 {
			return fmt.Errorf("%w: node 0 in region %s", ErrInvalid, quote(v.Region))
		}
		if err := validateRegion(v.Region); err != nil {
			return fmt.Errorf("%w: node %d: %s", ErrInvalid, v.Node, err)
		}
	}
	return nil
}

func validateRegion(r Region) error {
	switch {
	case r == "":
		return errors.New("region name is empty")
	case len(r) > RegionLenMax:
		return fmt.Errorf("region name of %d bytes exceeds limit %d", len(r), RegionLenMax)
	case !utf8.ValidString(string(r)):
		return fmt.Errorf("region name %s is not UTF-8", quote(r))
	}
	for _, ch := range string(r) {
		if !unicode.IsPrint(ch) || unicode.IsSpace(ch) {
			return fmt.Errorf("region name %s has a space or an unprintable character", quote(r))
		}
	}
	return nil
}

// quote makes hostile text fit for one line of an error, and bounded.
func quote(r Region) string { return strconv.QuoteToASCII(string(r[:min(len(r), RegionLenMax)])) }

// Fn is the number of node losses per region asked for; the regions' shapes say what came of it.
func (c *Config) Fn() int { return c.fn }

// Fz is the number of region losses asked for; RegionLosses says what came of it.
func (c *Config) Fz() int { return c.fz }

// RegionLosses is fz: the region losses that the shape can be asked for.
func (c *Config) RegionLosses() int { return min(c.fz, len(c.shapes)-1) }

// Len is the number of voters.
func (c *Config) Len() int { return len(c.voters) }

// Voter is the voter with this index, by (region, node). Requires: 0 <= index < Len().
func (c *Config) Voter(index int) Voter { return c.voters[index] }

// Voters goes over the voters by (region, node), with the index that Set knows them by.
func (c *Config) Voters() iter.Seq2[int, Voter] { return slices.All(c.voters) }

// Regions goes over the regions by name, with the index that Home knows them by.
func (c *Config) Regions() iter.Seq2[int, RegionShape] { return slices.All(c.shapes) }

// Index finds a voter by its node. A node that is no voter has no index.
func (c *Config) Index(id NodeID) (index int, ok bool) {
	at, ok := slices.BinarySearchFunc(c.byNode, id, func(i int, id NodeID) int { return cmp.Compare(c.voters[i].Node, id) })
	if !ok {
		return 0, false
	}
	return c.byNode[at], true
}

// SoleVoter reports whether id is the only voter, and so is every quorum by itself.
func (c *Config) SoleVoter(id NodeID) bool { return len(c.voters) == 1 && c.voters[0].Node == id }

// SetOf is the set of those of the nodes that are voters. Others count for nothing.
func (c *Config) SetOf(ids ...NodeID) Set {
	var s Set
	for _, id := range ids {
		if i, ok := c.Index(id); ok {
			s = s.With(i)
		}
	}
	return s
}

// All is the home of all regions, which is what the WPaxos paper has for every ballot.
func (c *Config) All() Home {
	var h Home
	for i := range c.shapes {
		h.regions = h.regions.With(i)
	}
	return h
}

// HomeOf is the home of these regions. A region without voters, or too few regions for a Q2 (fewer than fz+1), is an error
// that is ErrInvalid.
func (c *Config) HomeOf(regions ...Region) (Home, error) {
	var h Home
	for _, r := range regions {
		i, ok := c.regionIndex(r)
		if !ok {
			return Home{}, fmt.Errorf("%w: region %s of the home has no voter", ErrInvalid, quote(r))
		}
		h.regions = h.regions.With(i)
	}
	if err := c.checkHomeLen(h); err != nil {
		return Home{}, err
	}
	return h, nil
}

// regionIndex is the index that Home knows the region by.
func (c *Config) regionIndex(r Region) (index int, ok bool) {
	return slices.BinarySearchFunc(c.shapes, r, func(s RegionShape, r Region) int { return cmp.Compare(s.Region, r) })
}

// CheckHome refuses, with an error that is ErrInvalid, a home that HomeOf could not have made: one with a region that c does
// not have, or with too few for a Q2.
func (c *Config) CheckHome(home Home) error {
	all := c.All()
	if known := home.regions.lenIn(&all.regions); known != home.Len() {
		return fmt.Errorf("%w: home of %d regions, of which the configuration has %d", ErrInvalid, home.Len(), known)
	}
	return c.checkHomeLen(home)
}

func (c *Config) checkHomeLen(home Home) error {
	if need := c.RegionLosses() + 1; home.Len() < need {
		return fmt.Errorf("%w: home of %d regions, fewer than the %d of a phase-2 quorum", ErrInvalid, home.Len(), need)
	}
	return nil
}

// InHome reports whether id is a voter in a region of the home.
func (c *Config) InHome(id NodeID, home Home) bool {
	i, ok := c.Index(id)
	if !ok {
		return false
	}
	for z := range c.masks {
		if c.masks[z].Has(i) {
			return home.Has(z)
		}
	}
	return false
}

// IsQ1 reports whether s holds a phase-1 quorum: at least Z-fz regions with at least q1_z voters each.
func (c *Config) IsQ1(s Set) bool {
	need := len(c.shapes) - c.RegionLosses()
	for i := range c.shapes {
		if s.lenIn(&c.masks[i]) >= c.shapes[i].Q1 {
			need--
		}
	}
	return need <= 0
}

// IsQ2 reports whether s holds a phase-2 quorum of a ballot with this home: at least fz+1 regions of it with at least q2_z
// voters each.
func (c *Config) IsQ2(s Set, home Home) bool { return c.fullRegions(s, home) >= c.RegionLosses()+1 }

// IsQL reports whether s holds a phase-1 quorum of a local ballot, one whose home is that of the ballot before it: at least
// max(fz+1, |H|-fz) regions of it with at least q2_z voters each.
func (c *Config) IsQL(s Set, home Home) bool {
	fz := c.RegionLosses()
	return c.fullRegions(s, home) >= max(fz+1, home.Len()-fz)
}

// fullRegions counts the regions of home that have q2_z voters in s.
func (c *Config) fullRegions(s Set, home Home) int {
	n := 0
	for i := range c.shapes {
		if home.Has(i) && s.lenIn(&c.masks[i]) >= c.shapes[i].Q2 {
			n++
		}
	}
	return n
}
