// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Counters of what has happened, against the bounds.
const (
	usedCampaigns = iota
	usedLocals
	usedCrashes
	usedStalls
	usedReads
	usedReleases
	usedEpochs
	usedRenewals
	usedStopSigns
	usedCompacts
	usedRepeats
	usedLen
)

// world is one state: numbers into the explorer's tables.
type world struct {
	node [nodesMax]uint32
	fab  uint32
	hist uint32
	used [usedLen]uint8
	net  []uint16 // messages under way, rising
}

// explorer is one search. What happens at a node depends on its local state, its view of the fabric and the input alone, so
// it is computed by the real core once and then looked up: a world is a tuple of numbers.
type explorer struct {
	setup *Setup

	locals   []*local
	localIDs map[hash128]uint32

	messages   []message
	messageIDs map[hash128]uint16
	texts      map[string]int // how many messages look so

	facts   []fact
	factIDs map[fact]uint32

	histories  []*history
	historyIDs map[hash128]uint32
	learned    map[learning]learnt

	fabrics   []fabric
	fabricIDs map[fabric]uint32
	views     []view
	viewIDs   map[view]uint32

	outcomes   []outcome
	outcomeIDs map[asking]uint32
	leases     map[[2]uint32]bool // by local and view

	symmetry *symmetry
	first    [nodesMax]uint32          // the locals before the prelude
	asked    asking                    // what is being done: the origin of new locals
	again    func(id uint32, l *local) // for tests: l was taken for the local of this number

	buf   []byte
	stats Stats
}

// Stats count what a search did.
type Stats struct {
	States, Transitions        int
	Locals, Histories, Fabrics int
	Messages, Steps, Depth     int
	Frontier                   int
	Cut                        bool
	Reached                    Reached
	Symmetry                   int   // how many permutations of nodes were taken for one; below 2 is none
	Uneven                     error // why none were, though nodes are interchangeable
}

type (
	// asking is an input to a local under a view.
	asking struct {
		local, view uint32
		action      uint32
	}
	learning struct {
		hist, fact uint32
		node       uint8
	}
	learnt struct {
		hist uint32
		bad  error
	}
)

// Origins of locals that no action made.
const (
	fromStart    = 1<<32 - 1
	fromSettling = 1<<32 - 2
)

// message is one that was sent, once for all copies.
type message struct {
	message consensus.Message
	from    uint8 // index
	to      uint8
	owner   uint8 // of its ballot
	stream  uint8 // which two nodes it goes between
	asks    bool  // from the owner; else to it
	text    string
	hash    uint16
}

func newExplorer(s *Setup) *explorer {
	return &explorer{
		setup: s, localIDs: map[hash128]uint32{}, messageIDs: map[hash128]uint16{}, texts: map[string]int{}, factIDs: map[fact]uint32{},
		historyIDs: map[hash128]uint32{}, learned: map[learning]learnt{}, fabricIDs: map[fabric]uint32{}, viewIDs: map[view]uint32{},
		outcomeIDs: map[asking]uint32{}, leases: map[[2]uint32]bool{},
	}
}

// quorums is the configuration of this version.
func (x *explorer) quorums(version uint64) *quorum.Config {
	for i := range x.setup.Configurations {
		if x.setup.Configurations[i].Version == version {
			return x.setup.Configurations[i].Quorums
		}
	}
	return nil
}

func (x *explorer) local(l *local, node int) uint32 {
	x.buf = l.appendTo(x.buf[:0], x, node)
	h := hashOf(x.buf)
	if id, ok := x.localIDs[h]; ok {
		if x.again != nil {
			x.again(id, l)
		}
		return id
	}
	n := *l
	n.status, n.settled = n.core.Status(), 0
	id := uint32(len(x.locals))
	n.from = x.asked
	x.locals = append(x.locals, &n)
	x.localIDs[h] = id
	return id
}

// plainMessage prints all fields.
type plainMessage consensus.Message

func (x *explorer) message(m *consensus.Message) uint16 {
	h := hashOf(fmt.Appendf(nil, "%+v", plainMessage(*m)))
	if id, ok := x.messageIDs[h]; ok {
		return id
	}
	if len(x.messages) > 1<<16-1 {
		panic("more than 65,536 different messages")
	}
	id := uint16(len(x.messages))
	owner := uint8(0)
	if m.Ballot.Node > 0 {
		owner = uint8(m.Ballot.Node - 1)
	}
	x.messages = append(x.messages, message{
		message: *m, from: uint8(m.From - 1), to: uint8(m.To - 1), owner: owner, asks: m.From == m.Ballot.Node,
		stream: uint8((m.To-1)*nodesMax + m.From - 1),
		text:   m.String(), hash: uint16(h.hi),
	})
	x.texts[m.String()]++
	x.messageIDs[h] = id
	return id
}

// label is how a trace names a message: its text, and where that is not enough a part of its hash.
func (x *explorer) label(id uint16) string {
	m := &x.messages[id]
	if x.texts[m.text] > 1 {
		return fmt.Sprintf("%s ~%04x", m.text, m.hash)
	}
	return m.text
}

func (x *explorer) history(h *history) uint32 {
	key := hashOf(h.appendTo(nil))
	if id, ok := x.historyIDs[key]; ok {
		return id
	}
	id := uint32(len(x.histories))
	n := *h
	x.histories = append(x.histories, &n)
	x.historyIDs[key] = id
	return id
}

func (x *explorer) learnOnce(hist, fact uint32, node uint8) learnt {
	key := learning{hist, fact, node}
	if l, ok := x.learned[key]; ok {
		return l
	}
	h, err := x.learn(x.histories[hist], int(node), &x.facts[fact])
	l := learnt{bad: err}
	if err == nil {
		l.hist = x.history(&h)
	}
	x.learned[key] = l
	return l
}

func (x *explorer) fabric(f *fabric) uint32 {
	if id, ok := x.fabricIDs[*f]; ok {
		return id
	}
	id := uint32(len(x.fabrics))
	x.fabrics = append(x.fabrics, *f)
	x.fabricIDs[*f] = id
	return id
}

func (x *explorer) view(fab uint32, node int) uint32 {
	var v view
	if x.setup.Fabric {
		v = x.fabrics[fab].view(node)
	}
	return x.viewID(v)
}

func (x *explorer) viewID(v view) uint32 {
	if id, ok := x.viewIDs[v]; ok {
		return id
	}
	id := uint32(len(x.views))
	x.views = append(x.views, v)
	x.viewIDs[v] = id
	return id
}

// ask is the outcome of an input.
func (x *explorer) ask(local, view uint32, a action) *outcome {
	a.again = false
	key := asking{local, view, a.pack()}
	id, ok := x.outcomeIDs[key]
	if !ok {
		x.asked = key
		out := x.do(x.locals[local], &x.views[view], a)
		if out.next == local && len(out.sent) == 0 && len(out.reads) == 0 && out.bad == nil {
			out = outcome{refused: true}
		}
		x.stats.Steps++
		id = uint32(len(x.outcomes))
		x.outcomes = append(x.outcomes, out)
		x.outcomeIDs[key] = id
	}
	return &x.outcomes[id]
}

// start makes the core of a node from its disk.
func (x *explorer) start(node int, l *local, log *logView, f consensus.Fabric) (*consensus.Core, error) {
	im := &l.durable
	log.im = &l.written
	var tail []consensus.Entry
	for i := range im.log {
		if im.log[i].Slot > im.rec.Applied {
			tail = append(tail, im.log[i])
		}
	}
	rec := im.rec
	if rec != (consensus.Record{}) {
		var err error
		if rec, err = consensus.DecodeRecord(im.rec.Append(nil)); err != nil {
			return nil, err
		}
		if rec != im.rec {
			return nil, fmt.Errorf("record %+v was read as %+v", plainRecord(im.rec), plainRecord(rec))
		}
	}
	return newCore(x.setup, node, rec, tail, int(l.known), int(l.retired), im.minCfg, log, f)
}

// initial is the world before the prelude.
func (x *explorer) initial() (world, error) {
	var w world
	for n := range x.setup.Nodes {
		l := local{self: consensus.NodeID(n + 1)}
		r := run{x: x, node: n}
		core, err := x.start(n, &l, new(logView), r.fabric())
		if err != nil {
			return w, err
		}
		l.core = core
		x.asked = asking{action: fromStart}
		w.node[n] = x.local(&l, n)
	}
	x.first = w.node
	f := newFabric(x.setup.Nodes)
	w.fab = x.fabric(&f)
	w.hist = x.history(&history{})
	return w, nil
}

// encode is the canonical bytes of a world.
func (w *world) encode(dst []byte, nodes int) []byte {
	for n := range nodes {
		dst = binary.LittleEndian.AppendUint32(dst, w.node[n])
	}
	dst = binary.LittleEndian.AppendUint32(dst, w.fab)
	dst = binary.LittleEndian.AppendUint32(dst, w.hist)
	dst = append(dst, w.used[:]...)
	for _, m := range w.net {
		dst = binary.LittleEndian.AppendUint16(dst, m)
	}
	return dst
}

func (w *world) decode(src []byte, nodes int) {
	for n := range nodes {
		w.node[n] = binary.LittleEndian.Uint32(src)
		src = src[4:]
	}
	w.fab, w.hist = binary.LittleEndian.Uint32(src), binary.LittleEndian.Uint32(src[4:])
	src = src[8:]
	copy(w.used[:], src)
	src = src[usedLen:]
	w.net = w.net[:0]
	for ; len(src) > 0; src = src[2:] {
		w.net = append(w.net, binary.LittleEndian.Uint16(src))
	}
}

// dead reports whether a message can never again have an effect that matters, so that a world with it is one without. Its
// ballot is over: the owner holds another or none, and has durably promised it, so that it takes a higher one next time. An
// answer to it is then ignored; what it asks is refused for good where something higher is durably promised, with an answer
// that is ignored. What asks before a ballot is over as soon as that ballot is promised, and a Cancel where there is nothing
// to forget.
func (x *explorer) dead(w *world, m *message) bool {
	b := m.message.Ballot
	owner, to := x.locals[w.node[m.owner]], x.locals[w.node[m.to]]
	if owner.durable.rec.Promised.Less(b) {
		return false
	}
	switch m.message.Type {
	case consensus.PrePrepare, consensus.PrePromise:
		return true
	case consensus.Cancel:
		return !to.durable.rec.Promised.Less(b) && !to.written.remembers(b)
	case consensus.Release:
		return false
	case consensus.Snapshot:
		if m.message.Slot > to.durable.rec.Commit {
			return false // state is welcome, whoever asked for it
		}
	}
	if owner.status.Ballot == b {
		return false
	}
	return !m.asks || b.Less(to.durable.rec.Promised)
}

// remembers reports whether the promise to a global ballot could be cancelled.
func (im *image) remembers(b consensus.Ballot) bool {
	for _, g := range im.rec.GlobalPromises {
		if g.Ballot == b && !g.Sticky {
			return true
		}
	}
	return false
}

// prune takes off the network what can have no effect any more. Only what has to do with the node that changed can be new to
// that.
func (x *explorer) prune(w *world, node uint8) {
	if x.setup.Bounds.Unpruned {
		return
	}
	w.net = slices.DeleteFunc(w.net, func(id uint16) bool {
		m := &x.messages[id]
		return (m.from == node || m.to == node) && (x.dead(w, m) || x.stale(w, id))
	})
}

// stale reports whether a message is an answer that the owner of its ballot has no more use for, and never will have: promises
// and acks are joined into what is known of a peer, which only grows until the ballot ends, so that one that changes nothing
// now never does. TestPruningLosesNothing holds this, and dead, against explorations without.
func (x *explorer) stale(w *world, id uint16) bool {
	m := &x.messages[id]
	switch m.message.Type {
	case consensus.Promise, consensus.Accepted, consensus.Learned, consensus.Confirmed, consensus.Fortified:
	default:
		return false
	}
	return x.ask(w.node[m.to], x.view(w.fab, int(m.to)), action{kind: deliver, node: m.to, arg: id}).refused
}

// post puts a message under way.
func (x *explorer) post(w *world, id uint16) {
	if x.setup.Bounds.Network != Streams {
		if i, ok := slices.BinarySearch(w.net, id); !ok {
			w.net = slices.Insert(w.net, i, id)
		}
		return
	}
	// Grouped by stream, in the order sent.
	i, stream := len(w.net), x.messages[id].stream
	for i > 0 && x.messages[w.net[i-1]].stream > stream {
		i--
	}
	if i > 0 && w.net[i-1] == id {
		return // what is sent twice in a row might as well have been lost once
	}
	w.net = slices.Insert(w.net, i, id)
	if limit := int(x.setup.Bounds.Inflight); limit > 0 {
		first := i
		for first > 0 && x.messages[w.net[first-1]].stream == stream {
			first--
		}
		if i-first+1 > limit {
			w.net = slices.Delete(w.net, first, first+1)
		}
	}
}

// arrive takes a message that is delivered off the network, and what it overtook.
func (x *explorer) arrive(w *world, id uint16, again bool) {
	i := slices.Index(w.net, id)
	if x.setup.Bounds.Network == Streams {
		first := i
		for first > 0 && x.messages[w.net[first-1]].stream == x.messages[id].stream {
			first--
		}
		w.net = slices.Delete(w.net, first, i)
		i = first
	}
	if !again {
		w.net = slices.Delete(w.net, i, i+1)
	}
}

// step is the world after an action. ok is false if the action was not possible or changed nothing.
func (x *explorer) step(from *world, a action, to *world) (ok bool, bad error) {
	to.node, to.fab, to.hist, to.used = from.node, from.fab, from.hist, from.used
	to.net = append(to.net[:0], from.net...)
	if a.kind.fabric() {
		f := x.fabrics[from.fab]
		var minEps []minEpoch
		if a.kind == support {
			minEps = x.locals[from.node[a.node]].withdrawn
		}
		if !f.next(a, minEps) {
			return false, nil
		}
		x.charge(to, a)
		to.fab = x.fabric(&f)
		return true, x.judge(to)
	}
	if a.kind == readIndex {
		a.arg = uint16(from.used[usedReads]) + 1
	}
	out := x.ask(from.node[a.node], x.view(from.fab, int(a.node)), a)
	if out.refused {
		return false, nil
	}
	if out.bad != nil {
		return true, out.bad
	}
	to.node[a.node] = out.next
	if a.kind == deliver && x.setup.Bounds.Network != Repeat {
		x.arrive(to, a.arg, a.again)
	}
	x.charge(to, a)
	for _, id := range out.sent {
		x.post(to, id)
	}
	for _, f := range out.facts {
		l := x.learnOnce(to.hist, f, a.node)
		if l.bad != nil {
			return true, l.bad
		}
		to.hist = l.hist
	}
	if err := x.reads(to, a, out); err != nil {
		return true, err
	}
	x.follow(to, a)
	x.settleAll(to)
	x.prune(to, a.node)
	return true, x.judge(to)
}

// charge counts the action against the bounds.
func (x *explorer) charge(w *world, a action) {
	switch a.kind {
	case campaign:
		w.used[usedCampaigns]++
	case campaignLocal:
		w.used[usedLocals]++
	case readIndex:
		w.used[usedReads]++
	case release:
		w.used[usedReleases]++
	case stopSign:
		w.used[usedStopSigns]++
	case compact:
		w.used[usedCompacts]++
	case bump:
		w.used[usedEpochs]++
	case support:
		w.used[usedRenewals]++
	case crash:
		w.used[usedCrashes]++
	case deliver:
		if a.again {
			w.used[usedRepeats]++
		}
	}
	switch {
	case a.mode == hold:
		w.used[usedStalls]++
	case a.mode >= crashIn:
		w.used[usedCrashes]++
	}
}

// settleAll syncs what is written, once no crash is left that could tell the difference: only batches that the core did not ask
// to be synced wait, and what messages rest on was judged when they were sent.
func (x *explorer) settleAll(w *world) {
	if w.used[usedCrashes] < x.setup.Bounds.Crashes {
		return
	}
	for n := range x.setup.Nodes {
		w.node[n] = x.settled(w.node[n], n)
	}
}

func (x *explorer) settled(id uint32, node int) uint32 {
	l := x.locals[id]
	if l.phase != idle || len(l.pending) == 0 {
		return id
	}
	if l.settled == 0 {
		s := *l
		s.pending, s.durable = nil, l.written
		x.asked = asking{local: id, action: fromSettling}
		l.settled = x.local(&s, node) + 1
	}
	return l.settled - 1
}

// follow lets the fabric follow what happened at the node: a restart, a withdrawal.
func (x *explorer) follow(w *world, a action) {
	if !x.setup.Fabric {
		return
	}
	f := x.fabrics[w.fab]
	if a.kind == crash || a.mode >= crashIn {
		f.restart(int(a.node))
	}
	for _, m := range x.locals[w.node[a.node]].withdrawn {
		if g := &f.gives[a.node][m.node]; *g < int8(m.epoch) {
			*g = none
		}
	}
	w.fab = x.fabric(&f)
}

// reads notes what was asked, and judges I8: an answer is not below what anybody was told before the question.
func (x *explorer) reads(w *world, a action, out *outcome) error {
	if a.kind != readIndex && len(out.reads)+len(out.lost) == 0 {
		return nil
	}
	h := x.histories[w.hist].clone()
	if a.kind == readIndex {
		h.reads[a.arg-1] = read{asked: true, needed: x.histories[w.hist].acked}
	}
	x.stats.Reached.Reads += min(len(out.reads), 1)
	for _, r := range out.reads {
		q := &h.reads[r.ID-1]
		if !q.asked {
			return fmt.Errorf("I8: read %d is answered and was not asked", r.ID)
		}
		if uint8(r.Slot) < q.needed {
			return fmt.Errorf("I8: read %d is answered at slot %d, slot %d was acknowledged before it began", r.ID, r.Slot, q.needed)
		}
		*q = read{}
	}
	for _, id := range out.lost {
		h.reads[id-1] = read{}
	}
	w.hist = x.history(&h)
	return nil
}

// judge holds the invariants that need more than one node: I7 and I8 of leases.
func (x *explorer) judge(w *world) error {
	if !x.setup.Fabric {
		return nil
	}
	holder := -1
	for n := range x.setup.Nodes {
		l := x.locals[w.node[n]]
		if l.status.State != consensus.Serving || !x.holdsLease(w, n) {
			continue
		}
		if holder >= 0 {
			return fmt.Errorf("I7: nodes %d and %d hold a lease", holder+1, n+1)
		}
		holder = n
		h := x.histories[w.hist]
		if b, above := h.wonAbove(l.status.Ballot); above {
			return fmt.Errorf("I7: node %d holds a lease at %s, %s is won", n+1, l.status.Ballot, b)
		}
		if uint8(l.status.Commit) < h.acked {
			return fmt.Errorf("I8: node %d holds a lease at slot %d, slot %d was acknowledged", n+1, l.status.Commit, h.acked)
		}
	}
	return nil
}

func (x *explorer) holdsLease(w *world, n int) bool {
	key := [2]uint32{w.node[n], x.view(w.fab, n)}
	holds, ok := x.leases[key]
	if !ok {
		l := x.locals[key[0]]
		core := l.core.Clone(&logView{&l.written}, &eyes{view: x.views[key[1]]})
		holds = core.HoldsLease()
		x.leases[key] = holds
	}
	return holds
}
