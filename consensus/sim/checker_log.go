// SPDX-License-Identifier: AGPL-3.0-only

package sim

import "github.com/atlas-edge/atlas/consensus"

// proposal is a command as its owner put it into a slot. Its place is the owner's word to who waits for it (duty 7).
type proposal struct {
	session, seq uint64
	command      command
	made         int  // by which core of its node
	sole         bool // as a sole voter
}

type place struct {
	ballot consensus.Ballot
	slot   consensus.Slot
}

// follows checks that a record of node n may follow the one that was durable before: I3, I5, I6, I16.
func (k *checker) follows(n *node, g int, prev, rec *consensus.Record) {
	bad := func(invariant, why string) {
		k.fail("%s: node %d group %d: %s: %+v, and now %+v", invariant, n.id, g, why, *prev, *rec)
	}
	switch {
	case rec.Commit < prev.Commit:
		bad("I6", "less is committed than was")
	case rec.Applied < prev.Applied:
		bad("I6", "less is applied than was")
	case rec.First < prev.First:
		bad("I5", "the log begins before where it was trimmed")
	case rec.Established < prev.Established:
		bad("I11", "an older configuration is established")
	case rec.Accepted == prev.Accepted && rec.Promised == rec.Accepted && rec.Last < prev.Last:
		bad("I5", "what was accepted is gone")
	case rec.Accepted != prev.Accepted:
	case rec.Fort.Owner == prev.Fort.Owner && rec.Fort.Epoch < prev.Fort.Epoch:
		bad("I16", "it is tied to an earlier life")
	case rec.Fort.Owner != prev.Fort.Owner && prev.Fort.Owner != 0 && rec.Promised == prev.Promised:
		bad("I16", "a tie is gone, and nothing was promised")
	}
	for _, p := range prev.GlobalPromises {
		if !p.Ballot.IsZero() && !k.mayForget(n, g, p.Ballot, rec) {
			bad("I3", "the promise to "+p.Ballot.String()+" is forgotten")
		}
	}
}

// mayForget reports whether a record need not name a global ballot that was promised: it does, or one that stands for it; it has accepted
// as high; or the ballot was given up, by itself or by this node.
func (k *checker) mayForget(n *node, g int, b consensus.Ballot, rec *consensus.Record) bool {
	for _, p := range rec.GlobalPromises {
		if p.Ballot == b || p.Sticky && b.Less(p.Ballot) {
			return true
		}
	}
	return !rec.Accepted.Less(b) || k.groups[g].cancelled[b] || b.Node == n.id && !k.log(g, b).won
}

// complete checks that the log with which a ballot is won holds all that is chosen below it.
func (k *checker) complete(n *node, g int, bl *ballotLog, im *image) {
	gc := &k.groups[g]
	bl.owned = true
	for s := len(gc.chosen); s > 0; s-- {
		c := &gc.chosen[s-1]
		if !c.ballot.Less(bl.ballot) {
			continue
		}
		l := im.at(c.entry.Slot)
		if im.rec.Last < c.entry.Slot || l != nil && l.entry.Chain != c.entry.Chain {
			k.fail("I2: group %d: node %d has won %v with a log to slot %d that lacks %s, chosen at %v", g, n.id, bl.ballot, im.rec.Last, describe(&c.entry), c.ballot)
		}
		return // the chain covers what is before
	}
}

// completeAbove checks that what is chosen at a ballot is in the log of every higher one that is won.
func (k *checker) completeAbove(g int, bl *ballotLog, upTo consensus.Slot) {
	for _, o := range k.groups[g].order {
		if !o.owned || !bl.ballot.Less(o.ballot) || upTo <= o.base || upTo <= bl.base {
			continue
		}
		want := &bl.entries[upTo-bl.base-1]
		if at := int(upTo - o.base - 1); at >= len(o.entries) || o.entries[at].Slot != 0 && want.Slot != 0 && o.entries[at].Chain != want.Chain {
			k.fail("I2: group %d: %s is chosen at %v, and the log of %v, which is won, lacks it", g, describe(want), bl.ballot, o.ballot)
			return
		}
	}
}

// claims checks what a message says of what is chosen, and of what its sender has accepted.
func (k *checker) claims(n *node, g int, m *consensus.Message, rec *consensus.Record) {
	gc := &k.groups[g]
	switch m.Type {
	case consensus.Accept, consensus.AcceptSync, consensus.Learn, consensus.Promise, consensus.Accepted, consensus.FetchReply:
		if m.Commit > consensus.Slot(len(gc.chosen)) {
			k.fail("I2: node %d group %d tells slot %d for chosen, chosen are %d", n.id, g, m.Commit, len(gc.chosen))
		}
	case consensus.Cancel:
		if k.log(g, m.Ballot).won {
			k.fail("I3: node %d group %d gives up %v, which it has won", n.id, g, m.Ballot)
		}
		gc.cancelled[m.Ballot] = true
	}
	switch bl := k.log(g, m.Ballot); {
	case m.Type == consensus.AcceptSync && bl.bound == 0:
		bl.bound = m.Time
	case m.Type == consensus.Accepted && n.disk.durable.node.clock < bl.bound:
		k.fail("I4: node %d group %d accepts the log of %v, whose times are above %d, and may forget that: its clock is sure to %d",
			n.id, g, m.Ballot, bl.bound, n.disk.durable.node.clock)
	}
	if m.Type == consensus.Promise && rec.Promised == m.Ballot && rec.Accepted != m.Ballot && rec.Accepted != m.Accepted {
		k.fail("I4: node %d group %d promises with a log accepted at %v, it is accepted at %v", n.id, g, m.Accepted, rec.Accepted)
	}
}
