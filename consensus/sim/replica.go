// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// replica is one group on one node, in memory: a core, and who waits for it.
type replica struct {
	n     *node
	g     int
	core  *consensus.Core
	life  int // counts the cores that were made of this group on this node
	dirty bool
	ready consensus.Ready // while it is out

	waits   []wait // by slot
	reads   []readWait
	results []appliedResult // of the batch under way
	staged  []stagedState
	held    *machine // the state before the batch under way, to be sent as the slot that the core says

	usedAt        Time
	campaignAfter Time
	fails         int
	load          *ownership.Group // while it serves
	state         consensus.State  // when last looked at
	stateSince    Time
	committedAt   Time // an owner's last progress
	commit        consensus.Slot
	stopping      uint64 // the configuration that a stop-sign of ours leads to
	closed        consensus.Timestamp
}

// wait is a proposal that somebody waits for (duty 7).
type wait struct {
	slot   consensus.Slot
	ballot consensus.Ballot
	rpc    *rpc
}

// readWait is a read that waits for a read index, or for the state to reach it.
type readWait struct {
	at    Time
	id    uint64
	slot  consensus.Slot
	known bool
	rpc   *rpc
}

type appliedResult struct {
	slot   consensus.Slot
	ballot consensus.Ballot
	result result
}

// stagedState is the state of a snapshot that has arrived whole.
type stagedState struct {
	slot    consensus.Slot
	chain   uint64
	machine *machine
}

// newReplica makes the core of a group from the disk.
func newReplica(n *node, g int) *replica {
	w := n.w
	r := &replica{n: n, g: g, usedAt: w.now, stateSince: w.now, committedAt: w.now}
	o := consensus.Options{
		Self: n.id, Configurations: n.registry.Configurations(), MinCfg: n.disk.view.node.minCfg, Log: r, Tuning: &w.tuning, Home: w.homeOf(n),
	}
	if w.o.Leases {
		o.Fabric = n.live
	}
	if im := n.disk.view.groups[g]; im != nil {
		w.must(r.restore(im, &o))
	}
	core, err := consensus.New(o)
	if err != nil {
		w.fail("node %d group %d: cannot make the core: %v", n.id, g, err)
		return r
	}
	r.core = core
	w.check.made(n, r)
	return r
}

// restore reads the record and the tail of the log.
func (r *replica) restore(im *image, o *consensus.Options) error {
	if im.record == nil {
		return nil
	}
	rec, err := consensus.DecodeRecord(im.record)
	if err != nil {
		return err
	}
	if failpoint.Enabled(failpoint.SimPromiseForgotten) {
		rec.Promised, rec.GlobalPromises = rec.Accepted, consensus.Record{}.GlobalPromises
	}
	o.Record = rec
	for s := rec.Applied + 1; s <= rec.Last; s++ {
		l := im.at(s)
		if l == nil {
			return fmt.Errorf("log %d..%d lacks slot %d of a record to %d", im.first, im.last(), s, rec.Last)
		}
		e, err := consensus.DecodeEntry(l.bytes)
		if err != nil {
			return err
		}
		o.Tail = append(o.Tail, e)
	}
	return nil
}

// Entries implements consensus.Log.
func (r *replica) Entries(lo, hi consensus.Slot, maxBytes int) ([]consensus.Entry, error) {
	im := r.n.disk.view.groups[r.g]
	var entries []consensus.Entry
	size := 0
	for s := lo; s <= hi && size <= maxBytes; s++ {
		var l *logged
		if im != nil {
			l = im.at(s)
		}
		if l == nil {
			return nil, fmt.Errorf("no slot %d in the log", s)
		}
		e, err := consensus.DecodeEntry(l.bytes)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
		size += len(e.Payload)
	}
	return entries, nil
}

// touched puts the replica on the loop's list if its core has something to do.
func (r *replica) touched() {
	if !r.dirty && r.core.HasReady() {
		r.dirty = true
		r.n.dirty = append(r.n.dirty, r)
	}
}

// write is the group's part of the batch.
func (r *replica) write() groupWrite {
	rd := &r.ready
	gw := groupWrite{group: r.g, truncateFrom: rd.TruncateFrom, compactTo: rd.CompactTo}
	if rd.Record != nil {
		gw.rec, gw.record = *rd.Record, rd.Record.Append(nil)
		r.noteRecord(rd.Record)
	}
	if rd.Snapshot != nil {
		gw.snapshot = r.ingest()
	}
	if len(rd.Entries) > 0 {
		gw.entries = make([]logged, len(rd.Entries))
		size := 0
		for i := range rd.Entries {
			size += 80 + len(rd.Entries[i].Payload)
		}
		buf := make([]byte, 0, size)
		for i := range rd.Entries {
			at := len(buf)
			buf = rd.Entries[i].AppendTo(buf)
			gw.entries[i] = logged{bytes: buf[at:len(buf):len(buf)], entry: rd.Entries[i]}
		}
	}
	gw.committed = slices.Clone(rd.Committed)
	if failpoint.Enabled(failpoint.SimApplyOutOfOrder) && len(gw.committed) > 1 {
		a, b := &gw.committed[0], &gw.committed[1]
		a.Payload, b.Payload = b.Payload, a.Payload
		a.Session, a.Seq, b.Session, b.Seq = b.Session, b.Seq, a.Session, a.Seq
	}
	r.results = r.results[:0]
	return gw
}

// stage keeps the state that came with a Snapshot message until the core says what it thinks of it.
func (r *replica) stage(m *consensus.Message, s *machine) {
	r.staged = append(r.staged, stagedState{m.Slot, m.Chain, s})
}

// ingest finds the state of the snapshot that the core took.
func (r *replica) ingest() *machine {
	s := r.ready.Snapshot
	for i := range r.staged {
		if r.staged[i].slot == s.Slot && r.staged[i].chain == s.Chain {
			r.n.w.stats.SnapshotsTaken++
			r.n.w.sometimes("a snapshot was ingested")
			r.noteSteal()
			return r.staged[i].machine
		}
	}
	r.n.w.fail("node %d group %d takes a snapshot at slot %d that was not staged", r.n.id, r.g, s.Slot)
	return newMachine(r.n.w.o.sessionLife())
}

// takeSnapshot is the state that travels with a Snapshot message: that of the slot that the core says, or a newer one, whose
// record the message is then of.
func (r *replica) takeSnapshot(m *consensus.Message) *machine {
	w := r.n.w
	from := &r.n.disk.view
	if r.ready.Atomic {
		from = &r.n.disk.durable
	}
	im := from.groups[r.g]
	if im == nil || im.machine.applied < m.Slot {
		w.fail("node %d group %d offers a snapshot at slot %d that it has not applied", r.n.id, r.g, m.Slot)
		return newMachine(w.o.sessionLife())
	}
	w.stats.SnapshotsSent++
	if h := r.held; h != nil && h.applied == m.Slot {
		w.stats.SnapshotsExact++
		return r.withSessions(h.clone())
	}
	rec := &im.rec
	m.Slot, m.Chain, m.Time = rec.Applied, rec.AppliedChain, rec.AppliedTime
	m.StopSlot, m.StopNext, m.Established = rec.StopSlot, rec.StopNext, rec.Established
	return r.withSessions(im.machine.clone())
}

func (r *replica) withSessions(s *machine) *machine {
	if failpoint.Enabled(failpoint.SimSnapshotWithoutSessions) {
		s.table = newMachine(r.n.w.o.sessionLife()).table
	}
	return s
}

// hold keeps the state as it is before the batch, if a snapshot is to be sent with it that is not to be a newer one (duty 13).
func (r *replica) hold() {
	w := r.n.w
	r.held = nil
	im := r.n.disk.view.groups[r.g]
	if im == nil || len(r.ready.Committed) == 0 || r.ready.Snapshot != nil {
		return
	}
	for _, list := range [][]consensus.Message{r.ready.MsgsNow, r.ready.MsgsAfterSync} {
		for i := range list {
			if list[i].Type == consensus.Snapshot && list[i].Slot == im.machine.applied && w.rndLater.Int64N(100) >= w.o.SnapshotsTake {
				r.held = im.machine.clone()
				return
			}
		}
	}
}

// applied is told each entry that a batch applies.
func (n *node) applied(g int, e *consensus.Entry, res result, effective bool) {
	n.w.check.applied(n, g, e, res, effective)
	r := n.groups[g]
	if len(r.waits) > 0 {
		r.results = append(r.results, appliedResult{e.Slot, e.Ballot, res})
	}
}

// answerResults tells who waits what was applied. Requires: it is chosen.
func (r *replica) answerResults() {
	for i := range r.results {
		r.settle(&r.results[i])
	}
	r.results = r.results[:0]
}

// answer tells who waits what was applied, and reads what they asked for.
func (r *replica) answer() {
	r.answerResults()
	for _, rs := range r.ready.Reads {
		for i := range r.reads {
			if r.reads[i].id == rs.ID {
				r.reads[i].slot, r.reads[i].known = rs.Slot, true
			}
		}
	}
	for _, id := range r.ready.ReadsLost {
		r.reads = slices.DeleteFunc(r.reads, func(rw readWait) bool {
			if rw.id == id && !rw.known {
				r.n.respond(rw.rpc, outcomeRetry, result{})
				return true
			}
			return false
		})
	}
	r.answerReads()
}

// answerReads answers the reads whose slot is applied.
func (r *replica) answerReads() {
	if len(r.reads) == 0 || r.hidden() {
		return
	}
	m := r.machine()
	r.reads = slices.DeleteFunc(r.reads, func(rw readWait) bool {
		if !rw.known || m.applied < rw.slot {
			return false
		}
		if rw.rpc.index && rw.rpc.outcome == outcomeNone {
			r.n.respond(rw.rpc, outcomeIndex, result{version: rw.slot})
			return true
		}
		if rw.rpc.index {
			r.n.w.sometimes("a node that is not the owner answered a read")
		}
		r.n.w.stats.ConfirmReads++
		r.n.w.sometimes("a read was confirmed")
		r.n.respond(rw.rpc, outcomeDone, m.read(rw.rpc.command.key))
		return true
	})
}

// machine is the state as written: what a read sees.
func (r *replica) machine() *machine {
	if im := r.n.disk.view.groups[r.g]; im != nil {
		return im.machine
	}
	return r.n.w.blank
}

// settle decides the proposals up to a slot that was applied (duty 7).
func (r *replica) settle(a *appliedResult) {
	n := 0
	for ; n < len(r.waits) && r.waits[n].slot <= a.slot; n++ {
		wt := &r.waits[n]
		switch {
		case wt.slot == a.slot && wt.ballot == a.ballot:
			r.n.respond(wt.rpc, outcomeDone, a.result)
		case wt.slot == a.slot:
			r.n.w.sometimes("a proposal lost its slot to another")
			r.n.respond(wt.rpc, outcomeLost, result{})
		default:
			r.n.respond(wt.rpc, outcomeUnknown, result{}) // a snapshot jumped over it
		}
	}
	r.waits = slices.Delete(r.waits, 0, n)
}

// abandon tells who waits that the outcome is not known.
func (r *replica) abandon() {
	for i := range r.waits {
		r.n.respond(r.waits[i].rpc, outcomeUnknown, result{})
	}
	for i := range r.reads {
		r.n.respond(r.reads[i].rpc, outcomeRetry, result{})
	}
	r.waits, r.reads = nil, nil
}

// propose proposes a client's command as the owner.
func (r *replica) propose(q *rpc) {
	n := r.n
	_, _, err := r.submit(q)
	if err != nil {
		n.respond(q, outcomeRetry, result{})
	}
	r.touched()
	n.plan()
}

func (r *replica) submit(q *rpc) (consensus.Slot, consensus.Timestamp, error) {
	n := r.n
	p := consensus.Proposal{Payload: q.command.appendTo(nil), Session: q.session, Seq: q.seq}
	now, before := n.clock.time(n.w.now), r.core.Status().LastTime
	slot, at, err := r.core.Propose(now, p)
	if err != nil {
		if !n.w.harmless(err) {
			n.w.fail("node %d group %d cannot propose: %v", n.id, r.g, err)
		}
		return 0, 0, err
	}
	r.waits = append(r.waits, wait{slot, r.core.Status().Ballot, q})
	n.w.check.proposed(n, r.g, slot, q)
	n.w.stats.Proposed++
	r.noteTime(now, before, at)
	return slot, at, nil
}

// read answers a read: under a lease from the state, and then a look at the lease; else by a read index.
func (r *replica) read(q *rpc) {
	n, w := r.n, r.n.w
	if r.hidden() {
		r.readIndex(q)
		return
	}
	if r.core.MayServeLocal() {
		n.respond(q, outcomeDone, r.machine().read(q.command.key))
		return
	}
	if w.o.Leases && w.rndNode.Int64N(100) >= w.o.ConfirmReads && r.core.Status().State == consensus.Serving {
		held := r.machine().read(q.command.key)
		if w.rndNode.ppm(w.o.ReadPause) && !w.calm {
			pause := w.rndNode.spread(1*Millisecond, 2*w.o.Support)
			n.suspend(pause)
			life := n.life
			w.after(pause, func() {
				if n.up && n.life == life && n.groups[r.g] == r {
					r.leaseRead(q, held)
				}
			})
			return
		}
		r.leaseRead(q, held)
		return
	}
	r.readIndex(q)
}

// leaseRead answers with a state that was fixed before this look at the lease.
func (r *replica) leaseRead(q *rpc, held result) {
	n, w := r.n, r.n.w
	if !failpoint.Enabled(failpoint.SimLeaseSeenEarly) {
		n.tickLiveness()
	}
	ok := r.core.HoldsLease()
	r.touched() // it may want to fortify
	n.plan()
	if !ok {
		r.readIndex(q)
		return
	}
	w.stats.LeaseReads++
	w.sometimes("a read was answered under a lease")
	w.check.leaseRead(n, r)
	n.respond(q, outcomeDone, held)
}

func (r *replica) readIndex(q *rpc) {
	n := r.n
	n.reads++
	n.tickLiveness()
	if err := r.core.ReadIndex(n.reads); err != nil {
		if !n.w.harmless(err) {
			n.w.fail("node %d group %d cannot read: %v", n.id, r.g, err)
		}
		n.respond(q, outcomeRetry, result{})
		return
	}
	r.reads = append(r.reads, readWait{at: n.w.now, id: n.reads, rpc: q})
	r.touched()
	n.plan()
}

// advanced looks at what the core has become.
func (r *replica) advanced() {
	w := r.n.w
	st := r.core.Status()
	if st.Commit > r.commit {
		r.commit, r.committedAt = st.Commit, w.now
	}
	if st.State != r.state {
		w.stateChanged(r, &st)
		r.state, r.stateSince = st.State, w.now
	}
	if st.State >= consensus.Won {
		r.fails, r.campaignAfter = 0, 0
	}
	if st.State == consensus.Follower && len(r.waits) > 0 && st.Owner != r.n.id {
		r.loseOwnership()
	}
	r.touched()
}

// loseOwnership: the owner has changed. What was proposed may yet be chosen, and its slot tells; clients do not wait for it
// for ever, so that half of the time they are told now.
func (r *replica) loseOwnership() {
	if r.n.w.rndNode.chance(2) {
		r.abandon()
	}
}

// noteRecord looks for what a new record says of rare things.
func (r *replica) noteRecord(rec *consensus.Record) {
	for _, p := range rec.GlobalPromises {
		if p.Sticky {
			r.n.w.sometimes("a list of global promises overflowed")
		}
	}
	im := r.n.disk.view.groups[r.g]
	if im == nil || im.record == nil || im.rec.Accepted != rec.Accepted {
		return
	}
	for _, p := range im.rec.GlobalPromises {
		gone := !p.Ballot.IsZero()
		for _, q := range rec.GlobalPromises {
			gone = gone && q.Ballot != p.Ballot
		}
		if gone && !p.Sticky {
			r.n.w.sometimes("cancel dropped a global promise")
		}
	}
	if rec.Fort.Owner == im.rec.Fort.Owner && rec.Fort.Epoch > im.rec.Fort.Epoch && im.rec.Fort.Epoch > 0 {
		r.n.w.sometimes("an acceptor was tied to a new epoch")
	}
}

// noteSteal looks whether some other node campaigns now.
func (r *replica) noteSteal() {
	for _, o := range r.n.w.nodes {
		if o != r.n && o.up && o.groups[r.g] != nil && o.groups[r.g].core.Status().State == consensus.Preparing {
			r.n.w.sometimes("snapshot while stealing")
		}
	}
}
