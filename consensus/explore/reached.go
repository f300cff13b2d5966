// SPDX-License-Identifier: AGPL-3.0-only

package explore

import "github.com/atlas-edge/atlas/consensus"

// Reached says how far a search came: an exploration in which nothing is chosen judges nothing.
type Reached struct {
	Chosen      int    // slots, at most
	Won         int    // ballots, at most, those of the prelude included
	Lives       int    // starts of one node after a crash, at most
	Established uint64 // the highest configuration in which a log is known to be chosen
	Reads       int    // steps in which a read was answered
	Snapshots   int    // states in which one is under way
	Leased      int    // states in which an owner holds a lease
	Unleased    int    // states in which an owner that serves holds none
	Retired     bool   // some node has retired a configuration
	Trimmed     bool   // some log begins later
}

// reach notes how far a new state is.
func (x *explorer) reach(w *world) {
	r, h := &x.stats.Reached, x.histories[w.hist]
	chosen, won := 0, 0
	for chosen+1 < len(h.chosen) && h.chosen[chosen+1] != 0 {
		chosen++
	}
	for i := range h.ballots {
		if h.ballots[i].won {
			won++
		}
	}
	r.Chosen, r.Won = max(r.Chosen, chosen), max(r.Won, won)
	for n := range x.setup.Nodes {
		l := x.locals[w.node[n]]
		r.Lives, r.Established = max(r.Lives, int(l.life)), max(r.Established, l.status.Established)
		r.Retired = r.Retired || l.retired > 0
		r.Trimmed = r.Trimmed || l.durable.rec.First > 1
		if !x.setup.Fabric || l.status.State != consensus.Serving {
			continue
		}
		if x.holdsLease(w, n) {
			r.Leased++
		} else {
			r.Unleased++
		}
	}
	for _, id := range w.net {
		if x.messages[id].message.Type == consensus.Snapshot {
			r.Snapshots++
			break
		}
	}
}
