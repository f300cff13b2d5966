// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import "github.com/atlas-edge/atlas/internal/failpoint"

// The acceptor's half of the core. What it holds to:
//
//   - It answers no ballot below Promised, and Promised and the log are durable before anything that rests on them is sent.
//   - Whenever Accepted is b, the log is the log of b's owner up to Last, and Last is not below where that owner's recovered
//     log ended: AcceptSync is taken whole or not at all.
//   - One departure from the second: Learn brings chosen entries without a vote, and may so replace an end of the log that was
//     accepted at b. The replaced entries then contradict chosen ones, hence were not chosen and never will be. A Q1 that
//     could be misled by this log holds a node that accepted the chosen entries at a ballot above b, and so does not adopt it.
//   - Nothing up to Commit is ever replaced by something else. A peer that asks for it stops the node.

func (c *Core) stepAcceptor(m *Message) error {
	if m.Ballot.Less(c.rec.Promised) {
		c.nack(m)
		return nil
	}
	switch m.Type {
	case Prepare:
		c.onPrepare(m)
	case Fetch:
		return c.onFetch(m)
	case AcceptSync:
		return c.onAcceptSync(m)
	case Accept:
		return c.onAccept(m)
	case Learn:
		return c.onLearn(m)
	}
	return nil
}

// reply answers m.
func (c *Core) reply(m *Message, answer Message) Message {
	answer.From, answer.To, answer.Ballot = c.self, m.From, m.Ballot
	return answer
}

// nack refuses m and says what would not be.
func (c *Core) nack(m *Message) {
	expect := c.rec.Commit + 1
	if c.rec.Accepted == m.Ballot {
		expect = c.rec.Last + 1
	}
	c.now = append(c.now, c.reply(m, Message{Type: Nack, Promised: c.rec.Promised, Accepted: c.rec.Accepted, Slot: expect}))
}

// promise raises Promised, which ends an own ballot below.
func (c *Core) promise(b Ballot) {
	if !c.rec.Promised.Less(b) {
		return
	}
	c.rec.Promised = b
	c.dirty, c.mustSync = true, true
	if c.state != Follower && c.ballot.Less(b) {
		c.stepDown()
	}
}

func (c *Core) onPrepare(m *Message) {
	if c.rec.Accepted == m.Ballot {
		return // a late copy: its sender has won already
	}
	// Asked again at a ballot that is promised, the answer is the same: nothing was accepted since.
	c.promise(m.Ballot)
	c.after = append(c.after, c.reply(m, Message{
		Type: Promise, Accepted: c.rec.Accepted, Last: c.rec.Last, Chain: c.rec.LastChain, Commit: c.rec.Commit,
		First: c.rec.First, Established: c.rec.Established,
	}))
}

// onFetch sends a piece of the log that was promised with.
func (c *Core) onFetch(m *Message) error {
	if c.rec.Promised != m.Ballot || c.rec.Accepted == m.Ballot {
		return nil // not asked by one who holds our promise, or answered long ago
	}
	if m.Slot >= m.Last || m.Last > c.rec.Last || !c.keeps(m.Slot+1) {
		return nil // our promise said so
	}
	before, entries, err := c.read(m.Slot+1, m.Last)
	if err != nil {
		return err
	}
	c.now = append(c.now, c.reply(m, Message{Type: FetchReply, Slot: m.Slot, Chain: before, Entries: entries, Commit: c.rec.Commit}))
	return nil
}

// onAcceptSync takes over the whole log of a new owner, or what it lacks of one that it has accepted already.
func (c *Core) onAcceptSync(m *Message) error {
	if c.rec.Accepted == m.Ballot {
		return c.onAccept(m)
	}
	end := m.Slot + Slot(len(m.Entries))
	if m.Slot > c.rec.Last || end < c.rec.Commit {
		// The beginning is missing here; or the message is older than what was learned since, and would take that back.
		c.nack(m)
		return nil
	}
	base, before, entries := c.overlap(m)
	if have, _ := c.chainAt(base); have != before {
		if base <= c.rec.Commit {
			return c.fail("slot %d is committed with chain %016x, ballot %s has %016x", base, have, m.Ballot, before)
		}
		c.nack(m) // an end of the log that the owner does not have: it starts again from our commit
		return nil
	}
	c.promise(m.Ballot)
	c.rec.Accepted = m.Ballot
	c.dirty, c.mustSync = true, true
	if err := c.replace(base, entries, true); err != nil {
		return err
	}
	c.ackDue = true
	c.commitTo(m.Commit)
	return nil
}

// onAccept appends what the owner proposed, in order and without a gap.
func (c *Core) onAccept(m *Message) error {
	if c.rec.Accepted != m.Ballot || m.Slot > c.rec.Last {
		c.nack(m)
		return nil
	}
	if end := m.Slot + Slot(len(m.Entries)); end > c.rec.Last {
		fresh := m.Entries[c.rec.Last-m.Slot:]
		before := m.Chain
		if n := c.rec.Last - m.Slot; n > 0 {
			before = m.Entries[n-1].Chain
		}
		if before != c.rec.LastChain {
			return c.fail("slot %d has chain %016x here and %016x at the owner, both at ballot %s", c.rec.Last, c.rec.LastChain, before, m.Ballot)
		}
		if err := c.extend(fresh); err != nil {
			return err
		}
	}
	c.ackDue = true
	c.commitTo(m.Commit)
	return nil
}

// onLearn takes over chosen entries.
func (c *Core) onLearn(m *Message) error {
	if m.Slot > c.rec.Commit {
		c.nack(m)
		return nil
	}
	// Promised, so that the owner whose entries may be replaced now cannot go on appending to them.
	c.promise(m.Ballot)
	if err := c.learn(m); err != nil {
		return err
	}
	c.after = append(c.after, c.reply(m, Message{Type: Learned, Slot: c.rec.Commit}))
	return nil
}

// learn commits the entries of m, which begin at or before Commit+1. A Learn or a FetchReply.
func (c *Core) learn(m *Message) error {
	end := m.Slot + Slot(len(m.Entries))
	if end <= c.rec.Commit {
		return nil
	}
	base, before, entries := c.overlap(m)
	if have, _ := c.chainAt(base); have != before {
		return c.fail("slot %d is committed with chain %016x, chosen with %016x", base, have, before)
	}
	if err := c.replace(base, entries, false); err != nil {
		return err
	}
	c.commitTo(end)
	return nil
}

// commitTo moves Commit up, as far as the log goes.
func (c *Core) commitTo(s Slot) {
	if s = min(s, c.rec.Last); s > c.rec.Commit {
		c.rec.Commit = s
		c.dirty = true
	}
}

// sendAccepted tells the owner how far its log is accepted here, once that is durable. After a promise to another it says
// nothing: what a Learn replaced since may be no log of that owner.
func (c *Core) sendAccepted() {
	if c.rec.Accepted != c.rec.Promised || c.rec.Accepted.Node == c.self {
		return
	}
	m := Message{Type: Accepted, From: c.self, To: c.rec.Accepted.Node, Ballot: c.rec.Accepted, Slot: c.rec.Last, Commit: c.rec.Commit}
	if failpoint.Enabled(failpoint.ConsensusAckBeforeSync) {
		c.now = append(c.now, m)
		return
	}
	c.after = append(c.after, m)
}
