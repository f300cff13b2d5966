// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// chains are those of a log by slot; 0 is unknown.
type chains [slotsMax + 1]uint64

// fact is what a node shows at one moment to one who sees disks and cores: what the invariants are judged by.
type fact struct {
	// The log accepted, durable: only while nothing above it is promised, since a Learn may replace it then.
	accepted consensus.Ballot
	last     uint8
	log      chains
	// The own ballot, if it is won, with the log as written.
	own     consensus.Ballot
	home    quorum.Home // or of accepted, if that is an own ballot
	ownLast uint8
	ownLog  chains
	// What is committed and applied, as written.
	commit      uint8
	commitChain uint64
	established uint64
}

func (x *explorer) fact(l *local) uint32 {
	var f fact
	if r := &l.durable.rec; r.Promised == r.Accepted {
		f.accepted, f.last, f.log = r.Accepted, uint8(r.Last), l.durable.chains()
	}
	if f.accepted.Node == l.self {
		f.home = homeOf(l.durable.rec.AcceptedHome, f.accepted, x.setup)
	}
	s := l.core.Status()
	if s.State >= consensus.Won && l.written.rec.Accepted == s.Ballot {
		f.own, f.home = s.Ballot, homeOf(s.Home, s.Ballot, x.setup)
		f.ownLast, f.ownLog = uint8(l.written.rec.Last), l.written.chains()
	}
	w := &l.written.rec
	f.commit, f.established = uint8(w.Commit), w.Established
	f.commitChain = l.written.chains()[w.Commit]
	id, ok := x.factIDs[f]
	if !ok {
		id = uint32(len(x.facts))
		x.facts = append(x.facts, f)
		x.factIDs[f] = id
	}
	return id
}

func (im *image) chains() chains {
	var c chains
	for i := range im.log {
		c[im.log[i].Slot] = im.log[i].Chain
	}
	c[im.rec.Applied] = im.rec.AppliedChain
	c[im.rec.Last] = im.rec.LastChain
	c[0] = 0
	return c
}
