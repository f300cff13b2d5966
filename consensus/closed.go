// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"fmt"

	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// Closed timestamps: how far a state is complete in time, so that a node that has it can read as of a time in the past, or of
// hardly now, without asking anybody. Commit times rise along the log, so the time of what is applied is closed already. A
// claim goes on from there, for a group that is not written:
//
//   - The owner makes it under its lease, at a time that every node of a Q2 of the home that upholds the lease has said its
//     clock to have reached, and from then on proposes only later times.
//   - The next owner needs the promise of one of these nodes at least. That one was tied when the claim was made, so its promise
//     came later, and tells a clock that is not below the claim. The new owner proposes only above all clocks that it was
//     promised with. Without the lease the promise could have come before the clock had got there.
//   - A node that accepts the new owner's log takes over that bound into its own clock, durably. So whoever adopts the log from
//     it is bound too, where its own phase 1 need not meet the nodes of the first lease: in another home, or in a configuration
//     in which a log is chosen already.
//   - In a new configuration that is entered behind a stop-sign, the bound is the time of the stop-sign.
//   - A log of which nothing is chosen is not closed: such a group may be forgotten when a configuration is retired.

// Closed is a claim about a group: every entry of a commit time up to Time that is chosen, or ever will be, stands in a slot up
// to Slot. It is true for ever, whoever owns the group (duty 18).
type Closed struct {
	Slot Slot
	Time Timestamp
}

// ReadableTo is up to which commit time, included, a state that has applied everything up to slot applied, of time appliedTime,
// holds all that is chosen or ever will be. A zero claim adds nothing.
func (cl Closed) ReadableTo(applied Slot, appliedTime Timestamp) Timestamp {
	if applied < cl.Slot {
		return appliedTime
	}
	return max(appliedTime, cl.Time)
}

// Close claims that nothing more is chosen of the own log at any time up to `at`, or up to the latest time before it that can be
// claimed now, and sees to it: what is proposed after it has a later time. It writes nothing, sends nothing, and ties no peer anew.
//
// Requires: Serving, and something chosen, else ErrNotOwner; no stop-sign in the log, else ErrStopped. ErrNoLease without a
// lease: see HoldsLease, and take the same care to Tick the Fabric before. ErrCeiling if the clocks of those that uphold it are not
// known to have passed the commit time of the last slot: nothing is gained then.
func (c *Core) Close(at Timestamp) (Closed, error) {
	switch {
	case c.err != nil:
		return Closed{}, c.err
	case c.state != Serving || c.rec.Commit == 0:
		return Closed{}, ErrNotOwner
	case c.stopped():
		return Closed{}, ErrStopped
	case c.fabric == nil, !c.leaseValid() && !failpoint.Enabled(failpoint.ConsensusCloseWithoutLease):
		return Closed{}, ErrNoLease
	}
	if ceiling := c.ceiling(at); !failpoint.Enabled(failpoint.ConsensusCloseAboveCeiling) {
		at = ceiling
	}
	if at <= c.rec.LastTime {
		return Closed{}, fmt.Errorf("%w: %d is not above time %d of slot %d", ErrCeiling, at, c.rec.LastTime, c.rec.Last)
	}
	c.timeBound = max(c.timeBound, at)
	return Closed{c.rec.Last, at}, nil
}

// ceiling is the latest time up to `at` below which no Q2 of nodes that uphold the lease will promise; 0 if there is none.
func (c *Core) ceiling(at Timestamp) Timestamp {
	own := min(at, c.fabric.ClockFrom(c.self))
	if c.sole {
		return own
	}
	p, epoch := c.p, c.fabric.Epoch()
	best := Timestamp(0)
	for i := range p.peer[:p.voters] {
		// The latest is where one of the clocks stands.
		if t := min(at, c.fabric.ClockFrom(p.peer[i].id)); t > best {
			var set quorum.Set
			for j := range p.peer[:p.voters] {
				if (p.upholds(c, j, epoch) || failpoint.Enabled(failpoint.ConsensusCloseWithoutLease)) && c.fabric.ClockFrom(p.peer[j].id) >= t {
					set = set.With(j)
				}
			}
			if p.q.IsQ2(set, c.home) {
				best = t
			}
		}
	}
	return best
}

// observe brings this node's clock to the bound of an owner whose log is accepted with this batch.
func (c *Core) observe(t Timestamp) {
	if t == 0 || c.fabric == nil || failpoint.Enabled(failpoint.ConsensusForgetTimeBound) {
		return
	}
	c.fabric.Observe(t)
	c.observed = max(c.observed, t)
	c.dirty, c.mustSync = true, true
}

// reading is this node's clock, as a promise tells it.
func (c *Core) reading() Timestamp {
	if c.fabric == nil {
		return 0
	}
	return c.fabric.Clock()
}
