// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// How the log of the best promise is brought here and becomes the own one.

// fetch asks for the bodies of the log to adopt, from where the own log and what was fetched end.
func (p *proposer) fetch(c *Core) error {
	b := &p.peer[p.source]
	from := p.base + Slot(len(p.fetched))
	if from == b.last {
		return p.adopt(c)
	}
	c.behind = from+1 < b.first
	if c.behind && p.askAnother(from) {
		return p.fetch(c)
	}
	m := Message{Type: Fetch, From: c.self, To: b.id, Ballot: c.ballot, Slot: from, Last: b.last}
	if c.behind { // nobody keeps the log from there: the state will do
		m.Seq = 1
	}
	p.askedAt = c.clock
	c.now = append(c.now, m)
	return nil
}

func (c *Core) onFetchReply(i int, m *Message) error {
	p := c.p
	if c.state != Preparing || !p.sameLog(i) || m.Slot != p.base+Slot(len(p.fetched)) {
		return nil
	}
	p.source = i // it may have been asked before another was
	if len(m.Entries) == 0 {
		p.peer[i].first = max(p.peer[i].first, m.First)
		return p.fetch(c)
	}
	last, end := p.peer[i].last, m.Slot+Slot(len(m.Entries))
	if end > last {
		return fmt.Errorf("%w: node %d sent slots to %d of a log to %d", ErrInvalid, m.From, end, last)
	}
	if before := p.fetchedChain(c); m.Chain != before {
		return p.mistrust(c, before, m.Chain)
	}
	at := c.timeAt(p.base)
	if n := len(p.fetched); n > 0 {
		at = p.fetched[n-1].Time
	}
	if first := &m.Entries[0]; first.Time <= at {
		return fmt.Errorf("%w: node %d sent slot %d of time %d behind time %d", ErrInvalid, m.From, first.Slot, first.Time, at)
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
	entries := p.fetched
	if failpoint.Enabled(failpoint.ConsensusPerSlotRecovery) {
		entries = c.mergePerSlot(p.base, entries)
	}
	if err := c.replace(p.base, entries, true); err != nil {
		return err
	}
	p.fetched = nil
	c.acceptAt(c.ballot, c.home)
	c.timeBound = p.clock()
	c.observe(c.timeBound)
	c.release, c.behind, c.leasedBy = Ballot{}, false, LeasedBy{}
	c.state, c.recovered = Won, c.rec.Last
	c.commitTo(p.commit)
	for _, e := range c.slots(c.rec.Commit+1, c.rec.Last) {
		c.uncommittedBytes += len(e.Payload)
	}
	for i := range p.peer[:p.members] {
		p.peer[i].begin(c, p.peer[i].answer == given)
	}
	return nil
}

// clock is the latest that those who promised have told of their clocks. No owner of a lower ballot has closed the log at a later
// time, but where the time of the log's end is later too: see closed.go.
func (p *proposer) clock() Timestamp {
	latest := Timestamp(0)
	for i := range p.peer {
		if pr := &p.peer[i]; pr.answer == given && !failpoint.Enabled(failpoint.ConsensusIgnorePromisedClock) {
			latest = max(latest, pr.clock)
		}
	}
	return latest
}

// askAnother turns to the next node that promised the same log and keeps it behind the slot, if there is one.
func (p *proposer) askAnother(from Slot) bool {
	for n := 1; n < len(p.peer); n++ {
		i := (p.source + n) % len(p.peer)
		if i != p.me && p.sameLog(i) && p.peer[i].first <= from+1 {
			p.source = i
			return true
		}
	}
	return false
}

// sameLog reports whether the peer promised with the log that is to be adopted.
func (p *proposer) sameLog(i int) bool {
	if p.source < 0 {
		return false
	}
	a, b := &p.peer[p.source], &p.peer[i]
	return b.answer == given && a.accepted == b.accepted && a.last == b.last && a.chain == b.chain
}

// onFetchedState takes over the state that a peer sent instead of a log that it does not keep. If it was asked for by a ballot
// that was given up since, it still brings this node closer to the next.
func (c *Core) onFetchedState(m *Message) error {
	// Below a promise to another it could take the end of a log away from under an owner that goes on appending to it.
	if c.state >= Won || m.Ballot != c.rec.Promised {
		return nil
	}
	if err := c.checkState(m); err != nil {
		return err
	}
	if !c.takeState(m) || c.p == nil || c.p.source < 0 {
		return nil
	}
	c.p.base, c.p.fetched = c.rec.Commit, nil
	return c.p.fetch(c)
}

// mergePerSlot is a planted mistake: the recovery of the WPaxos paper, which takes for each slot alone the entry of the highest
// ballot, here of the own log and the adopted one.
func (c *Core) mergePerSlot(base Slot, adopted []Entry) []Entry {
	before, _ := c.chainAt(base)
	own := c.slots(base+1, c.rec.Last)
	at := c.rec.AppliedTime
	var merged []Entry
	for i := range max(len(own), len(adopted)) {
		var e Entry
		switch {
		case i >= len(own) || i < len(adopted) && !adopted[i].Ballot.Less(own[i].Ballot):
			e = adopted[i]
		default:
			e = own[i]
		}
		e.Time = max(e.Time, at+1)
		e.Chain = chain(before, &e)
		before, at = e.Chain, e.Time
		merged = append(merged, e)
	}
	return merged
}
