// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/liveness"
	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/consensus/reconfig"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// step is a place in the event loop at which a node can die.
type step uint8

const (
	stepNone     step = iota
	stepReady         // the Readies are taken, nothing is written
	stepWritten       // the batch is written, nothing is sent
	stepSent          // MsgsNow are sent
	stepSynced        // the batch is durable, MsgsAfterSync are not sent
	stepAnswered      // MsgsAfterSync are sent, Advance is not called
	stepEnd           // Advance is called
)

// node is one Atlas process: the cores of its groups, the core of its liveness, and a loop that does their Readies in one
// batch. It outlives crashes: what it keeps then is its disk.
type node struct {
	w      *World
	id     consensus.NodeID
	region quorum.Region
	site   int

	clock     clock
	tickEvery Time
	disk      *disk

	up, gone, frozen bool // gone: wiped, for ever; frozen: outside of the core that is healed
	life             int32
	suspendedUntil   Time
	crashAt          step

	live     *liveness.Core
	groups   []*replica // nil: not in memory
	active   []*replica // in the order in which they came into memory
	dirty    []*replica
	syncing  bool
	planned  bool // a turn of the loop
	flight   []*replica
	liveOut  bool // liveness has a Ready out
	liveSend []liveness.Message
	queue    []*packet
	since    consensus.Timestamp // when the oldest sync began
	heard    []Time              // when another node was last heard, by node

	// The system log as far as this node has learned it.
	learned    int
	registry   *reconfig.Registry
	policy     *ownership.Policy
	mapped     Time             // when the policy was last told who is alive
	driver     *reconfig.Driver // of the one that owns the system group
	sealWanted uint64           // to be made durable by the next turn
	sealing    uint64           // by this turn
	migrations []migration
	reads      uint64

	closed []consensus.Closed // by group: the latest claim that was heard in this life
}

// boot starts the process: a new epoch is durable before anything else.
func (n *node) boot() {
	w := n.w
	n.up, n.suspendedUntil, n.crashAt, n.syncing, n.planned = true, 0, stepNone, false, false
	n.life++
	n.groups, n.active, n.dirty, n.flight, n.queue = make([]*replica, w.o.Groups), nil, nil, nil, nil
	n.liveOut, n.liveSend, n.since, n.heard = false, nil, 0, make([]Time, nodesMax+1)
	epoch := n.disk.durable.node.epoch + 1
	if failpoint.Enabled(failpoint.SimEpochForgotten) {
		epoch = max(epoch-1, 1)
	}
	b := batch{epoch: epoch}
	n.disk.pending = append(n.disk.pending, b)
	n.w.must(n.disk.view.write(w, &b, nil))
	failing := n.disk.failNext
	n.disk.failNext = false
	n.w.must(n.sync())
	n.disk.failNext = failing
	n.clock.hlc = 0
	if w.rndClock.chance(4) { // the machine, not only the process
		n.clock.reboot(w.now, w.rndClock.upTo(Minute))
	}
	n.driver, n.sealWanted, n.sealing, n.migrations = nil, 0, 0, nil
	var err error
	n.live, err = liveness.New(n.livenessOptions(epoch))
	if err != nil {
		w.fail("node %d: %v", n.id, err)
		return
	}
	n.live.SetHLC(n.disk.durable.node.clock, n.disk.durable.node.clock)
	n.closed = make([]consensus.Closed, w.o.Groups)
	n.tickLiveness()
	n.startPolicy()
	n.closeLater()
	w.trace(n.id, "boots with epoch %d", epoch)
	w.mix(uint64(n.id), epoch)
	n.planTick()
	w.replayStale(n)
	life := n.life
	w.after(w.o.LearnSystemLog, func() { // what was decided while it was down
		if n.up && n.life == life {
			n.learn(len(w.systemLog))
		}
	})
}

func (n *node) livenessOptions(epoch uint64) liveness.Options {
	o := liveness.Options{
		Self: n.id, Epoch: epoch, Interval: consensus.Timestamp(n.w.o.Interval), Support: consensus.Timestamp(n.w.o.Support),
		DriftPPM: uint64(n.w.o.DriftBound), ClockJumpMax: consensus.Timestamp(n.w.o.clockJump()),
	}
	for _, m := range n.disk.durable.node.minEpochs {
		o.MinEpochs = append(o.MinEpochs, liveness.MinEpoch{Node: m.node, Epoch: m.epoch})
	}
	for _, p := range n.w.nodes {
		if p.id != n.id {
			o.Peers = append(o.Peers, p.id)
		}
	}
	return o
}

// crash ends the process. A loss of power keeps a beginning of what was not synced, a killed process all.
func (n *node) crash() {
	w := n.w
	keep, torn := 0, 0
	if w.o.KeepUnsynced {
		keep = w.rndDisk.IntN(len(n.disk.pending) + 1)
		if keep < len(n.disk.pending) && w.rndDisk.chance(2) && w.o.Torn { // the next was being written
			if groups := len(n.disk.pending[keep].groups); groups > 1 {
				torn = 1 + w.rndLater.IntN(groups-1)
			}
		}
	}
	if torn > 0 {
		w.stats.Torn++
	}
	lost, err := n.crashDisk(keep, torn)
	w.must(err)
	w.stats.Crashes++
	w.stats.BatchesLost += lost
	if lost > 0 {
		w.sometimes("a crash lost unsynced batches")
	}
	w.trace(n.id, "crashes, loses %d batches and keeps %d", lost, keep)
	w.mix3(uint64(n.id), uint64(lost), uint64(keep))
	n.up = false
	for _, r := range n.active {
		w.check.forgotten(n, r.g)
	}
	n.live, n.groups, n.active, n.dirty, n.flight, n.queue = nil, nil, nil, nil, nil, nil
	w.check.crashed(n)
}

// dies crashes the node if it was to crash at this step, and reports so.
func (n *node) dies(at step) bool {
	if n.crashAt != at {
		return false
	}
	n.w.trace(n.id, "dies at step %d", at)
	n.w.stats.CrashesInside++
	n.crash()
	n.w.restartLater(n)
	return true
}

// stop ends the process because of an error of its disk.
func (n *node) stop() {
	n.crash()
	n.w.restartLater(n)
}

// running reports whether the node does anything now.
func (n *node) running() bool { return n.up && n.w.now >= n.suspendedUntil }

func (n *node) tickLiveness() {
	n.live.Tick(n.clock.mono(n.w.now), n.clock.wall(n.w.now))
	n.setClock()
}

func (n *node) planTick() {
	n.w.heap.push(event{at: n.w.now + n.tickEvery, kind: evTick, who: int32(n.id), life: n.life})
}

// tick is the node's timer.
func (n *node) tick() {
	w := n.w
	if w.now < n.suspendedUntil {
		w.heap.push(event{at: n.suspendedUntil, kind: evTick, who: int32(n.id), life: n.life})
		return
	}
	n.tickLiveness()
	n.live.DiskProgress(n.since)
	mono := n.clock.mono(w.now)
	for _, r := range n.active {
		if r.core.NeedsTick() {
			r.core.Tick(mono)
			r.touched()
		}
	}
	n.drive()
	n.migrate()
	n.planTick()
	n.plan()
}

// plan lets the loop turn soon.
func (n *node) plan() {
	if len(n.dirty) > 0 || n.sealWanted != 0 || n.live.HasReady() {
		n.planNow()
	}
}

func (n *node) planNow() {
	if !n.planned && !n.syncing {
		n.planned = true
		n.w.heap.push(event{at: n.w.now + n.w.rndNode.upTo(100*Microsecond), kind: evLoop, who: int32(n.id), life: n.life})
	}
}

// receive takes a packet.
func (n *node) receive(p *packet) {
	if n.syncing && n.w.o.QueueInSync {
		n.queue = append(n.queue, p)
		return
	}
	n.heard[p.from] = n.w.now
	switch p.kind {
	case packetCore:
		n.receiveCore(p)
	case packetLive:
		n.w.mix3(uint64(n.id), uint64(p.live.From), p.live.Seq)
		n.tickLiveness()
		if err := n.live.Step(p.live); err != nil && !errors.Is(err, liveness.ErrUnknownPeer) {
			n.w.fail("node %d refuses %v: %v", n.id, p.live, err)
		}
	case packetRPC:
		n.receiveRPC(p.rpc)
	case packetOrder:
		n.receiveOrder(p.from, &p.order)
	}
	if n.up {
		n.plan()
	}
}

func (n *node) receiveCore(p *packet) {
	w := n.w
	m, err := consensus.DecodeMessage(p.bytes)
	if err != nil {
		w.fail("message to node %d does not decode: %v", n.id, err)
		return
	}
	if m.From != p.from { // the transport knows whom it talks to
		if p.forged != forgedFrom {
			w.fail("node %d sent a message as node %d", p.from, m.From)
		}
		w.stats.Fates.Refused++
		return
	}
	if w.tracing() {
		w.trace(n.id, "g%d receives %v", p.group, m)
	}
	w.mixBytes(uint64(n.id)<<32|uint64(p.group), p.bytes)
	r := n.open(int(p.group))
	if p.snapshot != nil {
		r.stage(&m, p.snapshot)
	}
	n.tickLiveness()
	n.step(r, m, p)
}

// step gives a message to a core and judges what it says.
func (n *node) step(r *replica, m consensus.Message, p *packet) {
	w := n.w
	err := r.core.Step(m)
	switch {
	case err == nil:
		if p.forged != genuine && w.mustRefuse(p, &m) {
			w.fail("node %d took the forged %v", n.id, m)
		}
	case errors.Is(err, consensus.ErrUnknownConfiguration):
		w.sometimes("a message of a configuration that is not known yet")
		n.learnSoon(p)
	case errors.Is(err, consensus.ErrInvalid):
		if p.forged == genuine && n.knows(m.From) && m.Ballot.Round < roundForged {
			w.fail("node %d group %d refuses %v: %v", n.id, r.g, m, err)
			return
		}
		w.stats.Fates.Refused++
	default:
		w.fail("node %d group %d breaks at %v: %v", n.id, r.g, m, err)
	}
	r.touched()
}

// knows reports whether a node is in a configuration that this one takes for live. What others say may be refused.
func (n *node) knows(o consensus.NodeID) bool {
	for _, c := range n.registry.Configurations() {
		if _, ok := c.Quorums.Index(o); ok || slices.Contains(c.Learners, o) {
			return true
		}
	}
	return false
}

// turn is one turn of the event loop: one batch for all groups.
func (n *node) turn() {
	w := n.w
	n.planned = false
	if w.now < n.suspendedUntil {
		n.planned = true
		w.heap.push(event{at: n.suspendedUntil, kind: evLoop, who: int32(n.id), life: n.life})
		return
	}
	if n.syncing {
		return
	}
	b, mustSync := n.collect()
	if !n.up || n.dies(stepReady) {
		return
	}
	n.writeOut(b, mustSync)
}

// collect takes the Readies of all groups that have one.
func (n *node) collect() (b batch, mustSync bool) {
	if n.sealWanted != 0 {
		n.sealing, b.minCfg, mustSync = n.sealWanted, n.sealWanted, true
		n.sealWanted = 0
		for _, r := range n.active {
			r.core.Seal(n.sealing)
			r.touched()
		}
	}
	for _, r := range n.dirty {
		r.dirty = false
		if !r.core.HasReady() {
			continue
		}
		r.ready = r.core.Ready()
		if err := r.core.Err(); err != nil {
			n.w.fail("node %d group %d breaks: %v", n.id, r.g, err)
			return b, false
		}
		n.flight = append(n.flight, r)
		r.hold()
		n.w.check.ready(n, r)
		mustSync = mustSync || r.ready.MustSync
		b.clock = max(b.clock, r.ready.Clock)
		for _, wd := range r.ready.Withdrawals {
			b.minEpochs = append(b.minEpochs, minEpoch{wd.Node, wd.Epoch})
			n.w.sometimes("support was withdrawn")
		}
		if r.ready.Record != nil || r.ready.Snapshot != nil {
			b.groups = append(b.groups, r.write())
		}
		r.staged = nil
	}
	n.dirty = n.dirty[:0]
	if n.live.HasReady() && !n.liveOut {
		lr := n.live.Ready()
		n.liveOut = true
		b.epoch = max(b.epoch, lr.Epoch)
		if lr.Epoch != 0 {
			n.w.sometimes("withdrawal bumped an epoch")
		}
		for _, m := range lr.MinEpochs {
			b.minEpochs = append(b.minEpochs, minEpoch{m.Node, m.Epoch})
		}
		mustSync = mustSync || lr.MustSync
		n.liveSend = append(n.liveSend[:0], lr.MsgsNow...)
	}
	if failpoint.Enabled(failpoint.SimWithdrawalNotDurable) {
		b.minEpochs = nil
	}
	return b, mustSync
}

// writeOut writes the batch, sends what may go at once, and syncs.
func (n *node) writeOut(b batch, mustSync bool) {
	w := n.w
	if !b.empty() {
		switch err := n.write(b, n.applied); {
		case errors.Is(err, errFull):
			n.dropFlight()
			return
		case err != nil:
			w.fail("node %d cannot write: %v", n.id, err)
			return
		}
	}
	if !n.up || n.dies(stepWritten) {
		return
	}
	for _, r := range n.flight {
		for i := range r.ready.MsgsNow {
			n.sendCore(r, &r.ready.MsgsNow[i])
		}
		if w.o.AnswerEarly && !r.ready.Atomic {
			r.answerResults()
		}
	}
	for _, m := range n.liveSend {
		w.check.sentLive(n, &m)
		w.send(&packet{kind: packetLive, from: n.id, to: m.To, live: m})
	}
	n.liveSend = n.liveSend[:0]
	if n.dies(stepSent) {
		return
	}
	early := failpoint.Enabled(failpoint.SimSendBeforeSync)
	if early {
		n.sendAfter()
	}
	if mustSync || !b.empty() && !w.o.LazySync {
		n.syncing = true
		if n.since == 0 {
			n.since = n.clock.mono(w.now)
		}
		w.heap.push(event{at: w.now + n.syncTime(), kind: evSynced, who: int32(n.id), life: n.life})
		return
	}
	n.finish(early)
}

// dropFlight is what follows a write that was refused: nothing was written, so that the cores are dropped and made again from
// what is there (duty 5).
func (n *node) dropFlight() {
	n.w.sometimes("a full disk refused a batch")
	for _, r := range n.flight {
		n.drop(r)
	}
	n.flight = n.flight[:0]
	if n.liveOut { // what liveness wrote is lost
		n.stop()
	}
}

// synced is the disk's answer.
func (n *node) synced() {
	w := n.w
	if w.now < n.suspendedUntil {
		w.heap.push(event{at: n.suspendedUntil, kind: evSynced, who: int32(n.id), life: n.life})
		return
	}
	if err := n.sync(); err != nil {
		if !errors.Is(err, errSync) {
			w.fail("node %d: %v", n.id, err)
			return
		}
		w.trace(n.id, "sync fails")
		w.sometimes("a failed sync stopped a node")
		if !failpoint.Enabled(failpoint.SimSyncErrorSwallowed) {
			n.stop()
			return
		}
		n.disk.pending = n.disk.pending[:0]
	}
	n.syncing, n.since = false, 0
	if n.dies(stepSynced) {
		return
	}
	n.finish(false)
}

func (n *node) sendAfter() {
	for _, r := range n.flight {
		for i := range r.ready.MsgsAfterSync {
			n.sendCore(r, &r.ready.MsgsAfterSync[i])
		}
	}
}

// finish sends what waited for the batch, answers, and ends the Readies.
func (n *node) finish(sent bool) {
	w := n.w
	if !sent {
		n.sendAfter()
	}
	for _, r := range n.flight {
		r.answer()
	}
	if n.dies(stepAnswered) {
		return
	}
	if n.liveOut {
		n.live.Advance()
		n.liveOut = false
	}
	n.sealing = 0
	flight := n.flight
	n.flight = nil
	for _, r := range flight {
		r.core.Advance()
		if err := r.core.Err(); err != nil {
			w.fail("node %d group %d breaks: %v", n.id, r.g, err)
			return
		}
		r.ready = consensus.Ready{}
		r.advanced()
	}
	n.flight = flight[:0]
	if n.dies(stepEnd) {
		return
	}
	queue := n.queue
	n.queue = nil
	for _, p := range queue {
		if n.up {
			n.receive(p)
		}
	}
	if n.up {
		n.plan()
	}
}

// sendCore sends a core's message as bytes.
func (n *node) sendCore(r *replica, m *consensus.Message) {
	w := n.w
	p := &packet{kind: packetCore, from: n.id, to: m.To, group: int32(r.g)}
	if m.Type == consensus.Snapshot {
		c := *m
		m, p.snapshot = &c, r.takeSnapshot(&c)
	}
	w.check.sent(n, r.g, m)
	n.noteMessage(m)
	if w.tracing() {
		w.trace(n.id, "g%d sends %v", r.g, m)
	}
	p.bytes = m.AppendTo(nil)
	w.stats.note(m)
	w.send(p)
}

// noteMessage looks for rare things in what a core sends.
func (n *node) noteMessage(m *consensus.Message) {
	w := n.w
	switch {
	case m.Type == consensus.Nack && m.StaleCfg != 0:
		w.sometimes("a ballot of a sealed configuration was refused")
	case m.Type == consensus.Nack && m.LeasedOwner == n.id:
		w.sometimes("an owner refused a stealer because of its own lease")
	case m.Type == consensus.Nack && m.LeasedOwner != 0:
		if _, quarantined := n.live.Quarantined(); quarantined {
			w.sometimes("a node in quarantine refused a stealer")
		}
	case m.Type == consensus.PrePromise && !m.Release.IsZero():
		w.sometimes("a node that lost its ballot untied others")
	case m.Type == consensus.Snapshot && m.Ballot.Node != n.id:
		w.sometimes("a campaign was brought up to date by a snapshot")
	}
}

// open returns the replica of a group, made from the disk if it is not in memory.
func (n *node) open(g int) *replica {
	if r := n.groups[g]; r != nil {
		r.usedAt = n.w.now
		return r
	}
	r := newReplica(n, g)
	n.groups[g] = r
	n.active = append(n.active, r)
	return r
}

// drop forgets a replica: it is made again when it is needed.
func (n *node) drop(r *replica) {
	r.abandon()
	n.groups[r.g] = nil
	n.active = slices.DeleteFunc(n.active, func(o *replica) bool { return o == r })
	n.dirty = slices.DeleteFunc(n.dirty, func(o *replica) bool { return o == r })
	n.w.check.forgotten(n, r.g)
}

// dropAnswering drops a replica once nothing of it is under way.
func (n *node) dropAnswering(r *replica) {
	if !n.inFlight(r) {
		n.drop(r)
	}
}
