// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"

	"github.com/atlas-edge/atlas/consensus"
)

// alive reports whether this node takes another for alive: it has heard from it lately.
func (n *node) alive(o consensus.NodeID) bool {
	at := n.heard[o]
	return at != 0 && n.w.now-at < n.w.o.Support
}

// mayCampaign campaigns for a group that nobody alive owns, after a while that grows with each failure (duty 12).
func (n *node) mayCampaign(r *replica, st *consensus.Status) {
	w := n.w
	if st.State != consensus.Follower || w.now < r.campaignAfter {
		return
	}
	if st.Owner != 0 && st.Owner != n.id && n.alive(st.Owner) && !w.rndOwner.chance(10) {
		return
	}
	n.campaign(r)
}

// campaign lets a core campaign, locally or globally.
func (n *node) campaign(r *replica) {
	w := n.w
	st := r.core.Status()
	scope := consensus.Global
	if w.rndOwner.Int64N(100) < w.o.LocalShare && !st.NeedGlobal {
		scope = consensus.Local
	}
	n.tickLiveness()
	err := r.core.Campaign(scope)
	if scope == consensus.Local && errors.Is(err, consensus.ErrInvalid) { // it has no home to be local in
		err = r.core.Campaign(consensus.Global)
	}
	if err != nil {
		if !errors.Is(err, consensus.ErrNotVoter) {
			w.fail("node %d group %d cannot campaign: %v", n.id, r.g, err)
		}
		r.campaignAfter = w.now + Second
		return
	}
	w.stats.Campaigns++
	w.trace(n.id, "g%d campaigns", r.g)
	base := 4*(w.o.Far+w.o.Jitter+w.o.SyncTime) + 50*Millisecond
	r.campaignAfter = w.now + base + w.rndOwner.upTo(base<<min(r.fails, 6))
	r.fails++
	r.touched()
	n.plan()
}

// release gives a group to another node.
func (n *node) release(r *replica, to consensus.NodeID) {
	w := n.w
	if err := r.core.Release(to); err != nil {
		if !w.harmless(err) && !errors.Is(err, consensus.ErrInvalid) && !errors.Is(err, consensus.ErrNotVoter) {
			w.fail("node %d group %d cannot release: %v", n.id, r.g, err)
		}
		return
	}
	w.stats.Releases++
	w.trace(n.id, "g%d releases to node %d", r.g, to)
	r.touched()
	n.plan()
}

// demand notes where requests come from.
func (w *World) demand(*replica, *consensus.Status, *rpc) {}

// drive does what is due on a node: owners that cannot commit let go, idle cores are dropped.
func (n *node) drive() {
	w := n.w
	for i := 0; i < len(n.active); i++ {
		r := n.active[i]
		st := r.core.Status()
		idle := !r.dirty && st.State == consensus.Follower && len(r.waits)+len(r.reads) == 0 && !r.core.NeedsTick() && !r.core.HasReady() && !n.inFlight(r)
		if idle && (w.now-r.usedAt > w.o.EvictAfter || w.rndNode.ppm(w.o.EvictAnyway) && !w.calm) {
			n.drop(r)
			i--
			continue
		}
		if w.o.LogKeep > 0 && st.TrimTo > consensus.Slot(w.o.LogKeep) && w.rndNode.chance(8) {
			w.stats.Compactions++
			r.core.Compact(st.TrimTo - consensus.Slot(w.o.LogKeep))
			r.touched()
		}
	}
}

func (n *node) inFlight(r *replica) bool {
	for _, f := range n.flight {
		if f == r {
			return true
		}
	}
	return false
}

// stateChanged looks at how an own ballot has come on.
func (w *World) stateChanged(r *replica, st *consensus.Status) {
	w.mix3(uint64(r.n.id), uint64(r.g), uint64(st.State))
	if w.tracing() {
		w.trace(r.n.id, "g%d is %v at %v, last %d, commit %d", r.g, st.State, st.Ballot, st.Last, st.Commit)
	}
	if r.state < consensus.Won && st.State >= consensus.Won {
		w.stats.Won++
		if st.Scope == consensus.Local {
			w.stats.WonLocal++
			w.sometimes("local ballot won")
		}
		if st.Last > st.Commit {
			w.sometimes("phase 1 adopted an accepted entry")
		}
		for _, o := range w.nodes {
			if o != r.n && o.up && o.groups[r.g] != nil && o.groups[r.g].core.Status().State == consensus.Serving {
				w.sometimes("two nodes thought themselves owners at once")
			}
		}
	}
	if st.NeedGlobal {
		w.sometimes("local abandoned for a global promise")
	}
}
