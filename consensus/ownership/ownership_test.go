// SPDX-License-Identifier: AGPL-3.0-only

package ownership

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

var regions = []Region{"california", "ireland", "oregon", "tokyo", "virginia"}

// distances between the regions, in milliseconds: of the size that public clouds have.
var distances = [][]Timestamp{
	{1, 140, 20, 110, 60},
	{140, 1, 130, 210, 75},
	{20, 130, 1, 95, 70},
	{110, 210, 95, 1, 150},
	{60, 75, 70, 150, 1},
}

func worldMap(t testing.TB, live []NodeID) *Map {
	t.Helper()
	rtt := make([][]Timestamp, len(distances))
	for i, row := range distances {
		for _, ms := range row {
			rtt[i] = append(rtt[i], ms*millisecond)
		}
	}
	m, err := NewMap(regions, rtt, live)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// config has nodes of each region; node r*10+i stands in region r.
func config(t testing.TB, nodes, fn, fz int) *quorum.Config {
	t.Helper()
	var voters []quorum.Voter
	for r, region := range regions {
		for i := range nodes {
			voters = append(voters, quorum.Voter{Node: NodeID(10*(r+1) + i), Region: region})
		}
	}
	c, err := quorum.New(voters, fn, fz)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// world runs the policies of one node in each region over one group, and carries out what they decide.
type world struct {
	t        testing.TB
	now      Timestamp
	bounds   Bounds
	policies map[Region]*Policy
	owner    Region
	g        *Group
	moves    []Move
	at       []Timestamp
}

func newWorld(t testing.TB, o Options, b Bounds, owner Region) *world {
	t.Helper()
	w := &world{t: t, now: 1_000_000 * second, bounds: b, owner: owner, policies: map[Region]*Policy{}}
	for i, r := range regions {
		p, err := New(o, NodeID(10*(i+1)), r, worldMap(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		w.policies[r] = p
	}
	w.g = w.policies[owner].Acquire(w.now, "group", nil)
	return w
}

func (w *world) request(from Region, write bool) {
	reads, writes := uint32(1), uint32(0)
	if write {
		reads, writes = 0, 1
	}
	if m, ok := w.policies[w.owner].Observe(w.now, w.g, &w.bounds, from, reads, writes); ok {
		w.moved(m)
	}
}

func (w *world) moved(m Move) {
	if m.Region == w.owner || m.To == 0 {
		w.t.Fatalf("a move from %s to %+v", w.owner, m)
	}
	w.moves, w.at = append(w.moves, m), append(w.at, w.now)
	w.owner = m.Region
	w.g = w.policies[m.Region].Acquire(w.now, "group", &m.Handover)
}

// load sends requests of one region for a while, evenly.
func (w *world) load(from Region, perSecond int, span Timestamp) {
	for range int(span/second) * perSecond {
		w.now += second / Timestamp(perSecond)
		w.request(from, true)
	}
}

// A shifted load is followed, for each pair of regions that are more than the thresholds apart: the owner moves within two
// half-lives and four windows, and stands in the region of the load within five half-lives, perhaps with one stop on the way.
// Then it stays.
func TestFollowsTheLoad(t *testing.T) {
	for fz := range 3 {
		for _, from := range regions {
			for _, to := range regions {
				if from == to || between(from, to) < 50 {
					continue
				}
				w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, fz)}, from)
				w.load(from, 5, 400*second)
				if len(w.moves) > 0 {
					t.Fatalf("fz=%d: moved to %s while %s sends all", fz, w.moves[0].Region, from)
				}
				shift := w.now
				w.load(to, 5, 1000*second)
				if w.owner != to || len(w.moves) > 2 || w.at[0]-shift > 160*second || w.at[len(w.at)-1]-shift > 300*second {
					t.Fatalf("fz=%d: from %s to %s: owner %s after %d moves, the last after %d s", fz, from, to, w.owner,
						len(w.moves), (w.at[max(0, len(w.at)-1)]-shift)/second)
				}
			}
		}
	}
}

func between(a, b Region) Timestamp {
	return distances[slices.Index(regions, a)][slices.Index(regions, b)]
}

// An owner that nobody near asks any more gives the group away after two half-lives, at the third request of a region that asks.
func TestAbandoned(t *testing.T) {
	for _, before := range []Timestamp{0, 60 * second} { // whether or not the own region ever asked
		w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, 0)}, "virginia")
		w.load("virginia", 1, before)
		w.now += 121 * second
		w.request("tokyo", false)
		w.request("ireland", false)
		w.request("tokyo", false)
		if len(w.moves) > 0 {
			t.Fatal("two requests are enough")
		}
		w.request("tokyo", false)
		if len(w.moves) != 1 || w.moves[0].Reason != Abandoned || w.owner != "tokyo" {
			t.Fatalf("%+v", w.moves)
		}
	}
	w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, 0)}, "virginia")
	w.now += 119 * second
	for range 5 {
		w.request("tokyo", false)
	}
	if len(w.moves) > 0 {
		t.Fatal("not silent for long enough")
	}
}

// A time that runs back counts as the latest. It was taken for a silence of centuries, and the group moved at once.
func TestTimeRunsBack(t *testing.T) {
	o := Options{Dwell: second, DwellMax: second}
	w := newWorld(t, o, Bounds{Config: config(t, 3, 1, 0)}, "virginia")
	w.load("virginia", 1, 10*second)
	w.now += second / 2
	w.request("virginia", false)
	w.now -= second / 4
	for range 9 {
		w.request("tokyo", false)
	}
	if len(w.moves) > 0 {
		t.Fatalf("%+v", w.moves)
	}
}

// A group is not taken into a region whose home could not commit, though it is pinned there or may be nowhere else: it would stop
// where it worked. It goes once the region is back.
func TestPinnedToADeadRegion(t *testing.T) {
	for name, b := range map[string]Bounds{"pinned": {Pinned: "tokyo"}, "allowed": {Allowed: []Region{"tokyo"}}} {
		b.Config = config(t, 3, 1, 0)
		w := newWorld(t, Options{}, b, "virginia")
		p := w.policies["virginia"]
		p.SetMap(worldMap(t, []NodeID{10, 11, 12, 20, 21, 22, 30, 31, 32, 40, 50, 51, 52})) // tokyo has one node of three
		w.load("virginia", 1, 300*second)
		if len(w.moves) > 0 {
			t.Fatalf("%s: %+v", name, w.moves)
		}
		p.SetMap(worldMap(t, nil))
		w.load("virginia", 1, 3*second)
		if w.owner != "tokyo" {
			t.Fatalf("%s: owner in %s once the region is back", name, w.owner)
		}
	}
}

// A home that Bounds names may have a region that is down: the nearest Q2 is one of those that are not.
func TestCommitOfANamedHome(t *testing.T) {
	b := Bounds{Config: config(t, 3, 1, 1), Home: []Region{"california", "oregon", "ireland"}}
	commit := func(live []NodeID) Timestamp {
		p, err := New(Options{}, 10, "california", worldMap(t, live))
		if err != nil {
			t.Fatal(err)
		}
		return p.Cost(p.Acquire(1, "g", nil), &b)[0].Commit
	}
	if got := commit(nil); got != 20*millisecond {
		t.Errorf("all live: %d", got)
	}
	if got := commit([]NodeID{10, 11, 12, 20, 21, 22, 30}); got != 140*millisecond {
		t.Errorf("oregon has one node of three: %d", got)
	}
	if got := commit([]NodeID{10, 11, 12}); got != 300*millisecond {
		t.Errorf("no Q2 is left: %d", got)
	}
}

// movesPerHourMax is what the dwell allows: doubled when the group moves within four dwells, halved after. Cheapest for who
// wants moves is to wait 240 s each time, which makes 15; a fresh group has a few early ones.
const movesPerHourMax = 17

// Neither random nor alternating load makes a group thrash.
func TestNoThrash(t *testing.T) {
	worst := 0
	for seed := range uint64(32) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, rng.IntN(3))}, regions[rng.IntN(5)])
		period := Timestamp(1+rng.IntN(600)) * second
		places := 2 + rng.IntN(4)
		for turn := 0; w.now < 1_000_000*second+4*hour; turn++ {
			from := regions[turn%places]
			span := period
			switch seed % 4 {
			case 1: // anywhere, for any time
				from, span = regions[rng.IntN(5)], Timestamp(1+rng.IntN(400))*second
			case 2: // flees the owner as soon as it has moved
				from = regions[(slices.Index(regions, w.owner)+1+rng.IntN(4))%5]
				moves := len(w.moves)
				for range 3000 {
					w.load(from, 1, second)
					if len(w.moves) > moves {
						break
					}
				}
				span = Timestamp(rng.IntN(2)) * Timestamp(rng.IntN(1000)) * second
			case 3: // stays for just so long that the next move costs no dwell, then flees
				w.load(w.owner, 2, Timestamp(100+seed*4)*second)
				moves := len(w.moves)
				for range 3000 {
					w.load(regions[(slices.Index(regions, w.owner)+2)%5], 4, second)
					if len(w.moves) > moves {
						break
					}
				}
				span = 0
			}
			w.load(from, 1, span)
		}
		for i := range w.at {
			n := 0
			for n < len(w.at)-i && w.at[i+n]-w.at[i] < hour {
				n++
			}
			if n > movesPerHourMax {
				t.Fatalf("seed %d: %d moves in an hour; replay: go test ./consensus/ownership -run TestNoThrash", seed, n)
			}
			worst = max(worst, n)
		}
	}
	t.Logf("at most %d moves of a group in an hour", worst)
	if worst < 4 {
		t.Fatal("the load was no test")
	}
}

// An even load from everywhere never moves a group twice, and one that is asked once a minute, its own region included, never moves.
func TestStaysPut(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 3))
		w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, 0)}, regions[rng.IntN(5)])
		for range 3600 * 4 {
			w.now += second/4 + rng.Uint64N(second/10)
			w.request(regions[rng.IntN(5)], rng.IntN(2) == 0)
		}
		if len(w.moves) > 1 {
			t.Fatalf("seed %d: %d moves", seed, len(w.moves))
		}
		slow := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, 0)}, "oregon")
		for i := range 200 {
			slow.now += 61 * second
			slow.request([]Region{"california", "tokyo", "oregon"}[i%3], true) // too little to be worth a move
		}
		if len(slow.moves) > 0 {
			t.Fatalf("%+v", slow.moves)
		}
	}
}

// A group never leaves the regions that it may be in, and comes back into them when they change.
func TestAllowedAndPinned(t *testing.T) {
	for seed := range uint64(15) {
		rng := rand.New(rand.NewPCG(seed, 4))
		c := config(t, 3, 1, rng.IntN(3))
		allowed := []Region{regions[rng.IntN(5)], regions[rng.IntN(5)]}
		w := newWorld(t, Options{}, Bounds{Config: c, Allowed: allowed}, allowed[0])
		for range 100 {
			w.load(regions[rng.IntN(5)], 1, Timestamp(rng.IntN(300))*second)
			if !slices.Contains(allowed, w.owner) {
				t.Fatalf("seed %d: owner in %s, allowed %v", seed, w.owner, allowed)
			}
		}
		others := slices.DeleteFunc(slices.Clone(regions), func(r Region) bool { return slices.Contains(allowed, r) })
		w.bounds.Allowed = others
		w.load(regions[0], 1, 3*second)
		if !slices.Contains(others, w.owner) || w.moves[len(w.moves)-1].Reason != Disallowed {
			t.Fatalf("seed %d: owner in %s, allowed %v", seed, w.owner, others)
		}
		w.bounds.Pinned = allowed[1]
		w.load(regions[1], 1, 600*second)
		if w.owner != allowed[1] || w.moves[len(w.moves)-1].Reason != Pinned {
			t.Fatalf("seed %d: owner in %s, pinned to %s", seed, w.owner, allowed[1])
		}
	}
}

// A thousand groups whose load shifts at once move no faster than the budget.
func TestBudget(t *testing.T) {
	o := Options{MovesPerMinute: 30, MovesBurst: 10}
	p, err := New(o, 10, "california", worldMap(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := Bounds{Config: config(t, 3, 1, 0)}
	now := Timestamp(1000 * second)
	groups := make([]*Group, 300)
	for i := range groups {
		groups[i] = p.Acquire(now, fmt.Sprint("g", i), nil)
	}
	var at []Timestamp
	for range 1200 {
		now += second
		for i, g := range groups {
			if g == nil {
				continue
			}
			if m, ok := p.Observe(now, g, &b, "tokyo", 1, 1); ok {
				if m.Region != "tokyo" {
					t.Fatalf("%+v", m)
				}
				at, groups[i] = append(at, now), nil
			}
		}
	}
	for i := range at {
		n := 0
		for n < len(at)-i && at[i+n]-at[i] < 60*second {
			n++
		}
		if n > 40 {
			t.Fatalf("%d moves in a minute", n)
		}
	}
	if len(at) != 300 {
		t.Fatalf("%d of 300 moved: what the budget holds back must move later", len(at))
	}
}

func TestStalled(t *testing.T) {
	b := Bounds{Config: config(t, 3, 1, 0)}
	p, err := New(Options{}, 10, "california", worldMap(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	g := p.Acquire(100*second, "g", nil)
	p.Observe(101*second, g, &b, "tokyo", 0, 9)
	if _, ok := p.Stalled(104*second, g, &b, 90*second); ok {
		t.Fatal("each owner has five seconds of its own")
	}
	if m, ok := p.Stalled(105*second, g, &b, 90*second); !ok || m.Reason != Stalled || m.Region != "tokyo" {
		t.Fatalf("%v %+v", ok, m)
	}
	if _, ok := p.Stalled(105*second, g, &b, 101*second); ok {
		t.Fatal("an entry that is four seconds old is not stalled")
	}
	// Where only the own region has live nodes, another node of it may do better.
	p.SetMap(worldMap(t, []NodeID{10, 11, 12}))
	if m, ok := p.Stalled(105*second, g, &b, 90*second); !ok || m.Region != "california" || m.To == 10 {
		t.Fatalf("%v %+v", ok, m)
	}
	p.SetMap(worldMap(t, []NodeID{10}))
	if m, ok := p.Stalled(105*second, g, &b, 90*second); ok {
		t.Fatalf("nobody is alive: %+v", m)
	}
}

// The default home is the owner's region and the Fz nearest that can vote.
func TestHome(t *testing.T) {
	for _, tc := range []struct {
		fz, spare int
		live      []NodeID
		home      []Region
		want      string
	}{
		{0, 0, nil, nil, "virginia"},
		{1, 0, nil, nil, "california virginia"},
		{1, 1, nil, nil, "california oregon virginia"},
		{1, 0, []NodeID{50, 51, 30, 31, 10}, nil, "oregon virginia"}, // california has one node left
		{2, 9, nil, nil, "california ireland oregon tokyo virginia"},
		{1, 0, nil, []Region{"tokyo", "ireland"}, "ireland tokyo"},
	} {
		p, err := New(Options{HomeSpare: tc.spare}, 50, "virginia", worldMap(t, tc.live))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Home(&Bounds{Config: config(t, 3, 1, tc.fz), Home: tc.home}, "virginia"); strings.Trim(fmt.Sprint(got), "[]") != tc.want {
			t.Errorf("fz=%d spare=%d live=%v: %v, want %s", tc.fz, tc.spare, tc.live, got, tc.want)
		}
	}
}

// asked is one request that the slow twin remembers.
type asked struct {
	at    Timestamp
	from  Region
	write bool
}

// J is what its definition says, computed from every request that ever came and the quorums of nodes.
func TestCostTwin(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 5))
		rtt := make([][]Timestamp, len(regions))
		for i := range rtt {
			rtt[i] = make([]Timestamp, len(regions))
			for k := range rtt[i] {
				rtt[i][k] = Timestamp(1+rng.IntN(300)) * millisecond
			}
			rtt[i][i] = Timestamp(rng.IntN(3)) * millisecond
		}
		m, err := NewMap(regions, rtt, nil)
		if err != nil {
			t.Fatal(err)
		}
		var voters []quorum.Voter
		for r, region := range regions {
			for i := range 1 + rng.IntN(4) {
				voters = append(voters, quorum.Voter{Node: NodeID(10*(r+1) + i), Region: region})
			}
		}
		c, err := quorum.New(voters, rng.IntN(3), rng.IntN(4))
		if err != nil {
			t.Fatal(err)
		}
		p, err := New(Options{DwellMax: 24 * hour, Dwell: 24 * hour}, 10, regions[0], m)
		if err != nil {
			t.Fatal(err)
		}
		b := Bounds{Config: c}
		now := Timestamp(1000 * second)
		g := p.Acquire(now, "g", nil)
		var all []asked
		for range 2000 {
			now += rng.Uint64N(second / 2)
			a := asked{at: now, from: regions[rng.IntN(5)], write: rng.IntN(3) == 0}
			all = append(all, a)
			reads, writes := uint32(1), uint32(0)
			if a.write {
				reads, writes = 0, 1
			}
			p.Observe(now, g, &b, a.from, reads, writes)
		}
		for _, got := range p.Cost(g, &b) {
			j, commit := slowCost(c, rtt, all, got.Region, now)
			if got.Commit != commit {
				t.Fatalf("seed %d: commit(%s) is %d, want %d", seed, got.Region, got.Commit, commit)
			}
			if have := float64(got.J) / weightOne * 1000; math.Abs(have-j) > 0.02*j {
				t.Fatalf("seed %d: J(%s) is %g, want %g", seed, got.Region, have, j)
			}
		}
	}
}

func slowCost(c *quorum.Config, rtt [][]Timestamp, all []asked, z Region, now Timestamp) (float64, Timestamp) {
	at := slices.Index(regions, z)
	// The home: z, and the nearest others.
	others := slices.DeleteFunc(slices.Clone(regions), func(r Region) bool { return r == z })
	slices.SortStableFunc(others, func(a, b Region) int {
		return int(rtt[at][slices.Index(regions, a)]) - int(rtt[at][slices.Index(regions, b)])
	})
	home, err := c.HomeOf(append([]Region{z}, others[:c.RegionLosses()]...)...)
	if err != nil {
		panic(err)
	}
	// The nearest Q2, of nodes: the owner is at no distance from itself.
	far := map[NodeID]Timestamp{}
	var nodes []NodeID
	first := true
	for _, v := range c.Voters() {
		far[v.Node] = rtt[at][slices.Index(regions, v.Region)]
		if v.Region == z && first {
			far[v.Node], first = 0, false
		}
		nodes = append(nodes, v.Node)
	}
	slices.SortStableFunc(nodes, func(a, b NodeID) int { return int(far[a]) - int(far[b]) })
	commit := Timestamp(0)
	for _, id := range c.SmallestQ2(nodes, home) {
		commit = max(commit, far[id])
	}
	j := 0.0
	for _, a := range all {
		w := math.Exp2(-float64(now-a.at) / float64(60*second))
		j += w * float64(rtt[slices.Index(regions, a.from)][at])
		if a.write {
			j += w * float64(commit)
		}
	}
	return j, commit
}

// The last moves and their reasons go from owner to owner.
func TestHistory(t *testing.T) {
	w := newWorld(t, Options{}, Bounds{Config: config(t, 3, 1, 0)}, "tokyo")
	for i := range 6 {
		w.load([]Region{"virginia", "tokyo"}[i%2], 2, 4000*second)
	}
	h := w.g.History()
	if len(w.moves) != 6 || len(h) != HistoryMax {
		t.Fatalf("%d moves, %d remembered", len(w.moves), len(h))
	}
	for i, m := range h {
		if m.At != w.at[2+i] || m.To != w.moves[2+i].Region || m.Reason != w.moves[2+i].Reason || m.Gain == 0 {
			t.Fatalf("%+v is not move %d", m, 2+i)
		}
	}
}

// A Move that cannot be carried out leaves the group where it is for at least the windows that a move needs.
func TestKept(t *testing.T) {
	p, err := New(Options{}, 10, "california", worldMap(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := Bounds{Config: config(t, 3, 1, 0)}
	now := Timestamp(1000 * second)
	g := p.Acquire(now, "g", nil)
	last, moves := Timestamp(0), 0
	for range 600 {
		now += second
		if _, ok := p.Observe(now, g, &b, "tokyo", 5, 5); ok {
			if moves++; now-last < 10*second {
				t.Fatalf("again after %d s", (now-last)/second)
			}
			last = now
			p.Kept(now, g)
		}
	}
	if moves < 2 {
		t.Fatalf("%d moves", moves)
	}
}

func TestBoundsOfMemory(t *testing.T) {
	p, err := New(Options{}, 10, "california", worldMap(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	b := Bounds{Config: config(t, 3, 1, 0)}
	g := p.Acquire(1, "g", &Handover{Level: 99, History: make([]PastMove, 50)})
	for i := range 1000 {
		p.Observe(Timestamp(i), g, &b, Region(fmt.Sprint("r", i)), 1<<31, 1<<31)
	}
	size := int(unsafe.Sizeof(*g)) + cap(g.origins)*int(unsafe.Sizeof(origin{})) + cap(g.history)*int(unsafe.Sizeof(PastMove{}))
	t.Logf("%d bytes; %d with one origin and no history", size, unsafe.Sizeof(*g)+unsafe.Sizeof(origin{}))
	if size > GroupBytesMax || len(g.origins) > OriginsMax {
		t.Fatalf("%d bytes, %d origins", size, len(g.origins))
	}
	if w := g.weight(); w >= weightMax {
		t.Fatalf("weight %d", w)
	}
}

// Each group has its own order of nodes, all alike at every node; a node that comes or goes moves no other.
func TestCandidates(t *testing.T) {
	nodes := []NodeID{1, 2, 3, 4, 5, 6, 7}
	firsts := map[NodeID]int{}
	for i := range 2000 {
		name := fmt.Sprint("group", i)
		order := Candidates(name, nodes)
		firsts[order[0]]++
		shuffled := []NodeID{4, 7, 1, 1, 2, 6, 3, 5}
		if !slices.Equal(Candidates(name, shuffled), order) {
			t.Fatal("the order depends on the order of the nodes")
		}
		gone := order[i%7]
		rest := slices.DeleteFunc(slices.Clone(nodes), func(n NodeID) bool { return n == gone })
		if !slices.Equal(Candidates(name, rest), slices.DeleteFunc(order, func(n NodeID) bool { return n == gone })) {
			t.Fatal("a node that goes moves others")
		}
	}
	for _, n := range nodes {
		if firsts[n] < 200 || firsts[n] > 380 {
			t.Fatalf("node %d is first for %d of 2000 groups", n, firsts[n])
		}
	}
}

func TestStealDelay(t *testing.T) {
	home := []NodeID{10, 11, 12}
	rtt := 20 * millisecond
	for _, self := range []NodeID{10, 11, 12, 50} {
		p, err := New(Options{}, self, "california", worldMap(t, nil))
		if err != nil {
			t.Fatal(err)
		}
		place := Timestamp(slices.Index(append(Candidates("g", home), 50), self))
		for jitter := range uint64(100) {
			d := p.StealDelay("g", home, rtt, 0, jitter)
			if most := place*rtt + max(place, 1)*rtt/2; d < place*rtt || d > most {
				t.Fatalf("node %d, place %d: %d ns", self, place, d)
			}
		}
		last := Timestamp(0)
		for failed := 1; failed < 70; failed++ {
			d := p.StealDelay("g", home, rtt, failed, 0) - place*rtt
			if d < last || d > 11*second {
				t.Fatalf("%d failed: %d ns after %d", failed, d, last)
			}
			last = d
		}
		if last < 10*second {
			t.Fatalf("backs off to %d ns only", last)
		}
	}
}

func TestOptions(t *testing.T) {
	var o Options
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		t.Fatal(err)
	}
	bad := Options{HalfLife: 1, Window: 1, Windows: -1, GainPercent: 100, GainPerRequest: RTTMax + 1, Dwell: 1, DwellMax: 2 * 24 * hour, Horizon: 2 * hour, MoveRequests: -1, Abandoned: 1, AbandonedRequests: -1, MovesPerMinute: -1, MovesBurst: -1, StallAfter: 1, HomeSpare: -1, StealBackoff: 1, StealBackoffMax: 2 * hour, UnknownRTT: RTTMax + 1}
	err := bad.Validate()
	if got := strings.Count(err.Error(), "not between"); got != 18 || !errors.Is(err, ErrInvalid) {
		t.Fatalf("%d problems: %v", got, err)
	}
	for _, f := range []struct {
		name        string
		field       func(*Options) *Timestamp
		least, most Timestamp
	}{
		{"HalfLife", func(o *Options) *Timestamp { return &o.HalfLife }, second, hour},
		{"Window", func(o *Options) *Timestamp { return &o.Window }, 100 * millisecond, hour},
		{"GainPerRequest", func(o *Options) *Timestamp { return &o.GainPerRequest }, 1, RTTMax},
		{"Dwell", func(o *Options) *Timestamp { return &o.Dwell }, second, 24 * hour},
		{"DwellMax", func(o *Options) *Timestamp { return &o.DwellMax }, 60 * second, 24 * hour},
		{"Horizon", func(o *Options) *Timestamp { return &o.Horizon }, second, 16 * 60 * second},
		{"Abandoned", func(o *Options) *Timestamp { return &o.Abandoned }, second, 24 * hour},
		{"StallAfter", func(o *Options) *Timestamp { return &o.StallAfter }, 100 * millisecond, hour},
		{"StealBackoff", func(o *Options) *Timestamp { return &o.StealBackoff }, millisecond, hour},
		{"StealBackoffMax", func(o *Options) *Timestamp { return &o.StealBackoffMax }, 200 * millisecond, hour},
		{"UnknownRTT", func(o *Options) *Timestamp { return &o.UnknownRTT }, 1, RTTMax},
	} {
		for _, v := range []struct {
			value Timestamp
			good  bool
		}{{f.least - 1, false}, {f.least, true}, {f.most, true}, {f.most + 1, false}} {
			o := Options{}
			*f.field(&o) = v.value
			o.EnsureDefaults() // of the others, which must go with it
			*f.field(&o) = v.value
			if err := o.Validate(); (err == nil) != v.good {
				t.Errorf("%s of %d: %v", f.name, v.value, err)
			}
		}
	}
	if _, err := NewMap(make([]Region, RegionsMax+1), make([][]Timestamp, RegionsMax+1), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("a map of a region too many: %v", err)
	}
	many := make([]Region, RegionsMax)
	rows := make([][]Timestamp, RegionsMax)
	for i := range many {
		many[i], rows[i] = Region(fmt.Sprint("r", i)), make([]Timestamp, RegionsMax)
	}
	if _, err := NewMap(many, rows, nil); err != nil {
		t.Error(err)
	}
	for _, bad := range []func() (*Map, error){
		func() (*Map, error) { return NewMap(nil, nil, nil) },
		func() (*Map, error) { return NewMap([]Region{"a", "a"}, [][]Timestamp{{0, 1}, {1, 0}}, nil) },
		func() (*Map, error) { return NewMap([]Region{"a", "b"}, [][]Timestamp{{0, 1}}, nil) },
		func() (*Map, error) { return NewMap([]Region{"a", "b"}, [][]Timestamp{{0, 1}, {1}}, nil) },
		func() (*Map, error) { return NewMap([]Region{""}, [][]Timestamp{{0}}, nil) },
	} {
		if _, err := bad(); !errors.Is(err, ErrInvalid) {
			t.Fatalf("a bad map: %v", err)
		}
	}
	if _, err := New(Options{}, 0, "", nil); !errors.Is(err, ErrInvalid) {
		t.Fatalf("no node, no region, no map: %v", err)
	}
}

func BenchmarkObserve(b *testing.B) {
	p, err := New(Options{}, 10, "california", worldMap(b, nil))
	if err != nil {
		b.Fatal(err)
	}
	bounds := Bounds{Config: config(b, 3, 1, 1)}
	g := p.Acquire(1, "g", nil)
	b.ReportAllocs()
	now := Timestamp(1)
	for b.Loop() {
		now += millisecond / 10
		p.Observe(now, g, &bounds, "california", 1, 1)
		p.Observe(now, g, &bounds, "tokyo", 1, 0)
	}
}

func BenchmarkDecide(b *testing.B) {
	p, err := New(Options{}, 10, "california", worldMap(b, nil))
	if err != nil {
		b.Fatal(err)
	}
	bounds := Bounds{Config: config(b, 3, 1, 1)}
	g := p.Acquire(1, "g", nil)
	b.ReportAllocs()
	now := Timestamp(1)
	for b.Loop() {
		now += 10 * second
		p.Observe(now, g, &bounds, "california", 1, 1)
	}
}
