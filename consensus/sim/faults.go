// SPDX-License-Identifier: AGPL-3.0-only

package sim

import "github.com/atlas-edge/atlas/consensus"

// planFaults sets off every fault that is on: each comes again and again until the world is calm.
func (w *World) planFaults() {
	for _, f := range []struct {
		every Time
		do    func()
	}{
		{w.o.CutEvery, w.cutSome},
		{w.o.CutRegionEvery, w.cutRegion},
		{w.o.ClogEvery, w.clogOne},
		{w.o.SwizzleEvery, w.swizzle},
		{w.o.CrashEvery, w.crashOne},
		{w.o.SuspendEvery, w.suspendOne},
		{w.o.ClockStepEvery, w.stepClock},
		{w.o.SyncFailEvery, w.failSync},
		{w.o.DiskFullEvery, w.fillDisk},
		{w.o.DiskSlowEvery, w.slowDisk},
		{w.o.StealEvery, w.steal},
		{w.o.ReleaseEvery, w.release},
		{w.o.CompactEvery, w.compactOne},
		{w.o.MoveLoadEvery, w.moveLoad},
		{w.o.ReconfigEvery, w.reconfigure},
		{w.o.WipeEvery, w.wipeOne},
	} {
		if f.every > 0 {
			w.again(w.rndFault, f.every, f.do)
		}
	}
	if w.o.CutLinksEvery > 0 {
		w.again(w.rndLater, w.o.CutLinksEvery, w.cutLinks)
	}
	if w.o.DriftEvery > 0 {
		w.again(w.rndLater, w.o.DriftEvery, w.changeRate)
	}
}

func (w *World) again(r stream, every Time, do func()) {
	w.after(r.about(every), func() {
		if w.calm {
			return
		}
		do()
		w.again(r, every, do)
	})
}

// someNode is any that has not gone for ever.
func (w *World) someNode() *node {
	for {
		if n := w.nodes[w.rndFault.IntN(len(w.nodes))]; !n.gone {
			return n
		}
	}
}

// cutSome cuts some nodes off from others, one way or both.
func (w *World) cutSome() {
	until, how := w.now+w.rndFault.about(w.o.FaultFor), w.rndFault.IntN(3)
	side := make([]bool, len(w.nodes)+1)
	few := w.rndFault.chance(2)
	for i := range side {
		side[i] = w.rndFault.chance(2)
		if few {
			side[i] = false
		}
	}
	side[w.someNode().id] = true
	w.stats.Cuts++
	w.trace(0, "cut of %v (%d) until %v", side[1:], how, until)
	w.cutSides(side, how, until)
}

// cutLinks cuts some links and no others: of two nodes that do not hear each other a third may hear both.
func (w *World) cutLinks() {
	r := w.rndLater
	until, share, oneWay := w.now+r.about(w.o.FaultFor), 1+r.IntN(90), r.chance(2)
	cut := 0
	for _, a := range w.nodes {
		for _, b := range w.nodes[a.id:] {
			if r.IntN(100) >= share {
				continue
			}
			cut++
			for i, l := range []*link{w.link(a.id, b.id), w.link(b.id, a.id)} {
				if !oneWay || i == int(b.id)%2 {
					l.cutUntil = max(l.cutUntil, until)
				}
			}
		}
	}
	w.stats.LinksCut += cut
	w.trace(0, "%d links are cut until %v", cut, until)
}

// changeRate lets a node's clocks go on at another rate, within the same bounds.
func (w *World) changeRate() {
	r := w.rndLater
	n := w.nodes[r.IntN(len(w.nodes))]
	if n.clock.since > w.now {
		return // it stands still
	}
	rate := r.between(-w.o.Drift, w.o.Drift)
	if r.chance(2) {
		rate = w.o.Drift * (2*r.Int64N(2) - 1)
	}
	before := n.clock.wall(w.now)
	n.clock.setRate(w.now, rate)
	n.clock.wallOff += Time(before) - Time(n.clock.wall(w.now)) // the wall clock takes the new rate too, and does not step
	w.stats.RateChanges++
}

func (w *World) cutSides(side []bool, how int, until Time) {
	for _, a := range w.nodes {
		for _, b := range w.nodes {
			if side[a.id] == side[b.id] {
				continue
			}
			if how == 0 || side[a.id] == (how == 1) {
				l := w.link(a.id, b.id)
				l.cutUntil = max(l.cutUntil, until)
			}
		}
	}
}

func (w *World) cutRegion() {
	until, site := w.now+w.rndFault.about(w.o.FaultFor), w.rndFault.IntN(len(w.o.Regions))
	side := make([]bool, len(w.nodes)+1)
	for _, n := range w.nodes {
		side[n.id] = n.site == site
	}
	w.stats.RegionCuts++
	w.trace(0, "region %d is cut off until %v", site, until)
	w.cutSides(side, 0, until)
}

func (w *World) clogOne() {
	a, b := w.someNode(), w.someNode()
	l := w.link(a.id, b.id)
	l.clogUntil = max(l.clogUntil, w.now+w.rndFault.about(w.o.FaultFor))
	w.stats.Clogs++
}

// swizzle clogs the links of some nodes one after the other, and opens them in another order.
func (w *World) swizzle() {
	w.stats.Swizzles++
	begin := w.now
	for _, n := range w.nodes {
		if w.rndFault.chance(2) {
			continue
		}
		from := w.rndFault.upTo(w.o.FaultFor)
		until := begin + from + w.rndFault.upTo(w.o.FaultFor)
		id := n.id
		w.after(from, func() {
			for _, o := range w.nodes {
				for _, l := range []*link{w.link(id, o.id), w.link(o.id, id)} {
					if !w.calm {
						l.clogUntil = max(l.clogUntil, until)
					}
				}
			}
		})
	}
}

// crashOne kills a node, now or at the next step of its loop of some kind; sometimes several at once.
func (w *World) crashOne() {
	count := 1
	if w.rndFault.chance(8) {
		count = 1 + w.rndFault.IntN(len(w.nodes))
	}
	for range count {
		n := w.someNode()
		if !n.up {
			continue
		}
		if w.rndFault.Int64N(100) < w.o.CrashInside {
			n.crashAt = step(1 + w.rndFault.IntN(int(stepEnd)))
			continue
		}
		n.crash()
		w.restartLater(n)
	}
}

func (w *World) restartLater(n *node) {
	w.after(w.rndFault.about(w.o.DownFor), func() { w.restart(n) })
}

func (w *World) restart(n *node) {
	if n.up || n.gone || n.frozen || w.failed() {
		return
	}
	w.stats.Restarts++
	n.boot()
}

// suspend lets a node stand still: its clocks run on.
func (n *node) suspend(d Time) {
	n.suspendedUntil = max(n.suspendedUntil, n.w.now+d)
	n.w.stats.Suspends++
}

func (w *World) suspendOne() {
	if n := w.someNode(); n.up {
		d := w.rndFault.about(w.o.SuspendFor)
		w.trace(n.id, "is suspended for %v", d)
		// One that is too short to be noticed would break what leases rest on.
		if w.rndFault.Int64N(100) < w.o.ClockFreeze && d > 2*w.o.clockJump() && n.running() {
			n.clock.freeze(w.now, d)
		}
		n.suspend(d)
	}
}

// stepClock steps a wall clock. Where monotonic clocks freeze too, a step could hide that.
func (w *World) stepClock() {
	if w.o.ClockFreeze > 0 && w.o.SuspendEvery > 0 {
		return
	}
	n := w.someNode()
	n.clock.wallOff += w.rndFault.upTo(2*w.o.WallSkew) - w.o.WallSkew
	w.stats.ClockSteps++
}

func (w *World) failSync() {
	w.someNode().disk.failNext = true
}

func (w *World) fillDisk() {
	w.someNode().disk.fullUntil = w.now + w.rndFault.about(w.o.FaultFor)
}

func (w *World) slowDisk() {
	w.someNode().disk.slowUntil = w.now + w.rndFault.about(w.o.FaultFor)
	w.stats.DiskSlow++
}

// steal lets some node campaign for a group that perhaps another owns.
func (w *World) steal() {
	n, g := w.someNode(), w.rndFault.IntN(w.usedGroups())
	if !n.running() || !w.used[g] {
		return
	}
	r := n.open(g)
	if st := r.core.Status(); st.State == consensus.Follower {
		w.stats.Steals++
		n.campaign(r)
	}
}

// release lets some owner give a group to another node.
func (w *World) release() {
	g := w.rndFault.IntN(w.usedGroups())
	to := w.someNode()
	for _, n := range w.nodes {
		if n == to || !n.running() || n.groups[g] == nil || n.groups[g].core.Status().State != consensus.Serving {
			continue
		}
		n.release(n.groups[g], to.id)
		return
	}
}

// compactOne trims some log to some slot: the core guards what must be kept.
func (w *World) compactOne() {
	n, g := w.someNode(), w.rndFault.IntN(w.usedGroups())
	if !n.running() || n.groups[g] == nil {
		return
	}
	r := n.groups[g]
	st := r.core.Status()
	upTo := consensus.Slot(w.rndFault.Int64N(int64(st.Applied) + 2))
	if w.rndFault.chance(2) {
		upTo = st.Applied
	}
	w.stats.Compactions++
	r.core.Compact(upTo)
	r.touched()
	n.plan()
}

// moveLoad sends clients to other sites and groups.
func (w *World) moveLoad() {
	site, g := w.rndFault.IntN(len(w.o.Regions)), w.rndFault.IntN(w.usedGroups())
	for _, c := range w.clients {
		if w.rndFault.chance(2) {
			c.site, c.home = site, g
		}
	}
}
