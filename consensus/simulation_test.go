// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "run only this seed of the simulation, with its trace")
	simSeeds = flag.Int("sim.seeds", 0, "run this many seeds of the simulation (default 1,000, 30,000 with ATLAS_LONG=1)")
)

// shape is what a seed draws once: the world and how badly it behaves. Weights are relative.
type shape struct {
	regions                                                             []int
	fn, fz                                                              int
	tuning                                                              Tuning
	steps                                                               int
	deliver, drop, duplicate, progress, tick, propose, camp, crash, cut int
	lazy, keepUnsynced, fifo                                            bool
	slow                                                                int         // of 100 messages so many take up to 1,000 steps
	slowType                                                            MessageType // all of this type do
	rivals                                                              int         // only the first so many nodes campaign
	local                                                               int         // of 100 campaigns so many are local
	homes                                                               bool        // each node wants a home of its own
	compact                                                             int
}

func drawShape(r *rand.Rand) shape {
	layouts := []struct {
		regions []int
		fn, fz  int
	}{
		{[]int{3}, 1, 0},
		{[]int{3}, 1, 0},
		{[]int{5}, 2, 0},
		{[]int{5}, 1, 0},
		{[]int{1, 1, 1}, 0, 1},
		{[]int{1, 1, 1}, 0, 0},
		{[]int{1, 1, 1}, 0, 2},
		{[]int{2, 3}, 1, 1},
		{[]int{1, 3}, 1, 0},
		{[]int{2}, 0, 0},
		{[]int{1}, 0, 0},
		{[]int{1, 2, 2}, 0, 1},
		{[]int{4}, 1, 0},
	}
	l := layouts[r.IntN(len(layouts))]
	s := shape{regions: l.regions, fn: l.fn, fz: l.fz, steps: 500 + r.IntN(2500), tuning: DefaultTuning()}
	s.tuning.MessageBytes = 1 + r.IntN(60)
	s.tuning.InflightMessages = 1 + r.IntN(6)
	s.tuning.RetainedEntries = r.IntN(8)
	s.tuning.RetainedBytes = r.IntN(100)
	s.tuning.UncommittedEntries = 1 + r.IntN(30)
	// Each fault is off in half of the runs.
	fault := func(n int) int {
		if r.IntN(2) == 0 {
			return 0
		}
		return 1 + r.IntN(n)
	}
	s.deliver, s.progress, s.tick, s.propose = 20+r.IntN(600), 100+r.IntN(500), 5+r.IntN(60), 5+r.IntN(80)
	if r.IntN(2) == 0 { // a calmer world
		s.tick, s.propose = 10*s.tick, 10*s.propose
	}
	s.camp, s.crash = 1+r.IntN(12), fault(12)
	s.drop, s.duplicate, s.slow, s.cut = fault(80), fault(80), fault(30), fault(10)
	s.lazy, s.keepUnsynced, s.fifo = r.IntN(2) == 0, r.IntN(2) == 0, r.IntN(4) == 0
	s.local, s.homes, s.compact = r.IntN(2)*r.IntN(100), r.IntN(2) == 0, fault(10)
	s.tuning.SnapshotRetryAfter = 400e6
	s.tuning.LearnBytes = 1 + r.IntN(20)
	s.rivals = 1 + r.IntN(len(s.regions)*5)
	if r.IntN(3) == 0 {
		s.slowType = MessageType(1 + r.IntN(len(messageNames)-1))
	}
	return s
}

// packet is a message on its way; its entries travel as bytes, against which those of the message are held in the end: it is to
// stay as it was handed out, however long it is under way (duty 10).
type packet struct {
	m       Message
	entries [][]byte
	state   []Entry
	from    int // the step before which it does not arrive
}

// simulation is a world of one seed. It stops at the first violation, which stays in err.
type simulation struct {
	shape   shape
	r       *rand.Rand
	nodes   []*testNode
	network []packet
	cut     map[[2]NodeID]int // links, and the step until which nothing passes
	clock   Timestamp
	checker *checker
	err     error
	trace   func(format string, args ...any)
	count   counters
}

type counters struct {
	steps, delivered, dropped, duplicated, reordered, cuts, crashes, lostBatches, campaigns, won, proposed, committed, learned, fetched, truncations, localWon, needGlobal, snapshots, compactions int
}

func (c *counters) add(o counters) {
	c.steps += o.steps
	c.delivered += o.delivered
	c.dropped += o.dropped
	c.duplicated += o.duplicated
	c.reordered += o.reordered
	c.cuts += o.cuts
	c.crashes += o.crashes
	c.lostBatches += o.lostBatches
	c.campaigns += o.campaigns
	c.won += o.won
	c.proposed += o.proposed
	c.committed += o.committed
	c.learned += o.learned
	c.fetched += o.fetched
	c.truncations += o.truncations
	c.localWon += o.localWon
	c.needGlobal += o.needGlobal
	c.snapshots += o.snapshots
	c.compactions += o.compactions
}

func newSimulation(seed uint64, trace func(string, ...any)) *simulation {
	r := rand.New(rand.NewPCG(seed, 0x41544c4153))
	s := &simulation{shape: drawShape(r), r: r, clock: 1, trace: trace, cut: map[[2]NodeID]int{}}
	q := layout(s.shape.regions, s.shape.fn, s.shape.fz)
	s.checker = newChecker(q)
	trace("seed=%d shape=%+v", seed, s.shape)
	for i := range q.Len() {
		n := newTestNode(NodeID(i+1), q, &s.shape.tuning, nil)
		n.send = func(m Message) { s.sent(n, m) }
		n.onDurable = func(n *testNode) { s.violation(s.checker.durable(n)) }
		n.onReady = func(n *testNode, r *Ready) { s.handed(n, r) }
		if s.shape.homes {
			for range 1 + r.IntN(len(s.shape.regions)) {
				n.home = append(n.home, quorum.Region(rune('a'+r.IntN(len(s.shape.regions)))))
			}
		}
		s.nodes = append(s.nodes, n)
		s.violation(n.start())
	}
	return s
}

func (s *simulation) violation(err error) {
	if s.err == nil && err != nil {
		s.err = err
		s.trace("VIOLATION %v", err)
	}
}

func (s *simulation) sent(n *testNode, m Message) {
	s.trace("  send %v", m)
	s.violation(s.checker.sent(n, &m))
	switch m.Type {
	case Learn:
		s.count.learned++
	case FetchReply:
		s.count.fetched++
	}
	p := packet{m: m, from: s.count.steps}
	if m.Type == Snapshot {
		p.state = n.state(m.Slot)
	}
	if s.r.IntN(100) < s.shape.slow || m.Type == s.shape.slowType {
		p.from += s.r.IntN(1000)
	}
	for i := range m.Entries {
		p.entries = append(p.entries, m.Entries[i].AppendTo(nil))
	}
	s.network = append(s.network, p)
}

func (s *simulation) handed(n *testNode, r *Ready) {
	if r.Record != nil {
		s.trace("  node %d writes %+v truncate=%d entries=%d committed=%d sync=%v atomic=%v", n.id, *r.Record, r.TruncateFrom, len(r.Entries), len(r.Committed), r.MustSync, r.Atomic)
	}
	if r.TruncateFrom != 0 {
		s.count.truncations++
	}
	if r.CompactTo != 0 {
		s.count.compactions++
	}
	if r.Snapshot != nil {
		s.count.snapshots++
	}
	s.violation(s.checker.handed(n, r))
}

// run does the drawn number of random steps, then heals the world and asks for progress.
func (s *simulation) run() error {
	for range s.shape.steps {
		s.step()
		if s.err != nil {
			return s.err
		}
	}
	s.heal()
	return s.err
}

func (s *simulation) step() {
	s.count.steps++
	sh := s.shape
	var busy []*testNode
	for _, n := range s.nodes {
		if n.busy() {
			busy = append(busy, n)
		}
	}
	if len(busy) == 0 {
		sh.progress = 0
	}
	if len(s.network) == 0 {
		sh.deliver, sh.drop, sh.duplicate = 0, 0, 0
	}
	pick := s.r.IntN(sh.deliver + sh.drop + sh.duplicate + sh.progress + sh.tick + sh.propose + sh.camp + sh.crash + sh.cut + sh.compact)
	chosen := func(weight int) bool {
		pick -= weight
		return pick < 0
	}
	n := s.nodes[s.r.IntN(len(s.nodes))]
	switch {
	case chosen(sh.deliver):
		s.deliver(false)
	case chosen(sh.duplicate):
		s.deliver(true)
	case chosen(sh.drop):
		s.take(s.r.IntN(len(s.network)))
		s.count.dropped++
	case chosen(sh.progress):
		s.progress(busy[s.r.IntN(len(busy))])
	case chosen(sh.tick):
		s.clock += Timestamp(s.r.Int64N(200e6))
		n.core.Tick(s.clock)
	case chosen(sh.propose):
		s.propose(n)
	case chosen(sh.camp):
		n = s.nodes[s.r.IntN(min(s.shape.rivals, len(s.nodes)))]
		s.count.campaigns++
		scope := Global
		if s.r.IntN(100) < s.shape.local {
			scope = Local
		}
		s.trace("node %d campaigns %s", n.id, scope)
		if err := n.core.Campaign(scope); scope == Global || !errors.Is(err, ErrInvalid) {
			s.violation(err)
		}
	case chosen(sh.compact):
		n.core.Compact(Slot(s.r.IntN(int(n.core.Status().Applied) + 2)))
	case chosen(sh.crash):
		s.crash(n)
	default:
		s.cutOff(n)
	}
}

func (s *simulation) take(i int) packet {
	p := s.network[i]
	s.network = append(s.network[:i], s.network[i+1:]...)
	return p
}

// deliver gives some message to its node; with keep it stays on its way, and comes again.
func (s *simulation) deliver(keep bool) {
	i := s.r.IntN(len(s.network))
	if s.shape.fifo {
		i = 0
	} else if i > 0 {
		s.count.reordered++
	}
	if p := &s.network[i]; p.from > s.count.steps || s.cut[[2]NodeID{p.m.From, p.m.To}] > s.count.steps {
		return
	}
	var p packet
	if keep {
		p = s.network[i]
		s.count.duplicated++
	} else {
		p = s.take(i)
	}
	n := s.nodes[p.m.To-1]
	s.trace("deliver %v", p.m)
	s.count.delivered++
	m := p.m
	for i := range m.Entries {
		if !bytes.Equal(m.Entries[i].AppendTo(nil), p.entries[i]) {
			s.violation(fmt.Errorf("entry %d of %v is not what was sent", i, m))
		}
	}
	m.Entries = nil
	for _, b := range p.entries {
		e, err := DecodeEntry(bytes.Clone(b))
		s.violation(err)
		m.Entries = append(m.Entries, e)
	}
	if len(p.state) > len(n.staged) {
		n.staged = p.state
	}
	before := n.core.Status()
	if s.count.delivered%16 == 0 { // a copy does the same, and does not touch the original
		state := n.core.AppendState(nil)
		twin := n.core.Clone(n, n.fabric)
		_ = twin.Step(m)
		if !bytes.Equal(n.core.AppendState(nil), state) {
			s.violation(fmt.Errorf("node %d: a step of a copy changed the core", n.id))
		}
		defer func() {
			if s.err == nil && !bytes.Equal(n.core.AppendState(nil), twin.AppendState(nil)) {
				s.violation(fmt.Errorf("node %d: a copy went another way with %v", n.id, m))
			}
		}()
	}
	s.violation(n.core.Step(m))
	after := n.core.Status()
	if before.State == Preparing && after.State == Won {
		s.count.won++
		if after.Scope == Local {
			s.count.localWon++
		}
	}
	if after.NeedGlobal && !before.NeedGlobal {
		s.count.needGlobal++
	}
}

func (s *simulation) progress(n *testNode) {
	s.trace("node %d does stage %d", n.id, n.stage)
	s.violation(n.progress(s.shape.lazy && s.r.IntN(2) == 0))
}

func (s *simulation) propose(n *testNode) {
	s.count.proposed++
	payload := strconv.AppendInt(nil, int64(s.count.proposed), 10)
	slot, at, err := n.core.Propose(s.clock, Proposal{Payload: payload})
	if err != nil {
		s.count.proposed--
		if !errors.Is(err, ErrNotOwner) && !errors.Is(err, ErrBusy) {
			s.violation(err)
		}
		return
	}
	s.trace("node %d proposes %s in slot %d at %d", n.id, payload, slot, at)
	s.violation(s.checker.proposed(n, slot, payload))
}

// cutOff keeps messages from, to, or from and to a node, of all others or of one.
func (s *simulation) cutOff(n *testNode) {
	until, how, only := s.count.steps+s.r.IntN(600), s.r.IntN(3), NodeID(s.r.IntN(2*len(s.nodes))+1)
	s.trace("node %d is cut off (%d) from %d until %d", n.id, how, only, until)
	s.count.cuts++
	for _, o := range s.nodes {
		if int(only) <= len(s.nodes) && o.id != only {
			continue
		}
		if how != 0 {
			s.cut[[2]NodeID{n.id, o.id}] = until
		}
		if how != 1 {
			s.cut[[2]NodeID{o.id, n.id}] = until
		}
	}
}

func (s *simulation) crash(n *testNode) {
	keep := 0
	if s.shape.keepUnsynced {
		keep = s.r.IntN(len(n.pending) + 1)
	}
	s.trace("node %d crashes in stage %d, loses %d of %d batches", n.id, n.stage, len(n.pending)-keep, len(n.pending))
	s.count.crashes++
	s.count.lostBatches += len(n.pending) - keep
	n.crash(keep)
	s.violation(n.start())
	s.violation(s.checker.started(n))
}

// heal ends all faults: messages arrive in order, and one node campaigns until it owns. Then all nodes must come to hold and
// apply the same log, with one more proposal in it.
func (s *simulation) heal() {
	s.trace("healed")
	s.shape.fifo, s.shape.slow, s.shape.slowType = true, 0, 0
	clear(s.cut)
	for i := range s.network {
		s.network[i].from = 0
	}
	owner := s.nodes[s.r.IntN(len(s.nodes))]
	const budget = 3000
	var (
		at   Ballot // at which it was proposed
		last Slot
	)
	for round := 0; ; round++ {
		if round == budget {
			s.violation(fmt.Errorf("no progress %d rounds after all faults ended: owner %d is %+v", round, owner.id, owner.core.Status()))
		}
		if s.err != nil {
			return
		}
		s.clock += 50e6
		st := owner.core.Status()
		if st.Behind { // whoever has the log is to own it
			for _, n := range s.nodes {
				if n.core.Status().Commit > st.Commit {
					owner, st = n, n.core.Status()
				}
			}
		}
		if (st.State == Follower || st.State == Probing) && round%20 == 0 {
			s.violation(owner.core.Campaign(Global))
		}
		if st.State == Serving && st.Ballot != at {
			s.count.proposed++
			payload := strconv.AppendInt(nil, int64(s.count.proposed), 10)
			slot, _, err := owner.core.Propose(s.clock, Proposal{Payload: payload})
			if err == nil {
				s.violation(s.checker.proposed(owner, slot, payload))
				at, last = st.Ballot, slot
			}
		}
		for _, n := range s.nodes {
			n.core.Tick(s.clock)
			for n.busy() && s.err == nil {
				s.violation(n.progress(false))
			}
		}
		for n := len(s.network); n > 0 && s.err == nil; n-- {
			s.deliver(false)
		}
		if st.Ballot == at && last > 0 && len(s.network) == 0 && s.settled(last) {
			return
		}
	}
}

func (s *simulation) settled(last Slot) bool {
	for _, n := range s.nodes {
		if n.busy() || n.core.Status().Applied != last || n.core.NeedsTick() {
			return false
		}
	}
	return true
}

// firstSeed is where the random tests begin: ATLAS_SEED, which CI derives from the commit or draws, else 1.
func firstSeed(t *testing.T) uint64 {
	s := os.Getenv("ATLAS_SEED")
	if s == "" {
		return 1
	}
	seed, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		t.Fatalf("ATLAS_SEED: %v", err)
	}
	return seed
}

func simulate(seed uint64, trace func(string, ...any)) (counters, error) {
	s := newSimulation(seed, trace)
	if s.err != nil {
		return s.count, s.err
	}
	err := s.run()
	s.count.committed = len(s.checker.chosen)
	return s.count, err
}

func silent(string, ...any) {}

func TestSimulation(t *testing.T) {
	first, seeds := firstSeed(t), 1000
	if os.Getenv("ATLAS_LONG") == "1" {
		seeds = 30_000
	}
	if *simSeeds > 0 {
		seeds = *simSeeds
	}
	if *simSeed != 0 {
		if _, err := simulate(*simSeed, t.Logf); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Logf("seed=%d..%d", first, first+uint64(seeds)-1)
	var total counters
	for i := range seeds {
		seed := first + uint64(i)
		count, err := simulate(seed, silent)
		total.add(count)
		if err != nil {
			t.Fatalf("seed %d: %v\nreplay: go test ./consensus -run 'TestSimulation$' -v -sim.seed=%d", seed, err, seed)
		}
	}
	t.Logf("%d runs: %+v", seeds, total)
	for name, n := range map[string]int{
		"drops": total.dropped, "duplicates": total.duplicated, "reorderings": total.reordered, "cuts": total.cuts, "crashes": total.crashes, "lost batches": total.lostBatches,
		"won campaigns": total.won, "commits": total.committed, "learns": total.learned, "fetches": total.fetched, "truncations": total.truncations, "local campaigns won": total.localWon, "local campaigns that a global promise ended": total.needGlobal, "snapshots": total.snapshots, "compactions": total.compactions,
	} {
		if n == 0 {
			t.Errorf("no %s in %d runs: they prove nothing of it", name, seeds)
		}
	}
}

// TestSimulationReplays runs seeds twice and compares every byte of the traces.
func TestSimulationReplays(t *testing.T) {
	for seed := range uint64(50) {
		seed += firstSeed(t)
		var traces [2]bytes.Buffer
		for i := range traces {
			_, err := simulate(seed, func(format string, args ...any) { fmt.Fprintf(&traces[i], format+"\n", args...) })
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
		}
		if !bytes.Equal(traces[0].Bytes(), traces[1].Bytes()) {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

// checker knows from the disks alone what is chosen, and holds everything that the nodes say and do against it.
type checker struct {
	quorums *quorum.Config
	votes   map[Ballot]map[Slot]*vote
	homes   map[Ballot]quorum.Home
	chosen  []Entry // by slot-1
	// proposals by payload: where it was proposed.
	proposals map[string]Slot
	byBallot  map[Ballot]int // the life of its node in which a ballot was first sent
	promised  []Ballot       // durable, by node-1
	said      []Ballot       // the highest that a node has told others it promised
	applied   []int
}

type vote struct {
	chain uint64
	nodes quorum.Set
}

func newChecker(q *quorum.Config) *checker {
	return &checker{
		quorums: q, votes: map[Ballot]map[Slot]*vote{}, homes: map[Ballot]quorum.Home{}, proposals: map[string]Slot{}, byBallot: map[Ballot]int{},
		promised: make([]Ballot, q.Len()), said: make([]Ballot, q.Len()), applied: make([]int, q.Len()),
	}
}

func (k *checker) proposed(n *testNode, slot Slot, payload []byte) error {
	k.proposals[string(payload)] = slot
	if st := n.core.Status(); st.State < Won || st.Ballot.Node != n.id {
		return fmt.Errorf("node %d proposed as %+v", n.id, st)
	}
	return nil
}

// durable counts the votes that are on a disk, and checks that a node keeps its promises and applies what is chosen.
func (k *checker) durable(n *testNode) error {
	rec := n.record()
	if rec.Promised.Less(k.promised[n.id-1]) {
		return fmt.Errorf("node %d: promise fell from %s to %s", n.id, k.promised[n.id-1], rec.Promised)
	}
	k.promised[n.id-1] = rec.Promised
	for s := max(rec.First, 1); s <= rec.Last; s++ {
		e, err := DecodeEntry(n.disk.log[s])
		if err != nil {
			return fmt.Errorf("node %d: log %d..%d: slot %d: %w", n.id, rec.First, rec.Last, s, err)
		}
		// A log that was accepted below the promise is no new vote.
		if rec.Accepted == rec.Promised {
			if home, known := k.homes[rec.Accepted]; known && home != rec.AcceptedHome {
				return fmt.Errorf("node %d: ballot %s has two homes", n.id, rec.Accepted)
			}
			k.homes[rec.Accepted] = rec.AcceptedHome
			if err := k.vote(n, rec.Accepted, e); err != nil {
				return err
			}
		}
		if s == rec.Last && (e.Chain != rec.LastChain || e.Time != rec.LastTime) {
			return fmt.Errorf("node %d: record and log differ at slot %d", n.id, s)
		}
	}
	// A sole voter writes no log: what it applied it has accepted.
	if k.quorums.SoleVoter(n.id) {
		for _, e := range n.disk.applied[len(k.chosen):] {
			k.homes[rec.Accepted] = rec.AcceptedHome
			if err := k.vote(n, rec.Accepted, e); err != nil {
				return err
			}
		}
	}
	if int(rec.Applied) != len(n.disk.applied) {
		return fmt.Errorf("node %d: record counts %d applied, state has %d", n.id, rec.Applied, len(n.disk.applied))
	}
	for ; k.applied[n.id-1] < len(n.disk.applied); k.applied[n.id-1]++ {
		e := n.disk.applied[k.applied[n.id-1]]
		if err := k.isChosen(e.Slot, e.Chain); err != nil || int(e.Slot) != k.applied[n.id-1]+1 {
			return fmt.Errorf("node %d applied slot %d as its %d.: %w", n.id, e.Slot, k.applied[n.id-1]+1, err)
		}
	}
	if rec.Commit > 0 {
		return k.committed(n, rec.Commit)
	}
	return nil
}

// committed checks that what a node believes committed is chosen, by the chain at the end if that is in its log.
func (k *checker) committed(n *testNode, s Slot) error {
	if int(s) > len(k.chosen) {
		return fmt.Errorf("node %d holds slot %d committed, chosen are %d", n.id, s, len(k.chosen))
	}
	if b, ok := n.view.log[s]; ok {
		e, err := DecodeEntry(b)
		if err != nil {
			return err
		}
		return k.isChosen(s, e.Chain)
	}
	return nil
}

func (k *checker) isChosen(s Slot, chain uint64) error {
	if int(s) > len(k.chosen) {
		return fmt.Errorf("slot %d is not chosen", s)
	}
	if have := k.chosen[s-1]; have.Chain != chain {
		return fmt.Errorf("slot %d is chosen as %v with chain %x, not %x", s, have, have.Chain, chain)
	}
	return nil
}

func (k *checker) vote(n *testNode, b Ballot, e Entry) error {
	at := k.votes[b]
	if at == nil {
		at = map[Slot]*vote{}
		k.votes[b] = at
	}
	v := at[e.Slot]
	if v == nil {
		v = &vote{chain: e.Chain}
		at[e.Slot] = v
	}
	if v.chain != e.Chain {
		return fmt.Errorf("two values for slot %d at ballot %s: node %d has %v", e.Slot, b, n.id, e)
	}
	i, _ := k.quorums.Index(n.id)
	if v.nodes.Has(i) {
		return nil
	}
	v.nodes = v.nodes.With(i)
	if !k.quorums.IsQ2(v.nodes, k.homes[b]) {
		return nil
	}
	switch {
	case int(e.Slot) <= len(k.chosen):
		return k.isChosen(e.Slot, e.Chain)
	case int(e.Slot) > len(k.chosen)+1:
		return fmt.Errorf("slot %d chosen at %s after only %d", e.Slot, b, len(k.chosen))
	case k.proposals[string(e.Payload)] != e.Slot:
		return fmt.Errorf("slot %d chosen with %q, which was proposed in slot %d", e.Slot, e.Payload, k.proposals[string(e.Payload)])
	case len(k.chosen) > 0 && k.chosen[len(k.chosen)-1].Time >= e.Time:
		return fmt.Errorf("slot %d chosen with time %d after %d", e.Slot, e.Time, k.chosen[len(k.chosen)-1].Time)
	}
	e.Payload = bytes.Clone(e.Payload)
	k.chosen = append(k.chosen, e)
	return nil
}

// sent checks that a message claims nothing that its sender's disk does not hold.
func (k *checker) sent(n *testNode, m *Message) error {
	rec := n.record()
	if m.Type.fromProposer() && m.Type != PrePrepare && m.Type != Cancel && m.Type != Release && m.Ballot.Node == n.id {
		if rec.Promised.Less(m.Ballot) {
			return fmt.Errorf("node %d sent %v with only %s promised on disk", n.id, m, rec.Promised)
		}
		if life, ok := k.byBallot[m.Ballot]; ok && life != n.life {
			return fmt.Errorf("node %d uses ballot %s of an earlier life", n.id, m.Ballot)
		}
		k.byBallot[m.Ballot] = n.life
	}
	switch m.Type {
	case Promise:
		if rec.Promised.Less(m.Ballot) {
			return fmt.Errorf("node %d sent %v with only %s promised on disk", n.id, m, rec.Promised)
		}
		k.said[n.id-1] = maxBallot(k.said[n.id-1], m.Ballot)
	case Accepted:
		i, _ := k.quorums.Index(n.id)
		if v := k.votes[m.Ballot][m.Slot]; m.Slot >= max(rec.First, 1) && (v == nil || !v.nodes.Has(i)) {
			return fmt.Errorf("node %d sent %v with no such vote on disk", n.id, m)
		}
		if rec.Promised.Less(m.Ballot) {
			return fmt.Errorf("node %d sent %v with only %s promised on disk", n.id, m, rec.Promised)
		}
		k.said[n.id-1] = maxBallot(k.said[n.id-1], m.Ballot)
	case Learn:
		if len(m.Entries) == 0 {
			return nil
		}
		return k.isChosen(m.Entries[len(m.Entries)-1].Slot, m.Entries[len(m.Entries)-1].Chain)
	}
	return nil
}

func maxBallot(a, b Ballot) Ballot {
	if a.Less(b) {
		return b
	}
	return a
}

// started checks that a node that comes back has not forgotten what it promised.
func (k *checker) started(n *testNode) error {
	if p := n.core.Status().Promised; p.Less(k.said[n.id-1]) {
		return fmt.Errorf("node %d came back with %s promised, and had said %s", n.id, p, k.said[n.id-1])
	}
	return nil
}

// handed checks a Ready by itself, and what it commits.
func (k *checker) handed(n *testNode, r *Ready) error {
	if r.Record == nil {
		if len(r.Entries) > 0 || len(r.Committed) > 0 || r.TruncateFrom != 0 || r.MustSync {
			return fmt.Errorf("node %d: a Ready that writes without its record: %+v", n.id, r)
		}
		return nil
	}
	rec := r.Record
	if err := rec.check(); err != nil {
		return fmt.Errorf("node %d: %w", n.id, err)
	}
	if len(r.Committed) > 0 && r.Committed[len(r.Committed)-1].Slot != rec.Applied {
		return fmt.Errorf("node %d: record counts %d applied, the Ready ends at %d", n.id, rec.Applied, r.Committed[len(r.Committed)-1].Slot)
	}
	if !r.MustSync && (len(r.Entries) > 0 || r.TruncateFrom != 0) {
		return fmt.Errorf("node %d: a log that need not be durable", n.id)
	}
	if r.Atomic {
		if !r.MustSync || len(r.Entries) > 0 {
			return fmt.Errorf("node %d: an atomic Ready that need not be durable, or writes a log", n.id)
		}
		return nil // chosen when it is durable
	}
	for _, e := range r.Committed {
		if err := k.isChosen(e.Slot, e.Chain); err != nil {
			return fmt.Errorf("node %d commits slot %d: %w", n.id, e.Slot, err)
		}
	}
	return nil
}
