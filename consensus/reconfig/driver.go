// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Phase is where a change stands.
type Phase uint8

// The phases.
const (
	// Idle: one version is live.
	Idle Phase = iota
	// Upgrading: live owners move their groups.
	Upgrading
	// Sealing: voters of v seal and list, and what they list is moved.
	Sealing
	// Retiring: all is moved, and Retire is on its way.
	Retiring
)

// String is the phase in a word.
func (p Phase) String() string {
	return [...]string{"idle", "upgrading", "sealing", "retiring"}[min(p, Retiring)]
}

// Progress is where a change stands, for display.
type Progress struct {
	Phase Phase
	From  uint64 // v
	To    uint64 // v+1
	// Owned is how many groups the live voters of v have said that they still own below v+1; of those that did not answer yet
	// nothing is known.
	Owned uint64
	// Sealed and Listed are the voters of v that have sealed, and that have listed all of theirs besides.
	Sealed, Listed []NodeID
	// Moved is how many moves this driver has seen succeed, and Failed how many tries did not; Moving is under way.
	Moved, Failed uint64
	Moving        int
	// Cursor is the name up to which all groups that were listed have been taken up.
	Cursor string
	// Lacking are the regions of which too few voters have sealed and listed, or while Upgrading are alive, for their part of
	// a Q1(v). No more than Fz may.
	Lacking []Region
}

// Driver does the work of the change that the registry says is under way. It is not safe for concurrent use.
type Driver struct {
	options  Options
	registry *Registry
	phase    Phase
	old      uint64    // v of the change that all below is of; 0 while Idle
	began    Timestamp // of the present change, as far as this driver knows; 0: with the next Tick
	peers    []peer    // voters of v, by number
	moving   []move
	live     []NodeID
	tokens   uint64 // moves that may begin, times 1e9
	refilled Timestamp
	retired  Timestamp // when Retire was last proposed; 0: never
	orders   []Order
	moved    uint64
	failed   uint64
	cursor   string
	turn     uint64 // of the next move: spreads first tries over the nodes of v+1
}

// peer is what the driver knows of one voter of v.
type peer struct {
	id       NodeID
	asked    Timestamp // when the order under way was sent; 0: none is
	tries    int       // how often it was sent
	upgraded bool
	left     uint64
	sealed   bool
	after    string   // the last name of the page
	page     []string // what of it is not taken up
	more     bool     // there are names after the page
	listed   bool     // the first page is here
}

// done reports whether all names of the peer are taken up.
func (p *peer) done() bool { return p.sealed && p.listed && !p.more && len(p.page) == 0 }

func (p *peer) ask(now Timestamp) { p.asked, p.tries = max(now, 1), p.tries+1 }

func (p *peer) answered() { p.asked, p.tries = 0, 0 }

// move is one group on its way.
type move struct {
	group string
	to    NodeID
	asked Timestamp // 0: it was not ordered yet
	turn  uint64    // of the voter of v+1 that tries it next, if it is live
}

// NewDriver makes a driver on a registry, which stays the caller's: it applies the entries, and calls Changed after each.
// Fields of o that are 0 have their default. The driver begins with what the registry says is under way.
func NewDriver(o Options, r *Registry) (*Driver, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	d := &Driver{options: o, registry: r}
	d.Changed()
	return d, nil
}

// Changed says that the registry has applied entries, one or more. If another change is under way than before, the driver begins
// with it.
func (d *Driver) Changed() {
	old, changing := d.registry.Changing()
	switch {
	case !changing:
		d.reset(Idle, 0)
		return
	case d.old == old:
		return
	}
	d.reset(Upgrading, old)
	for _, v := range d.registry.live[0].config.Voters {
		d.peers = append(d.peers, peer{id: v.Node})
	}
	slices.SortFunc(d.peers, func(a, b peer) int { return cmp.Compare(a.id, b.id) })
}

// reset forgets the change of before.
func (d *Driver) reset(p Phase, old uint64) {
	*d = Driver{options: d.options, registry: d.registry, phase: p, old: old, live: d.live, tokens: d.tokens, refilled: d.refilled}
}

func (d *Driver) to() uint64             { return d.registry.Newest().Version }
func (d *Driver) before() *quorum.Config { return d.registry.live[0].quorums }
func (d *Driver) newest() *quorum.Config { return d.registry.live[len(d.registry.live)-1].quorums }

// Tick brings the time and who is alive, as far as this node knows. A time before the latest counts as the latest. Orders
// come out of Orders after it.
func (d *Driver) Tick(now Timestamp, live []NodeID) {
	d.live = append(d.live[:0], live...)
	slices.Sort(d.live)
	d.refill(now)
	if d.phase == Idle {
		return
	}
	if d.began == 0 {
		d.began = max(now, 1)
	}
	now = max(now, d.began)
	if d.phase == Upgrading {
		d.upgrade(now)
	}
	if d.phase == Sealing {
		d.seal(now)
		d.take(now)
		d.again(now)
		if d.complete() {
			d.phase = Retiring
		}
	}
	if d.phase == Retiring && d.due(now, d.retired) {
		d.retired = now
		d.orders = append(d.orders, Order{Kind: ProposeRetire, Version: d.old, Entry: &Entry{Kind: Retire, Version: d.old, Sealed: d.listed()}})
	}
}

// Orders are what to send now. They are the caller's.
func (d *Driver) Orders() []Order {
	out := d.orders
	d.orders = nil
	return out
}

func (d *Driver) isLive(id NodeID) bool {
	_, ok := slices.BinarySearch(d.live, id)
	return ok
}

// due reports whether what was asked then is to be asked again.
func (d *Driver) due(now, asked Timestamp) bool {
	return asked == 0 || now >= asked+d.options.RetryAfter
}

func (d *Driver) refill(now Timestamp) {
	const one = 1_000_000_000
	if now <= d.refilled {
		return
	}
	rate := uint64(d.options.PerSecond)
	d.tokens = min(rate*one, d.tokens+min(now-d.refilled, one)*rate)
	d.refilled = now
}

// upgrade asks the live voters of v to move what they own. It ends when all of them have, or UpgradeFor is over, but never
// while Sealing could not end: a seal takes from live owners the way by StopSign, which is the only one without a Q1(v).
func (d *Driver) upgrade(now Timestamp) {
	all := true
	for i := range d.peers {
		p := &d.peers[i]
		if p.upgraded || !d.isLive(p.id) {
			continue
		}
		all = false
		if d.due(now, p.asked) {
			p.ask(now)
			d.orders = append(d.orders, Order{Kind: Upgrade, To: p.id, Version: d.to()})
		}
	}
	if (all || now-d.began >= d.options.UpgradeFor) && d.canSeal() {
		d.phase = Sealing
		for i := range d.peers {
			d.peers[i].answered()
		}
	}
}

// canSeal reports whether the nodes alive could move every group and seal v.
func (d *Driver) canSeal() bool {
	newest := d.newest()
	set := newest.SetOf(d.live...)
	return d.before().IsQ1(d.before().SetOf(d.live...)) && newest.IsQ1(set) && newest.IsQ2(set, newest.All())
}

// seal asks each live voter of v to seal, then for its names, page by page.
func (d *Driver) seal(now Timestamp) {
	for i := range d.peers {
		p := &d.peers[i]
		if !d.isLive(p.id) || !d.due(now, p.asked) {
			continue
		}
		switch {
		case !p.sealed:
			d.orders = append(d.orders, Order{Kind: Seal, To: p.id, Version: d.to()})
		case len(p.page) == 0 && (!p.listed || p.more):
			d.orders = append(d.orders, Order{Kind: List, To: p.id, Version: d.to(), After: p.after, Limit: d.options.PageLen})
		default:
			continue
		}
		p.ask(now)
	}
}

// take takes up the lowest names of all pages. While a page is asked for the first time it waits for it: nodes list much the
// same names, and one that is taken up from all of them at once is moved once.
func (d *Driver) take(now Timestamp) {
	const one = 1_000_000_000
	for len(d.moving) < d.options.Inflight && d.tokens >= one {
		var lowest string
		found := false
		for i := range d.peers {
			p := &d.peers[i]
			if len(p.page) == 0 && !p.done() && p.tries == 1 && d.isLive(p.id) {
				return
			}
			if len(p.page) > 0 && (!found || p.page[0] < lowest) {
				lowest, found = p.page[0], true
			}
		}
		if !found {
			return
		}
		for i := range d.peers {
			if p := &d.peers[i]; len(p.page) > 0 && p.page[0] == lowest {
				p.page = p.page[1:]
			}
		}
		d.cursor = lowest
		if slices.ContainsFunc(d.moving, func(m move) bool { return m.group == lowest }) {
			continue
		}
		d.tokens -= one
		d.moving = append(d.moving, move{group: lowest})
	}
}

// again orders the moves that have no order out, or none that was answered in time. Each try is another node's: a move has its own
// turn, since one that all moves share comes back to the same nodes when the numbers of moves and of nodes have a divisor in common.
func (d *Driver) again(now Timestamp) {
	for i := range d.moving {
		m := &d.moving[i]
		if !d.due(now, m.asked) {
			continue
		}
		if m.asked == 0 {
			m.turn = d.turn
		}
		m.to = d.mover(&m.turn)
		if m.to == 0 {
			return
		}
		if m.asked == 0 {
			d.turn = m.turn
		}
		m.asked = max(now, 1)
		d.orders = append(d.orders, Order{Kind: Migrate, To: m.to, Version: d.to(), Group: m.group})
	}
}

// mover is a live voter of v+1, from a turn on, which it moves behind it; 0 if there is none.
func (d *Driver) mover(turn *uint64) NodeID {
	voters := d.registry.Newest().Voters
	for range voters {
		id := voters[*turn%uint64(len(voters))].Node
		*turn++
		if d.isLive(id) {
			return id
		}
	}
	return 0
}

// complete is R4: a Q1(v) has sealed and listed all, and all that these listed is moved, with what others listed and was taken up.
func (d *Driver) complete() bool {
	return len(d.moving) == 0 && d.before().IsQ1(d.before().SetOf(d.listed()...))
}

func (d *Driver) listed() []NodeID {
	var ids []NodeID
	for i := range d.peers {
		if d.peers[i].done() {
			ids = append(ids, d.peers[i].id)
		}
	}
	return ids
}

// Step takes a node's answer. What is late, doubled or of another change is taken for nothing; an error is ErrInvalid and
// says that the node broke its duty.
func (d *Driver) Step(a *Answer) error {
	if d.phase == Idle || a.Version != d.to() {
		return nil
	}
	if a.Kind == Migrate {
		d.stepMigrate(a)
		return nil
	}
	at, ok := slices.BinarySearchFunc(d.peers, a.From, func(p peer, id NodeID) int { return cmp.Compare(p.id, id) })
	if !ok {
		return fmt.Errorf("%w: answer of node %d, which is no voter of version %d", ErrInvalid, a.From, d.old)
	}
	p := &d.peers[at]
	switch {
	case a.Kind == Upgrade && d.phase == Upgrading:
		p.upgraded, p.left = a.Left == 0, a.Left
		if p.upgraded {
			p.answered()
		}
	case a.Kind == Seal && d.phase == Sealing && !p.sealed:
		p.sealed = true
		p.answered()
	case a.Kind == List && d.phase == Sealing:
		return d.stepList(p, a)
	case a.Kind < Upgrade || a.Kind > List:
		return fmt.Errorf("%w: answer of kind %d", ErrInvalid, a.Kind)
	}
	return nil
}

// stepList takes a page, if it is the one that the peer was asked for.
func (d *Driver) stepList(p *peer, a *Answer) error {
	if !p.sealed || len(p.page) > 0 || p.done() || a.After != p.after {
		return nil
	}
	before := a.After
	if len(a.Groups) > PageLenMax || a.More && len(a.Groups) == 0 {
		return fmt.Errorf("%w: node %d lists %d groups, at most %d, with more to come: %v", ErrInvalid, p.id, len(a.Groups), PageLenMax, a.More)
	}
	for _, g := range a.Groups {
		if len(g) > consensuspb.GroupNameLenMax {
			return fmt.Errorf("%w: node %d lists a group with a name of %d bytes, limit %d", ErrInvalid, p.id, len(g), consensuspb.GroupNameLenMax)
		}
		if g <= before { // at first before is the name that the order had, or none
			return fmt.Errorf("%w: node %d lists %q after %q", ErrInvalid, p.id, g, before)
		}
		before = g
	}
	p.page, p.more, p.after, p.listed = slices.Clone(a.Groups), a.More, before, true
	p.answered()
	return nil
}

// stepMigrate ends a move, or has it tried again after RetryAfter: asked says when it began.
func (d *Driver) stepMigrate(a *Answer) {
	at := slices.IndexFunc(d.moving, func(m move) bool { return m.group == a.Group })
	if at < 0 {
		return
	}
	if a.Established < a.Version {
		d.failed++
		return
	}
	d.moved++
	d.moving = slices.Delete(d.moving, at, at+1)
}

// Progress is where the change stands.
func (d *Driver) Progress() Progress {
	p := Progress{Phase: d.phase, Moved: d.moved, Failed: d.failed, Moving: len(d.moving), Cursor: d.cursor, Listed: d.listed()}
	if d.phase == Idle {
		p.From, p.To = d.to(), d.to()
		return p
	}
	p.From, p.To = d.old, d.to()
	for i := range d.peers {
		p.Owned += d.peers[i].left
		if d.peers[i].sealed {
			p.Sealed = append(p.Sealed, d.peers[i].id)
		}
	}
	set := d.before().SetOf(p.Listed...)
	if d.phase == Upgrading {
		set = d.before().SetOf(d.live...)
	}
	first := 0
	for _, shape := range d.before().Regions() {
		have := 0
		for i := first; i < first+shape.Voters; i++ {
			if set.Has(i) {
				have++
			}
		}
		if have < shape.Q1 {
			p.Lacking = append(p.Lacking, shape.Region)
		}
		first += shape.Voters
	}
	return p
}
