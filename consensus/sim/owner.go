// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// handover is what an owner tells the next one. It travels with the Release.
type handover struct {
	to   consensus.NodeID
	what ownership.Handover
}

func (w *World) ownershipOptions() ownership.Options {
	if w.setup.Ownership != nil {
		return *w.setup.Ownership
	}
	s := uint64(w.o.PolicyScale)
	return ownership.Options{
		HalfLife: s, Window: max(s/8, uint64(100*Millisecond)), Windows: 2, GainPerRequest: uint64(100 * Microsecond), Dwell: s, DwellMax: 8 * s,
		Horizon: 2 * s, Abandoned: s, StallAfter: s / 2, MovesPerMinute: 6000, StealBackoff: uint64(50 * Millisecond),
		StealBackoffMax: uint64(2 * Second),
	}
}

// startPolicy makes the policy of a node that has started.
func (n *node) startPolicy() {
	p, err := ownership.New(n.w.ownershipOptions(), n.id, n.region, n.ownershipMap())
	n.w.must(err)
	n.policy = p
}

// ownershipMap is how far the regions are, and who this node takes for alive.
func (n *node) ownershipMap() *ownership.Map {
	w := n.w
	var regions []quorum.Region
	var sites []*node
	live := []consensus.NodeID{n.id}
	for _, o := range w.nodes {
		if o != n && n.alive(o.id) {
			live = append(live, o.id)
		}
		seen := false
		for _, r := range regions {
			seen = seen || r == o.region
		}
		if !seen {
			regions, sites = append(regions, o.region), append(sites, o)
		}
	}
	rtt := make([][]ownership.Timestamp, len(regions))
	for i := range regions {
		for j := range regions {
			rtt[i] = append(rtt[i], ownership.Timestamp(w.latency(sites[i], sites[j])+w.latency(sites[j], sites[i])))
		}
	}
	m, err := ownership.NewMap(regions, rtt, live)
	w.must(err)
	return m
}

func (n *node) bounds() *ownership.Bounds {
	return &ownership.Bounds{Config: n.w.configuration(n.registry.Newest().Version).Quorums, Home: n.w.homeOf(n)}
}

// alive reports whether this node takes another for alive: it has heard from it lately.
func (n *node) alive(o consensus.NodeID) bool {
	at := n.heard[o]
	return at != 0 && n.w.now-at < n.w.o.Support
}

// votes reports whether a node is a voter of the newest configuration that this one knows.
func (n *node) votes(o consensus.NodeID) bool {
	_, ok := n.bounds().Config.Index(o)
	return ok
}

// mayCampaign campaigns for a group that nobody alive owns, each node in its turn and later after each failure (duty 12).
func (n *node) mayCampaign(r *replica, st *consensus.Status) {
	w := n.w
	if st.State >= consensus.Won || st.Owner != 0 && st.Owner != n.id && n.alive(st.Owner) && n.votes(st.Owner) && !w.rndOwner.chance(10) {
		return
	}
	if r.campaignAfter == 0 {
		r.campaignAfter = w.now + n.stealDelay(r)
	}
	if w.now >= r.campaignAfter {
		n.campaign(r)
	}
}

// stealDelay is how long to wait before the next campaign. A steal out of turn costs others their ballots, no more, so that
// sometimes nobody waits.
func (n *node) stealDelay(r *replica) Time {
	w := n.w
	if r.fails == 0 && w.rndOwner.chance(4) {
		return 0
	}
	var home []consensus.NodeID
	for _, v := range n.bounds().Config.Voters() {
		if v.Node == n.id || n.alive(v.Node) {
			home = append(home, v.Node)
		}
	}
	rtt := 2*(w.o.Far+w.o.Jitter) + w.o.SyncTime
	return Time(n.policy.StealDelay(groupName(r.g), home, ownership.Timestamp(rtt), r.fails, w.rndOwner.Uint64()))
}

// campaign lets a core campaign, locally or globally.
func (n *node) campaign(r *replica) {
	w := n.w
	st := r.core.Status()
	scope := consensus.Global
	// Not after one that hangs, nor after two: with nodes gone there may be a Q1 and no QL, and others end a ballot before it is seen to hang.
	if w.rndOwner.Int64N(100) < w.o.LocalShare && !st.NeedGlobal && st.State == consensus.Follower && r.fails < 2 {
		scope = consensus.Local
	}
	n.tickLiveness()
	if w.o.Homes && !w.calm && w.rndOwner.chance(4) && n.votes(n.id) {
		n.tell(r, r.core.SetHome(drawHome(n.bounds().Config, n.region, w.rndOwner)))
	}
	err := r.core.Campaign(scope)
	if scope == consensus.Local && errors.Is(err, consensus.ErrInvalid) { // it has no home to be local in
		err = r.core.Campaign(consensus.Global)
	}
	r.fails++
	r.campaignAfter = w.now + n.stealDelay(r)
	if err != nil {
		if !errors.Is(err, consensus.ErrNotVoter) && !w.harmless(err) {
			w.fail("node %d group %d cannot campaign: %v", n.id, r.g, err)
		}
		return
	}
	w.stats.Campaigns++
	w.trace(n.id, "g%d campaigns", r.g)
	r.touched()
	n.plan()
}

// release gives a group to another node, and reports whether it did.
func (n *node) release(r *replica, to consensus.NodeID) bool {
	w := n.w
	n.tickLiveness()
	if err := r.core.Release(to); err != nil {
		if !w.harmless(err) && !errors.Is(err, consensus.ErrInvalid) && !errors.Is(err, consensus.ErrNotVoter) {
			w.fail("node %d group %d cannot release: %v", n.id, r.g, err)
		}
		return false
	}
	w.stats.Releases++
	w.trace(n.id, "g%d releases to node %d", r.g, to)
	r.load = nil
	r.touched()
	n.plan()
	return true
}

// demand tells the owner's policy of a request, and does what it decides.
func (n *node) demand(r *replica, q *rpc) {
	w := n.w
	if r.load == nil || !w.o.Adaptive {
		return
	}
	reads, writes := uint32(0), uint32(1)
	if q.command.verb == verbGet {
		reads, writes = 1, 0
	}
	now := n.clock.mono(w.now)
	if m, ok := n.policy.Observe(now, r.load, n.bounds(), w.node(q.gateway).region, reads, writes); ok {
		n.move(r, &m)
	}
}

func (n *node) move(r *replica, m *ownership.Move) {
	w := n.w
	load := r.load
	if !n.release(r, m.To) {
		n.policy.Kept(n.clock.mono(w.now), load)
		return
	}
	w.stats.Moves++
	w.handovers[r.g] = &handover{m.To, m.Handover}
}

// acquire begins an ownership.
func (n *node) acquire(r *replica) {
	w := n.w
	var h *ownership.Handover
	if o := w.handovers[r.g]; o != nil && o.to == n.id {
		h = &o.what
		w.sometimes("a released group was taken over")
	}
	w.handovers[r.g] = nil
	r.load = n.policy.Acquire(n.clock.mono(w.now), groupName(r.g), h)
}

// drive does what is due on a node: owners that cannot commit let go, logs are trimmed, idle cores are dropped.
func (n *node) drive() {
	w := n.w
	if w.now-n.mapped > Second {
		n.policy.SetMap(n.ownershipMap())
		n.mapped = w.now
	}
	for i := 0; i < len(n.active); i++ {
		r := n.active[i]
		st := r.core.Status()
		if st.State >= consensus.Won && w.now-r.committedAt > 5*Second && (st.Last > st.Commit || st.State != consensus.Serving || r.readsStall()) {
			if n.unstick(r, &st) {
				i--
				continue
			}
		}
		if n.idle(r, &st) && (w.now-r.usedAt > w.o.EvictAfter || w.rndNode.ppm(w.o.EvictAnyway) && !w.calm) {
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

// unstick is for an owner that has not committed for long: it gives the group to another, or, where it cannot, begins again with a
// new core and a home of all regions. It reports whether the replica is gone.
func (n *node) unstick(r *replica, st *consensus.Status) bool {
	w := n.w
	r.committedAt = w.now
	w.sometimes("an owner could not commit")
	if st.State == consensus.Serving && r.load != nil && !st.Stopped {
		if m, ok := n.policy.Stalled(n.clock.mono(w.now), r.load, n.bounds(), 0); ok {
			n.move(r, &m)
		}
		return false
	}
	if n.inFlight(r) {
		return false
	}
	n.drop(r)
	fresh := n.open(r.g)
	if fresh.core != nil && n.votes(n.id) {
		n.tell(fresh, fresh.core.SetHome(nil))
		n.campaign(fresh)
	}
	return true
}

// readsStall reports whether a read has waited for long to be confirmed.
func (r *replica) readsStall() bool {
	return len(r.reads) > 0 && r.n.w.now-r.reads[0].at > 5*Second
}

func (n *node) idle(r *replica, st *consensus.Status) bool {
	return !r.dirty && st.State == consensus.Follower && n.w.now >= r.campaignAfter+5*Second && len(r.waits)+len(r.reads) == 0 && !r.core.NeedsTick() && !r.core.HasReady() && !n.inFlight(r)
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
		w.won(r, st)
	}
	if st.State == consensus.Serving {
		r.n.acquire(r)
	} else {
		r.load = nil
	}
	if st.NeedGlobal {
		w.sometimes("local abandoned for a global promise")
	}
	if st.LeasedBy.Owner != 0 {
		w.sometimes("lease blocked a stealer")
	}
}

func (w *World) won(r *replica, st *consensus.Status) {
	w.stats.Won++
	w.check.noLease(r.n, r, false)
	r.committedAt = w.now
	if st.Scope == consensus.Local {
		w.stats.WonLocal++
		w.sometimes("local ballot won")
	}
	if len(r.n.registry.Configurations()) > 1 && st.Ballot.Cfg > st.Established && !st.Stopped {
		w.sometimes("V over two configurations")
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
