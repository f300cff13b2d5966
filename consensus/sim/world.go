// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/consensus/reconfig"
)

// nodesMax bounds the nodes of a world, those that come later included.
const nodesMax = 40

// Setup is what Options do not say: all of it may be empty.
type Setup struct {
	// Latency is one way, by the sites of sender and receiver: site i is that of the i-th region of Options.Regions. Empty for
	// Options.Near and Far.
	Latency [][]Time
	// OneRegion makes all nodes voters of one region, wherever they stand: with Options.Fn a plain majority.
	OneRegion bool
	// Ownership is the policy where Options.Adaptive is on; nil for that of Options.PolicyScale.
	Ownership *ownership.Options
	// Pick is the group of a client's next operation; nil for Options.Skew. site is where the client stands.
	Pick func(client, site int, r *rand.Rand) int
	// Done is told each operation that has ended, and where its client stands.
	Done func(o *Op, site int)
	// Trace takes the story of the run.
	Trace io.Writer
}

// World is one run. Everything happens in Run, on the goroutine that calls it.
type World struct {
	o      Options
	setup  Setup
	tuning consensus.Tuning

	now   Time
	heap  eventHeap
	nodes []*node
	links [][]link
	stale []*packet

	clients     []*client
	clientsStop bool
	probes      []int // groups that wait for a write, or a read, once the world is healed
	probeVerb   verb
	nudging     bool
	lookAt      Time
	ops         []Op
	used        []bool // groups that somebody asked for
	calm        bool   // faults have ended

	systemLog  []reconfig.Entry
	registry   *reconfig.Registry        // all of systemLog applied
	first      *reconfig.Registry        // none of it
	history    []consensus.Configuration // all that were ever set, by version-1
	homes      [][][]quorum.Region       // by configuration and node
	driverHost consensus.NodeID
	retired    uint64      // all configurations up to this one
	handovers  []*handover // by group

	rndNet, rndDisk, rndClock, rndClient, rndFault, rndOwner, rndNode, rndReconfig, rndLater, rndClosed stream

	check *checker
	blank *machine
	stats Stats
	marks map[string]bool
	hash  uint64
	err   error
}

// NewWorld makes a world. Nothing happens before Run.
func NewWorld(o Options, s Setup) *World {
	w := &World{
		o: o, setup: s, used: make([]bool, o.Groups), marks: map[string]bool{},
		rndNet: newStream(o.Seed, streamNetwork), rndDisk: newStream(o.Seed, streamDisk), rndClock: newStream(o.Seed, streamClock),
		rndClient: newStream(o.Seed, streamClient), rndFault: newStream(o.Seed, streamFault), rndOwner: newStream(o.Seed, streamOwner),
		rndNode: newStream(o.Seed, streamNode), rndReconfig: newStream(o.Seed, streamReconfig), rndLater: newStream(o.Seed, streamLater),
		rndClosed: newStream(o.Seed, streamClosed),
	}
	w.handovers = make([]*handover, o.Groups)
	w.blank = newMachine(o.sessionLife())
	w.tuning = consensus.DefaultTuning()
	w.tuning.UncommittedEntries, w.tuning.MessageBytes = int(o.UncommittedEntries), int(o.MessageBytes)
	w.tuning.InflightMessages, w.tuning.RetainedEntries = int(o.InflightMessages), int(o.RetainedEntries)
	w.tuning.RetainedBytes = int(o.RetainedBytes)
	w.tuning.RetryAfter, w.tuning.FlushAfter = consensus.Timestamp(o.RetryAfter), consensus.Timestamp(o.FlushAfter)
	w.tuning.LearnAfter, w.tuning.SnapshotRetryAfter = w.tuning.FlushAfter, 4*w.tuning.RetryAfter
	w.check = newChecker(w)
	w.links = make([][]link, nodesMax+1)
	for i := range w.links {
		w.links[i] = make([]link, nodesMax+1)
	}
	for z, count := range o.Regions {
		for range count {
			region := regionName(z)
			if s.OneRegion {
				region = regionName(0)
			}
			w.addNode(region, z)
		}
	}
	w.firstConfiguration()
	for i := range int(o.Clients) {
		w.clients = append(w.clients, newClient(w, i, w.rndClient.IntN(len(o.Regions))))
	}
	return w
}

func regionName(z int) quorum.Region { return quorum.Region(rune('a' + z)) }

// addNode makes a node that has never run.
func (w *World) addNode(region quorum.Region, site int) *node {
	n := &node{w: w, id: consensus.NodeID(len(w.nodes) + 1), region: region, site: site, disk: newDisk(int(w.o.Groups))}
	r := w.rndClock
	n.clock = clock{base: r.upTo(Minute), since: w.now, wallOff: r.upTo(2*w.o.WallSkew) - w.o.WallSkew}
	n.clock.ppm = r.between(-w.o.Drift, w.o.Drift)
	if r.chance(2) {
		n.clock.ppm = w.o.Drift * (2*r.Int64N(2) - 1)
	}
	spread := 1 + float64(w.o.TickSpread)/100*r.Float64()
	if r.chance(2) {
		spread = 1 / spread
	}
	n.tickEvery = Time(float64(w.o.TickEvery) * spread)
	w.nodes = append(w.nodes, n)
	return n
}

// node finds a node; nil if there is none of that name.
func (w *World) node(id consensus.NodeID) *node {
	if id == 0 || int(id) > len(w.nodes) {
		return nil
	}
	return w.nodes[id-1]
}

// usedGroups is how many groups clients ask for: all, or all but the last, which then stays untouched.
func (w *World) usedGroups() int {
	if w.o.Groups >= 3 {
		return int(w.o.Groups) - 1
	}
	return int(w.o.Groups)
}

// gateway is the node that a client of a site talks to.
func (w *World) gateway(site int, r stream) *node {
	var near, all []*node
	for _, n := range w.nodes {
		if n.gone || n.frozen {
			continue
		}
		all = append(all, n)
		if n.site == site {
			near = append(near, n)
		}
	}
	if len(near) > 0 && !r.chance(4) {
		return near[r.IntN(len(near))]
	}
	return all[r.IntN(len(all))]
}

// after calls f at a time from now.
func (w *World) after(d Time, f func()) {
	w.heap.push(event{at: w.now + d, kind: evCall, call: f})
}

// fail ends the run with a violation: the first counts.
func (w *World) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
		w.trace(0, "VIOLATION %v", w.err)
	}
}

func (w *World) failed() bool { return w.err != nil }

// must is for what cannot fail unless a core is wrong.
func (w *World) must(err error) {
	if err != nil {
		w.fail("%v", err)
	}
}

// harmless reports whether an error says only that now is not the time.
func (w *World) harmless(err error) bool {
	return errors.Is(err, consensus.ErrNotOwner) || errors.Is(err, consensus.ErrBusy) || errors.Is(err, consensus.ErrStopped)
}

// tracing reports whether anybody reads the trace.
func (w *World) tracing() bool { return w.setup.Trace != nil }

// trace writes one line. who is a node, 0 for the world. A trace that cannot be written is not missed.
func (w *World) trace(who consensus.NodeID, format string, args ...any) {
	if w.setup.Trace == nil {
		return
	}
	head := fmt.Sprintf("%12.6f ", float64(w.now)/1e9)
	if who != 0 {
		head += fmt.Sprintf("n%d ", who)
	}
	_, _ = fmt.Fprintf(w.setup.Trace, head+format+"\n", args...) // see above
}

// mix takes part of what happens into the hash of the trace.
func (w *World) mix(a, b uint64) { w.hash = mix(w.hash^a*0x9e3779b97f4a7c15) ^ b ^ uint64(w.now) }

func (w *World) mix3(a, b, c uint64) { w.mix(a, mix(b)^c) }

// Hash is that of everything that happened. Two runs of one seed have the same.
func (w *World) Hash() uint64 { return w.hash }

// Run goes through both phases: safety with faults, then progress once they have ended. It returns the first violation.
func (w *World) Run() error {
	for _, n := range w.nodes {
		n.boot()
	}
	for _, c := range w.clients {
		c.wake(w.rndClient.upTo(w.o.Think) + 1)
	}
	w.planFaults()
	if w.o.ReconfigEvery > 0 {
		w.driveChange()
	}
	w.runUntil(w.o.Safety)
	if !w.failed() {
		w.heal()
	}
	if !w.failed() {
		w.finish()
	}
	w.stats.Virtual += w.now
	w.stats.Seeds++
	return w.err
}

// runUntil lets everything happen that is planned up to a time, or until `done`.
func (w *World) runUntil(end Time) { w.runWhile(end, nil) }

func (w *World) runWhile(end Time, done func() bool) bool {
	for !w.failed() && len(w.heap.events) > 0 && w.heap.events[0].at <= end {
		e := w.heap.pop()
		w.now = e.at
		w.stats.Events++
		w.handle(&e)
		if done != nil && done() {
			return true
		}
	}
	w.now = max(w.now, end)
	return false
}

func (w *World) handle(e *event) {
	switch e.kind {
	case evDeliver:
		w.deliver(e.packet)
	case evCall:
		e.call()
	case evClient:
		if c := w.clients[e.who]; int32(c.life) == e.life {
			c.run()
		}
	case evTick, evLoop, evSynced:
		n := w.nodes[e.who-1]
		if !n.up || n.life != e.life {
			return
		}
		switch e.kind {
		case evTick:
			n.tick()
		case evLoop:
			n.turn()
		case evSynced:
			n.synced()
		}
	}
}

// finish judges what can be judged only at the end.
func (w *World) finish() {
	w.check.untouched()
	w.check.agree()
	w.check.notDone(w.ops)
	n, err := witness(w.resolved())
	w.stats.OpsChecked += n
	w.must(err)
}

// resolved is the history with its unknown operations settled by the chosen log.
func (w *World) resolved() []Op {
	ops, settled := resolve(w.ops, func(g int, session, seq uint64) (result, bool) {
		r, ok := w.check.groups[g].effects[requestKey{session, seq}]
		return r, ok
	}, w.now)
	w.stats.OpsResolved += settled
	return ops
}

// History is the operations of the run, with what was unknown settled.
func (w *World) History() []Op { return w.resolved() }

// Stats is what happened, in numbers.
func (w *World) Stats() Stats { return w.stats }

// Marks are the coverage marks that were hit.
func (w *World) Marks() map[string]bool { return w.marks }

// finished records an operation that has ended.
func (w *World) finished(c *client) {
	w.check.finished(&c.op)
	w.ops = append(w.ops, c.op)
	if w.setup.Done != nil {
		w.setup.Done(&c.op, c.site)
	}
	switch c.op.Outcome {
	case Done:
		w.stats.OpsDone++
	case Refused:
		w.stats.OpsRefused++
	case NotDone:
		w.stats.OpsNotDone++
	case Unknown:
		w.stats.OpsUnknown++
	}
}

// mixBytes takes a message into the hash of the trace.
func (w *World) mixBytes(a uint64, b []byte) {
	w.mix(a, uint64(crc32.Checksum(b, castagnoli)))
}

// shared: only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// mustRefuse reports whether a core has to refuse a forged message. What comes too late is dropped before it is looked at.
func (w *World) mustRefuse(p *packet, _ *consensus.Message) bool { return p.forged == forgedBallot }
