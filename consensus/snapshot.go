// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// Compact trims the log: the slots up to and with upTo, as far as they are applied, are deleted with the next Ready. Peers that
// still need them get a snapshot, so choose upTo above Status.TrimTo only where space demands it.
func (c *Core) Compact(upTo Slot) {
	if !failpoint.Enabled(failpoint.ConsensusCompactUnapplied) {
		upTo = min(upTo, c.applied)
	}
	if upTo = min(upTo, c.rec.Last); c.err != nil || c.sole || upTo < c.rec.First {
		return
	}
	c.rec.First, c.compactTo = upTo+1, upTo
	c.dirty = true
}

// trimTo is the slot up to which nobody needs the log from this node.
func (c *Core) trimTo() Slot {
	upTo := c.applied
	if c.p == nil || c.state < Won {
		return upTo
	}
	for i := range c.p.peer[:c.p.members] {
		if i != c.p.me {
			upTo = min(upTo, c.p.peer[i].commitKnown)
		}
	}
	return upTo
}

// sendSnapshot offers the state as it is applied now to a peer that lacks more than the log holds.
func (pr *peer) sendSnapshot(c *Core) {
	pr.put(c, c.offer(Message{Scope: c.scope, Home: c.home}))
	pr.waiting, pr.since = true, c.clock
}

// offer makes m a Snapshot of the state as it is applied now. Requires: no Ready is out.
func (c *Core) offer(m Message) Message {
	m.Type, m.Slot, m.Chain, m.Time = Snapshot, c.rec.Applied, c.rec.AppliedChain, c.rec.AppliedTime
	m.Commit, m.Established = c.rec.Commit, c.rec.Established
	if c.rec.StopSlot <= m.Slot {
		m.StopSlot, m.StopNext = c.rec.StopSlot, c.rec.StopNext
	}
	return m
}

// onSnapshot takes over the state that came with m, which is staged whole: chosen, like what Learn brings, and no vote. What the
// own log has behind it stays only where that log is sure to be the one that the state came from.
func (c *Core) onSnapshot(m *Message) error {
	if err := c.checkState(m); err != nil {
		return err
	}
	c.promise(m.Ballot)
	c.outlive(m.Ballot)
	c.takeState(m)
	c.sendLearned(m)
	return nil
}

// checkState refuses a state whose time is not that of the own log, where that is sure to be the same.
func (c *Core) checkState(m *Message) error {
	if have, known := c.chainAt(m.Slot); m.Slot > c.rec.Commit && known && have == m.Chain && c.timeAt(m.Slot) != m.Time {
		return fmt.Errorf("%w: Snapshot from node %d: slot %d of time %d, here %d", ErrInvalid, m.From, m.Slot, m.Time, c.timeAt(m.Slot))
	}
	return nil
}

// takeState takes over the state of m unless this node is further, and says whether it did.
func (c *Core) takeState(m *Message) bool {
	news := m.Slot > c.rec.Commit || m.Slot < c.rec.Commit && failpoint.Enabled(failpoint.ConsensusOlderSnapshot)
	if news {
		have, known := c.chainAt(m.Slot)
		keep := known && have == m.Chain
		if c.unstable > c.rec.First && (c.truncateFrom == 0 || c.rec.First < c.truncateFrom) {
			c.truncateFrom = c.rec.First
		}
		c.restart(m, keep)
		c.snapshot = &SnapshotMeta{
			From: m.From, Ballot: m.Ballot, Slot: m.Slot, Chain: m.Chain, Time: m.Time,
			Established: m.Established, StopSlot: m.StopSlot, StopNext: m.StopNext,
		}
	}
	c.establish(m.Established)
	return news
}

// restart begins the log behind the slot of m, with what it has there if keep is set.
func (c *Core) restart(m *Message, keep bool) {
	var rest []Entry
	if keep {
		rest = c.slots(m.Slot+1, c.rec.Last)
	}
	c.tail, c.released, c.tailBytes = append([]Entry(nil), rest...), 0, 0
	for i := range rest {
		c.tailBytes += len(rest[i].Payload)
	}
	c.unstable = m.Slot + 1
	r := &c.rec
	if len(rest) == 0 {
		r.Last, r.LastTime, r.LastChain = m.Slot, m.Time, m.Chain
	}
	r.First, r.Commit, r.Applied, r.AppliedTime, r.AppliedChain = m.Slot+1, m.Slot, m.Slot, m.Time, m.Chain
	if m.StopSlot > r.StopSlot {
		r.StopSlot, r.StopNext = m.StopSlot, m.StopNext
	}
	c.findStop()
	c.dirty, c.mustSync = true, true
}
