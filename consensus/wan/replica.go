// SPDX-License-Identifier: AGPL-3.0-only

package wan

import (
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// logKeep is the entries that a node keeps for who lags.
const logKeep = 256

// hopsMax is how often a request may be passed on before the model counts as broken.
const hopsMax = 100

// request comes to a node: the owner proposes, a node that is to be the owner keeps it until it is, others pass it on.
func (w *world) request(n *node, ask *request) error {
	r, err := w.replica(n, ask.object)
	if err != nil {
		return err
	}
	st := r.core.Status()
	switch {
	case st.State >= consensus.Won:
		return w.propose(r, ask)
	case st.State != consensus.Follower || r.told != nil:
		r.queue = append(r.queue, ask)
		return nil
	}
	if ask.hops++; ask.hops > hopsMax {
		return fmt.Errorf("object %d is looked for %d times", ask.object, ask.hops)
	}
	to := r.next
	if to == 0 {
		to = st.Owner
	}
	if to == 0 || to == n.id {
		to = w.where[ask.region][ask.object]
	}
	if to == n.id {
		return fmt.Errorf("node %d object %d: nobody owns it", n.id, ask.object)
	}
	w.route(ask, n.region, to)
	return nil
}

func (w *world) propose(r *replica, ask *request) error {
	slot, _, err := r.core.Propose(w.now, consensus.Proposal{Payload: w.payload})
	if err != nil {
		return fmt.Errorf("node %d object %d: propose: %w", r.n.id, r.object, err)
	}
	r.waits = append(r.waits, wait{slot: slot, ballot: r.core.Status().Ballot, ask: ask})
	if r.group == nil {
		r.group = r.n.policy.Acquire(w.now, fmt.Sprint("object", r.object), r.told)
		r.told = nil
	}
	m, move := r.n.policy.Observe(w.now, r.group, &w.bounds, Regions[ask.region], 0, 1)
	if err := w.pump(r); err != nil {
		return err
	}
	if move && w.o.Mode == Adaptive && r.leaving == nil {
		r.leaving, r.since = &m, w.now
	}
	return nil
}

// patience is how long a release waits for every node to have the whole log, the next owner among them, which then need not
// fetch it from here first.
const patience = 500 * Millisecond

// mayRelease gives the object away if it is to leave, and all have its log or patience is over. What was proposed and is not
// committed the next owner may adopt.
func (w *world) mayRelease(r *replica) error {
	st := r.core.Status()
	switch {
	case r.leaving == nil:
		return nil
	case st.State < consensus.Serving:
		if st.State == consensus.Follower {
			r.leaving = nil
		}
		return nil
	case st.TrimTo < st.Last && w.now-r.since < patience:
		return nil
	}
	m := r.leaving
	r.group, r.leaving, r.next, r.gives = nil, nil, m.To, &m.Handover
	w.result.Moves++
	if err := r.core.Release(m.To); err != nil {
		return fmt.Errorf("node %d object %d: release to %d: %w", r.n.id, r.object, m.To, err)
	}
	return w.pump(r)
}

// pump does all that a core wants done, up to a batch that has to become durable first.
func (w *world) pump(r *replica) error {
	for !r.out && r.core.HasReady() {
		rd := r.core.Ready()
		if err := r.core.Err(); err != nil {
			return fmt.Errorf("node %d object %d: %w", r.n.id, r.object, err)
		}
		r.write(&rd)
		if rd.Snapshot != nil {
			w.result.Snapshots++
		}
		w.send(r, rd.MsgsNow)
		w.apply(r, rd.Committed)
		if rd.MustSync {
			r.out, r.after = true, rd.MsgsAfterSync
			w.push(&event{at: w.now + w.o.Sync, kind: evSynced, node: r.n, on: r})
			break
		}
		w.send(r, rd.MsgsAfterSync)
		r.core.Advance()
	}
	if err := r.core.Err(); err != nil {
		return fmt.Errorf("node %d object %d: %w", r.n.id, r.object, err)
	}
	if !r.ticks && (r.core.NeedsTick() || r.leaving != nil) {
		r.ticks = true
		r.n.ticking = append(r.n.ticking, r)
	}
	return w.won(r)
}

// write keeps the log as the Ready says.
func (r *replica) write(rd *consensus.Ready) {
	if s := rd.TruncateFrom; s != 0 {
		r.log = r.log[:max(s, r.first)-r.first]
	}
	if rd.Snapshot != nil {
		r.log, r.first = nil, rd.Snapshot.Slot+1
	}
	r.log = append(r.log, rd.Entries...)
	if s := rd.CompactTo; s != 0 && s >= r.first {
		r.log, r.first = slices.Clone(r.log[s+1-r.first:]), s+1
	}
}

// send puts messages on their way. A message to a node that is dead is lost there.
func (w *world) send(r *replica, msgs []consensus.Message) {
	for i := range msgs {
		m := &msgs[i]
		to := w.nodes[m.To-1]
		w.result.Messages++
		e := &event{at: w.now + oneWay(r.n.region, to.region), kind: evMessage, node: to, object: r.object, msg: *m}
		if m.Type == consensus.Release {
			e.told, r.gives = r.gives, nil
		}
		w.push(e)
	}
}

// apply answers the requests whose slots are chosen.
func (w *world) apply(r *replica, committed []consensus.Entry) {
	for i := range committed {
		e := &committed[i]
		for len(r.waits) > 0 && r.waits[0].slot <= e.Slot {
			q := r.waits[0]
			r.waits = r.waits[1:]
			if q.slot != e.Slot || q.ballot != e.Ballot { // it never will be chosen: its client sends it again
				w.result.Again++
				w.route(q.ask, r.n.region, r.n.id)
				continue
			}
			w.push(&event{at: w.now + oneWay(r.n.region, q.ask.region), kind: evAnswer, on: r, ask: q.ask})
		}
	}
	if n := len(committed); n > 0 && committed[n-1].Slot%64 == 0 && committed[n-1].Slot > logKeep {
		r.core.Compact(min(r.core.Status().TrimTo, committed[n-1].Slot-logKeep))
	}
}

// won proposes what has waited for the ballot.
func (w *world) won(r *replica) error {
	if len(r.queue) == 0 && r.told == nil || r.core.Status().State < consensus.Won {
		return nil
	}
	if r.told != nil && r.since != 0 {
		w.result.Pause += w.now - r.since
		r.since = 0
	}
	queue := r.queue
	r.queue = nil
	for _, ask := range queue {
		if err := w.request(r.n, ask); err != nil {
			return err
		}
	}
	return nil
}

// tick brings time to the cores that wait for it.
func (w *world) tick(n *node) error {
	w.push(&event{at: w.now + tickEvery, kind: evTick, node: n})
	ticking := n.ticking
	n.ticking = nil
	for _, r := range ticking {
		r.ticks = false
		r.core.Tick(w.now)
		if err := w.pump(r); err != nil {
			return err
		}
		if err := w.mayRelease(r); err != nil {
			return err
		}
	}
	return nil
}
