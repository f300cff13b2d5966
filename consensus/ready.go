// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"slices"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// HasReady reports whether Ready has something, which it does not while one is out.
func (c *Core) HasReady() bool {
	if c.ready || c.err != nil {
		return false
	}
	if c.dirty || len(c.reads)+len(c.readsLost)+len(c.now)+len(c.after)+len(c.owed) > 0 {
		return true
	}
	return !c.sole && (c.ackDue || c.rec.Applied < c.rec.Commit || c.p != nil && c.p.wantsSend(c))
}

// Ready returns all that is to be done, and is followed by Advance when it is done. While one Ready is out it returns an
// empty one. Step, Propose, Campaign and Tick may be called in between; what they cause is in the next.
func (c *Core) Ready() Ready {
	if c.ready || c.err != nil {
		return Ready{}
	}
	for _, m := range c.owed {
		c.now = append(c.now, c.offer(m))
	}
	c.owed = nil
	if c.sole {
		return c.readySole()
	}
	if c.p != nil {
		c.p.send(c)
		if c.err != nil {
			return Ready{}
		}
	}
	if c.ackDue {
		c.ackDue = false
		c.sendAccepted()
	}
	r := Ready{
		TruncateFrom: c.truncateFrom, CompactTo: c.compactTo, Snapshot: c.snapshot, Entries: c.slots(c.unstable, c.rec.Last),
		Withdrawals: c.withdrawals, MustSync: c.mustSync, MsgsNow: c.now, MsgsAfterSync: c.after,
	}
	if c.rec.Applied < c.rec.Commit {
		r.Committed = c.slots(c.rec.Applied+1, c.rec.Commit)
		if len(r.Committed) > 1 && failpoint.Enabled(failpoint.ConsensusLeaveGap) {
			r.Committed = r.Committed[1:]
		}
		end := &r.Committed[len(r.Committed)-1]
		c.rec.Applied, c.rec.AppliedTime, c.rec.AppliedChain = end.Slot, end.Time, end.Chain
		c.dirty = true
	}
	c.handOut(&r)
	return r
}

// readySole commits at once: the batch that makes the log durable makes it chosen.
func (c *Core) readySole() Ready {
	var r Ready
	if !c.HasReady() {
		return r
	}
	r.MustSync, r.Atomic, r.MsgsNow, r.MsgsAfterSync = c.mustSync, true, c.now, c.after
	if c.state >= Won && c.rec.Applied < c.rec.Last {
		r.Committed = c.slots(c.rec.Applied+1, c.rec.Last)
		if c.rec.First < c.unstable { // the log of a time with more voters: this batch applies its end, and then none is kept
			r.TruncateFrom = c.rec.First
		}
		c.commitTo(c.rec.Last)
		c.rec.Applied = c.rec.Last
		c.rec.AppliedTime, c.rec.AppliedChain = c.rec.LastTime, c.rec.LastChain
		c.rec.First = c.rec.Last + 1
		c.uncommittedBytes = 0
	}
	if c.state >= Won && c.dirty { // the log is accepted at the ballot with this batch
		c.establish(c.ballot.Cfg)
	}
	c.handOut(&r)
	return r
}

// handOut marks all as handed out.
func (c *Core) handOut(r *Ready) {
	if c.dirty {
		c.readyRec = c.rec
		r.Record = &c.readyRec
	}
	r.Reads, r.ReadsLost, r.Clock = c.reads, c.readsLost, c.observed
	c.ready, c.dirty, c.mustSync = true, false, false
	c.unstable, c.truncateFrom, c.compactTo, c.snapshot = c.rec.Last+1, 0, 0, nil
	c.now, c.after, c.withdrawals, c.reads, c.readsLost, c.observed = nil, nil, nil, nil, nil, 0
}

// Advance says that the Ready is done: its batch is written, and durable if MustSync, its Committed are applied, its
// messages are with the transport. Requires: a Ready is out; else it does nothing.
func (c *Core) Advance() {
	if !c.ready {
		return
	}
	c.ready = false
	if c.err != nil {
		return
	}
	if c.sole {
		c.advanceSole()
	} else {
		c.advance()
	}
	// Not that of rec: a snapshot can have come since.
	c.applied = max(c.applied, c.readyRec.Applied)
	if c.state == Recovered && c.applied >= c.recovered {
		c.state = Serving
	}
	if !c.sole {
		c.refit()
	}
}

func (c *Core) advanceSole() {
	n := len(c.tail) - int(c.rec.Last-c.rec.Applied)
	for i := range c.tail[:n] {
		c.tailBytes -= len(c.tail[i].Payload)
	}
	rest := copy(c.tail, c.tail[n:])
	clear(c.tail[rest:])
	c.tail = c.tail[:rest]
	if cap(c.tail) > c.tuning.RetainedEntries {
		c.tail = append(c.room[:0], c.tail...)
	}
	if c.state == Won {
		c.state = Recovered
	}
}

func (c *Core) advance() {
	// The log and the promise as they were handed out are durable; only what stands at the own ballot counts for it.
	if c.p != nil && c.readyRec.Promised == c.ballot {
		c.p.durable(c)
	}
	c.letGo()
}

// letGo drops entries from memory that are applied, once no peer needs them or they are too many.
func (c *Core) letGo() {
	needed := c.rec.Last
	if c.p != nil {
		needed = c.p.needed(c)
	}
	n := 0
	for n < len(c.tail) && c.tail[n].Slot <= c.rec.Applied &&
		(c.tail[n].Slot <= needed || len(c.tail)-n > c.tuning.RetainedEntries || c.tailBytes > c.tuning.RetainedBytes) {
		c.tailBytes -= len(c.tail[n].Payload)
		n++
	}
	c.tail, c.released = c.tail[n:], c.released+n
	// Entries were handed out, so that they stay as they are; what holds only released ones is left to the collector.
	if c.released > len(c.tail) {
		c.tail, c.released = slices.Clone(c.tail), 0
	}
}

// slots is lo..hi of the tail, nil if that is empty. Requires: the tail holds them. The result does not grow into the tail.
func (c *Core) slots(lo, hi Slot) []Entry {
	if lo > hi {
		return nil
	}
	first := c.rec.Last + 1 - Slot(len(c.tail))
	return c.tail[lo-first : hi+1-first : hi+1-first]
}

// append puts an entry behind the log.
func (c *Core) append(e Entry) {
	c.tail = append(c.tail, e)
	c.tailBytes += len(e.Payload)
	c.rec.Last, c.rec.LastTime, c.rec.LastChain = e.Slot, e.Time, e.Chain
	if e.Kind == StopSign {
		c.stop = stopSign{e.Slot, e.Next}
	}
	c.dirty, c.mustSync = true, true
}
