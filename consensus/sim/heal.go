// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"strings"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// heal ends all faults around a core of nodes, freezes the others for ever, and demands that every operation under way ends
// and that every group that was used takes a write, within Options.Heal.
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
	ok := w.runWhile(begin+w.o.Heal, func() bool { return !w.anyBusy() })
	if !ok && !w.failed() {
		w.fail("no progress: %s", w.whyStuck())
		return
	}
	if w.failed() {
		return
	}
	w.probe()
	ok = w.runWhile(w.now+w.o.Heal, func() bool { return !w.anyBusy() })
	if !ok && !w.failed() {
		w.fail("no progress: %s", w.whyStuck())
	}
	w.stats.HealSum += w.now - begin
	w.stats.HealMost = max(w.stats.HealMost, w.now-begin)
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

// probe lets one client write to each group that was used.
func (w *World) probe() {
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
