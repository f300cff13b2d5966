// SPDX-License-Identifier: AGPL-3.0-only

package quorum_test

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// grid makes the configuration of a twin. Node 10z+i is the i-th voter of region z; the voters go in unsorted.
func (w twin) grid(t testing.TB) *quorum.Config {
	t.Helper()
	var voters []quorum.Voter
	for z := len(w.n) - 1; z >= 0; z-- {
		for i := range w.n[z] {
			voters = append(voters, quorum.Voter{Node: node(z, i), Region: region(z)})
		}
	}
	c, err := quorum.New(voters, w.fn, w.fz)
	if err != nil {
		t.Fatalf("grid %v: %v", w, err)
	}
	return c
}

func node(z, i int) quorum.NodeID { return quorum.NodeID(10*(z+1) + i) }
func region(z int) quorum.Region  { return quorum.Region(rune('a' + z)) }
func (w twin) String() string     { return fmt.Sprintf("%v Fn=%d Fz=%d", w.n, w.fn, w.fz) }

func sum(n []int) (total int) {
	for _, v := range n {
		total += v
	}
	return total
}

// indices are those of the voters, by region and place in it.
func (w twin) indices(t testing.TB, c *quorum.Config) [][]int {
	t.Helper()
	all := make([][]int, len(w.n))
	for z := range w.n {
		for i := range w.n[z] {
			index, ok := c.Index(node(z, i))
			if !ok {
				t.Fatalf("grid %v: voter %d has no index", w, node(z, i))
			}
			all[z] = append(all[z], index)
		}
	}
	return all
}

// pick takes count[z] voters of each region z, starting from the skip-th, so that different skips give different sets.
func pick(indices [][]int, count []int, skip int) (s quorum.Set) {
	for z, n := range count {
		at := skip % len(indices[z])
		for range n {
			s = s.With(indices[z][at])
			if at++; at == len(indices[z]) {
				at = 0
			}
		}
	}
	return s
}

func (w twin) home(t testing.TB, c *quorum.Config, home []bool) quorum.Home {
	t.Helper()
	var regions []quorum.Region
	for z := range home {
		if home[z] {
			regions = append(regions, region(z))
		}
	}
	h, err := c.HomeOf(regions...)
	if err != nil {
		t.Fatalf("grid %v, home %v: %v", w, home, err)
	}
	return h
}

// within reports whether every region of a is one of b.
func within(a, b []bool) bool {
	for z := range a {
		if a[z] && !b[z] {
			return false
		}
	}
	return true
}

// eachConfig calls f with every grid up to regionsMax x nodesMax and every Fn and Fz, up to one more than the grid can bear:
// beyond that they are cut to the same.
func eachConfig(regionsMax, nodesMax int, f func(w twin)) (gridCount, configs int) {
	grids(regionsMax, nodesMax, func(n []int) {
		gridCount++
		for fn := 0; fn <= (slices.Max(n)-1)/2+1; fn++ {
			for fz := 0; fz <= len(n); fz++ {
				configs++
				f(twin{n: n, fn: fn, fz: fz})
			}
		}
	})
	return gridCount, configs
}

// TestAllGridsAgainstTwin classifies every count vector of every grid up to 5 x 5 by the package and by the twin, as Q1, and as Q2 and
// QL of every home. Sets with equal counts differ only in which voters of a region they hold; one of them, a different one each
// time, stands for all. Outside of a home, where nobody votes, each vector has other counts; ATLAS_LONG=1 takes all of them.
func TestAllGridsAgainstTwin(t *testing.T) {
	var sets, homes, verdicts int
	long := os.Getenv("ATLAS_LONG") != ""
	gridCount, configs := eachConfig(5, 5, func(w twin) {
		c := w.grid(t)
		all := w.homes()
		homes += len(all)
		indices := w.indices(t, c)
		n := 0
		w.vectors(func(count []int) {
			s := pick(indices, count, n)
			n++
			sets++
			if got, want := c.IsQ1(s), w.isQ1(count); got != want {
				t.Fatalf("grid %v: IsQ1(%v) is %v, twin says %v", w, count, got, want)
			}
		})
		for _, home := range all {
			fast := w.home(t, c, home)
			classify := func(count []int) {
				s := pick(indices, count, n)
				n++
				verdicts++
				if got, want := c.IsQ2(s, fast), w.isQ2(count, home); got != want {
					t.Fatalf("grid %v: IsQ2(%v, home %v) is %v, twin says %v", w, count, home, got, want)
				}
				if got, want := c.IsQL(s, fast), w.isQL(count, home); got != want {
					t.Fatalf("grid %v: IsQL(%v, home %v) is %v, twin says %v", w, count, home, got, want)
				}
			}
			if long {
				w.vectors(classify)
			} else {
				w.vectorsIn(home, classify)
			}
		}
	})
	t.Logf("grids=%d configurations=%d homes=%d sets classified=%d, as Q2 and QL of a home=%d", gridCount, configs, homes, sets, verdicts)
	if gridCount != 251 {
		t.Errorf("%d grids up to 5x5, want 251", gridCount)
	}
}

// TestCheckSees holds what the other tests search with against rules that do not meet: Q2 in fz regions instead of fz+1, QL
// in half of the home's regions, and q1_z one too low.
func TestCheckSees(t *testing.T) {
	var narrowQ2, halfQL, lowQ1 int
	disjoint := func(w twin, as, bs [][]int) int {
		for _, a := range as {
			for _, b := range bs {
				if w.canBeDisjoint(a, b) {
					return 1
				}
			}
		}
		return 0
	}
	eachConfig(3, 3, func(w twin) {
		all := w.homes()
		home := all[len(all)-1]
		fz := w.regionLosses()
		q1, q2 := w.minimal(w.isQ1), w.minimalRegions(home, fz+1)
		narrowQ2 += disjoint(w, q1, w.minimalRegions(home, fz))
		halfQL += disjoint(w, w.minimalRegions(home, (size(home)+1)/2), q2)
		lowQ1 += disjoint(w, w.minimal(func(count []int) bool {
			more := slices.Clone(count)
			for z := range more {
				if more[z] > 0 {
					more[z] = min(more[z]+1, w.n[z])
				}
			}
			return w.isQ1(more)
		}), q2)
	})
	t.Logf("configurations found disjoint: Q2 in fz regions %d, QL in half of the home %d, q1_z one too low %d", narrowQ2, halfQL, lowQ1)
	if narrowQ2 == 0 || halfQL == 0 || lowQ1 == 0 {
		t.Error("a planted rule was not seen")
	}
}

// TestAllGridsIntersect searches all grids up to 5 x 5, with all homes, for two minimal quorums of kinds that must meet and
// can be chosen disjoint.
func TestAllGridsIntersect(t *testing.T) {
	type pairs struct{ q1q2, qlq2, qlq1, qlql, disjoint int }
	var p pairs
	check := func(w twin, kind string, as, bs [][]int) int {
		for _, a := range as {
			for _, b := range bs {
				if w.canBeDisjoint(a, b) {
					p.disjoint++
					t.Errorf("grid %v: %s %v and %v can be disjoint", w, kind, a, b)
				}
			}
		}
		return len(as) * len(bs)
	}
	gridCount, configs := eachConfig(5, 5, func(w twin) {
		q1 := w.minimal(w.isQ1)
		homes := w.homes()
		q2 := make([][][]int, len(homes))
		ql := make([][][]int, len(homes))
		for i, home := range homes {
			q2[i] = w.minimalRegions(home, w.regionLosses()+1)
			ql[i] = w.minimalRegions(home, max(w.regionLosses()+1, size(home)-w.regionLosses()))
			p.q1q2 += check(w, "Q1 and Q2", q1, q2[i])
			p.qlq1 += check(w, "QL and Q1", ql[i], q1)
		}
		for i := range homes {
			for j := range homes {
				if within(homes[j], homes[i]) {
					p.qlq2 += check(w, "QL and Q2 inside its home", ql[i], q2[j])
					p.qlql += check(w, "QL and QL inside its home", ql[i], ql[j])
				}
			}
		}
		if t.Failed() {
			t.FailNow()
		}
	})
	t.Logf("grids=%d configurations=%d pairs of minimal quorums: Q1xQ2=%d QLxQ2=%d QLxQ1=%d QLxQL=%d disjoint=%d",
		gridCount, configs, p.q1q2, p.qlq2, p.qlq1, p.qlql, p.disjoint)
}

func size(home []bool) (n int) {
	for _, in := range home {
		if in {
			n++
		}
	}
	return n
}

// minimalRegions lists the minimal vectors with need full regions of the home, by choosing the regions. That these are the
// minimal Q2 and QL is checked against the definition in TestMinimalRegionsAreMinimal.
func (w twin) minimalRegions(home []bool, need int) [][]int {
	var found [][]int
	for mask := 0; mask < 1<<len(w.n); mask++ {
		count, chosen := make([]int, len(w.n)), 0
		ok := true
		for z := range w.n {
			if mask>>z&1 == 1 {
				ok = ok && home[z]
				chosen++
				count[z] = w.n[z] - w.losses(z)
			}
		}
		if ok && chosen == need {
			found = append(found, count)
		}
	}
	return found
}

func TestMinimalRegionsAreMinimal(t *testing.T) {
	equal := func(a, b [][]int) bool {
		slices.SortFunc(a, slices.Compare)
		slices.SortFunc(b, slices.Compare)
		return slices.EqualFunc(a, b, slices.Equal)
	}
	eachConfig(3, 4, func(w twin) {
		for _, home := range w.homes() {
			fz := w.regionLosses()
			if got, want := w.minimalRegions(home, fz+1), w.minimal(func(c []int) bool { return w.isQ2(c, home) }); !equal(got, want) {
				t.Fatalf("grid %v home %v: minimal Q2 %v, by definition %v", w, home, got, want)
			}
			if got, want := w.minimalRegions(home, max(fz+1, size(home)-fz)), w.minimal(func(c []int) bool { return w.isQL(c, home) }); !equal(got, want) {
				t.Fatalf("grid %v home %v: minimal QL %v, by definition %v", w, home, got, want)
			}
		}
	})
}

// TestSmallGridsLiterally takes no symmetry for granted: every subset of the voters, every home, every pair of quorums, with
// the regions in every order.
func TestSmallGridsLiterally(t *testing.T) {
	const votersMax = 7
	var configs, sets, pairs int
	var orders func(n []int)
	orders = func(n []int) {
		if len(n) > 0 {
			for fn := 0; fn <= 3; fn++ {
				for fz := 0; fz <= len(n); fz++ {
					configs++
					s, p := literally(t, twin{n: n, fn: fn, fz: fz})
					sets += s
					pairs += p
				}
			}
		}
		if len(n) == 4 {
			return
		}
		for size := 1; size <= 4 && sum(n)+size <= votersMax; size++ {
			orders(append(n[:len(n):len(n)], size))
		}
	}
	orders(nil)
	t.Logf("configurations=%d subsets=%d pairs=%d disjoint=0", configs, sets, pairs)
}

func literally(t *testing.T, w twin) (sets, pairs int) {
	c := w.grid(t)
	total := sum(w.n)
	var q1 []int
	homes := w.homes()
	q2, ql := make([][]int, len(homes)), make([][]int, len(homes))
	for subset := 0; subset < 1<<total; subset++ {
		sets++
		count, ids, at := make([]int, len(w.n)), []quorum.NodeID(nil), 0
		for z := range w.n {
			for i := range w.n[z] {
				if subset>>at&1 == 1 {
					count[z]++
					ids = append(ids, node(z, i))
				}
				at++
			}
		}
		s := c.SetOf(ids...)
		if got, want := c.IsQ1(s), w.isQ1(count); got != want {
			t.Fatalf("grid %v: IsQ1(%v) is %v, twin says %v", w, ids, got, want)
		}
		if c.IsQ1(s) {
			q1 = append(q1, subset)
		}
		for h, home := range homes {
			fast := w.home(t, c, home)
			if got, want := c.IsQ2(s, fast), w.isQ2(count, home); got != want {
				t.Fatalf("grid %v: IsQ2(%v, home %v) is %v, twin says %v", w, ids, home, got, want)
			}
			if got, want := c.IsQL(s, fast), w.isQL(count, home); got != want {
				t.Fatalf("grid %v: IsQL(%v, home %v) is %v, twin says %v", w, ids, home, got, want)
			}
			if c.IsQ2(s, fast) {
				q2[h] = append(q2[h], subset)
			}
			if c.IsQL(s, fast) {
				ql[h] = append(ql[h], subset)
			}
		}
	}
	meet := func(kind string, as, bs []int) {
		for _, a := range as {
			for _, b := range bs {
				if pairs++; a&b == 0 {
					t.Fatalf("grid %v: %s %b and %b are disjoint", w, kind, a, b)
				}
			}
		}
	}
	for h := range homes {
		meet("Q1 and Q2", q1, q2[h])
		meet("QL and Q1", ql[h], q1)
		for in := range homes {
			if within(homes[in], homes[h]) {
				meet("QL and Q2", ql[h], q2[in])
				meet("QL and QL", ql[h], ql[in])
			}
		}
	}
	return sets, pairs
}

// TestPrintedDefinitionDoesNotIntersect keeps the example that shows why quorums are never told by their size. The WPaxos
// text prints: Q1 is any (fn+1)*(Z-fz) nodes, Q2 any (l-fn)*(fz+1) nodes out of so many regions. In 4 regions of 3 with
// fn = fz = 1 it admits these two, which are disjoint.
func TestPrintedDefinitionDoesNotIntersect(t *testing.T) {
	w := twin{n: []int{3, 3, 3, 3}, fn: 1, fz: 1}
	c := w.grid(t)
	a, b, cc, d := 0, 1, 2, 3
	printedQ1 := []quorum.NodeID{node(a, 0), node(a, 1), node(b, 0), node(cc, 0), node(d, 0), node(d, 1)}
	printedQ2 := []quorum.NodeID{node(a, 2), node(b, 1), node(cc, 1), node(d, 2)}
	if got, want := len(printedQ1), (1+1)*(4-1); got != want {
		t.Fatalf("printed Q1 has %d nodes, want %d", got, want)
	}
	if got, want := len(printedQ2), (3-1)*(1+1); got != want {
		t.Fatalf("printed Q2 has %d nodes, want %d", got, want)
	}
	for _, id := range printedQ2 {
		if slices.Contains(printedQ1, id) {
			t.Fatalf("the example is not disjoint: both hold %d", id)
		}
	}
	if c.IsQ1(c.SetOf(printedQ1...)) && c.IsQ2(c.SetOf(printedQ2...), c.All()) {
		t.Error("both of the disjoint sets are quorums")
	}
	if c.IsQ1(c.SetOf(printedQ1...)) {
		t.Error("six nodes with two of them in only two regions are a Q1")
	}
	if c.IsQ2(c.SetOf(printedQ2...), c.All()) {
		t.Error("four nodes, one in each region, are a Q2")
	}
}

func TestNewRefuses(t *testing.T) {
	many := make([]quorum.Voter, quorum.VotersMax+1)
	for i := range many {
		many[i] = quorum.Voter{Node: quorum.NodeID(i + 1), Region: "a"}
	}
	v := func(id quorum.NodeID, r quorum.Region) quorum.Voter { return quorum.Voter{Node: id, Region: r} }
	for _, tc := range []struct {
		name   string
		voters []quorum.Voter
		fn, fz int
		want   string // "": legal
	}{
		{"no voters", nil, 0, 0, "no voter"},
		{"node 0", []quorum.Voter{v(0, "a")}, 0, 0, "node 0"},
		{"twice in a region", []quorum.Voter{v(1, "a"), v(2, "a"), v(1, "a")}, 0, 0, "node 1 stands twice"},
		{"twice in two regions", []quorum.Voter{v(1, "a"), v(2, "b"), v(1, "b")}, 0, 0, "node 1 stands twice"},
		{"negative Fn", []quorum.Voter{v(1, "a")}, -1, 0, "Fn is -1"},
		{"negative Fz", []quorum.Voter{v(1, "a")}, 0, -1, "Fz is -1"},
		{"empty region", []quorum.Voter{v(1, "")}, 0, 0, "is empty"},
		{"long region", []quorum.Voter{v(1, quorum.Region(strings.Repeat("r", quorum.RegionLenMax+1)))}, 0, 0, "exceeds limit 128"},
		{"longest region", []quorum.Voter{v(1, quorum.Region(strings.Repeat("r", quorum.RegionLenMax)))}, 0, 0, ""},
		{"newline in region", []quorum.Voter{v(1, "a\nOK")}, 0, 0, `"a\nOK" has a space`},
		{"space in region", []quorum.Voter{v(1, "eu west")}, 0, 0, "has a space"},
		{"NUL in region", []quorum.Voter{v(1, "a\x00")}, 0, 0, "unprintable"},
		{"bidi control in region", []quorum.Voter{v(1, "a\u202e")}, 0, 0, "unprintable"},
		{"region not UTF-8", []quorum.Voter{v(1, "a\xff")}, 0, 0, "not UTF-8"},
		{"region of other letters", []quorum.Voter{v(1, "zürich-1")}, 0, 0, ""},
		{"too many", many, 0, 0, "257 voters exceed limit 256"},
		{"most", many[:quorum.VotersMax], 1 << 62, 1 << 62, ""},
	} {
		c, err := quorum.New(tc.voters, tc.fn, tc.fz)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want == "" && c.Len() != len(tc.voters):
			t.Errorf("%s: %d voters", tc.name, c.Len())
		case tc.want != "" && err == nil:
			t.Errorf("%s: accepted", tc.name)
		case tc.want != "" && (!errors.Is(err, quorum.ErrInvalid) || !strings.Contains(err.Error(), tc.want) || strings.ContainsAny(err.Error(), "\n\x00")):
			t.Errorf("%s: error %q, want %q", tc.name, err, tc.want)
		}
	}
}

// TestOrderOfVotersIsNoInput checks that indices, iteration and regions do not depend on the order in which voters came, and
// that New does not keep its argument.
func TestOrderOfVotersIsNoInput(t *testing.T) {
	voters := []quorum.Voter{{Node: 7, Region: "b"}, {Node: 3, Region: "a"}, {Node: 9, Region: "a"}, {Node: 1, Region: "c"}, {Node: 4, Region: "b"}}
	want := []quorum.Voter{{Node: 3, Region: "a"}, {Node: 9, Region: "a"}, {Node: 4, Region: "b"}, {Node: 7, Region: "b"}, {Node: 1, Region: "c"}}
	permute(voters, 0, func() {
		c, err := quorum.New(voters, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		kept := slices.Clone(voters)
		voters[0].Region = "changed"
		var got []quorum.Voter
		for i, v := range c.Voters() {
			got = append(got, v)
			if at, ok := c.Index(v.Node); !ok || at != i || c.Voter(i) != v {
				t.Fatalf("Index(%d) is %d, %v, want %d", v.Node, at, ok, i)
			}
		}
		copy(voters, kept)
		if !slices.Equal(got, want) {
			t.Fatalf("voters %v, want %v", got, want)
		}
		var regions []quorum.Region
		for _, r := range c.Regions() {
			regions = append(regions, r.Region)
		}
		if !slices.Equal(regions, []quorum.Region{"a", "b", "c"}) {
			t.Fatalf("regions %v", regions)
		}
		for _, id := range []quorum.NodeID{0, 2, 5, 10, 1 << 63} {
			if i, ok := c.Index(id); ok {
				t.Fatalf("node %d, no voter, has index %d", id, i)
			}
		}
	})
}

func permute(v []quorum.Voter, from int, f func()) {
	if from == len(v) {
		f()
		return
	}
	for i := from; i < len(v); i++ {
		v[from], v[i] = v[i], v[from]
		permute(v, from+1, f)
		v[from], v[i] = v[i], v[from]
	}
}

func TestSoleVoter(t *testing.T) {
	one := twin{n: []int{1}}.grid(t)
	if !one.SoleVoter(node(0, 0)) || one.SoleVoter(node(0, 1)) || one.SoleVoter(0) {
		t.Error("the only voter is the sole voter, and nobody else")
	}
	s := one.SetOf(node(0, 0))
	if !one.IsQ1(s) || !one.IsQ2(s, one.All()) || !one.IsQL(s, one.All()) {
		t.Error("the sole voter is every quorum")
	}
	if one.IsQ1(quorum.Set{}) || one.IsQ2(quorum.Set{}, one.All()) || one.IsQL(quorum.Set{}, one.All()) {
		t.Error("nobody is a quorum of one")
	}
	if two := (twin{n: []int{2}}).grid(t); two.SoleVoter(node(0, 0)) {
		t.Error("one of two is the sole voter")
	}
}

// TestWidestConfiguration works all words of a Set.
func TestWidestConfiguration(t *testing.T) {
	var voters []quorum.Voter
	for i := range quorum.VotersMax {
		voters = append(voters, quorum.Voter{Node: quorum.NodeID(i + 1), Region: quorum.Region(fmt.Sprintf("r%03d", i))})
	}
	c, err := quorum.New(voters, 0, 127)
	if err != nil {
		t.Fatal(err)
	}
	var s quorum.Set
	for i := range quorum.VotersMax {
		if got, want := c.IsQ1(s), i >= quorum.VotersMax-127; got != want {
			t.Fatalf("IsQ1 of %d regions is %v", i, got)
		}
		if got, want := c.IsQ2(s, c.All()), i >= 128; got != want {
			t.Fatalf("IsQ2 of %d regions is %v", i, got)
		}
		if s.Len() != i || s.Has(i) {
			t.Fatalf("set of %d voters has Len %d, Has(%d) %v", i, s.Len(), i, s.Has(i))
		}
		s = s.With(i)
	}
}

func TestHomeOfRefuses(t *testing.T) {
	c := twin{n: []int{3, 3, 3}, fn: 1, fz: 1}.grid(t)
	for _, tc := range []struct {
		regions []quorum.Region
		want    string
	}{
		{nil, "fewer than the 2"},
		{[]quorum.Region{"a"}, "fewer than the 2"},
		{[]quorum.Region{"a", "a"}, "home of 1 regions"},
		{[]quorum.Region{"a", "x"}, `"x" of the home has no voter`},
		{[]quorum.Region{"c", "a"}, ""},
	} {
		h, err := c.HomeOf(tc.regions...)
		if tc.want == "" && (err != nil || !h.Has(0) || h.Has(1) || !h.Has(2)) {
			t.Errorf("HomeOf(%v): %v, %v", tc.regions, h, err)
		}
		if tc.want != "" && (!errors.Is(err, quorum.ErrInvalid) || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("HomeOf(%v): error %v, want %q", tc.regions, err, tc.want)
		}
	}
	if c.IsQ2(c.SetOf(node(0, 0), node(0, 1), node(1, 0), node(1, 1)), quorum.Home{}) {
		t.Error("the empty home has a Q2")
	}
}

func BenchmarkIsQ2(b *testing.B) {
	c := twin{n: []int{3, 3, 3}, fn: 1, fz: 1}.grid(b)
	s, home := c.SetOf(node(0, 0), node(0, 1), node(1, 0), node(1, 1)), c.All()
	b.ReportAllocs()
	for b.Loop() {
		if !c.IsQ2(s, home) {
			b.Fatal("no Q2")
		}
	}
}
