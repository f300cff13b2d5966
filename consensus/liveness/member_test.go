// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// parcel is a message on its way: one of liveness, or one of the small lease protocol that the tests run over it. It is what a
// group's core does with support, reduced to one ballot register per acceptor: enough to see two leases.
type parcel struct {
	kind     parcelKind
	from, to NodeID
	live     Message
	ballot   uint64
	epoch    uint64 // take, fortify: of the sender; taken: what the acceptor is tied to, 0 for nothing
	group    *consensus.Message
}

type parcelKind uint8

const (
	live    parcelKind = iota
	take               // promise me ballot, and accept me at it
	taken              // done, and durable; tied to epoch
	fortify            // tie the ballot that you accepted to my new epoch
	ofGroup            // of a real group's core
)

func (p parcel) String() string {
	switch p.kind {
	case live:
		return p.live.String()
	case ofGroup:
		return p.group.String()
	case take:
		return fmt.Sprintf("%d->%d take ballot=%d epoch=%d", p.from, p.to, p.ballot, p.epoch)
	case taken:
		return fmt.Sprintf("%d->%d taken ballot=%d fort=%d", p.from, p.to, p.ballot, p.epoch)
	}
	return fmt.Sprintf("%d->%d fortify ballot=%d epoch=%d", p.from, p.to, p.ballot, p.epoch)
}

const membersMax = 6

// tie is what an acceptor's ballot rests on.
type tie struct {
	promised uint64
	owner    NodeID
	epoch    uint64
}

// platter is what a member's disk holds.
type platter struct {
	epoch     uint64
	minEpochs [membersMax + 1]uint64 // by node
	tie       tie
}

// vote is what a contender knows of one acceptor.
type vote struct {
	taken bool
	epoch uint64
}

// member is a node: its core, an acceptor, a contender, a disk.
type member struct {
	id        NodeID
	options   Options
	acceptors []NodeID
	quorum    int

	core *Core  // nil while it is down
	g    *group // instead of the small lease protocol, unless nil
	disk platter

	// Volatile.
	tie     tie      // to be written
	dirty   bool     // it differs from what is written or under way
	answers []parcel // to be sent once tie is durable
	ballot  uint64   // of the contender, 0 for none
	votes   [membersMax + 1]vote

	// The batch under way.
	syncing bool
	batch   platter
	after   []parcel

	// noBump plants the mistake that a start keeps the epoch.
	noBump bool
}

// start makes the core as duty 1 says.
func (m *member) start() error {
	if !m.noBump || m.disk.epoch == 0 {
		m.disk.epoch++
	}
	o := m.options
	o.Self, o.Epoch, o.MinEpochs = m.id, m.disk.epoch, nil
	for n, e := range m.disk.minEpochs {
		if e > 0 {
			o.MinEpochs = append(o.MinEpochs, MinEpoch{NodeID(n), e})
		}
	}
	core, err := New(o)
	if err != nil {
		return err
	}
	m.core, m.tie = core, m.disk.tie
	if m.g != nil {
		err = m.g.start(m.id, m.core)
	}
	return err
}

// crash loses what is not on disk.
func (m *member) crash() {
	*m = member{id: m.id, options: m.options, acceptors: m.acceptors, quorum: m.quorum, disk: m.disk, noBump: m.noBump, g: m.g}
	if m.g != nil {
		m.g.core = nil
	}
}

func (m *member) clone() *member {
	d := *m
	if m.core != nil {
		d.core = m.core.Clone()
	}
	d.answers, d.after = slices.Clone(m.answers), slices.Clone(m.after)
	return &d
}

// campaign begins a ballot above all that it has heard of.
func (m *member) campaign(round uint64) []parcel {
	m.ballot = round<<8 | uint64(m.id)
	m.votes = [membersMax + 1]vote{}
	return m.toAcceptors(take)
}

// renew asks the acceptors that are tied to another epoch than the present to follow.
func (m *member) renew() []parcel {
	if m.ballot == 0 {
		return nil
	}
	return slices.DeleteFunc(m.toAcceptors(fortify), func(p parcel) bool {
		v := m.votes[p.to]
		return !v.taken || v.epoch == m.core.Epoch()
	})
}

func (m *member) toAcceptors(kind parcelKind) []parcel {
	var out []parcel
	for _, a := range m.acceptors {
		out = append(out, parcel{kind: kind, from: m.id, to: a, ballot: m.ballot, epoch: m.core.Epoch()})
	}
	return out
}

// step takes a message. Requires: the core has the time at which it came.
func (m *member) step(p parcel) error {
	switch p.kind {
	case live:
		return m.core.Step(p.live)
	case ofGroup:
		return m.g.core.Step(*p.group)
	case taken:
		if p.ballot == m.ballot {
			m.votes[p.from] = vote{true, p.epoch}
		}
		return nil
	}
	return m.accept(p)
}

// accept is an acceptor's half: see design section 5.
func (m *member) accept(p parcel) error {
	if p.ballot < m.tie.promised || (p.kind == fortify && p.ballot != m.tie.promised) {
		return nil
	}
	if p.ballot > m.tie.promised {
		if t := m.tie; t.epoch > 0 && t.owner != p.from {
			_, supported := m.core.Supports(t.owner, t.epoch)
			if _, quarantined := m.core.Quarantined(); supported || quarantined {
				return nil
			}
			if err := m.core.Withdraw(t.owner, t.epoch+1); err != nil {
				return err
			}
		}
		m.tie = tie{promised: p.ballot, owner: p.from}
		m.dirty = true
		if m.ballot < p.ballot {
			m.ballot = 0
		}
	}
	if _, ok := m.core.Supports(p.from, p.epoch); ok && m.tie.epoch != p.epoch {
		m.tie.epoch = p.epoch
		m.dirty = true
	}
	if answer := (parcel{kind: taken, from: m.id, to: p.from, ballot: p.ballot, epoch: m.tie.epoch}); !slices.Contains(m.answers, answer) {
		m.answers = append(m.answers, answer)
	}
	return nil
}

// holds reports the lease: its ballot is accepted by a quorum that is tied to its epoch and supports it.
func (m *member) holds() bool {
	if m.core != nil && m.g != nil {
		return m.g.core.HoldsLease()
	}
	if m.core == nil || m.ballot == 0 {
		return false
	}
	n := 0
	for _, a := range m.acceptors {
		if v := m.votes[a]; v.taken && v.epoch == m.core.Epoch() && m.core.SupportFrom(a) {
			n++
		}
	}
	return n >= m.quorum
}

// pump takes the Ready, unless a batch is under way, and returns what leaves now. What must be durable waits for sync.
func (m *member) pump() []parcel {
	if m.syncing || (!m.core.HasReady() && !m.dirty && len(m.answers) == 0 && (m.g == nil || !m.g.core.HasReady())) {
		return nil
	}
	r := m.core.Ready()
	var out []parcel
	for _, msg := range r.MsgsNow {
		out = append(out, parcel{kind: live, from: m.id, to: msg.To, live: msg})
	}
	m.batch = m.disk
	m.batch.tie = m.tie
	for _, e := range r.MinEpochs {
		m.batch.minEpochs[e.Node] = e.Epoch
	}
	if r.Epoch > 0 {
		m.batch.epoch = r.Epoch
	}
	m.after, m.answers = m.answers, nil
	m.syncing = true
	mustSync := r.MustSync || m.dirty
	if m.g != nil {
		now, must := m.g.take(m.id, &m.batch.minEpochs)
		out, mustSync = append(out, now...), mustSync || must
	}
	if !mustSync {
		return append(out, m.sync()...)
	}
	m.dirty = false
	return out
}

// sync makes the batch under way durable and returns what it allows to leave.
func (m *member) sync() []parcel {
	m.disk, m.syncing = m.batch, false
	out := m.after
	m.after = nil
	m.core.Advance()
	if m.g != nil {
		out = append(out, m.g.synced()...)
	}
	return out
}

var errTwoLeases, errBelief = errors.New("I7: two leases"), errors.New("I16: counts on support that is not given")

// judge is I7 and I16 over members that all have the present time. One that is paused (listed) answers nobody and acts on nothing.
func judge(members []*member, paused uint) error {
	var holders []NodeID
	for _, h := range members {
		if h.core == nil || paused&(1<<h.id) != 0 {
			continue
		}
		if h.holds() {
			holders = append(holders, h.id)
		}
		for _, s := range members {
			if s.core == nil || s == h || paused&(1<<s.id) != 0 || !h.core.SupportFrom(s.id) {
				continue
			}
			_, given := s.core.Supports(h.id, h.core.Epoch())
			if _, quarantined := s.core.Quarantined(); !given && !quarantined {
				return fmt.Errorf("%w: node %d on node %d at epoch %d", errBelief, h.id, s.id, h.core.Epoch())
			}
		}
	}
	if len(holders) > 1 {
		return fmt.Errorf("%w: nodes %v", errTwoLeases, holders)
	}
	return nil
}
