// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"fmt"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// Epoch is this node's epoch, durable.
func (c *Core) Epoch() uint64 { return c.epoch }

// SupportFrom reports whether this node may count on node supporting it at its present epoch (rule A2). It may on itself.
func (c *Core) SupportFrom(node NodeID) bool {
	_, ok := c.SupportFromUntil(node)
	return ok
}

// SupportFromUntil is SupportFrom, and says until when on the boot clock it holds if nothing else happens: what may end it
// before are a clock jump and a new epoch.
func (c *Core) SupportFromUntil(node NodeID) (until Timestamp, ok bool) {
	if !c.started || c.backwards {
		return 0, false
	}
	if node == c.self {
		return c.mono + c.o.Support, true
	}
	p := c.find(node)
	if p == nil || !p.active || p.heldUntil <= c.mono {
		return 0, false
	}
	return p.heldUntil, true
}

// sendRound sends a heartbeat to each peer. They count as sent now, which is before they leave.
func (c *Core) sendRound() {
	c.seq++
	c.sentAt[c.seq%RoundsMax] = c.mono
	c.roundDue, c.nextRound = false, c.mono+c.o.Interval
	m := Message{
		Type: Heartbeat, From: c.self, Epoch: c.epoch, Seq: c.seq, Support: c.o.Support, HLC: c.ClockFrom(c.self), HLCCeil: c.hlcCeil,
	}
	m.About, m.RTT = c.nextGossip()
	for i := range c.peers {
		if p := &c.peers[i]; p.active {
			m.To = p.node
			c.msgs = append(c.msgs, m)
		}
	}
}

// remembers reports whether it is known when round seq was sent.
func (c *Core) remembers(seq uint64) bool { return seq <= c.seq && c.seq-seq < RoundsMax }

// checkAck refuses answers to what was not asked.
func (c *Core) checkAck(m *Message) error {
	switch {
	case m.Epoch > c.epoch || (m.Epoch == c.epoch && m.Seq > c.seq):
		return fmt.Errorf("%w: it answers epoch %d seq %d, this node has sent %d and %d", ErrInvalid, m.Epoch, m.Seq, c.epoch, c.seq)
	case m.Support > c.o.Support && m.Epoch == c.epoch:
		return fmt.Errorf("%w: support of %d ns exceeds the %d asked for", ErrInvalid, m.Support, c.o.Support)
	case (m.Support == 0) != (m.MinEpoch > m.Epoch) || (m.Support > 0 && m.MinEpoch > 0):
		return fmt.Errorf("%w: support of %d ns and minimal epoch %d at epoch %d do not go together", ErrInvalid, m.Support, m.MinEpoch, m.Epoch)
	case m.MinEpoch > c.epoch+1:
		// What is withdrawn was in a heartbeat once. A higher claim would use up the epochs.
		return fmt.Errorf("%w: minimal epoch %d is not one that follows from the %d of this node", ErrInvalid, m.MinEpoch, c.epoch)
	case m.About != 0 || m.RTT != 0:
		return fmt.Errorf("%w: it tells a round trip", ErrInvalid)
	}
	return nil
}

// onAck counts support from when the answered heartbeat was sent (rule A2), or takes note that the epoch is used up (A4).
func (c *Core) onAck(p *peer, m *Message) {
	if m.Epoch < c.epoch || m.Seq <= p.heldSeq || m.Seq < c.earnFrom || !c.remembers(m.Seq) {
		return
	}
	c.hear(p, m)
	p.heldSeq = m.Seq
	sent := c.sentAt[m.Seq%RoundsMax]
	c.measure(p, c.mono-sent)
	if m.Support == 0 {
		p.heldUntil = 0
		c.wantEpoch(m.MinEpoch)
		return
	}
	switch {
	case failpoint.Enabled(failpoint.LivenessCountFromReceipt):
		sent = c.mono
	case failpoint.Enabled(failpoint.LivenessCountLastRound):
		sent = c.sentAt[c.seq%RoundsMax]
	}
	until := sent + m.Support
	if !failpoint.Enabled(failpoint.LivenessSkipDriftBound) {
		until -= c.o.driftBound(m.Support)
	}
	p.heldUntil = max(p.heldUntil, until)
}

// wantEpoch takes note that no epoch below e is worth anything any more. After the last epoch there is none: the node then counts
// on nobody for good.
func (c *Core) wantEpoch(e uint64) {
	if e > c.epoch && e <= EpochMax {
		c.nextEpoch = max(c.nextEpoch, e)
	}
}

// NewEpoch has this node take another epoch, as if it had been started again: what any group is tied to here is void once the epoch is
// durable (Ready.Epoch), and leases that this node goes on to hold are tied anew, on their next use. It is for a node that dropped the
// core of a group that it owned, without a release: nobody else can have the group while ties to that life are honoured.
func (c *Core) NewEpoch() { c.wantEpoch(c.epoch + 1) }

// takeEpoch begins a new epoch, which is durable. What was counted on was of the one before.
func (c *Core) takeEpoch(e uint64) {
	c.epoch = e
	for i := range c.peers {
		c.peers[i].heldUntil = 0
	}
	c.roundDue = true
}

// dropHeld ends all support held; only rounds sent from now on earn any.
func (c *Core) dropHeld() {
	for i := range c.peers {
		c.peers[i].heldUntil = 0
	}
	c.earnFrom = c.seq + 1
	c.roundDue = true
}
