// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/liveness"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// durableRecord is what node n has of a group on its disk for sure.
func (n *node) durableRecord(g int) consensus.Record {
	if im := n.disk.durable.groups[g]; im != nil {
		return im.rec
	}
	return consensus.Record{}
}

// sent checks that a message claims nothing that its sender's disk does not hold: I4.
func (k *checker) sent(n *node, g int, m *consensus.Message) {
	gc := &k.groups[g]
	ac := &gc.nodes[n.id]
	rec := n.durableRecord(g)
	bad := func(why string) { k.fail("I4: node %d group %d sends %v, and %s", n.id, g, *m, why) }
	behind := rec.Promised.Less(m.Ballot)
	k.claims(n, g, m, &rec)
	switch m.Type {
	case consensus.Prepare, consensus.AcceptSync, consensus.Accept, consensus.Learn, consensus.Fetch, consensus.Fortify, consensus.Confirm:
		if m.Ballot.Node != n.id {
			bad("the ballot is not its own")
			return
		}
		if behind {
			bad("has promised only " + rec.Promised.String())
			return
		}
		k.incarnation(n, g, m.Ballot)
		switch m.Type {
		case consensus.Prepare:
			k.log(g, m.Ballot).asks(m)
			k.won(n, g, m, m.Accepted)
		case consensus.AcceptSync, consensus.Learn:
			k.log(g, m.Ballot).asks(m)
			k.won(n, g, m, m.Ballot)
		case consensus.Accept:
			k.won(n, g, m, m.Ballot)
		}
		if m.Type == consensus.Learn && len(m.Entries) > 0 {
			k.isChosen(n, g, m.Entries[len(m.Entries)-1].Slot, m.Entries[len(m.Entries)-1].Chain)
		}
	case consensus.Promise:
		if behind {
			bad("has promised only " + rec.Promised.String())
		}
		ac.said = maxBallot(ac.said, m.Ballot)
		k.log(g, m.Ballot).pledged[n.id] = true
	case consensus.PrePrepare:
		k.won(n, g, m, m.Accepted)
	case consensus.Accepted:
		if v := k.log(g, m.Ballot).votes[n.id]; !v.yes || v.slot < m.Slot {
			bad("has no such vote on disk")
		}
		ac.said = maxBallot(ac.said, m.Ballot)
		k.tied(n, g, m, &rec)
	case consensus.Fortified:
		k.tied(n, g, m, &rec)
	case consensus.Confirmed:
		if behind {
			bad("has promised only " + rec.Promised.String())
		}
	case consensus.PrePromise:
		gc.released[n.id] = maxBallot(gc.released[n.id], m.Release)
		if r := m.Release; r.Cfg > rec.Promised.Cfg || r.Cfg == rec.Promised.Cfg && r.Round > rec.Promised.Round {
			bad("could take such a ballot again: has promised only " + rec.Promised.String())
		}
	case consensus.Release:
		gc.released[n.id] = maxBallot(gc.released[n.id], m.Ballot)
		if behind || m.Ballot.Node != n.id {
			bad("has promised only " + rec.Promised.String())
		}
	case consensus.Learned:
		if rec.Last < m.Slot {
			bad("has not learned that")
		}
	case consensus.Snapshot:
		if m.Ballot.Node == n.id {
			k.won(n, g, m, m.Ballot)
		}
		k.isChosen(n, g, m.Slot, m.Chain)
	}
}

// tied checks that an acceptor that says so is tied to an epoch of its owner, or to a later one, or has promised another since.
func (k *checker) tied(n *node, g int, m *consensus.Message, rec *consensus.Record) {
	if m.FortEpoch != 0 && (rec.Fort.Owner != m.Ballot.Node || rec.Fort.Epoch < m.FortEpoch) && rec.Promised == m.Ballot {
		k.fail("I4: node %d group %d sends %v, and is not tied to that epoch on disk", n.id, g, *m)
	}
}

// checkUntied checks that an acceptor that leaves its owner's life for a promise to another has withdrawn its support for good, unless
// the owner has said that its ballot is over, as a stop-sign says too, its configuration is retired, or another ballot is won: I16.
func (k *checker) checkUntied(n *node, g int, ac *acceptorCheck, rec *consensus.Record) {
	f := ac.fort
	if f.Owner == 0 || rec.Fort == f || rec.Fort.Owner == f.Owner || rec.Promised.Node == f.Owner {
		return
	}
	gc := &k.groups[g]
	if over := gc.released[f.Owner]; !over.IsZero() && !over.Less(ac.accepted) || gc.stopping > ac.accepted.Cfg ||
		ac.accepted.Cfg <= k.w.retired || gc.wonBetween(ac.accepted, rec.Promised) {
		return
	}
	for _, m := range n.disk.durable.node.minEpochs {
		if m.node == f.Owner && m.epoch > f.Epoch {
			return
		}
	}
	k.fail("I16: node %d group %d leaves epoch %d of node %d for %v, and its disk would let it support that again", n.id, g, f.Epoch, f.Owner, rec.Promised)
}

// wonBetween reports whether a ballot above one and up to another is won. One batch may take an acceptor over several.
func (gc *groupCheck) wonBetween(above, upTo consensus.Ballot) bool {
	for _, bl := range gc.order {
		if bl.won && above.Less(bl.ballot) && !upTo.Less(bl.ballot) {
			return true
		}
	}
	return false
}

func (k *checker) isChosen(n *node, g int, s consensus.Slot, chain uint64) {
	gc := &k.groups[g]
	if s > consensus.Slot(len(gc.chosen)) {
		k.fail("I2: node %d group %d tells slot %d for chosen, chosen are %d", n.id, g, s, len(gc.chosen))
	} else if s > 0 && gc.chosen[s-1].entry.Chain != chain {
		k.fail("I2: node %d group %d tells slot %d for chosen with chain %016x, it is %016x", n.id, g, s, chain, gc.chosen[s-1].entry.Chain)
	}
}

// incarnation checks that a ballot belongs to one core of its node.
func (k *checker) incarnation(n *node, g int, b consensus.Ballot) {
	bl := k.log(g, b)
	made := k.groups[g].nodes[n.id].made
	if bl.used && bl.node != made {
		k.fail("node %d group %d uses ballot %v of an earlier core", n.id, g, b)
	}
	bl.used, bl.node = true, made
}

// made is told of a core that is made: it has not forgotten what it promised.
func (k *checker) made(n *node, r *replica) {
	ac := &k.groups[r.g].nodes[n.id]
	ac.made++
	r.life = ac.made
	if p := r.core.Status().Promised; p.Less(ac.said) {
		k.fail("I3: node %d group %d comes back with %v promised, and had said %v", n.id, r.g, p, ac.said)
	}
}

func maxBallot(a, b consensus.Ballot) consensus.Ballot {
	if a.Less(b) {
		return b
	}
	return a
}

// sentLive checks that a heartbeat carries an epoch that is durable, and a clock that no later life of the node falls below.
func (k *checker) sentLive(n *node, m *liveness.Message) {
	if sure := n.disk.durable.node.clock; m.HLC > sure {
		k.fail("I4: node %d tells clock %d, sure to outlive a crash is %d", n.id, m.HLC, sure)
	}
	if m.Type == liveness.Heartbeat && m.Epoch > n.disk.durable.node.epoch {
		k.fail("I4: node %d sends a heartbeat of epoch %d, durable is %d", n.id, m.Epoch, n.disk.durable.node.epoch)
	}
}

// leaseRead is told of a read that is answered because of a lease: I7, I16.
func (k *checker) leaseRead(n *node, r *replica) {
	w := k.w
	k.noLease(n, r, true)
	st := r.core.Status()
	cfg := w.configuration(st.Ballot.Cfg)
	var set quorum.Set
	for i, v := range cfg.Quorums.Voters() {
		if o := w.node(v.Node); o == n || k.supports(o, n, r.g) {
			set = set.With(i)
		}
	}
	home := st.Home
	if home.IsZero() {
		home = cfg.Quorums.All()
	}
	if !cfg.Quorums.IsQ2(set, home) {
		k.fail("I16: node %d holds the lease of group %d at %v, and those that support its epoch %d are no Q2: %v", n.id, r.g, st.Ballot, n.live.Epoch(), set)
	}
}

// noLease checks that no other node holds the lease of a group, at a lower ballot once node n has won its own, at any while n holds
// the lease itself: I7.
func (k *checker) noLease(n *node, r *replica, held bool) {
	for _, o := range k.w.nodes {
		// A machine that stands still answers nobody. Its clock may stand too, and shows for how long when it goes on.
		if o == n || !o.running() || o.groups[r.g] == nil || o.groups[r.g].core.Status().State != consensus.Serving {
			continue
		}
		if !held && !o.groups[r.g].core.Status().Ballot.Less(r.core.Status().Ballot) {
			continue // n has won too late: others have promised more since
		}
		o.tickLiveness()
		if o.groups[r.g].core.HoldsLease() {
			k.fail("I7: node %d has won group %d at %v, and node %d holds its lease at %v", n.id, r.g,
				r.core.Status().Ballot, o.id, o.groups[r.g].core.Status().Ballot)
			return
		}
		o.groups[r.g].touched()
		o.plan()
	}
}

// supports reports whether node o keeps others from promises in group g for the sake of n, in true time: it is tied to n's
// epoch on disk, and supports it or is, or will be, quarantined.
func (k *checker) supports(o, n *node, g int) bool {
	rec := o.durableRecord(g)
	if rec.Fort.Owner != n.id || rec.Fort.Epoch != n.live.Epoch() {
		return false
	}
	for _, m := range o.disk.view.node.minEpochs {
		if m.node == n.id && m.epoch > n.live.Epoch() {
			return false
		}
	}
	if !o.up {
		return true // it will be quarantined
	}
	o.tickLiveness()
	if _, quarantined := o.live.Quarantined(); quarantined {
		return true
	}
	_, ok := o.live.Supports(n.id, n.live.Epoch())
	return ok
}

// forgotten is told that a core is dropped.
func (k *checker) forgotten(*node, int) {}

// crashed is told of a crash that was survived: what is on disk is looked at again.
func (k *checker) crashed(n *node) {
	for g, im := range n.disk.durable.groups {
		if im == nil || im.record == nil {
			continue
		}
		rec, err := consensus.DecodeRecord(im.record)
		if err != nil {
			k.fail("node %d group %d: record on disk: %v", n.id, g, err)
			return
		}
		if rec != im.rec {
			k.fail("node %d group %d: record on disk is not what was written: %+v, %+v", n.id, g, rec, im.rec)
		}
		k.checkImage(n, g, im)
		k.checkState(n, g, im.machine)
	}
}

// acked is the highest version of a key that anybody was told.
func (k *checker) acked(g, key int) consensus.Slot { return k.groups[g].floor[key] }

// finished checks an operation that has its answer: I8.
func (k *checker) finished(o *Op) {
	if o.verb == verbOpen || o.Outcome != Done && o.Outcome != Refused {
		return
	}
	gc := &k.groups[o.Group]
	switch {
	case o.Version < o.Floor:
		k.fail("I8: %v: version %d was returned before it began", *o, o.Floor)
	case !o.Read() && o.Outcome == Done && o.Version == o.Floor:
		k.fail("I8: %v: its version was returned before it began", *o)
	case o.Version != 0 && (o.Read() || o.Outcome == Done):
		wr, ok := gc.writes[o.Version]
		if !ok || int(wr.key) != o.Key || wr.value != o.Value {
			k.fail("I8: %v: the chosen log has %x of key %d there", *o, wr.value, wr.key)
		}
	}
	gc.floor[o.Key] = max(gc.floor[o.Key], o.Version)
}

// notDone checks at the end that what was told as never done has not been done.
func (k *checker) notDone(ops []Op) {
	for i := range ops {
		o := &ops[i]
		if o.Outcome != NotDone || o.seq == 0 || o.Read() {
			continue
		}
		if r, ok := k.groups[o.Group].effects[requestKey{o.session, o.seq}]; ok && r.status == statusDone {
			k.fail("I8: %v was told as never done, and is done in slot %d", *o, r.version)
			return
		}
	}
}
