// SPDX-License-Identifier: AGPL-3.0-only

package ownership

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Weights count requests in 1/1024, and the sum of a group's stays below 2^34: then no product below overflows.
const (
	weightOne = 1 << 10
	weightMax = 1 << 34
)

// decayStep is 2^(-1/64) in units of 2^-30: what is left of a weight after a 64th of a half-life.
const (
	decayStep       = 1062175491
	stepsPerHalf    = 64
	decayUnit       = 30
	forgottenHalves = 40 // after which nothing is left of a weight
	// levelMax is above every level at which the dwell still doubles.
	levelMax = 17
	// countMax bounds what one Observe counts.
	countMax = 1 << 20
)

// Policy is the policy of one node, for all groups that it owns. It is not safe for concurrent use.
type Policy struct {
	options    Options
	self       NodeID
	region     Region
	m          *Map
	unknownRTT uint64 // microseconds
	decay      [stepsPerHalf]uint64
	tokens     uint64 // moves left, times a minute in nanoseconds
	refilled   Timestamp
}

// New makes the policy of a node that stands in a region. Fields of o that are 0 have their default.
func New(o Options, self NodeID, region Region, m *Map) (*Policy, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if self == 0 || region == "" || m == nil {
		return nil, fmt.Errorf("%w: node %d in region %q, and a map: %v", ErrInvalid, self, region, m != nil)
	}
	p := &Policy{options: o, self: self, region: region, m: m}
	p.unknownRTT = (o.UnknownRTT + microsecond - 1) / microsecond
	p.decay[0] = 1 << decayUnit
	for i := 1; i < stepsPerHalf; i++ {
		p.decay[i] = p.decay[i-1] * decayStep >> decayUnit
	}
	p.tokens = uint64(o.MovesBurst) * 60 * second
	return p, nil
}

// SetMap takes new round-trip times or another set of live nodes.
func (p *Policy) SetMap(m *Map) { p.m = m }

// Group is what the owner's node keeps of a group in use. A node makes one with Acquire when it gets to own the group, and
// drops it with the ownership, or when the group is idle.
type Group struct {
	name     uint64 // hash
	acquired Timestamp
	latest   Timestamp // of all times that came
	ownLast  Timestamp // when the own region last asked, or acquired
	decayed  Timestamp // up to when the weights are decayed
	due      Timestamp // end of the present window
	retry    Timestamp // before which what does not wait for a window is not tried again
	origins  []origin
	history  []PastMove
	best     Region // of the last windows
	windows  int    // in a row in which best was worth a move
	level    int    // how often the dwell is doubled
}

// origin is the requests from one region.
type origin struct {
	region        Region
	reads, writes uint64 // weights
	since         uint64 // requests since the own region last asked, up to the limit of Options.AbandonedRequests
}

// Acquire begins an ownership of the group of this name. h is what the owner before handed over, nil when the group was stolen or never owned.
func (p *Policy) Acquire(now Timestamp, name string, h *Handover) *Group {
	g := &Group{name: hashOf(name), acquired: now, latest: now, ownLast: now, decayed: now, due: now + p.options.Window}
	if h == nil {
		g.history = []PastMove{{At: now, To: p.region, Reason: Stolen}}
		return g
	}
	g.level = min(max(0, h.Level), levelMax)
	g.history = slices.Clone(h.History[max(0, len(h.History)-HistoryMax):])
	return g
}

// History is the last moves of the group, oldest first, the one that brought it here among them; for display.
func (g *Group) History() []PastMove { return slices.Clone(g.history) }

// Load is the decayed requests from one region, in units of 1/1024 request: a rate of r a second comes to about
// 1.44 x 1024 x r x HalfLife in seconds.
type Load struct {
	Region        Region
	Reads, Writes uint64
}

// Load is where the group's requests come from, by region; for display.
func (g *Group) Load() []Load {
	out := make([]Load, len(g.origins))
	for i, o := range g.origins {
		out[i] = Load{Region: o.region, Reads: o.reads, Writes: o.writes}
	}
	slices.SortFunc(out, func(a, b Load) int { return cmp.Compare(a.Region, b.Region) })
	return out
}

// Cost is J for an owner in each region of the configuration, by name, in microseconds times the units of Load; for display.
func (p *Policy) Cost(g *Group, b *Bounds) []Cost {
	var out []Cost
	for _, shape := range b.Config.Regions() {
		e := p.estimate(g, b, shape.Region)
		out = append(out, Cost{Region: e.region, J: e.cost, Commit: e.commit * microsecond})
	}
	return out
}

// Cost is what an owner in a region would cost.
type Cost struct {
	Region Region
	J      uint64
	Commit Timestamp // the round trip to the nearest Q2
}

// Observe counts requests that came from a region, at most countMax at once, and says whether the group should move now. A
// time before the latest counts as the latest. After a Move the caller releases the group and drops g, or calls Kept if it
// cannot.
func (p *Policy) Observe(now Timestamp, g *Group, b *Bounds, from Region, reads, writes uint32) (Move, bool) {
	now = max(now, g.latest)
	g.latest = now
	p.decayTo(now, g)
	p.count(now, g, from, min(uint64(reads), countMax), min(uint64(writes), countMax))
	if now >= g.due || now >= g.retry && (!b.allows(p.region) || p.abandoned(now, g)) {
		return p.decide(now, g, b)
	}
	return Move{}, false
}

// Kept says that a Move was not carried out: the group stays, and has to show the gain again.
func (p *Policy) Kept(now Timestamp, g *Group) {
	g.windows, g.due, g.retry = 0, now+p.options.Window, now+p.options.Window
}

// decayTo lets the weights decay in whole steps of a 64th of a half-life.
func (p *Policy) decayTo(now Timestamp, g *Group) {
	step := p.options.HalfLife / stepsPerHalf
	steps := (now - g.decayed) / step
	if steps == 0 {
		return
	}
	g.decayed += steps * step
	halves := min(steps/stepsPerHalf, forgottenHalves)
	factor := p.decay[steps%stepsPerHalf]
	kept := g.origins[:0]
	for _, o := range g.origins {
		o.reads = o.reads * factor >> decayUnit >> halves // below 2^34 times at most 2^30
		o.writes = o.writes * factor >> decayUnit >> halves
		if o.reads+o.writes > 0 {
			kept = append(kept, o)
		}
	}
	g.origins = kept
}

// count adds requests. A group with too much weight halves all: what J compares stays as it is.
func (p *Policy) count(now Timestamp, g *Group, from Region, reads, writes uint64) {
	if from == p.region {
		g.ownLast = now
		for i := range g.origins {
			g.origins[i].since = 0
		}
	}
	at := slices.IndexFunc(g.origins, func(o origin) bool { return o.region == from })
	if at < 0 {
		at = g.room()
		g.origins[at] = origin{region: from}
	}
	o := &g.origins[at]
	o.reads += reads * weightOne
	o.writes += writes * weightOne
	if from != p.region {
		o.since = min(o.since+reads+writes, uint64(p.options.AbandonedRequests))
	}
	for g.weight() >= weightMax {
		for i := range g.origins {
			g.origins[i].reads /= 2
			g.origins[i].writes /= 2
		}
	}
}

// room is the index for one more origin, perhaps that of the one that asked least.
func (g *Group) room() int {
	if len(g.origins) < OriginsMax {
		g.origins = append(g.origins, origin{})
		return len(g.origins) - 1
	}
	least := 0
	for i := range g.origins {
		if g.origins[i].weight() < g.origins[least].weight() {
			least = i
		}
	}
	return least
}

func (o *origin) weight() uint64 { return o.reads + o.writes }

func (g *Group) weight() uint64 {
	var w uint64
	for i := range g.origins {
		w += g.origins[i].weight()
	}
	return w
}

// abandoned reports whether the own region has been silent for long while another asks.
func (p *Policy) abandoned(now Timestamp, g *Group) bool {
	if now-g.ownLast < p.options.Abandoned {
		return false
	}
	return slices.ContainsFunc(g.origins, func(o origin) bool { return o.since >= uint64(p.options.AbandonedRequests) })
}

// Dwell is how long this owner keeps the group at least, from when it acquired it.
func (p *Policy) Dwell(g *Group) Timestamp {
	return min(p.options.Dwell<<g.level, p.options.DwellMax)
}

// decide compares the regions, at the end of a window or when there is a reason not to wait for it.
func (p *Policy) decide(now Timestamp, g *Group, b *Bounds) (Move, bool) {
	inRow := now < g.due+p.options.Window
	ended := now >= g.due
	if ended {
		g.due = now + p.options.Window
	}
	abandoned := p.abandoned(now, g)
	if abandoned { // what the own region asked long ago says nothing of what it will
		g.origins = slices.DeleteFunc(g.origins, func(o origin) bool { return o.region == p.region })
	}
	if !ended {
		g.retry = now + p.options.Window/8
	}
	here := p.estimate(g, b, p.region)
	best, found := p.best(g, b)
	weight := g.weight()
	if !found || weight == 0 {
		g.windows = 0
		return Move{}, false
	}
	gain := uint64(0)
	if best.cost < here.cost {
		gain = (here.cost - best.cost) / weight
	}
	switch {
	case !best.whole: // it could not commit there
		g.windows = 0
		return Move{}, false
	case b.Pinned != "" && b.Pinned != p.region:
		return p.move(now, g, b, best.region, Pinned, gain)
	case !b.allows(p.region) || !hasRegion(b.Config, p.region):
		return p.move(now, g, b, best.region, Disallowed, gain)
	}
	if ended {
		g.window(best.region, p.worth(&here, &best, weight), inRow)
	}
	switch {
	case best.cost >= here.cost || now-g.acquired < p.Dwell(g):
		return Move{}, false
	case abandoned:
		return p.move(now, g, b, best.region, Abandoned, gain)
	case ended && g.windows >= p.options.Windows && p.pays(&best, gain, weight):
		return p.move(now, g, b, best.region, Cheaper, gain)
	}
	return Move{}, false
}

// window counts the windows in a row.
func (g *Group) window(best Region, worth, inRow bool) {
	switch {
	case !worth:
		g.windows = 0
	case inRow && best == g.best:
		g.windows++
	default:
		g.windows = 1
	}
	g.best = best
}

// best is the region, other than the own, of the lowest J among those in which the owner may stand and a voter is alive;
// those whose home can commit come first. Equal ones go by name.
func (p *Policy) best(g *Group, b *Bounds) (best estimate, found bool) {
	for _, shape := range b.Config.Regions() {
		if shape.Region == p.region || !b.allows(shape.Region) || p.liveVoters(b.Config, shape.Region) == 0 {
			continue
		}
		e := p.estimate(g, b, shape.Region)
		if !found || e.whole && !best.whole || e.whole == best.whole && e.cost < best.cost {
			best, found = e, true
		}
	}
	return best, found
}

func hasRegion(c *quorum.Config, r Region) bool {
	for _, shape := range c.Regions() {
		if shape.Region == r {
			return true
		}
	}
	return false
}

// worth reports whether the gain is above both of its thresholds.
func (p *Policy) worth(here, best *estimate, weight uint64) bool {
	if best.cost >= here.cost {
		return false
	}
	gain := here.cost - best.cost // below 2^56
	return gain*100 >= here.cost*uint64(p.options.GainPercent) && gain/weight*microsecond >= p.options.GainPerRequest
}

// pays reports whether the gain over the horizon is above what the move costs. gain is of the mean request.
func (p *Policy) pays(best *estimate, gain, weight uint64) bool {
	// A rate r has come to the weight r x HalfLife / ln 2.
	requests := weight * 693 / 1000 * (p.options.Horizon / (p.options.HalfLife / stepsPerHalf)) / stepsPerHalf
	waiting := requests * best.pause / (2 * p.options.Horizon / microsecond)
	return requests*gain > (waiting+uint64(p.options.MoveRequests)*weightOne)*best.pause
}

// move makes the decision, if the budget allows.
func (p *Policy) move(now Timestamp, g *Group, b *Bounds, to Region, why Reason, gain uint64) (Move, bool) {
	node := p.target(g, b.Config, to)
	if node == 0 || why != Stalled && !p.spend(now) {
		return Move{}, false
	}
	h := Handover{Level: p.nextLevel(now, g, why), History: slices.Clone(g.history)}
	if len(h.History) == HistoryMax {
		h.History = h.History[1:]
	}
	h.History = append(h.History, PastMove{At: now, From: p.region, To: to, Reason: why, Gain: gain * microsecond})
	return Move{To: node, Region: to, Reason: why, Gain: gain * microsecond, Handover: h}, true
}

// nextLevel doubles the next owner's dwell if the group moves too soon after it came, and halves it if it stayed. The first
// move after a steal, or of a new group, corrects what no load had a say in.
func (p *Policy) nextLevel(now Timestamp, g *Group, why Reason) int {
	switch {
	case why != Cheaper && why != Abandoned:
		return g.level
	case len(g.history) > 0 && g.history[len(g.history)-1].Reason == Stolen:
		return g.level
	case now-g.acquired >= RestlessFactor*p.Dwell(g):
		return max(0, g.level-1)
	case p.Dwell(g) < p.options.DwellMax:
		return g.level + 1
	default:
		return g.level
	}
}

// spend takes one move from the churn budget.
func (p *Policy) spend(now Timestamp) bool {
	const price = 60 * second
	full := uint64(p.options.MovesBurst) * price
	if now > p.refilled {
		rate := uint64(p.options.MovesPerMinute)
		p.tokens = min(full, p.tokens+min(now-p.refilled, full/rate+1)*rate)
		p.refilled = now
	}
	if p.tokens < price {
		return false
	}
	p.tokens -= price
	return true
}

// Stalled says whether the owner should release because it cannot reach a Q2: `since` is when the oldest of what waits for one
// began, which is an entry that does not commit or a read whose confirmation does not come. The target is the region of the
// lowest J whose home could commit, else another node of the own region, else any that is alive. Neither dwell nor budget hold
// it back, but each owner tries for Options.StallAfter.
func (p *Policy) Stalled(now Timestamp, g *Group, b *Bounds, since Timestamp) (Move, bool) {
	if start := max(since, g.acquired); now < start || now-start < p.options.StallAfter {
		return Move{}, false
	}
	best, found := p.best(g, b)
	if !found || !best.whole {
		if b.allows(p.region) && p.target(g, b.Config, p.region) != 0 {
			return p.move(now, g, b, p.region, Stalled, 0)
		}
	}
	if !found {
		return Move{}, false
	}
	return p.move(now, g, b, best.region, Stalled, 0)
}

// target is the live voter of the region that comes first for this group, other than this node; 0 if there is none.
func (p *Policy) target(g *Group, c *quorum.Config, r Region) NodeID {
	var best NodeID
	for _, v := range c.Voters() {
		if v.Region == r && v.Node != p.self && p.m.alive(v.Node) && (best == 0 || before(g.name, v.Node, best)) {
			best = v.Node
		}
	}
	return best
}
