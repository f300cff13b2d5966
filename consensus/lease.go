// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// Leases. An acceptor that supports a life of the owner, and says so durably in Record.Fort, gives no promise to others while
// it supports that life. An owner that has such ties from a Q2 of its home, at its present ballot and life, and is supported by
// these nodes now, knows that no Q1 and no QL can be promised: each meets that Q2. So it may answer reads alone.

// blocked reports whether an owner that is alive keeps this node from promising b.
func (c *Core) blocked(b, release, won Ballot) (LeasedBy, bool) {
	if c.fabric == nil || failpoint.Enabled(failpoint.ConsensusIgnoreFort) {
		return LeasedBy{}, false
	}
	if b.Node != c.self && c.leaseValid() {
		return LeasedBy{c.self, c.tuning.RetryAfter}, true
	}
	f := c.rec.Fort
	if f.Owner == 0 || f.Owner == b.Node || c.ended(b, release, won) {
		return LeasedBy{}, false
	}
	if left, yes := c.fabric.Supports(f.Owner, f.Epoch); yes {
		return LeasedBy{f.Owner, left}, true
	}
	if left, yes := c.fabric.Quarantined(); yes && !failpoint.Enabled(failpoint.ConsensusSkipQuarantine) {
		return LeasedBy{f.Owner, left}, true
	}
	return LeasedBy{}, false
}

// ended reports whether no lease rests on this node's tie any more, whoever lives:
//
//   - the owner has let go, as the release shows;
//   - a stop-sign is in the log, since nobody proposes or adopts one and holds a lease;
//   - the configuration of the log's ballot is retired: a Q1 of it was sealed, and what those nodes were tied to was moved;
//   - a later ballot than the log's was won, as its candidate shows, which met every quorum of ties.
//
// The last two need no word of the owner, which may have left the group, or be cut off from all but this node.
func (c *Core) ended(b, release, won Ballot) bool {
	log := c.rec.Accepted
	if release.Node == c.rec.Fort.Owner && !release.IsZero() && !release.Less(log) {
		return true
	}
	if log.Cfg < c.configs[0].Version || log.Cfg < b.Cfg && failpoint.Enabled(failpoint.ConsensusFreeUnretired) {
		return true
	}
	if log.Less(won) || !won.IsZero() && failpoint.Enabled(failpoint.ConsensusFreeByOlder) {
		return true
	}
	return c.stop.next > log.Cfg && c.stop.next <= b.Cfg
}

// leaveFort unties this node from its owner for the sake of a promise to b. If the owner did not agree, the life that it had is
// never supported again: a heartbeat on its way must not bring the lease back.
func (c *Core) leaveFort(b, release, won Ballot) {
	f := c.rec.Fort
	if f.Owner == 0 || f.Owner == b.Node {
		return
	}
	if !c.ended(b, release, won) && c.fabric != nil && !failpoint.Enabled(failpoint.ConsensusForgetMinEpoch) {
		w := Withdrawal{f.Owner, f.Epoch + 1}
		if err := c.fabric.Withdraw(w.Node, w.Epoch); err != nil {
			_ = c.fail("promise to %s while support of node %d is given: %w", b, f.Owner, err) // kept in err
			return
		}
		c.withdrawals = append(c.withdrawals, w)
	}
	c.rec.Fort = Fort{}
	c.dirty, c.mustSync = true, true
}

// outlive unties this node from another owner than that of b, a ballot that is won: no older lease is valid any more.
func (c *Core) outlive(b Ballot) {
	if f := c.rec.Fort; f.Owner != 0 && f.Owner != b.Node {
		c.rec.Fort, c.dirty = Fort{}, true
	}
}

// tie ties this node to the owner's life that m names, if it supports exactly that one now. Requires: Accepted is m's ballot.
func (c *Core) tie(m *Message) {
	f := Fort{m.Ballot.Node, m.Epoch}
	if c.fabric == nil || m.Epoch == 0 || c.rec.Fort == f || c.rec.Promised != m.Ballot {
		return
	}
	if c.rec.Fort.Owner == f.Owner && f.Epoch < c.rec.Fort.Epoch {
		return // a late copy: the owner counts on the later life at this ballot
	}
	if _, yes := c.fabric.Supports(f.Owner, f.Epoch); yes {
		c.rec.Fort = f
		c.dirty, c.mustSync = true, true
	}
}

// fortEpoch is the life of the log's owner that this node is tied to; 0 for none.
func (c *Core) fortEpoch() uint64 {
	if c.rec.Fort.Owner == c.rec.Accepted.Node {
		return c.rec.Fort.Epoch
	}
	return 0
}

func (c *Core) onFortify(m *Message) {
	if c.rec.Accepted != m.Ballot {
		c.nack(m)
		return
	}
	c.tie(m)
	c.after = append(c.after, c.reply(m, Message{Type: Fortified, FortEpoch: c.fortEpoch()}))
}

// HoldsLease reports whether reads may be answered now from a state with everything up to the present Commit applied. Take the
// state's snapshot first, then ask. If peers have to be tied anew, it sees to that: look at HasReady afterwards.
func (c *Core) HoldsLease() bool {
	c.fortify()
	return c.leaseValid()
}

func (c *Core) leaseValid() bool {
	if c.sole {
		return c.MayServeLocal()
	}
	if c.err != nil || c.fabric == nil || c.state != Serving || c.rec.Promised != c.ballot || c.ballot.Cfg < c.floor() {
		return false
	}
	if c.stopped() && !failpoint.Enabled(failpoint.ConsensusLeaseAfterStop) {
		return false
	}
	p, epoch := c.p, c.fabric.Epoch()
	if epoch == 0 {
		return false
	}
	set := quorum.Set{}.With(p.me)
	for i := range p.peer[:p.voters] {
		if p.upholds(c, i, epoch) {
			set = set.With(i)
		}
	}
	return p.q.IsQ2(set, c.home)
}

// upholds reports whether the voter promises to nobody else now, for the sake of this life of this node.
func (p *proposer) upholds(c *Core, i int, epoch uint64) bool {
	pr := &p.peer[i]
	return i == p.me || pr.fort == epoch && c.fabric.SupportFrom(pr.id)
}

// fortify has peers of the home that are not tied to the present life asked to be, at most once in RetryAfter.
func (c *Core) fortify() {
	if c.p == nil || c.fabric == nil || c.state != Serving || c.p.fortifying || c.stopped() {
		return
	}
	epoch := c.fabric.Epoch()
	if epoch == 0 {
		return
	}
	for i := range c.p.peer[:c.p.voters] {
		if i != c.p.me && c.p.peer[i].untied(epoch) {
			c.p.fortifying, c.p.fortifyDue, c.p.fortifyAt = true, true, c.clock
			return
		}
	}
}

// untied reports whether the peer can be tied to this life and is not.
func (pr *peer) untied(epoch uint64) bool { return pr.role == acceptor && pr.acked && pr.fort != epoch }

func (p *proposer) sendFortify(c *Core) {
	p.fortifyDue = false
	epoch := c.fabric.Epoch()
	for i := range p.peer[:p.voters] {
		if pr := &p.peer[i]; i != p.me && pr.untied(epoch) {
			c.now = append(c.now, Message{Type: Fortify, From: c.self, To: pr.id, Ballot: c.ballot, Epoch: epoch})
		}
	}
}

// epoch is this node's life; 0 without leases.
func (c *Core) epoch() uint64 {
	if c.fabric == nil {
		return 0
	}
	return c.fabric.Epoch()
}
