// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"fmt"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// onHeartbeat gives support (rules A1, A3, A4). A heartbeat that is not newer than what was heard gives nothing more: for what
// its ack could make the sender count on, the newer one's support lasts.
func (c *Core) onHeartbeat(p *peer, m *Message) {
	if m.Epoch < p.epoch || (m.Epoch == p.epoch && m.Seq <= p.seq) {
		return
	}
	c.hear(p, m)
	if m.Epoch < p.minEpoch {
		c.queueAck(p, m, 0, p.minEpoch)
		return
	}
	support := min(m.Support, c.o.Support)
	if m.Epoch > p.epoch {
		p.epoch, p.until = m.Epoch, 0
	}
	p.seq, p.until = m.Seq, max(p.until, c.mono+support)
	c.queueAck(p, m, support, 0)
}

// queueAck keeps one ack for each peer: the newest answers all before.
func (c *Core) queueAck(p *peer, m *Message, support Timestamp, minEpoch uint64) {
	p.ack = Message{Type: HeartbeatAck, From: c.self, To: p.node, Epoch: m.Epoch, Seq: m.Seq, Support: support, MinEpoch: minEpoch}
	if !p.ackDue {
		p.ackDue = true
		c.due = append(c.due, p.node)
	}
}

func (c *Core) sendAcks() {
	for _, n := range c.due {
		p := c.find(n)
		p.ackDue = false
		p.ack.HLC, p.ack.HLCCeil = c.ClockFrom(c.self), c.hlcCeil
		c.msgs = append(c.msgs, p.ack)
	}
	c.due = c.due[:0]
}

// Supports reports whether this node supports exactly (node, epoch) now, and for how many nanoseconds more. It supports itself at
// its present epoch, unless its disk is stalled.
func (c *Core) Supports(node NodeID, epoch uint64) (remaining Timestamp, ok bool) {
	if node == c.self {
		if epoch != c.epoch || c.stalled() {
			return 0, false
		}
		return c.o.Support, true
	}
	p := c.find(node)
	if p == nil || epoch == 0 || p.epoch != epoch || p.until <= c.mono {
		return 0, false
	}
	return p.until - c.mono, true
}

// Withdraw takes support away for good: no epoch of node below minEpoch is supported from now on (rule A4, duty 4). It is what
// consensus.Ready.Withdrawals say; the durable half is in the next Ready's MinEpochs. ErrBroken if epoch minEpoch-1 is still supported:
// then the promise must not leave this node. ErrInvalid is an epoch beyond EpochMax+1, or no node.
func (c *Core) Withdraw(node NodeID, minEpoch uint64) error {
	if node == 0 || minEpoch > EpochMax+1 {
		return fmt.Errorf("%w: minimal epoch %d of node %d: want a node, and at most %d", ErrInvalid, minEpoch, node, uint64(EpochMax+1))
	}
	if node == c.self {
		c.wantEpoch(minEpoch)
		return nil
	}
	p := c.find(node)
	if p == nil {
		p = c.ensure(node)
	}
	if minEpoch <= p.minEpoch || failpoint.Enabled(failpoint.LivenessForgetMinEpoch) {
		return nil
	}
	// Support of a still lower epoch, from a heartbeat that took longer than a life of this node, is nothing that anybody counts on.
	if left, ok := c.Supports(node, minEpoch-1); ok {
		return fmt.Errorf("%w: support of node %d at epoch %d is taken away %d ns before its end", ErrBroken, node, minEpoch-1, left)
	}
	p.minEpoch = minEpoch
	if p.epoch < minEpoch {
		p.until = 0
	}
	if !p.minDirty {
		p.minDirty = true
		c.withdrawn = append(c.withdrawn, node)
	}
	return nil
}

// MinEpoch is the lowest epoch of node that this node may support: what is to be written of it.
func (c *Core) MinEpoch(node NodeID) uint64 {
	if p := c.find(node); p != nil {
		return p.minEpoch
	}
	return 0
}
