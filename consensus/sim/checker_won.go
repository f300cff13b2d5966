// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// won checks that a ballot that a message says is won has the promises of a phase-1 quorum, each told, or on its owner's disk: I3. Acceptors
// untie themselves from owners of older ballots for its sake, I16.
func (k *checker) won(n *node, g int, m *consensus.Message, b consensus.Ballot) {
	if b.IsZero() {
		return
	}
	bl := k.log(g, b)
	if bl.won {
		return
	}
	bl.won = true
	if bl.quorums.SoleVoter(b.Node) {
		bl.pledged[b.Node] = true // its promise goes with its first batch, and nobody else can have another
	}
	if !bl.global {
		if set, home := bl.promises(bl.quorums), bl.localHome(); !bl.quorums.IsQL(set, home) {
			k.fail("I3: node %d group %d sends %v, and %v has the promises of %v, which is no QL", n.id, g, *m, b, set)
		}
		return
	}
	for v := k.oldestOpen(g, b.Cfg); v <= b.Cfg; v++ {
		cfg := k.w.configuration(v)
		if cfg == nil {
			continue
		}
		if set := bl.promises(cfg.Quorums); !cfg.Quorums.IsQ1(set) {
			k.fail("I3: node %d group %d sends %v, and %v has the promises of %v, which is no Q1 of configuration %d", n.id, g, *m, b, set, v)
			return
		}
	}
}

// promisedItself notes that the ballot is on its owner's disk, and as what.
func (bl *ballotLog) promisedItself(rec *consensus.Record) {
	bl.pledged[bl.ballot.Node] = true
	for _, p := range rec.GlobalPromises {
		bl.global = bl.global || p.Ballot == bl.ballot
	}
}

// asks notes the home of a ballot, as its owner says with the first message at it: with Prepare, unless there is nobody to ask.
func (bl *ballotLog) asks(m *consensus.Message) {
	if !bl.asked {
		bl.asked, bl.wanted = true, m.Home
	}
}

// localHome is the home of a local ballot. Whose owner has said nothing at it had nobody to ask: it is its region.
func (bl *ballotLog) localHome() quorum.Home {
	at, voter := bl.quorums.Index(bl.ballot.Node)
	if bl.asked || !voter {
		return bl.wanted
	}
	home, err := bl.quorums.HomeOf(bl.quorums.Voter(at).Region)
	if err != nil {
		return quorum.Home{}
	}
	return home
}

// promises is the voters of a configuration that have promised the ballot.
func (bl *ballotLog) promises(q *quorum.Config) quorum.Set {
	var set quorum.Set
	for i, v := range q.Voters() {
		if bl.pledged[v.Node] {
			set = set.With(i)
		}
	}
	return set
}

// oldestOpen is the lowest configuration up to one whose promises a ballot of that one needs: a log is chosen in it, or a chosen stop-sign
// leads to it, or all before it are retired.
func (k *checker) oldestOpen(g int, cfg uint64) uint64 {
	gc := &k.groups[g]
	for v := cfg; v > 1; v-- {
		if v <= k.w.retired+1 || gc.est[v] || slices.Contains(gc.ends, v) {
			return v
		}
	}
	return 1
}
