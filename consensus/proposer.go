// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// proposer is the half of the core that owns an own ballot, where others take part. It lives from Campaign to stepDown.
type proposer struct {
	q *quorum.Config // of the ballot's configuration
	// peer holds the voters of q by their index there, then its learners, then who else voted in older configurations. This
	// node is among them, for its promise and its acks. Phase 1 asks the voters of all, phase 2 is for the first two.
	peer            []peer
	voters, members int
	me              int

	// Phase 1.
	source  int  // whose log is fetched; -1 before promises of a quorum are there
	short   bool // a local quorum has promised, and what it promised does not do
	commit  Slot // the highest commit promised
	base    Slot // fetched follows on it
	fetched []Entry
	askedAt Timestamp

	// Leases: peers are being asked to tie themselves to the present life.
	fortifying, fortifyDue bool
	fortifyAt              Timestamp

	// Reads that wait for the confirmation of question seq or a later one.
	seq        uint64
	waiting    []pendingRead
	confirmDue bool
	confirmAt  Timestamp
}

// newProposer makes the other half of the own ballot.
func newProposer(c *Core) *proposer {
	cfg := c.config(c.ballot.Cfg)
	p := &proposer{q: cfg.Quorums, source: -1, askedAt: c.clock, me: -1}
	p.peer = make([]peer, 0, cfg.Quorums.Len()+len(cfg.Learners))
	for _, v := range cfg.Quorums.Voters() {
		role := learner
		if cfg.Quorums.InHome(v.Node, c.home) || failpoint.Enabled(failpoint.ConsensusAcceptOutside) {
			role = acceptor
		}
		p.add(v.Node, role).asked = true
	}
	p.voters = len(p.peer)
	for _, id := range cfg.Learners {
		role := learner
		if failpoint.Enabled(failpoint.ConsensusCountNonMember) {
			role = acceptor
		}
		p.add(id, role)
	}
	p.members = len(p.peer)
	for i := range c.configs {
		if c.configs[i].Version >= c.ballot.Cfg || c.scope == Local {
			break
		}
		for _, v := range c.configs[i].Quorums.Voters() {
			p.add(v.Node, former).asked = true
		}
	}
	p.me = p.find(c.self)
	for i := range p.peer {
		p.peer[i].shown = c.release
	}
	return p
}

// add makes the node a peer in this role, if it is none yet.
func (p *proposer) add(id NodeID, r role) *peer {
	i := p.find(id)
	if i < 0 {
		i = len(p.peer)
		p.peer = append(p.peer, peer{id: id, role: r})
	}
	return &p.peer[i]
}

// find is the index of a node among the peers; -1 if it is none.
func (p *proposer) find(id NodeID) int {
	for i := range p.peer {
		if p.peer[i].id == id {
			return i
		}
	}
	return -1
}

// alone reports whether nobody else is asked in phase 1.
func (p *proposer) alone() bool {
	for i := range p.peer {
		if i != p.me && p.peer[i].asked {
			return false
		}
	}
	return true
}

// Proposal is a command to be chosen. Session and Seq are the identity of the request that it came from, 0 and 0 for none.
type Proposal struct {
	Payload      []byte // opaque, at most PayloadLenMax; kept, and must not change
	Session, Seq uint64
}

// Propose puts a command behind the own log and says in which slot and at what commit time: now, or the next that is above that of the
// slot before and above all that is closed. Requires: a won ballot, else ErrNotOwner; no stop-sign for its configuration in the log, else
// ErrStopped. What becomes of the proposal is told by duty 7.
func (c *Core) Propose(now Timestamp, p Proposal) (Slot, Timestamp, error) {
	switch {
	case c.err != nil:
		return 0, 0, c.err
	case len(p.Payload) > PayloadLenMax:
		return 0, 0, fmt.Errorf("%w: payload of %d bytes exceeds limit %d", ErrInvalid, len(p.Payload), PayloadLenMax)
	case (p.Session == 0) != (p.Seq == 0):
		return 0, 0, fmt.Errorf("%w: session %d and seq %d: only one of them is 0", ErrInvalid, p.Session, p.Seq)
	}
	return c.propose(now, Entry{Payload: p.Payload, Session: p.Session, Seq: p.Seq})
}

// propose gives the entry its place.
func (c *Core) propose(now Timestamp, e Entry) (Slot, Timestamp, error) {
	before := max(c.rec.LastTime, c.timeBound)
	switch {
	case c.state < Won:
		return 0, 0, ErrNotOwner
	case c.stopped() && !failpoint.Enabled(failpoint.ConsensusAppendPastStop):
		return 0, 0, ErrStopped
	case now > TimeMax || before >= TimeMax:
		return 0, 0, fmt.Errorf("%w: time %d after %d exceeds limit %d", ErrInvalid, now, before, TimeMax)
	case c.rec.Last >= SlotMax:
		return 0, 0, fmt.Errorf("%w: log is full at slot %d", ErrInvalid, c.rec.Last)
	case c.rec.Last-c.rec.Commit >= Slot(c.tuning.UncommittedEntries) || c.uncommittedBytes >= c.tuning.UncommittedBytes:
		return 0, 0, ErrBusy
	}
	e.Slot, e.Ballot, e.Time = c.rec.Last+1, c.ballot, max(now, before+1)
	e.Chain = chain(c.rec.LastChain, &e)
	c.append(e)
	c.uncommittedBytes += len(e.Payload)
	c.fortify()
	return e.Slot, e.Time, nil
}

func (c *Core) stepProposer(m *Message) error {
	if m.Type == Snapshot {
		return c.onFetchedState(m)
	}
	if m.Ballot != c.ballot && !(m.Type == Accepted && failpoint.Enabled(failpoint.ConsensusCountOldAcks)) {
		return nil // of a ballot that is given up
	}
	if c.p == nil {
		return nil
	}
	i := c.p.find(m.From)
	if i < 0 {
		return nil // it was a voter once
	}
	switch m.Type {
	case PrePromise:
		return c.onPrePromise(i, m)
	case Promise:
		return c.onPromise(i, m)
	case FetchReply:
		return c.onFetchReply(i, m)
	case Nack:
		return c.onNack(i, m)
	}
	if c.state < Won || i >= c.p.members {
		return nil
	}
	switch m.Type {
	case Accepted:
		return c.onAccepted(i, m)
	case Learned:
		return c.onLearned(i, m)
	case Fortified:
		c.p.peer[i].tied(m.FortEpoch)
	case Confirmed:
		return c.onConfirmed(i, m)
	}
	return nil
}

// durable counts the own vote for what is on disk. Requires: Promised is the own ballot, on disk.
func (p *proposer) durable(c *Core) {
	own := &p.peer[p.me]
	switch {
	case c.state == Preparing && own.answer != given:
		p.ownPromise(c)
	case c.readyRec.Accepted == c.ballot:
		own.acked, own.match = true, c.readyRec.Last
		p.count(c)
	}
}

func (c *Core) onAccepted(i int, m *Message) error {
	p, pr := c.p, &c.p.peer[i]
	if pr.role != acceptor {
		return fmt.Errorf("%w: node %d has accepted at ballot %s, in whose home it is not", ErrInvalid, m.From, m.Ballot)
	}
	if m.Ballot == c.ballot && (m.Slot < c.recovered || m.Slot > c.rec.Last) {
		return fmt.Errorf("%w: node %d has accepted to slot %d of a log from %d to %d", ErrInvalid, m.From, m.Slot, c.recovered, c.rec.Last)
	}
	if pr.acked && m.Slot <= pr.match && failpoint.Enabled(failpoint.ConsensusCountTwice) {
		other := &p.peer[(i+1)%p.voters]
		other.acked, other.match = true, max(other.match, m.Slot)
	}
	pr.onAccepted(c, m)
	pr.tied(m.FortEpoch)
	p.count(c)
	return nil
}

// count moves Commit to the highest slot that a Q2 of the home has accepted at the own ballot, and notices when that covers
// what was recovered.
func (p *proposer) count(c *Core) {
	best, covered := Slot(0), false
	for i := range p.peer[:p.voters] {
		s := p.peer[i].match
		if !p.peer[i].acked || covered && s <= best {
			continue
		}
		var set quorum.Set
		for j := range p.peer[:p.voters] {
			if pr := &p.peer[j]; pr.acked && pr.match >= s || !pr.acked && failpoint.Enabled(failpoint.ConsensusCountHealthy) {
				set = set.With(j)
			}
		}
		if p.isQ2(c, set, s) {
			best, covered = s, true
		}
	}
	if !covered {
		return
	}
	if c.state == Won && best >= c.recovered {
		c.state = Recovered
		c.establish(c.ballot.Cfg)
		if c.applied >= c.recovered {
			c.state = Serving
		}
	}
	before, size := c.rec.Commit, 0
	c.commitTo(best)
	for _, e := range c.slots(before+1, c.rec.Commit) {
		size += len(e.Payload)
	}
	c.uncommittedBytes -= size
	for i := range p.peer[:p.members] {
		p.peer[i].committed(c, before, size)
	}
}

// isQ2 is where a Q2 of those that have accepted up to s is counted in the wrong way, if that is planted.
func (p *proposer) isQ2(c *Core, set quorum.Set, s Slot) bool {
	home := c.home
	if failpoint.Enabled(failpoint.ConsensusAcceptOutside) {
		home = p.q.All()
	}
	if failpoint.Enabled(failpoint.ConsensusQ2Short) {
		set = p.oneMore(set)
	}
	if failpoint.Enabled(failpoint.ConsensusCountNonMember) {
		for i := range p.peer[p.voters:p.members] {
			if pr := &p.peer[p.voters+i]; pr.acked && pr.match >= s {
				set = p.oneMore(set)
			}
		}
	}
	return p.q.IsQ2(set, home)
}

// oneMore is part of planted mistakes: it adds a voter that is not in the set.
func (p *proposer) oneMore(set quorum.Set) quorum.Set {
	for i := range p.voters {
		if !set.Has(i) {
			return set.With(i)
		}
	}
	return set
}

func (c *Core) onLearned(i int, m *Message) error {
	if m.Slot > c.rec.Last {
		return fmt.Errorf("%w: node %d has learned slot %d of a log to %d", ErrInvalid, m.From, m.Slot, c.rec.Last)
	}
	c.p.peer[i].knownEstablished = max(c.p.peer[i].knownEstablished, m.Established)
	c.p.peer[i].onLearned(c, m.Slot)
	if failpoint.Enabled(failpoint.ConsensusCountLearned) {
		c.p.peer[i].acked, c.p.peer[i].match = true, max(c.p.peer[i].match, m.Slot)
		c.p.count(c)
	}
	return nil
}

func (c *Core) onNack(i int, m *Message) error {
	switch {
	case m.StaleCfg > c.ballot.Cfg:
		c.staleCfg = max(c.staleCfg, m.StaleCfg)
		c.stepDown()
		return nil
	case m.LeasedOwner != 0:
		c.p.refused(c, i, m)
		return nil
	case c.ballot.Less(m.Promised):
		c.roundSeen = max(c.roundSeen, m.Promised.Round)
		c.stepDown()
		return nil
	}
	if c.state < Won || i >= c.p.members {
		return nil
	}
	if m.Slot > c.rec.Last+1 {
		return fmt.Errorf("%w: node %d expects slot %d of a log to %d", ErrInvalid, m.From, m.Slot, c.rec.Last)
	}
	c.p.peer[i].onNack(c, m)
	return nil
}

func (p *proposer) tick(c *Core) {
	if c.state < Won {
		p.tickPhase1(c)
		return
	}
	for i := range p.peer[:p.members] {
		if i != p.me {
			p.peer[i].tick(c)
		}
	}
	late := func(since Timestamp) bool { return c.clock >= since+c.tuning.RetryAfter }
	if p.fortifying && late(p.fortifyAt) {
		p.fortifying, p.fortifyDue = false, false
	}
	if len(p.waiting) > 0 && late(p.confirmAt) {
		p.confirmDue = true
	}
}

func (p *proposer) needsTick(c *Core) bool {
	if c.state < Won || p.fortifying || len(p.waiting) > 0 {
		return true
	}
	for i := range p.peer[:p.members] {
		if i != p.me && !p.peer[i].idle(c) {
			return true
		}
	}
	return false
}

func (p *proposer) wantsSend(c *Core) bool {
	if c.state < Won {
		return false
	}
	if p.fortifyDue || p.confirmDue {
		return true
	}
	for i := range p.peer[:p.members] {
		if i != p.me && p.peer[i].wantsSend(c) {
			return true
		}
	}
	return false
}

func (p *proposer) send(c *Core) {
	if c.state < Won {
		return
	}
	if p.fortifyDue {
		p.sendFortify(c)
	}
	if p.confirmDue {
		p.sendConfirm(c)
	}
	for i := range p.peer[:p.members] {
		if i != p.me {
			p.peer[i].send(c)
		}
	}
}

// needed is the slot up to which every peer has the log.
func (p *proposer) needed(c *Core) Slot {
	if c.state < Won {
		return c.rec.Last
	}
	least := c.rec.Last
	for i := range p.peer[:p.members] {
		if i != p.me {
			least = min(least, p.peer[i].match)
		}
	}
	return least
}
