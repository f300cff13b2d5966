// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"cmp"
	"container/heap"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/internal/invariants"
)

var (
	seedFlag  = flag.Uint64("liveness.seed", 0, "replay this seed of TestSimulation, with its trace")
	seedsFlag = flag.Uint64("liveness.seeds", 0, "how many seeds of TestSimulation; 0 for the default")
)

// slow says that the race detector makes everything slow; it finds nothing where there is one goroutine.
const slow = invariants.Enabled

// clock is a node's pair of clocks as functions of true time. Rates and offsets are not known to the node.
type clock struct {
	since, boot int64 // true time and boot clock at the last change
	ppm         int64 // rate of the boot clock against true time, less 1, in millionths
	stopped     bool  // a virtual machine that is held: the boot clock stands
	wallOffset  int64
}

func (c *clock) bootAt(t int64) int64 {
	if c.stopped {
		return c.boot
	}
	return c.boot + (t-c.since)*(1e6+c.ppm)/1e6
}

func (c *clock) change(t int64) { c.boot, c.since = c.bootAt(t), t }

// event of the world. Those of one time are in the order of their making.
type event struct {
	at    int64
	order uint64
	what  eventKind
	node  NodeID
	life  uint64
	p     parcel
}

type eventKind uint8

const (
	evTick eventKind = iota
	evDeliver
	evSynced
	evStart
	evCrash
	evResume
	evFault
	evCampaign
	evHeal
)

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(e[i].at, e[j].at), cmp.Compare(e[i].order, e[j].order)) < 0
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

// marks count what happened, so that a test can prove that it did.
type marks struct {
	events, delivered, lost, repeated, slow                   int
	crashes, crashesInSync, pauses, holds, stalls             int
	rates, wallSteps, bootForward, bootBack                   int
	counted, leases, withdrawals, bumps, quarantined, dropped int
	proposed, owners                                          int
}

func (m *marks) add(o *marks) {
	for _, f := range [...]struct{ to, from *int }{
		{&m.events, &o.events},
		{&m.delivered, &o.delivered},
		{&m.lost, &o.lost},
		{&m.repeated, &o.repeated},
		{&m.slow, &o.slow},
		{&m.crashes, &o.crashes},
		{&m.crashesInSync, &o.crashesInSync},
		{&m.pauses, &o.pauses},
		{&m.holds, &o.holds},
		{&m.stalls, &o.stalls},
		{&m.rates, &o.rates},
		{&m.wallSteps, &o.wallSteps},
		{&m.bootForward, &o.bootForward},
		{&m.bootBack, &o.bootBack},
		{&m.counted, &o.counted},
		{&m.leases, &o.leases},
		{&m.withdrawals, &o.withdrawals},
		{&m.bumps, &o.bumps},
		{&m.quarantined, &o.quarantined},
		{&m.dropped, &o.dropped},
		{&m.proposed, &o.proposed},
		{&m.owners, &o.owners},
	} {
		*f.to += *f.from
	}
}

// host is a member in the world.
type host struct {
	*member
	clock  clock
	paused bool
	life   uint64
	// syncSince is the boot clock when the sync under way began.
	syncSince int64
	inbox     []parcel // what came while it was paused
}

// world is one run. What it draws is drawn from rng only.
type world struct {
	rng   *rand.Rand
	now   int64
	order uint64
	queue events
	hosts []*host // by node-1
	cut   map[[2]NodeID]bool
	marks marks
	trace *strings.Builder

	// The options of this run.
	options                          Options
	lossPM, repeatPM, slowPM, checkP int // per mille
	proposePM                        int // per mille, of ticks
	crashPM                          int // per mille, of syncs
	delayMin, delayMax, slowMax      int64
	faultEvery, campaignEvery        int64
	syncMax                          int64
	round                            uint64
	healed                           bool
	holder                           NodeID // who last held the lease
}

// settings are what a test asks of a world.
type settings struct {
	noBump bool // plants the mistake that a start keeps the epoch
	group  bool // runs the real core of a group
}

func newWorld(seed uint64, set settings, trace *strings.Builder) (*world, error) {
	w := &world{rng: rand.New(rand.NewPCG(seed, 0x11fe)), cut: map[[2]NodeID]bool{}, trace: trace}
	n := 3 + w.rng.IntN(3)
	interval := Timestamp(200e6 + w.rng.Int64N(1000e6))
	w.options = Options{
		Interval: interval, Support: 2*interval + Timestamp(w.rng.Int64N(int64(4*interval))),
		DriftPPM: []uint64{100, 1000, 20_000, 100_000}[w.rng.IntN(4)],
	}
	w.options.EnsureDefaults()
	w.options.ClockJumpMax = max(w.options.ClockJumpMax, 2*w.options.driftBound(w.options.Support))
	d := int64(w.options.Support)
	w.lossPM, w.repeatPM, w.slowPM = w.rng.IntN(200), w.rng.IntN(150), w.rng.IntN(200)
	w.crashPM = []int{0, 100, 300}[w.rng.IntN(3)]
	if set.group { // it syncs more often
		w.crashPM /= 20
		w.proposePM = []int{1000, 50, 5}[w.rng.IntN(3)]
	}
	w.checkP = []int{1000, 300}[w.rng.IntN(2)]
	w.delayMin = w.rng.Int64N(2e6)
	w.delayMax = w.delayMin + 1 + w.rng.Int64N(100e6)
	w.slowMax = d/2 + w.rng.Int64N(2*d)
	w.faultEvery = d/4 + w.rng.Int64N(2*d)
	w.campaignEvery = d/4 + w.rng.Int64N(2*d)
	w.syncMax = 1e6 + w.rng.Int64N(100e6)
	var all []NodeID
	for i := range n {
		all = append(all, NodeID(i+1))
	}
	w.options.Peers = all
	w.note("nodes=%d %+v loss=%d repeat=%d slow=%d", n, w.options, w.lossPM, w.repeatPM, w.slowPM)
	for _, id := range all {
		h := &host{member: &member{id: id, options: w.options, acceptors: all, quorum: n/2 + 1, noBump: set.noBump}}
		if set.group {
			var err error
			if h.g, err = newGroup(all); err != nil {
				return nil, err
			}
		}
		h.clock = clock{boot: 1 + w.rng.Int64N(1e15), wallOffset: 1e18 + w.rng.Int64N(1e10)}
		w.hosts = append(w.hosts, h)
		w.rate(h)
		if err := w.start(h); err != nil {
			return nil, err
		}
	}
	w.at(w.faultEvery, event{what: evFault})
	w.at(w.campaignEvery, event{what: evCampaign})
	return w, nil
}

func (w *world) note(format string, args ...any) {
	if w.trace != nil {
		fmt.Fprintf(w.trace, "%12.6f  "+format+"\n", append([]any{float64(w.now) / 1e9}, args...)...)
	}
}

func (w *world) at(after int64, e event) {
	w.order++
	e.at, e.order = w.now+after, w.order
	heap.Push(&w.queue, e)
}

func (w *world) start(h *host) error {
	if err := h.start(); err != nil {
		return err
	}
	h.life++
	w.note("node %d starts at epoch %d", h.id, h.core.Epoch())
	w.tick(h)
	w.at(0, event{what: evTick, node: h.id, life: h.life})
	return nil
}

// tick brings a host the time. Any moment may be one.
func (w *world) tick(h *host) {
	before := h.core.Status().ClockJumps
	h.core.Tick(Timestamp(h.clock.bootAt(w.now)), Timestamp(w.now+h.clock.wallOffset))
	since := Timestamp(0)
	if h.syncing {
		since = Timestamp(h.syncSince)
	}
	h.core.DiskProgress(since)
	if h.g != nil {
		h.g.core.Tick(Timestamp(h.clock.bootAt(w.now)))
	}
	if after := h.core.Status().ClockJumps; after != before {
		w.marks.dropped++
		w.note("node %d sees a clock jump", h.id)
	}
}

// pump lets a host send and write.
func (w *world) pump(h *host) {
	for range 2 {
		syncing := h.syncing
		w.send(h.pump())
		if !syncing && h.syncing {
			h.syncSince = max(1, h.clock.bootAt(w.now))
			w.marks.withdrawals += min(1, len(h.core.minEpochs))
			if h.batch.epoch > h.disk.epoch {
				w.marks.bumps++
				w.note("node %d writes epoch %d", h.id, h.batch.epoch)
			}
			for _, e := range h.core.minEpochs {
				w.note("node %d writes minEpoch %d of node %d", h.id, e.Epoch, e.Node)
			}
			after := 1 + w.rng.Int64N(w.syncMax)
			w.at(after, event{what: evSynced, node: h.id, life: h.life})
			if !w.healed && w.rng.IntN(1000) < w.crashPM {
				w.at(w.rng.Int64N(after), event{what: evCrash, node: h.id, life: h.life})
			}
		}
	}
}

func (w *world) send(ps []parcel) {
	for _, p := range ps {
		if p.to != p.from && (w.cut[[2]NodeID{p.from, p.to}] || w.rng.IntN(1000) < w.lossPM) && !w.healed {
			w.marks.lost++
			continue
		}
		copies := 1
		if w.rng.IntN(1000) < w.repeatPM {
			copies = 2
			w.marks.repeated++
		}
		for range copies {
			delay := w.delayMin + w.rng.Int64N(w.delayMax-w.delayMin)
			if w.rng.IntN(1000) < w.slowPM && !w.healed {
				delay += w.rng.Int64N(w.slowMax)
				w.marks.slow++
			}
			if p.to == p.from {
				delay = 0
			}
			w.at(delay, event{what: evDeliver, node: p.to, p: p})
		}
	}
}

// run goes on until the end of the schedule: a time of faults, then a time without.
func (w *world) run() error {
	d := int64(w.options.Support)
	end := 60*d + 8*int64(w.options.Support+w.options.Interval)
	w.at(60*d, event{what: evHeal})
	for len(w.queue) > 0 {
		e := heap.Pop(&w.queue).(event)
		if e.at > end {
			break
		}
		w.now = e.at
		w.marks.events++
		if err := w.handle(&e); err != nil {
			return fmt.Errorf("at %.6f s: %w", float64(w.now)/1e9, err)
		}
		if w.rng.IntN(1000) < w.checkP || e.what != evTick {
			if err := w.check(); err != nil {
				return fmt.Errorf("at %.6f s: %w", float64(w.now)/1e9, err)
			}
		}
	}
	return w.recovered()
}

func (w *world) handle(e *event) error {
	var h *host
	if e.node > 0 {
		h = w.hosts[e.node-1]
		if e.life != 0 && e.life != h.life {
			return nil
		}
	}
	switch e.what {
	case evTick:
		if !h.paused {
			w.tick(h)
			if h.g != nil {
				w.propose(h)
			} else {
				w.send(h.renew())
			}
			w.pump(h)
		}
		w.at(1+w.rng.Int64N(int64(w.options.Interval)/4), event{what: evTick, node: h.id, life: h.life})
	case evDeliver:
		return w.deliver(h, e.p)
	case evSynced:
		if h.paused {
			w.at(1e6, *e)
			return nil
		}
		w.tick(h)
		w.send(h.sync())
		w.pump(h)
	case evStart:
		return w.start(h)
	case evCrash:
		if h.core != nil && !h.paused {
			w.crash(h)
		}
	case evResume:
		return w.resume(h)
	case evFault:
		w.fault()
		if !w.healed {
			w.at(1+w.rng.Int64N(2*w.faultEvery), event{what: evFault})
		}
	case evCampaign:
		if err := w.campaign(); err != nil {
			return err
		}
		w.at(1+w.rng.Int64N(2*w.campaignEvery), event{what: evCampaign})
	case evHeal:
		w.heal()
	}
	return nil
}

func (w *world) deliver(h *host, p parcel) error {
	if h.core == nil {
		return nil
	}
	if h.paused {
		h.inbox = append(h.inbox, p)
		return nil
	}
	w.tick(h)
	w.marks.delivered++
	w.note("deliver %v", p)
	if err := h.step(p); err != nil {
		return err
	}
	w.pump(h)
	return nil
}

func (w *world) resume(h *host) error {
	if !h.paused {
		return nil
	}
	h.clock.change(w.now)
	h.paused, h.clock.stopped = false, false
	w.note("node %d goes on", h.id)
	w.tick(h)
	inbox := h.inbox
	h.inbox = nil
	for _, p := range inbox {
		if err := w.deliver(h, p); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) campaign() error {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	if h.core == nil || h.paused {
		return nil
	}
	w.tick(h)
	if h.holds() {
		return nil
	}
	w.round++
	if h.g != nil {
		err := w.campaignGroup(h)
		w.pump(h)
		return err
	}
	w.note("node %d campaigns", h.id)
	w.send(h.campaign(w.round))
	return nil
}

// check holds all that are up against the true time.
func (w *world) check() error {
	var paused uint
	members := make([]*member, len(w.hosts))
	for i, h := range w.hosts {
		members[i] = h.member
		if h.paused {
			paused |= 1 << h.id
		} else if h.core != nil {
			w.tick(h)
		}
	}
	for _, h := range w.hosts {
		if h.core == nil || h.paused {
			continue
		}
		if h.holds() {
			w.marks.leases++
			if w.holder != h.id {
				w.holder = h.id
				w.marks.owners++
				w.note("node %d holds the lease", h.id)
			}
		}
		if _, ok := h.core.Quarantined(); ok {
			w.marks.quarantined++
		}
		for _, s := range w.hosts {
			if s != h && h.core.SupportFrom(s.id) {
				w.marks.counted++
			}
		}
	}
	if err := judge(members, paused); err != nil {
		return err
	}
	if w.hosts[0].g != nil {
		return w.judgeGroup()
	}
	return nil
}

func (w *world) rate(h *host) {
	h.clock.change(w.now)
	limit := int64(w.options.DriftPPM)
	switch w.rng.IntN(3) {
	case 0:
		h.clock.ppm = -limit
	case 1:
		h.clock.ppm = limit
	default:
		h.clock.ppm = w.rng.Int64N(2*limit+1) - limit
	}
}

// jump is a distance that the comparison of the clocks must see.
func (w *world) jump() int64 {
	// The boot clock may come apart from the wall clock by drift alone within the window of the comparison.
	drift := int64(w.options.Support) * int64(w.options.DriftPPM) / 1e6
	return int64(w.options.ClockJumpMax) + 2*drift + 1e6 + w.rng.Int64N(int64(w.options.Support))
}

// fault does one bad thing to one node, or to the network.
func (w *world) fault() {
	h := w.hosts[w.rng.IntN(len(w.hosts))]
	kind := w.rng.IntN(12)
	if kind < 10 && (h.core == nil || h.paused) {
		return
	}
	switch kind {
	case 0, 1:
		w.crash(h)
	case 2:
		w.rate(h)
		w.marks.rates++
	case 3:
		h.clock.wallOffset += w.jump() * (1 - 2*w.rng.Int64N(2))
		w.marks.wallSteps++
		w.note("node %d: wall clock steps", h.id)
		w.tick(h)
	case 4:
		h.clock.change(w.now)
		h.clock.boot += w.jump()
		w.marks.bootForward++
		w.note("node %d: boot clock steps forward", h.id)
		w.tick(h)
	case 5:
		h.clock.change(w.now)
		h.clock.boot = max(1, h.clock.boot-w.jump())
		w.marks.bootBack++
		w.note("node %d: boot clock steps back", h.id)
		w.tick(h)
	case 6, 7:
		w.pause(h, kind == 7)
	case 8, 9:
		if h.syncing {
			return
		}
		w.stall(h)
	default:
		w.partition()
	}
}

func (w *world) crash(h *host) {
	w.marks.crashes++
	if h.syncing {
		w.marks.crashesInSync++
	}
	w.note("node %d crashes, syncing=%v", h.id, h.syncing)
	h.crash()
	h.life++
	w.at(w.rng.Int64N(int64(w.options.Interval)), event{what: evStart, node: h.id})
}

// pause holds a process; with the boot clock if it is a virtual machine that is held.
func (w *world) pause(h *host, machine bool) {
	w.tick(h)
	h.clock.change(w.now)
	h.paused, h.clock.stopped = true, machine
	w.marks.pauses++
	if machine {
		w.marks.holds++
	}
	w.note("node %d is held, machine=%v", h.id, machine)
	w.at(w.jump(), event{what: evResume, node: h.id})
}

// stall makes a write that the disk takes long for.
func (w *world) stall(h *host) {
	w.tick(h)
	h.dirty = true
	w.note("node %d: disk stalls", h.id)
	w.marks.stalls++
	keep := w.syncMax
	w.syncMax = int64(w.options.SyncStall) + w.rng.Int64N(int64(w.options.Support))
	w.pump(h)
	w.syncMax = keep
}

// partition cuts a node off, one way or both, or some link, or mends all.
func (w *world) partition() {
	switch w.rng.IntN(4) {
	case 0:
		clear(w.cut)
		return
	case 1:
		w.mend()
		return
	}
	a := NodeID(1 + w.rng.IntN(len(w.hosts)))
	ways := 1 + w.rng.IntN(3)
	for _, h := range w.hosts {
		if w.rng.IntN(3) == 0 {
			continue
		}
		if ways&1 != 0 {
			w.cut[[2]NodeID{a, h.id}] = true
		}
		if ways&2 != 0 {
			w.cut[[2]NodeID{h.id, a}] = true
		}
	}
	w.note("node %d is cut off, ways=%d", a, ways)
}

// mend gives a node back some of its links, both ways.
func (w *world) mend() {
	a := NodeID(1 + w.rng.IntN(len(w.hosts)))
	for _, h := range w.hosts {
		if w.rng.IntN(2) == 0 {
			delete(w.cut, [2]NodeID{a, h.id})
			delete(w.cut, [2]NodeID{h.id, a})
			w.note("nodes %d and %d are linked", a, h.id)
		}
	}
}

func (w *world) heal() {
	w.healed = true
	w.note("all is healed")
	clear(w.cut)
	w.syncMax = 2e6
}

// recovered asks what must be true some time after the last fault: every node counts on every other.
func (w *world) recovered() error {
	if err := w.check(); err != nil {
		return err
	}
	for _, h := range w.hosts {
		if h.core == nil || h.paused {
			return fmt.Errorf("node %d is not up in the end", h.id)
		}
		if h.core.Status().Backwards {
			continue
		}
		for _, s := range w.hosts {
			if !h.core.SupportFrom(s.id) {
				return fmt.Errorf("node %d does not count on node %d in the end: %+v, %+v", h.id, s.id, h.core.Status(), h.core.AppendPeers(nil))
			}
		}
	}
	return nil
}

// simulate is one run; the trace is kept if a builder is given.
func simulate(seed uint64, set settings, trace *strings.Builder) (marks, error) {
	w, err := newWorld(seed, set, trace)
	if err != nil {
		return marks{}, err
	}
	err = w.run()
	return w.marks, err
}

// TestSimulation runs nodes whose clocks drift, step, stand and run back, over a network that loses, repeats, delays and reorders, with
// crashes, stalled disks and pauses, and judges in true time that nobody counts on support that is not given, and that there are never two leases.
func TestSimulation(t *testing.T) {
	first, n := uint64(1), uint64(100)
	if slow {
		n = 10
	}
	if *seedsFlag > 0 {
		n = *seedsFlag
	} else if os.Getenv("ATLAS_LONG") != "" {
		n = 4000
	}
	var trace *strings.Builder
	if *seedFlag > 0 {
		first, n, trace = *seedFlag, 1, &strings.Builder{}
	}
	t.Logf("seeds %d to %d", first, first+n-1)
	var sum marks
	for seed := first; seed < first+n; seed++ {
		m, err := simulate(seed, settings{}, trace)
		sum.add(&m)
		if trace != nil {
			t.Log(trace.String())
		}
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./consensus/liveness -run TestSimulation -v -liveness.seed=%d", seed, err, seed)
		}
	}
	t.Logf("%+v", sum)
	if n < 50 {
		return
	}
	for _, c := range []struct {
		name string
		have int
	}{
		{"lost", sum.lost},
		{"repeated", sum.repeated},
		{"slow", sum.slow},
		{"crashes", sum.crashes},
		{"crashes in a sync", sum.crashesInSync},
		{"pauses", sum.pauses},
		{"machines held", sum.holds},
		{"stalls", sum.stalls},
		{"rates", sum.rates},
		{"wall steps", sum.wallSteps},
		{"boot steps forward", sum.bootForward},
		{"boot steps back", sum.bootBack},
		{"support counted on", sum.counted},
		{"leases", sum.leases},
		{"withdrawals", sum.withdrawals},
		{"new epochs", sum.bumps},
		{"quarantined", sum.quarantined},
		{"dropped after a jump", sum.dropped},
	} {
		if c.have == 0 {
			t.Errorf("%s: none in %d seeds, so that nothing is proved about it", c.name, n)
		}
	}
}

// TestSimulationRepeats: one seed is one run.
func TestSimulationRepeats(t *testing.T) {
	var a, b strings.Builder
	for _, trace := range []*strings.Builder{&a, &b} {
		if _, err := simulate(7, settings{}, trace); err != nil {
			t.Fatal(err)
		}
	}
	if a.String() != b.String() || !slices.Contains(strings.Fields(a.String()), "Heartbeat") {
		t.Error("two runs of seed 7 differ, or show no heartbeat")
	}
}

// TestSimulationSeesStartWithoutEpoch: a start that keeps the epoch of the life before (duty 1) is found.
func TestSimulationSeesStartWithoutEpoch(t *testing.T) {
	for seed := uint64(1); seed <= 2000; seed++ {
		if _, err := simulate(seed, settings{noBump: true}, nil); err != nil {
			t.Logf("found by seed %d: %v", seed, err)
			return
		}
	}
	t.Error("not found in 2000 seeds")
}
