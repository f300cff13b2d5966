// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// pendingRead waits until a Q2 has confirmed the own ballot in answer to question seq or a later one.
type pendingRead struct {
	id   uint64
	slot Slot
	seq  uint64
}

// ReadIndex asks for a read that sees all that was chosen before now. Its answer is in Ready.Reads: at once with a lease, else
// when a Q2 of the home has confirmed that the own ballot is the highest it promised; a core that loses its ballot before names
// it in Ready.ReadsLost. Requires: Serving, else ErrNotOwner; no stop-sign for the ballot's configuration, else ErrStopped.
// ErrBusy if ReadsMax reads wait. The ids are the caller's and need not differ.
func (c *Core) ReadIndex(id uint64) error {
	switch {
	case c.err != nil:
		return c.err
	case c.state != Serving || c.ballot.Cfg < c.floor():
		return ErrNotOwner
	case c.stopped() && !failpoint.Enabled(failpoint.ConsensusLeaseAfterStop):
		return ErrStopped
	}
	// What was proposed and is not chosen yet was answered to nobody.
	if c.sole || c.HoldsLease() || c.p.q.IsQ2(quorum.Set{}.With(c.p.me), c.home) || failpoint.Enabled(failpoint.ConsensusReadUnconfirmed) {
		c.reads = append(c.reads, ReadState{id, c.rec.Commit})
		return nil
	}
	if len(c.p.waiting) >= ReadsMax {
		return ErrBusy
	}
	c.p.waiting = append(c.p.waiting, pendingRead{id: id, slot: c.rec.Commit, seq: c.p.seq + 1})
	c.p.confirmDue = true
	return nil
}

// sendConfirm asks for all reads that came since it was last sent, and again for older ones.
func (p *proposer) sendConfirm(c *Core) {
	p.confirmDue, p.confirmAt = false, c.clock
	p.seq++
	for i := range p.peer[:p.voters] {
		if pr := &p.peer[i]; i != p.me && pr.role == acceptor {
			c.now = append(c.now, Message{Type: Confirm, From: c.self, To: pr.id, Ballot: c.ballot, Seq: p.seq})
		}
	}
}

func (c *Core) onConfirm(m *Message) {
	if c.rec.Promised != m.Ballot {
		return // its sender is not known here as the owner yet, and asks again
	}
	c.after = append(c.after, c.reply(m, Message{Type: Confirmed, Seq: m.Seq}))
}

func (c *Core) onConfirmed(i int, m *Message) error {
	p, pr := c.p, &c.p.peer[i]
	if m.Seq > p.seq {
		return fmt.Errorf("%w: node %d confirms question %d, asked were %d", ErrInvalid, m.From, m.Seq, p.seq)
	}
	if pr.role != acceptor || m.Seq <= pr.confirmed {
		return nil
	}
	pr.confirmed = m.Seq
	n := 0
	for n < len(p.waiting) && p.confirmed(c, p.waiting[n].seq) {
		c.reads = append(c.reads, ReadState{p.waiting[n].id, p.waiting[n].slot})
		n++
	}
	if p.waiting = p.waiting[n:]; len(p.waiting) == 0 {
		p.waiting = nil
	}
	return nil
}

// confirmed reports whether a Q2 of the home has confirmed the own ballot since question seq was asked.
func (p *proposer) confirmed(c *Core, seq uint64) bool {
	set := quorum.Set{}.With(p.me)
	for i := range p.peer[:p.voters] {
		if p.peer[i].confirmed >= seq {
			set = set.With(i)
		}
	}
	return p.q.IsQ2(set, c.home)
}

// loseReads gives up all reads that wait.
func (p *proposer) loseReads(c *Core) {
	for _, r := range p.waiting {
		c.readsLost = append(c.readsLost, r.id)
	}
	p.waiting, p.confirmDue = nil, false
}
