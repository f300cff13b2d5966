// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// outcome is what a node tells a client of one attempt.
type outcome uint8

const (
	outcomeNone    outcome = iota // a question, not an answer
	outcomeDone                   // the result is there
	outcomeRetry                  // nothing was done; ask again
	outcomeLost                   // what was proposed lost its slot: this attempt never takes effect
	outcomeUnknown                // it may take effect yet
	outcomeIndex                  // the state may be read from the result's version on: an answer to the gateway
)

// rpc is a client's request on its way to an owner, or the answer on its way back. It does not change once it is sent.
type rpc struct {
	client, attempt int
	op              int // of the client
	group           int
	command         command
	session, seq    uint64
	gateway         consensus.NodeID // the node that the client talks to
	hops            int
	index           bool // only the read index is asked for
	outcome         outcome
	result          result
}

// receiveRPC takes a forwarded request, or an answer to hand to the client.
func (n *node) receiveRPC(q *rpc) {
	switch q.outcome {
	case outcomeNone:
		n.serve(q)
	case outcomeIndex:
		r := n.open(q.group)
		r.reads = append(r.reads, readWait{at: n.w.now, slot: q.result.version, known: true, rpc: q})
		r.answerReads()
	default:
		n.w.answered(q)
	}
}

// serve does what a client asks, or passes it on to the owner.
func (n *node) serve(q *rpc) {
	w := n.w
	r := n.open(q.group)
	if q.command.verb != verbGet && q.session != 0 {
		if res, ok := r.machine().peek(q.session, q.seq); ok && !r.hidden() {
			w.sometimes("a repeated request was answered from the table")
			n.respond(q, outcomeDone, res)
			return
		}
	}
	st := r.core.Status()
	if q.hops > 0 || st.State == consensus.Serving {
		n.demand(r, q)
		st = r.core.Status()
	}
	switch {
	case st.State >= consensus.Won:
		if q.command.verb == verbGet && q.index {
			r.readIndex(q)
		} else if q.command.verb == verbGet {
			r.read(q)
		} else {
			r.propose(q)
		}
	case q.hops == 0 && n.mayForward(st.Owner):
		f := *q
		f.hops++
		f.index = q.command.verb == verbGet && w.rndClient.Int64N(100) < w.o.FollowerReads
		w.stats.Forwarded++
		w.send(&packet{kind: packetRPC, from: n.id, to: st.Owner, rpc: &f})
	default:
		n.mayCampaign(r, &st)
		n.respond(q, outcomeRetry, result{})
	}
}

// hidden reports whether the state holds what is not yet chosen, and so is for nobody to see (duty 5).
func (r *replica) hidden() bool { return r.ready.Atomic && r.n.syncing }

// mayForward reports whether a node that owns by hearsay is worth asking.
func (n *node) mayForward(owner consensus.NodeID) bool {
	if owner == 0 || owner == n.id || n.w.rndOwner.chance(50) {
		return false
	}
	return n.alive(owner) && n.votes(owner)
}

// respond answers a request: to the client, or to the node that it came by.
func (n *node) respond(q *rpc, o outcome, res result) {
	w := n.w
	if o == outcomeUnknown && failpoint.Enabled(failpoint.SimUnknownAsLost) {
		o = outcomeLost
	}
	a := *q
	a.outcome, a.result = o, res
	if q.gateway == n.id {
		w.after(w.o.Near/4+1, func() { w.answered(&a) })
		return
	}
	w.send(&packet{kind: packetRPC, from: n.id, to: q.gateway, rpc: &a})
}
