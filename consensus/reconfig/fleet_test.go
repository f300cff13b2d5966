// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// fleet is nodes with logs, small enough to see through: a campaign and its sync, or a write, is one step, in which each
// message is lost with some probability. What is chosen is known to the fleet, and each new owner's log is held against it.
type fleet struct {
	rng      *rand.Rand
	loss     float64
	log      []*Entry    // the system log; it is its own consensus
	truth    *Registry   // all of log applied
	versions []*Registry // after each entry
	nodes    map[NodeID]*fleetNode
	chosen   map[string][]int
	at       map[string]consensus.Ballot // the highest at which chosen was
	safe     map[string]uint64           // the highest version in which the group's log was chosen whole
	value    int
	round    uint64
	orders   []Order
	answers  []Answer
	drivers  []*Driver
	plant    string
	stops    int
	retires  int
}

type fleetNode struct {
	id      NodeID
	up      bool
	cut     bool // from the drivers, not from the other nodes
	wiped   bool
	applied int // entries of the system log
	minCfg  uint64
	records map[string]*fleetRecord
	owned   map[string]consensus.Ballot // in memory
}

type fleetRecord struct {
	promised, accepted consensus.Ballot
	established        uint64
	log                []int // negative: a stop-sign to that version
}

func (n *fleetNode) record(g string) *fleetRecord {
	r := n.records[g]
	if r == nil {
		r = &fleetRecord{}
		n.records[g] = r
	}
	return r
}

func newFleet(seed uint64, first Config) (*fleet, error) {
	r, err := NewRegistry(first)
	if err != nil {
		return nil, err
	}
	f := &fleet{
		rng: rand.New(rand.NewPCG(seed, 6)), truth: r, versions: []*Registry{r.Clone()},
		nodes: map[NodeID]*fleetNode{}, chosen: map[string][]int{}, at: map[string]consensus.Ballot{}, safe: map[string]uint64{},
	}
	for _, v := range first.Voters {
		f.addNode(v.Node)
	}
	return f, nil
}

func (f *fleet) addNode(id NodeID) {
	f.nodes[id] = &fleetNode{id: id, up: true, records: map[string]*fleetRecord{}, owned: map[string]consensus.Ballot{}}
}

func (f *fleet) ids() []NodeID { return slices.Sorted(maps.Keys(f.nodes)) }

func (f *fleet) up() []NodeID {
	return slices.DeleteFunc(f.ids(), func(id NodeID) bool { return !f.nodes[id].up || f.nodes[id].cut })
}

// propose appends to the system log what the registry takes. R4 is judged here, by what the fleet knows.
func (f *fleet) propose(e *Entry) error {
	raw, err := e.AppendTo(nil)
	if err != nil {
		return err
	}
	if e, err = DecodeEntry(raw); err != nil {
		return err
	}
	if err := f.truth.Apply(e); err != nil {
		return err
	}
	f.log = append(f.log, e)
	f.versions = append(f.versions, f.truth.Clone())
	if e.Kind == Retire {
		f.retires++
		for _, g := range slices.Sorted(maps.Keys(f.chosen)) {
			if len(f.chosen[g]) > 0 && f.safe[g] <= e.Version {
				return fmt.Errorf("R4: version %d is retired, and group %s is chosen in version %d at most", e.Version, g, f.safe[g])
			}
		}
		for _, id := range f.ids() {
			if f.truth.Removed(id) { // its disk is gone at once
				*f.nodes[id] = fleetNode{id: id, wiped: true, records: map[string]*fleetRecord{}}
			}
		}
	}
	for _, d := range f.drivers {
		d.Changed()
	}
	return nil
}

// reaches says whether a message to the node arrives, and its answer back.
func (f *fleet) reaches(id NodeID) bool {
	n := f.nodes[id]
	return n != nil && n.up && f.rng.Float64() >= f.loss
}

// campaign makes the node the owner of the group at its newest configuration, if enough answer. stopped says that the log
// that the node has ends at a stop-sign that is chosen.
func (f *fleet) campaign(n *fleetNode, g string, stopped bool) error {
	reg := f.versions[n.applied]
	cfg := reg.Newest().Version
	if _, votes := reg.live[len(reg.live)-1].quorums.Index(n.id); !votes {
		return nil
	}
	f.round++
	b := consensus.Ballot{Cfg: cfg, Round: f.round, Node: n.id}
	var promised []*fleetRecord
	var ids []NodeID
	est := uint64(0)
	for _, id := range f.ids() {
		m := f.nodes[id]
		if !f.reaches(id) || m.minCfg > cfg || !m.record(g).promised.Less(b) {
			continue
		}
		r := m.record(g)
		r.promised = b
		promised, ids = append(promised, r), append(ids, id)
		est = max(est, r.established)
	}
	for i := range reg.live {
		q := reg.live[i].quorums
		if v := reg.live[i].config.Version; v < cfg && (stopped || v < est) {
			continue
		}
		if !q.IsQ1(q.SetOf(ids...)) {
			return nil
		}
	}
	var log []int
	best := consensus.Ballot{}
	if stopped {
		log = slices.Clone(n.record(g).log)
		best = n.record(g).accepted
	}
	for _, r := range promised {
		if stopped && r.accepted.Cfg < cfg {
			continue
		}
		if best.Less(r.accepted) || best == r.accepted && len(r.log) > len(log) {
			best, log = r.accepted, slices.Clone(r.log)
		}
	}
	want := f.chosen[g]
	if f.at[g].Less(b) && (len(log) < len(want) || !slices.Equal(log[:len(want)], want)) {
		return fmt.Errorf("node %d owns group %s at %s with the log %v, chosen is %v", n.id, g, b, log, want)
	}
	n.owned[g] = b
	f.spread(n, g, b, log)
	return nil
}

// spread has the voters accept the whole log at b, and reports whether it is chosen.
func (f *fleet) spread(n *fleetNode, g string, b consensus.Ballot, log []int) bool {
	q := f.quorums(b.Cfg)
	var ids []NodeID
	var records []*fleetRecord
	for _, id := range f.ids() {
		m := f.nodes[id]
		if _, votes := q.Index(id); !votes || id != n.id && !f.reaches(id) || m.minCfg > b.Cfg || b.Less(m.record(g).promised) {
			continue
		}
		r := m.record(g)
		r.promised, r.accepted, r.log = b, b, slices.Clone(log)
		ids, records = append(ids, id), append(records, r)
	}
	if !q.IsQ2(q.SetOf(ids...), q.All()) {
		return false
	}
	if b.Less(f.at[g]) { // a lower ballot may still choose again what is chosen
		return len(log) <= len(f.chosen[g]) && slices.Equal(log, f.chosen[g][:len(log)])
	}
	f.chosen[g], f.at[g] = slices.Clone(log), b
	f.safe[g] = max(f.safe[g], b.Cfg)
	for _, r := range records {
		if f.rng.Float64() >= f.loss || r == n.record(g) { // they learn of it later, or not
			r.established = max(r.established, b.Cfg)
		}
	}
	return true
}

// quorums of a version, live or not.
func (f *fleet) quorums(version uint64) *quorum.Config {
	for _, r := range f.versions {
		for i := range r.live {
			if r.live[i].config.Version == version {
				return r.live[i].quorums
			}
		}
	}
	panic("no such version")
}

// write is a client's at a node, which gets to own the group first if it does not.
func (f *fleet) write(n *fleetNode, g string) error {
	b, ok := n.owned[g]
	if !ok || n.record(g).promised != b || b.Cfg < n.minCfg {
		delete(n.owned, g)
		return f.campaign(n, g, false)
	}
	log := n.record(g).log
	if k := len(log); k > 0 && log[k-1] < 0 && b.Cfg < uint64(-log[k-1]) {
		return nil
	}
	f.value++
	f.spread(n, g, b, append(slices.Clone(log), f.value))
	return nil
}

// upgrade is duties 2 and 5: one group, as Plan says.
func (f *fleet) upgrade(n *fleetNode, g string, next uint64) error {
	r := n.record(g)
	owned := n.owned[g]
	if r.promised != owned {
		owned = consensus.Ballot{}
	}
	switch Plan(r.established, owned.Cfg, n.minCfg, next) {
	case ByStopSign:
		log := slices.Clone(r.log)
		if k := len(log); k == 0 || log[k-1] != -int(next) {
			log = append(log, -int(next))
		}
		if !f.spread(n, g, owned, log) {
			return nil
		}
		f.stops++
		delete(n.owned, g)
		return f.campaign(n, g, true)
	case ByCampaign:
		return f.campaign(n, g, false)
	case Nothing:
		if owned.Cfg >= next && r.established < next {
			f.spread(n, g, owned, r.log)
		}
	}
	return nil
}

// carry is a node that gets an order. Its answer is on its way after it.
func (f *fleet) carry(o Order) error {
	n := f.nodes[o.To]
	if n == nil || !n.up || n.cut {
		return nil
	}
	for f.versions[n.applied].Newest().Version < o.Version { // duty 1
		n.applied++
	}
	a := Answer{Kind: o.Kind, From: n.id, Version: o.Version}
	switch o.Kind {
	case Upgrade:
		for _, g := range slices.Sorted(maps.Keys(n.owned)) {
			if err := f.upgrade(n, g, o.Version); err != nil {
				return err
			}
			if n.owned[g].Cfg > 0 && n.owned[g].Cfg < o.Version {
				a.Left++
			}
		}
	case Seal:
		if f.plant != "seal" {
			n.minCfg = max(n.minCfg, o.Version)
		}
	case List:
		a.After = o.After
		a.Groups, a.More = f.list(n, o)
	case Migrate:
		a.Group = o.Group
		if err := f.upgrade(n, o.Group, o.Version); err != nil {
			return err
		}
		a.Established = n.record(o.Group).established
	}
	f.answers = append(f.answers, a)
	return nil
}

func (f *fleet) list(n *fleetNode, o Order) (names []string, more bool) {
	for _, g := range slices.Sorted(maps.Keys(n.records)) {
		r := n.records[g]
		rec := consensus.Record{Accepted: r.accepted, Last: consensus.Slot(len(r.log)), Established: r.established}
		if g <= o.After || !Below(&rec, o.Version) {
			continue
		}
		if len(names) == o.Limit {
			return names, true
		}
		names = append(names, g)
	}
	if f.plant == "list" && len(names) > 0 {
		names = names[:len(names)-1]
	}
	return names, false
}

// tick lets a driver work, and puts its orders on their way.
func (f *fleet) tick(d *Driver, now Timestamp) error {
	d.Tick(now, f.up())
	if f.plant == "retire" && d.phase == Sealing { // retires without what sealed nodes list
		e := Entry{Kind: Retire, Version: d.old}
		for i := range d.peers {
			if d.peers[i].sealed {
				e.Sealed = append(e.Sealed, d.peers[i].id)
			}
		}
		if err := f.propose(&e); err != nil && !errors.Is(err, ErrNoQuorum) {
			return err
		}
	}
	for _, o := range d.Orders() {
		if o.Kind != ProposeRetire {
			f.orders = append(f.orders, o)
		} else if err := f.propose(o.Entry); err != nil && !errors.Is(err, ErrStale) {
			return err
		}
	}
	return nil
}
