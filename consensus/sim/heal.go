// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// heal ends all faults around a core of nodes, freezes the others for ever, and demands that every operation under way ends
// that every group that was used takes a write, and that all nodes of the core then have all of it. Then power fails once more, and all of that has to be there again. Each of these has Options.Heal.
func (w *World) heal() {
	w.calm, w.clientsStop = true, true
	w.stale = nil
	core := w.chooseCore()
	w.trace(0, "heals nodes %v", core)
	for i := range w.links {
		for j := range w.links[i] {
			w.links[i][j].cutUntil, w.links[i][j].clogUntil, w.links[i][j].last = 0, 0, 0
		}
	}
	for _, n := range w.nodes {
		if n.gone {
			continue
		}
		n.frozen = !core[n.id]
		n.crashAt, n.suspendedUntil = stepNone, min(n.suspendedUntil, w.now)
		n.disk.fullUntil, n.disk.slowUntil, n.disk.failNext = 0, 0, false
		n.clock.setRate(w.now, n.clock.ppm/10)
		if n.frozen && n.up {
			n.crash()
		}
	}
	for _, n := range w.nodes {
		if core[n.id] && !n.up {
			w.restart(n)
		}
		for _, r := range n.active {
			n.tell(r, r.core.SetHome(nil))
		}
	}
	begin := w.now
	w.await(w.idle)
	w.probe(verbPut)
	w.await(w.idle)
	w.stats.HealSum += w.now - begin
	w.stats.HealMost = max(w.stats.HealMost, w.now-begin)
	begin = w.now
	w.nudging = true
	w.nudge()
	w.await(w.level)
	w.stats.LevelMost = max(w.stats.LevelMost, w.now-begin)
	w.outage(core)
	w.await(w.level)
	w.nudging = false
	w.probe(verbGet)
	w.await(w.idle)
}

// await demands that something comes true within Options.Heal.
func (w *World) await(done func() bool) {
	if !w.failed() && !done() && !w.runWhile(w.now+w.o.Heal, done) && !w.failed() {
		w.fail("no progress: %s", w.whyStuck())
	}
}

// outage takes the power from some of the nodes, and from all of them in some worlds: what anybody was told has to be there again.
func (w *World) outage(core []bool) {
	all := w.rndFault.chance(4)
	for _, n := range w.nodes {
		if core[n.id] && n.up && !w.failed() && (all || w.rndFault.chance(2)) {
			n.crash()
			w.restartLater(n)
		}
	}
}

// idle reports whether nobody waits for anything.
func (w *World) idle() bool { return !w.anyBusy() }

// level reports whether besides all nodes of the core are up and have what is chosen. It looks now and then.
func (w *World) level() bool {
	if w.now < w.lookAt {
		return false
	}
	w.lookAt = w.now + 10*Millisecond
	for _, n := range w.nodes {
		if !n.up && !n.gone && !n.frozen {
			return false
		}
	}
	n, _ := w.lagging()
	return n == nil && !w.anyBusy()
}

func (w *World) anyBusy() bool {
	for _, c := range w.clients {
		if c.busy {
			return true
		}
	}
	_, changing := w.registry.Changing()
	return changing || len(w.probes) > 0
}

// nudge lets somebody ask for the groups of which a node has not applied what is chosen: on that node, since a core that is not in
// memory learns nothing; and with a write if nobody owns the group, since those who own one teach the others.
func (w *World) nudge() {
	if !w.nudging || w.failed() {
		return
	}
	w.after(2*Second, w.nudge)
	w.probeVerb = verbPut
	for g := range w.check.groups {
		n := w.laggingIn(g)
		if n == nil {
			continue
		}
		if n.up {
			n.open(g).touched()
			n.plan()
		}
		if !w.owned(g) && !slices.Contains(w.probes, g) {
			w.probes = append(w.probes, g)
		}
	}
	for _, c := range w.clients {
		if len(w.probes) > 0 && !c.busy {
			c.wake(1)
		}
	}
}

func (w *World) owned(g int) bool {
	return slices.ContainsFunc(w.nodes, func(n *node) bool {
		return n.up && n.groups[g] != nil && n.groups[g].core.Status().State >= consensus.Won
	})
}

// lagging is a node of the core, and a group of which it has not applied all that is chosen; nil if there is none. An owner owes what is
// chosen to every voter and learner.
func (w *World) lagging() (*node, int) {
	for g := range w.check.groups {
		if n := w.laggingIn(g); n != nil {
			return n, g
		}
	}
	return nil, 0
}

func (w *World) laggingIn(g int) *node {
	newest := w.registry.Newest()
	members := slices.Clone(newest.Learners)
	for _, v := range newest.Voters {
		members = append(members, v.Node)
	}
	chosen := consensus.Slot(len(w.check.groups[g].chosen))
	for _, id := range members {
		n := w.node(id)
		if chosen == 0 || n.gone || n.frozen {
			continue
		}
		if im := n.disk.view.groups[g]; im == nil || im.machine.applied < chosen {
			return n
		}
	}
	return nil
}

// chooseCore draws the nodes that stay: at random, as few as hold a Q1 and a Q2 of every configuration that is not retired.
func (w *World) chooseCore() []bool {
	core := make([]bool, len(w.nodes)+1)
	for _, n := range w.nodes {
		core[n.id] = !n.gone
	}
	order := w.rndFault.Perm(len(w.nodes))
	if w.rndFault.chance(3) {
		return core // all of them
	}
	for _, i := range order {
		id := w.nodes[i].id
		if !core[id] {
			continue
		}
		core[id] = false
		if !w.quorate(core) {
			core[id] = true
		}
	}
	return core
}

// quorate reports whether these nodes hold a Q1 and a Q2, of every home, of each configuration that a group may be in.
func (w *World) quorate(core []bool) bool {
	for _, c := range w.registry.Configurations() {
		var set quorum.Set
		for i, v := range c.Quorums.Voters() {
			if core[v.Node] {
				set = set.With(i)
			}
		}
		if !c.Quorums.IsQ1(set) || !c.Quorums.IsQ2(set, c.Quorums.All()) {
			return false
		}
	}
	return true
}

// probe lets one client write to each group that was used, or read from it.
func (w *World) probe(v verb) {
	w.probeVerb = v
	for g, used := range w.used {
		if used {
			w.probes = append(w.probes, g)
		}
	}
	for _, c := range w.clients {
		if !c.busy {
			c.wake(1)
		}
	}
}

// whyStuck says which condition of progress does not hold.
func (w *World) whyStuck() string {
	groups := map[int]bool{}
	var why []string
	for _, c := range w.clients {
		if !c.busy || groups[c.op.Group] {
			continue
		}
		groups[c.op.Group] = true
		why = append(why, fmt.Sprintf("%v waits: %s", c.op, w.groupState(c.op.Group)))
	}
	for _, g := range w.probes {
		if !groups[g] {
			why = append(why, fmt.Sprintf("group %d is not written: %s", g, w.groupState(g)))
		}
		if len(why) > 3 {
			break
		}
	}
	if n, g := w.lagging(); n != nil && len(why) == 0 {
		why = append(why, fmt.Sprintf("node %d has not applied slot %d of group %d:%s", n.id, len(w.check.groups[g].chosen), g, w.groupState(g)))
	}
	if old, changing := w.registry.Changing(); changing {
		why = append(why, fmt.Sprintf("configuration %d is not retired: %s", old, w.changeState()))
	}
	return strings.Join(why, "; ")
}

func (w *World) changeState() string {
	n := w.node(w.driverHost)
	if n == nil || !n.up || n.driver == nil {
		return "nobody drives the change"
	}
	return fmt.Sprintf("node %d drives it: %+v", n.id, n.driver.Progress())
}

func (w *World) groupState(g int) string {
	var b strings.Builder
	owner := false
	for _, n := range w.nodes {
		if n.gone || n.frozen {
			continue
		}
		if r := n.groups[g]; n.up && r != nil {
			st := r.core.Status()
			fmt.Fprintf(&b, " n%d %v %v promised %v owner %d log %d/%d/%d cfg %d", n.id, st.State, st.Ballot, st.Promised, st.Owner, st.Applied, st.Commit, st.Last, st.Cfg)
			if st.NeedGlobal || st.Behind || st.Stopped {
				fmt.Fprintf(&b, " needGlobal %v behind %v stopped %v", st.NeedGlobal, st.Behind, st.Stopped)
			}
			if st.LeasedBy.Owner != 0 {
				fmt.Fprintf(&b, " leased by %d", st.LeasedBy.Owner)
			}
			owner = owner || st.State == consensus.Serving
		} else {
			fmt.Fprintf(&b, " n%d %v", n.id, map[bool]string{true: "idle", false: "down"}[n.up])
		}
		b.WriteByte(';')
	}
	what := "nobody owns it;"
	if owner {
		what = "it has an owner that does not answer;"
	}
	return what + b.String()
}
