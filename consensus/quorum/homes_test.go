// SPDX-License-Identifier: AGPL-3.0-only

package quorum_test

import (
	"errors"
	"math/bits"
	"slices"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// TestHomeWords takes every home of the widest grid of the tests, and the first and last index of each word, through Words.
func TestHomeWords(t *testing.T) {
	c := twin{n: []int{1, 1, 1, 1, 1}}.grid(t)
	for mask := uint64(1); mask < 1<<5; mask++ {
		h := quorum.HomeFromWords([quorum.HomeWords]uint64{mask})
		if h.Words()[0] != mask || h.IsZero() {
			t.Fatalf("home %05b has words %v", mask, h.Words())
		}
		if err := c.CheckHome(h); err != nil {
			t.Fatalf("home %05b: %v", mask, err)
		}
		for z := range 5 {
			if h.Has(z) != (mask>>z&1 == 1) || c.InHome(node(z, 0), h) != h.Has(z) {
				t.Fatalf("home %05b: region %d is %v", mask, z, h.Has(z))
			}
		}
		if same := h.Equal(c.All()); same != (mask == 1<<5-1) {
			t.Fatalf("home %05b equals that of all regions: %v", mask, same)
		}
	}
	for _, at := range []int{0, 63, 64, 127, 128, 191, 192, 255} {
		var words [quorum.HomeWords]uint64
		words[at/64] = 1 << (at % 64)
		h := quorum.HomeFromWords(words)
		if !h.Has(at) || h.Len() != 1 || h.Words() != words {
			t.Errorf("word %d, bit %d: %v", at/64, at%64, h)
		}
		if err := c.CheckHome(h); (err == nil) != (at < 5) || err != nil && !errors.Is(err, quorum.ErrInvalid) {
			t.Errorf("home of region %d, of 5: %v", at, err)
		}
	}
	if !(quorum.Home{}).IsZero() || c.InHome(99, c.All()) || c.InHome(node(0, 0), quorum.Home{}) {
		t.Error("the empty home is none, and who is no voter is in none")
	}
	if err := c.CheckHome(quorum.Home{}); !errors.Is(err, quorum.ErrInvalid) {
		t.Errorf("empty home: %v", err)
	}
}

// mapping is a configuration of up to mappedNodes nodes, small enough for all pairs: whether each subset of the nodes is a
// quorum, as one bit.
type mapping struct {
	isQ1   uint64 // bit s: the subset s holds a Q1
	missQ2 uint64 // bit s: the subset s misses a Q2 of some home: its complement holds it
}

const mappedNodes = 5

// mappings are all ways to put up to mappedNodes nodes into up to three regions, or none, with every Fn and Fz up to 2.
func mappings(t *testing.T) (all []mapping) {
	for at := range 1 << (2 * mappedNodes) {
		var voters []quorum.Voter
		for n := range mappedNodes {
			if z := at >> (2 * n) & 3; z > 0 {
				voters = append(voters, quorum.Voter{Node: quorum.NodeID(n + 1), Region: region(z - 1)})
			}
		}
		if len(voters) == 0 {
			continue
		}
		for fn := range 3 {
			for fz := range 3 {
				c, err := quorum.New(voters, fn, fz)
				if err != nil {
					t.Fatal(err)
				}
				all = append(all, mapped(c))
			}
		}
	}
	return all
}

func subset(s uint64) (ids []quorum.NodeID) {
	for n := range mappedNodes {
		if s>>n&1 == 1 {
			ids = append(ids, quorum.NodeID(n+1))
		}
	}
	return ids
}

func mapped(c *quorum.Config) mapping {
	var m mapping
	const full = 1<<mappedNodes - 1
	for s := range uint64(full + 1) {
		set := c.SetOf(subset(s)...)
		if c.IsQ1(set) {
			m.isQ1 |= 1 << s
		}
		// A Q2 of a smaller home is one of the home of all regions.
		if c.IsQ2(set, c.All()) {
			m.missQ2 |= 1 << (full ^ s)
		}
	}
	return m
}

// TestTwoConfigurations looks at each pair of configurations of up to five nodes in three regions, as phase 1 over v and v+1
// does: no set that holds a Q1 of both may miss a Q2 of either. A Q1 of the new configuration alone does miss Q2s of the old
// one, which is why phase 1 may leave the old out only once nothing can be chosen there.
func TestTwoConfigurations(t *testing.T) {
	all := mappings(t)
	pairs, sets, disjoint, alone := 0, 0, 0, 0
	for i := range all {
		for j := range all {
			pairs++
			both := all[i].isQ1 & all[j].isQ1
			if both&(all[i].missQ2|all[j].missQ2) != 0 {
				disjoint++
			}
			if all[j].isQ1&all[i].missQ2 != 0 {
				alone++
			}
			sets += bits.OnesCount64(both)
		}
	}
	t.Logf("configurations=%d pairs of them=%d sets that are a Q1 of both=%d disjoint from a Q2 of either=%d", len(all), pairs, sets, disjoint)
	t.Logf("pairs in which a Q1 of the new one alone misses a Q2 of the old one=%d", alone)
	if disjoint != 0 {
		t.Errorf("%d pairs with a joint Q1 that misses a Q2", disjoint)
	}
	if alone == 0 {
		t.Error("the check is blind: no Q1 of another configuration misses a Q2")
	}
}

// TestNearest shows QUORUM INFO of a node that stands in region b and knows that c is nearer to it than a.
func TestNearest(t *testing.T) {
	c := twin{n: []int{3, 3, 3}, fn: 1}.grid(t)
	order := c.Nearest(node(1, 1), []quorum.Region{"b", "c", "x", "b"})
	if want := []quorum.NodeID{21, 20, 22, 30, 31, 32, 10, 11, 12}; !slices.Equal(order, want) {
		t.Fatalf("order %v, want %v", order, want)
	}
	home, err := c.HomeOf("b")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name      string
		got, want []quorum.NodeID
	}{
		{"Q1", c.SmallestQ1(order), []quorum.NodeID{21, 20, 30, 31, 10, 11}},
		{"Q2", c.SmallestQ2(order, home), []quorum.NodeID{21, 20}},
		{"QL", c.SmallestQL(order, home), []quorum.NodeID{21, 20}},
		{"Q1 of one that does not vote", c.SmallestQ1(c.Nearest(99, nil)), []quorum.NodeID{10, 11, 20, 21, 30, 31}},
	} {
		if !slices.Equal(tc.got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, tc.got, tc.want)
		}
	}
}
