// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// The acceptor's half of the core. What it holds to:
//
//   - It answers no ballot below Promised, and Promised and the log are durable before anything that rests on them is sent.
//   - It accepts only at ballots in whose home it stands.
//   - Whenever Accepted is b, the log is the log of b's owner up to Last, and Last is not below where that owner's recovered
//     log ended: AcceptSync is taken whole or not at all, and never beyond the end of the log here.
//   - One departure from the third: Learn and Snapshot bring chosen entries without a vote, and may so replace an end of the log
//     that was accepted at b. The replaced entries then contradict chosen ones, hence were not chosen and never will be. A Q1
//     that could be misled by this log holds a node that accepted the chosen entries at a ballot above b, and so does not
//     adopt it.
//   - GlobalPromises holds every global ballot above Accepted that was promised here in phase 1, but for those whose proposer
//     said that it gave them up before they were won. A local ballot must not pass over one of these: it may have been won, and
//     its log lie in another home. Learn and Snapshot raise Promised without adding to them: no Q1 rests on that.
//   - Nothing up to Commit is ever replaced by something else. A peer that asks for it stops the node.

func (c *Core) stepAcceptor(m *Message) error {
	switch m.Type {
	case Cancel:
		c.onCancel(m)
		return nil
	case Release:
		return c.onRelease(m)
	case PrePrepare:
		c.onPrePrepare(m)
		return nil
	}
	if m.Ballot.Less(c.rec.Promised) {
		c.nack(m)
		return nil
	}
	switch m.Type {
	case Prepare:
		c.onPrepare(m)
		return c.err
	case Fetch:
		return c.onFetch(m)
	case AcceptSync:
		return c.onAcceptSync(m)
	case Accept:
		return c.onAccept(m)
	case Learn:
		return c.onLearn(m)
	case Fortify:
		c.onFortify(m)
	case Confirm:
		c.onConfirm(m)
	case Snapshot:
		return c.onSnapshot(m)
	}
	return nil
}

// reply answers m.
func (c *Core) reply(m *Message, answer Message) Message {
	answer.From, answer.To, answer.Ballot = c.self, m.From, m.Ballot
	return answer
}

// refusal is what a Nack of m says whatever the reason.
func (c *Core) refusal(m *Message) Message {
	expect := c.rec.Commit + 1
	if c.rec.Accepted == m.Ballot {
		expect = c.rec.Last + 1
	}
	return c.reply(m, Message{Type: Nack, Promised: c.rec.Promised, Accepted: c.rec.Accepted, Slot: expect})
}

// nack refuses m and says what would not be.
func (c *Core) nack(m *Message) { c.now = append(c.now, c.refusal(m)) }

// nackGap refuses m, which follows on slots that are missing here.
func (c *Core) nackGap(m *Message) {
	if failpoint.Enabled(failpoint.ConsensusAckGap) {
		c.after = append(c.after, c.reply(m, Message{Type: Accepted, Slot: m.Slot + Slot(len(m.Entries)), Commit: c.rec.Commit}))
		return
	}
	c.nack(m)
}

// nackStale refuses m for its configuration.
func (c *Core) nackStale(m *Message) {
	no := c.refusal(m)
	no.StaleCfg = c.floor()
	c.now = append(c.now, no)
}

// nackLeased refuses m because of an owner that is alive.
func (c *Core) nackLeased(m *Message, by LeasedBy) {
	no := c.refusal(m)
	no.LeasedOwner, no.LeasedFor, no.Release = by.Owner, by.Remaining, m.Release
	c.now = append(c.now, no)
}

// promise raises Promised, which ends an own ballot below, and an own attempt that has not promised yet.
func (c *Core) promise(b Ballot) {
	if !c.rec.Promised.Less(b) {
		return
	}
	c.rec.Promised, c.hellos = b, 0
	c.dirty, c.mustSync = true, true
	if b.Node == c.self {
		return
	}
	if c.state == Probing || c.state != Follower && c.ballot.Less(b) {
		c.stepDown()
	}
}

// vow promises b in phase 1: a Q1 may rest on it.
func (c *Core) vow(b Ballot, s Scope, release, won Ballot) {
	c.promise(b)
	if s == Global {
		c.rec.addGlobalPromise(b)
	}
	c.leaveFort(b, release, won)
}

// onPrePrepare says whether a promise would be given. Rounds are no reason against it: the proposer takes a higher one.
func (c *Core) onPrePrepare(m *Message) {
	if m.Ballot.Cfg < c.rec.Promised.Cfg {
		c.nack(m)
		return
	}
	if by, yes := c.blocked(m.Ballot, m.Release, m.Accepted); yes {
		c.nackLeased(m, by)
		return
	}
	answer := c.reply(m, Message{
		Type: PrePromise, Promised: c.rec.Promised, Established: c.rec.Established, StopSlot: c.rec.StopSlot, StopNext: c.rec.StopNext,
		Release: c.over(),
	})
	if answer.Release.IsZero() {
		c.now = append(c.now, answer)
		return
	}
	// A crash that loses the promise that this rests on would let this node take such a ballot again.
	if failpoint.Enabled(failpoint.ConsensusOverBeforeSync) {
		c.now = append(c.now, answer)
		return
	}
	c.after = append(c.after, answer)
}

func (c *Core) onPrepare(m *Message) {
	if c.rec.Accepted == m.Ballot {
		return // a late copy: its sender has won already
	}
	// Asked again at a ballot that is promised, the answer is the same: nothing was accepted since.
	if c.rec.Promised != m.Ballot {
		if by, yes := c.blocked(m.Ballot, m.Release, m.Accepted); yes {
			c.nackLeased(m, by)
			return
		}
		c.vow(m.Ballot, m.Scope, m.Release, m.Accepted)
	}
	answer := c.reply(m, Message{
		Type: Promise, Accepted: c.rec.Accepted, AcceptedHome: c.rec.AcceptedHome, Last: c.rec.Last, Chain: c.rec.LastChain,
		Commit: c.rec.Commit, First: c.keptFrom(), Established: c.rec.Established, GlobalPromised: c.rec.globalPromised(m.Ballot),
		StopSlot: c.rec.StopSlot, StopNext: c.rec.StopNext, Time: c.reading(),
	})
	if failpoint.Enabled(failpoint.ConsensusOmitCommitted) && answer.Commit == answer.Last {
		answer.Accepted, answer.AcceptedHome, answer.Last, answer.Chain, answer.Commit, answer.First = Ballot{}, quorum.Home{}, 0, 0, 0, 1
		answer.StopSlot, answer.StopNext = 0, 0
	}
	c.after = append(c.after, answer)
}

// onCancel forgets a promise to a global ballot that its proposer gave up before it won.
func (c *Core) onCancel(m *Message) {
	if c.rec.cancelGlobalPromise(m.Ballot) {
		c.dirty = true
	}
}

// onFetch sends a piece of the log that was promised with.
func (c *Core) onFetch(m *Message) error {
	if c.rec.Promised != m.Ballot || c.rec.Accepted == m.Ballot {
		return nil // not asked by one who holds our promise, or answered long ago
	}
	if m.Slot >= m.Last || m.Last > c.rec.Last {
		return nil // our promise said so
	}
	if !c.keeps(m.Slot + 1) { // trimmed, perhaps since
		if m.Seq != 0 {
			c.owed = append(c.owed, c.reply(m, Message{}))
		} else {
			c.now = append(c.now, c.reply(m, Message{Type: FetchReply, Slot: m.Slot, First: c.keptFrom(), Commit: c.rec.Commit}))
		}
		return nil
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
	switch {
	case m.Slot > c.rec.Last:
		c.nackGap(m)
		return nil
	case end < c.rec.Commit: // older than what was learned since, and would take that back
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
	if err := c.checkFollow(m, base, entries); err != nil {
		return err
	}
	c.promise(m.Ballot)
	c.acceptAt(m.Ballot, m.Home)
	c.observe(m.Time)
	c.hellos = 0
	c.tie(m)
	if err := c.replace(base, entries, true); err != nil {
		return err
	}
	c.ackDue = true
	c.heard(m)
	return nil
}

// acceptAt makes b the ballot at which the log is accepted.
func (c *Core) acceptAt(b Ballot, home quorum.Home) {
	c.rec.Accepted, c.rec.AcceptedHome, c.rec.Fort = b, home, Fort{}
	c.rec.dropGlobalPromises()
	c.dirty, c.mustSync = true, true
}

// onAccept appends what the owner proposed, in order and without a gap.
func (c *Core) onAccept(m *Message) error {
	switch {
	case c.rec.Accepted != m.Ballot:
		c.nack(m)
		return nil
	case m.Slot > c.rec.Last:
		c.nackGap(m)
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
		if err := c.checkFollow(m, c.rec.Last, fresh); err != nil {
			return err
		}
		if err := c.extend(fresh); err != nil {
			return err
		}
	}
	c.hellos = 0
	c.tie(m)
	c.ackDue = true
	c.heard(m)
	return nil
}

// heard takes what the owner says of its log besides the entries. It is answered with what is established here, and never says that
// again: so that is durable first.
func (c *Core) heard(m *Message) {
	c.mustSync = c.mustSync || c.rec.Established < m.Established
	c.establish(m.Established)
	c.commitTo(m.Commit)
}

// establish notes that a log is chosen in a configuration.
func (c *Core) establish(cfg uint64) {
	if c.rec.Established < cfg {
		c.rec.Established, c.dirty = cfg, true
	}
}

// onLearn takes over chosen entries. Without entries it asks how far they are known.
func (c *Core) onLearn(m *Message) error {
	if m.Slot > c.rec.Commit {
		c.nack(m)
		return nil
	}
	base, before, entries := c.overlap(m)
	if have, known := c.chainAt(base); known && have != before && len(entries) > 0 {
		return c.fail("slot %d is committed with chain %016x, chosen with %016x", base, have, before)
	}
	if err := c.checkFollow(m, base, entries); err != nil {
		return err
	}
	// Promised, so that the owner whose entries may be replaced now cannot go on appending to them.
	c.promise(m.Ballot)
	c.outlive(m.Ballot)
	if err := c.learn(m); err != nil {
		return err
	}
	c.establish(m.Established)
	c.sendLearned(m)
	return nil
}

// sendLearned says how far is learned here, once that is durable: its owner never tells again.
func (c *Core) sendLearned(m *Message) {
	c.mustSync = c.mustSync || c.dirty
	c.after = append(c.after, c.reply(m, Message{Type: Learned, Slot: c.rec.Commit, Established: c.rec.Established}))
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
	if s = min(s, c.rec.Last); s <= c.rec.Commit {
		return
	}
	if c.stop.slot > c.rec.Commit { // a stop-sign becomes chosen, perhaps not the last
		for _, e := range c.slots(c.rec.Commit+1, s) {
			if e.Kind == StopSign {
				c.rec.StopSlot, c.rec.StopNext = e.Slot, e.Next
			}
		}
	}
	c.rec.Commit = s
	c.dirty = true
}

// sendAccepted tells the owner how far its log is accepted here, once that is durable. After a promise to another it says
// nothing: what a Learn replaced since may be no log of that owner. Nor below the seal.
func (c *Core) sendAccepted() {
	if c.rec.Accepted != c.rec.Promised || c.rec.Accepted.Node == c.self || c.rec.Accepted.Cfg < c.floor() {
		return
	}
	m := Message{
		Type: Accepted, From: c.self, To: c.rec.Accepted.Node, Ballot: c.rec.Accepted, Slot: c.rec.Last, Commit: c.rec.Commit,
		Established: c.rec.Established, FortEpoch: c.fortEpoch(),
	}
	if failpoint.Enabled(failpoint.ConsensusAckBeforeSync) {
		c.now = append(c.now, m)
		return
	}
	c.after = append(c.after, m)
}

// checkFollow refuses entries that no owner puts behind the own log up to base: of a time that does not rise, or behind a
// stop-sign at a ballot of a configuration that it ends. Requires: base >= Commit, or no entries.
func (c *Core) checkFollow(m *Message, base Slot, entries []Entry) error {
	if len(entries) > 0 && entries[0].Time <= c.timeAt(base) {
		return fmt.Errorf("%w: %s from node %d: slot %d of time %d follows time %d",
			ErrInvalid, m.Type, m.From, entries[0].Slot, entries[0].Time, c.timeAt(base))
	}
	stop := c.stop
	if stop.slot > base {
		stop = stopSign{} // it is replaced, or stands in the entries too
	}
	for i := range entries {
		e := &entries[i]
		if e.Ballot.Cfg < stop.next && !failpoint.Enabled(failpoint.ConsensusAppendPastStop) {
			return fmt.Errorf("%w: %s from node %d: slot %d at ballot %s follows the stop-sign to configuration %d in slot %d",
				ErrInvalid, m.Type, m.From, e.Slot, e.Ballot, stop.next, stop.slot)
		}
		if e.Kind == StopSign {
			stop = stopSign{e.Slot, e.Next}
		}
	}
	return nil
}
