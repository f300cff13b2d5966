// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// proposer is the half of the core that owns an own ballot, where there are other voters. It lives from Campaign to stepDown.
type proposer struct {
	home quorum.Home
	me   int    // own index in the quorum configuration
	peer []peer // by index in the quorum configuration; the own one too, for its promise and its acks

	// Phase 1.
	promised quorum.Set
	source   int  // whose log is fetched; -1 before promises of a Q1 are there
	commit   Slot // the highest commit promised
	base     Slot // fetched follows on it
	fetched  []Entry
	askedAt  Timestamp
}

// Campaign begins phase 1 at a fresh round: nothing is sent before that round is durable as this node's promise, and a
// restart takes another. It does nothing if a ballot is won and not lost, and begins again while Preparing. The sole voter has
// won at once.
func (c *Core) Campaign(Scope) error {
	if c.err != nil {
		return c.err
	}
	if c.state >= Won {
		return nil
	}
	round := max(c.rec.Promised.Round, c.roundSeen) + 1
	if round > RoundMax {
		return fmt.Errorf("%w: round %d exceeds limit %d", ErrInvalid, round, uint64(RoundMax))
	}
	c.stepDown()
	c.behind = false
	c.ballot = Ballot{Cfg: c.cfg, Round: round, Node: c.self}
	c.rec.Promised = c.ballot
	c.dirty, c.mustSync = true, true
	if c.sole {
		c.state, c.recovered, c.rec.Accepted = Won, c.rec.Last, c.ballot
		return nil
	}
	c.state = Preparing
	me, _ := c.quorums.Index(c.self)
	c.p = &proposer{home: c.quorums.All(), me: me, peer: make([]peer, c.quorums.Len()), source: -1, askedAt: c.clock}
	for i, v := range c.quorums.Voters() {
		c.p.peer[i].id = v.Node
		if i != me {
			c.after = append(c.after, Message{Type: Prepare, From: c.self, To: v.Node, Ballot: c.ballot})
		}
	}
	return nil
}

// stepDown ends the own ballot.
func (c *Core) stepDown() {
	c.state, c.ballot, c.recovered, c.p, c.uncommittedBytes = Follower, Ballot{}, 0, nil, 0
}

// Proposal is a command to be chosen. Session and Seq are the identity of the request that it came from, 0 and 0 for none.
type Proposal struct {
	Payload      []byte
	Session, Seq uint64
}

// Propose puts a payload behind the own log and says in which slot and at what commit time: now, or one more than that of the
// slot before if that is later. The payload is kept, and must not change. Requires: a won ballot, else ErrNotOwner. What
// becomes of the proposal is told by duty 7.
func (c *Core) Propose(now Timestamp, p Proposal) (Slot, Timestamp, error) {
	payload := p.Payload
	switch {
	case c.err != nil:
		return 0, 0, c.err
	case c.state < Won:
		return 0, 0, ErrNotOwner
	case len(payload) > PayloadLenMax:
		return 0, 0, fmt.Errorf("%w: payload of %d bytes exceeds limit %d", ErrInvalid, len(payload), PayloadLenMax)
	case (p.Session == 0) != (p.Seq == 0):
		return 0, 0, fmt.Errorf("%w: session %d and seq %d: only one of them is 0", ErrInvalid, p.Session, p.Seq)
	case now > TimeMax || c.rec.LastTime >= TimeMax:
		return 0, 0, fmt.Errorf("%w: time %d after %d exceeds limit %d", ErrInvalid, now, c.rec.LastTime, TimeMax)
	case c.rec.Last >= SlotMax:
		return 0, 0, fmt.Errorf("%w: log is full at slot %d", ErrInvalid, c.rec.Last)
	case c.rec.Last-c.rec.Commit >= Slot(c.tuning.UncommittedEntries) || c.uncommittedBytes >= c.tuning.UncommittedBytes:
		return 0, 0, ErrBusy
	}
	c.clock = max(c.clock, now)
	e := Entry{Slot: c.rec.Last + 1, Ballot: c.ballot, Time: max(now, c.rec.LastTime+1), Payload: payload, Session: p.Session, Seq: p.Seq}
	e.Chain = chain(c.rec.LastChain, &e)
	c.append(e)
	c.uncommittedBytes += len(payload)
	return e.Slot, e.Time, nil
}

func (c *Core) stepProposer(m *Message) error {
	if m.Ballot != c.ballot && !(m.Type == Accepted && failpoint.Enabled(failpoint.ConsensusCountOldAcks)) {
		return nil // of a ballot that is given up
	}
	if c.p == nil {
		return nil
	}
	i, _ := c.quorums.Index(m.From)
	switch m.Type {
	case Promise:
		return c.onPromise(i, m)
	case FetchReply:
		return c.onFetchReply(i, m)
	case Accepted:
		return c.onAccepted(i, m)
	case Learned:
		return c.onLearned(i, m)
	case Nack:
		return c.onNack(i, m)
	}
	return nil
}

// durable counts the own vote for what is on disk. Requires: Promised is the own ballot, on disk.
func (p *proposer) durable(c *Core) {
	switch {
	case c.state == Preparing && !p.promised.Has(p.me):
		own := &p.peer[p.me]
		own.accepted, own.last, own.chain, own.commit, own.first = c.rec.Accepted, c.rec.Last, c.rec.LastChain, c.rec.Commit, c.rec.First
		p.promised = p.promised.With(p.me)
		_ = p.choose(c) // kept in err
	case c.readyRec.Accepted == c.ballot:
		own := &p.peer[p.me]
		own.acked, own.match = true, c.readyRec.Last
		p.count(c)
	}
}

func (c *Core) onPromise(i int, m *Message) error {
	p, pr := c.p, &c.p.peer[i]
	if p.promised.Has(i) {
		return nil
	}
	p.promised = p.promised.With(i)
	pr.accepted, pr.last, pr.chain, pr.commit, pr.first = m.Accepted, m.Last, m.Chain, m.Commit, m.First
	if c.state == Preparing {
		return p.choose(c)
	}
	return nil
}

// choose takes, once a Q1 has promised, the whole log of the highest (accepted, last) among the promises: it holds all that
// is or can be chosen below the own ballot. The own log is preferred to an equal one.
func (p *proposer) choose(c *Core) error {
	if p.source >= 0 || !p.promised.Has(p.me) || !c.quorums.IsQ1(p.promised) {
		return nil
	}
	best := p.me
	for i := range p.peer {
		if !p.promised.Has(i) {
			continue
		}
		p.commit = max(p.commit, p.peer[i].commit)
		if order := p.peer[i].accepted.Compare(p.peer[best].accepted); order > 0 || order == 0 && p.peer[i].last > p.peer[best].last {
			best = i
		}
	}
	b := &p.peer[best]
	if failpoint.Enabled(failpoint.ConsensusIgnoreAccepted) {
		b, best = &p.peer[p.me], p.me
		p.commit = b.commit
	}
	p.source = best
	if p.commit > b.last {
		return c.fail("slot %d is chosen, and the longest log promised, accepted at %s, ends at %d", p.commit, b.accepted, b.last)
	}
	// A log accepted at the ballot of ours is longer than ours, which is its beginning; of another, only what is committed
	// is sure to be.
	p.base = c.rec.Commit
	if b.accepted == c.rec.Accepted {
		p.base = c.rec.Last
	}
	return p.fetch(c)
}

// fetch asks for the bodies of the log to adopt, from where the own log and what was fetched end.
func (p *proposer) fetch(c *Core) error {
	b := &p.peer[p.source]
	from := p.base + Slot(len(p.fetched))
	if from == b.last {
		return p.adopt(c)
	}
	if from+1 < b.first {
		c.stepDown()
		c.behind = true
		return nil
	}
	p.askedAt = c.clock
	c.now = append(c.now, Message{Type: Fetch, From: c.self, To: b.id, Ballot: c.ballot, Slot: from, Last: b.last})
	return nil
}

func (c *Core) onFetchReply(i int, m *Message) error {
	p := c.p
	if c.state != Preparing || i != p.source || m.Slot != p.base+Slot(len(p.fetched)) {
		return nil
	}
	last, end := p.peer[i].last, m.Slot+Slot(len(m.Entries))
	if end > last {
		return fmt.Errorf("%w: node %d sent slots to %d of a log to %d", ErrInvalid, m.From, end, last)
	}
	if before := p.fetchedChain(c); m.Chain != before {
		return p.mistrust(c, before, m.Chain)
	}
	entries := m.Entries
	if m.Slot < p.commit && len(p.fetched) == 0 {
		// What is known to be chosen need not wait, nor fill the memory.
		n := min(p.commit-m.Slot, Slot(len(entries)))
		chosen := *m
		chosen.Entries = entries[:n]
		if err := c.learn(&chosen); err != nil {
			return err
		}
		p.base, entries = m.Slot+n, entries[n:]
	}
	p.fetched = append(p.fetched, entries...)
	return p.fetch(c)
}

// fetchedChain is the chain of the log as far as it was fetched.
func (p *proposer) fetchedChain(c *Core) uint64 {
	if n := len(p.fetched); n > 0 {
		return p.fetched[n-1].Chain
	}
	have, _ := c.chainAt(p.base)
	return have
}

// mistrust is called where what was fetched so far has another chain than what comes next, or than what was promised.
func (p *proposer) mistrust(c *Core, have, want uint64) error {
	from := p.peer[p.source].id
	switch {
	case len(p.fetched) > 0:
		p.fetched = nil // tick asks again, and another if it can
		return fmt.Errorf("%w: node %d sent another log than it promised", ErrInvalid, from)
	case p.base > c.rec.Commit:
		p.base = c.rec.Commit // the end of the own log is not the beginning of that one after all
		return p.fetch(c)
	}
	return c.fail("slot %d is committed with chain %016x, node %d has it with %016x", p.base, have, from, want)
}

// adopt accepts the log here, at the own ballot: the own one up to base, then what was fetched, then nothing.
func (p *proposer) adopt(c *Core) error {
	if have, want := p.fetchedChain(c), p.peer[p.source].chain; have != want {
		return p.mistrust(c, have, want)
	}
	if err := c.replace(p.base, p.fetched, true); err != nil {
		return err
	}
	p.fetched = nil
	c.rec.Accepted = c.ballot
	c.dirty, c.mustSync = true, true
	c.state, c.recovered = Won, c.rec.Last
	c.commitTo(p.commit)
	for _, e := range c.slots(c.rec.Commit+1, c.rec.Last) {
		c.uncommittedBytes += len(e.Payload)
	}
	for i := range p.peer {
		p.peer[i].begin(c, p.promised.Has(i))
	}
	return nil
}

func (c *Core) onAccepted(i int, m *Message) error {
	p := c.p
	if c.state < Won {
		return nil
	}
	if m.Ballot == c.ballot && (m.Slot < c.recovered || m.Slot > c.rec.Last) {
		return fmt.Errorf("%w: node %d has accepted to slot %d of a log from %d to %d", ErrInvalid, m.From, m.Slot, c.recovered, c.rec.Last)
	}
	p.peer[i].onAccepted(c, m.Slot, m.Commit)
	p.count(c)
	return nil
}

// count moves Commit to the highest slot that a Q2 has accepted at the own ballot, and notices when that covers what was
// recovered.
func (p *proposer) count(c *Core) {
	best, covered := Slot(0), false
	for i := range p.peer {
		s := p.peer[i].match
		if !p.peer[i].acked || covered && s <= best {
			continue
		}
		var set quorum.Set
		for j := range p.peer {
			if p.peer[j].acked && p.peer[j].match >= s {
				set = set.With(j)
			}
		}
		if c.quorums.IsQ2(set, p.home) {
			best, covered = s, true
		}
	}
	if !covered {
		return
	}
	if c.state == Won && best >= c.recovered {
		c.state = Recovered
		if c.rec.Established < c.cfg {
			c.rec.Established, c.dirty = c.cfg, true
		}
		if c.applied >= c.recovered {
			c.state = Serving
		}
	}
	before := c.rec.Commit
	c.commitTo(best)
	for _, e := range c.slots(before+1, c.rec.Commit) {
		c.uncommittedBytes -= len(e.Payload)
	}
}

func (c *Core) onLearned(i int, m *Message) error {
	if c.state < Won {
		return nil
	}
	if m.Slot > c.rec.Last {
		return fmt.Errorf("%w: node %d has learned slot %d of a log to %d", ErrInvalid, m.From, m.Slot, c.rec.Last)
	}
	c.p.peer[i].onLearned(c, m.Slot)
	return nil
}

func (c *Core) onNack(i int, m *Message) error {
	if c.ballot.Less(m.Promised) {
		c.roundSeen = max(c.roundSeen, m.Promised.Round)
		c.stepDown()
		return nil
	}
	if c.state < Won {
		return nil
	}
	if m.Slot > c.rec.Last+1 {
		return fmt.Errorf("%w: node %d expects slot %d of a log to %d", ErrInvalid, m.From, m.Slot, c.rec.Last)
	}
	c.p.peer[i].onNack(c, m)
	return nil
}

// tick asks again.
func (p *proposer) tick(c *Core) {
	if c.state == Preparing {
		if c.clock < p.askedAt+c.tuning.RetryAfter || !p.promised.Has(p.me) {
			return
		}
		p.askedAt = c.clock
		if p.source >= 0 {
			p.askAnother()
			_ = p.fetch(c) // kept in err
			return
		}
		for i := range p.peer {
			if !p.promised.Has(i) {
				c.now = append(c.now, Message{Type: Prepare, From: c.self, To: p.peer[i].id, Ballot: c.ballot})
			}
		}
		return
	}
	for i := range p.peer {
		if i != p.me {
			p.peer[i].tick(c)
		}
	}
}

// askAnother turns to the next node that promised the same log, if there is one.
func (p *proposer) askAnother() {
	now := &p.peer[p.source]
	for n := 1; n < len(p.peer); n++ {
		i := (p.source + n) % len(p.peer)
		if o := &p.peer[i]; i != p.me && p.promised.Has(i) && o.accepted == now.accepted && o.last == now.last && o.chain == now.chain {
			p.source = i
			return
		}
	}
}

func (p *proposer) needsTick(c *Core) bool {
	if c.state == Preparing {
		return true
	}
	for i := range p.peer {
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
	for i := range p.peer {
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
	for i := range p.peer {
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
	for i := range p.peer {
		if i != p.me {
			least = min(least, p.peer[i].match)
		}
	}
	return least
}
