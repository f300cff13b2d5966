// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"sort"

	"github.com/atlas-edge/atlas/consensus"
)

// claim is what a node tells of a group that it owns.
type claim struct {
	group  int
	closed consensus.Closed
}

// setClock brings the hybrid logical clock that liveness tells to where the wall clock is, and its durable ceiling ahead of that, not
// of the clock: else clocks drag one another along, and each life begins later (duty 19). The ceiling is
// written at once, in a place of its own, unless the disk is full. Where nobody closes anything, no clock is known.
func (n *node) setClock() {
	w := n.w
	if w.o.CloseEvery == 0 {
		return
	}
	wall, ceil := n.clock.wall(w.now), n.disk.durable.node.clock
	if step := consensus.Timestamp(w.o.CeilingStep); wall+step/2 > ceil && w.now >= n.disk.fullUntil {
		ceil = wall + step
		n.disk.durable.node.clock, n.disk.view.node.clock = ceil, ceil
	}
	n.live.SetHLC(max(wall, n.live.Clock()), ceil)
}

// closeLater lets the node close what it owns, again and again.
func (n *node) closeLater() {
	w, life := n.w, n.life
	if w.o.CloseEvery == 0 {
		return
	}
	w.after(w.rndClosed.about(w.o.CloseEvery), func() {
		if !n.up || n.life != life {
			return
		}
		if n.running() {
			n.closeAll()
		}
		n.closeLater()
	})
}

// closeAll claims what it can of all groups that are served here, and tells everybody in one message each.
func (n *node) closeAll() {
	w := n.w
	n.tickLiveness()
	var claims []claim
	for _, r := range n.active {
		if r.core.Status().State != consensus.Serving {
			continue
		}
		at := n.live.Clock()
		if w.rndClosed.chance(4) {
			at += consensus.Timestamp(w.rndClosed.upTo(10 * Second)) // it is not given
		}
		closed, err := r.core.Close(at)
		switch {
		case err == nil:
			w.stats.Closed++
			w.sometimes("a log was closed")
			w.trace(n.id, "g%d is closed to slot %d at %d", r.g, closed.Slot, closed.Time)
			w.mix3(uint64(r.g), uint64(closed.Slot), closed.Time)
			w.check.closed(n, r.g, closed)
			r.closed = closed.Time
			claims = append(claims, claim{r.g, closed})
		case errors.Is(err, consensus.ErrNoLease):
			w.sometimes("closing was refused for want of a lease")
		case errors.Is(err, consensus.ErrCeiling):
			w.sometimes("closing was refused for want of clocks that have got there")
		case !w.harmless(err):
			w.fail("node %d group %d cannot close: %v", n.id, r.g, err)
			return
		}
	}
	if len(claims) == 0 {
		return
	}
	n.learnClosed(claims)
	for _, o := range w.nodes {
		if o != n {
			n.tellClosed(o, claims)
		}
	}
}

// tellClosed sends claims over a network of their own, as bad as the other. They come in any order.
func (n *node) tellClosed(to *node, claims []claim) {
	w, r := n.w, n.w.rndClosed
	if w.now < w.link(n.id, to.id).cutUntil || r.ppm(w.o.Drop) && !w.calm {
		return
	}
	delay := w.latency(n, to) + r.upTo(w.o.Jitter)
	if r.chance(8) {
		delay += r.upTo(5 * Second)
	}
	w.after(delay, func() {
		if to.running() && !to.gone && !to.frozen {
			to.learnClosed(claims)
		}
	})
}

// learnClosed keeps claims in memory, and sometimes reads under them, or under older ones.
func (n *node) learnClosed(claims []claim) {
	for _, c := range claims {
		if n.closed[c.group].Time < c.closed.Time {
			n.closed[c.group] = c.closed
		}
		if n.w.rndClosed.chance(2) {
			n.readClosed(c.group)
		}
	}
}

// readClosed reads the state of a group here, without asking anybody, as of some time from its last entry on.
func (n *node) readClosed(g int) {
	w := n.w
	im := n.disk.view.groups[g]
	if im == nil || im.record == nil || n.groups[g] != nil && n.groups[g].hidden() {
		return
	}
	from := im.rec.AppliedTime
	to := n.closed[g].ReadableTo(im.rec.Applied, from)
	if to == 0 {
		return
	}
	at := to
	if to > from && w.rndClosed.chance(2) {
		at = from + consensus.Timestamp(w.rndClosed.Int64N(int64(to-from)))
	}
	w.stats.StaleReads++
	if at > from {
		w.stats.StaleReadsPast++
		w.sometimes("a state was read past its last entry")
	}
	w.check.staleRead(n, g, at, im.machine)
}

// noteTime looks whether a commit time was given for the sake of what others may have closed.
func (r *replica) noteTime(now, before, at consensus.Timestamp) {
	if at > now && at > before+1 && at > r.closed+1 {
		r.n.w.sometimes("a promised clock raised an owner's commit time")
	}
}

// closed checks a claim: I9. It holds for all that is chosen, now and later.
func (k *checker) closed(n *node, g int, cl consensus.Closed) {
	gc := &k.groups[g]
	switch count := consensus.Slot(len(gc.chosen)); {
	case cl.Slot > count:
		gc.claims = append(gc.claims, cl)
	case cl.Slot < count && gc.chosen[cl.Slot].entry.Time <= cl.Time:
		k.fail("I9: node %d group %d: closed to slot %d at %d, and slot %d is chosen at %d",
			n.id, g, cl.Slot, cl.Time, cl.Slot+1, gc.chosen[cl.Slot].entry.Time)
	default:
		gc.closedTo = max(gc.closedTo, cl.Time)
	}
}

// notClosed checks the time of what is chosen next: I9.
func (k *checker) notClosed(g int, e *consensus.Entry) {
	gc := &k.groups[g]
	if e.Time <= gc.closedTo {
		k.fail("I9: group %d: slot %d is chosen at %d, and it was closed at %d: %s", g, e.Slot, e.Time, gc.closedTo, describe(e))
	}
	rest := gc.claims[:0]
	for _, cl := range gc.claims {
		if cl.Slot > e.Slot {
			rest = append(rest, cl)
		} else {
			gc.closedTo = max(gc.closedTo, cl.Time)
		}
	}
	gc.claims = rest
}

// staleRead checks a read as of a time: it sees what is chosen up to that time, all of it that ever will be.
func (k *checker) staleRead(n *node, g int, at consensus.Timestamp, m *machine) {
	gc := &k.groups[g]
	upTo := consensus.Slot(sort.Search(len(gc.chosen), func(i int) bool { return gc.chosen[i].entry.Time > at }))
	if m.applied != upTo || upTo > 0 && m.hash != gc.chosen[upTo-1].hash {
		k.fail("I9: node %d group %d reads as of %d a state of slot %d, chosen at that time is slot %d", n.id, g, at, m.applied, upTo)
		return
	}
	k.closed(n, g, consensus.Closed{Slot: upTo, Time: at})
}
