// SPDX-License-Identifier: AGPL-3.0-only

package wan

import (
	"container/heap"
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// start is when virtual time begins: a commit time must not be 0.
const start = 1_000_000 * Second

// tickEvery is how often cores that wait for time get it.
const tickEvery = 20 * Millisecond

// payload is what every request writes. Its content is never looked at.
const payloadLen = 100

// kind says what an event is.
type kind uint8

const (
	evMessage kind = iota // a core's, arrives at node
	evSynced              // a replica's batch is durable
	evTick                // of a node
	evAsk                 // a region's clients send
	evRequest             // arrives at node
	evAnswer              // arrives at the client
)

// event is one thing that will happen.
type event struct {
	at   Time
	seq  uint64 // order among equal times
	kind kind
	node *node
	on   *replica
	ask  *request
	zone int
	// of a message
	object int
	msg    consensus.Message
	told   *ownership.Handover // rides on a Release
}

// events is a heap.
type events []*event

func (h events) Len() int      { return len(h) }
func (h events) Swap(i, k int) { h[i], h[k] = h[k], h[i] }
func (h events) Less(i, k int) bool {
	if h[i].at != h[k].at {
		return h[i].at < h[k].at
	}
	return h[i].seq < h[k].seq
}
func (h *events) Push(x any) { *h = append(*h, x.(*event)) }
func (h *events) Pop() any {
	last := len(*h) - 1
	e := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return e
}

// request is one write of a client.
type request struct {
	region int
	object int
	sent   Time
	hops   int
}

// node is one Atlas process.
type node struct {
	id       quorum.NodeID
	region   int
	dead     bool
	replicas []*replica // by object; nil until somebody has asked
	ticking  []*replica
	policy   *ownership.Policy
}

// replica is an object's core on a node.
type replica struct {
	n       *node
	object  int
	core    *consensus.Core
	log     []consensus.Entry // from slot first on
	first   consensus.Slot
	after   []consensus.Message // of the Ready that is being synced
	out     bool
	ticks   bool
	waits   []wait
	queue   []*request // until the ballot is won
	group   *ownership.Group
	next    quorum.NodeID // to whom it was released; 0: to nobody
	since   Time          // when the release from here was decided, or the one to here arrived
	told    *ownership.Handover
	leaving *ownership.Move
	gives   *ownership.Handover // to who gets it from here
}

// wait is a request that was proposed.
type wait struct {
	slot   consensus.Slot
	ballot consensus.Ballot
	ask    *request
}

// fabric gives support to all, for ever.
type fabric struct{}

func (fabric) Epoch() uint64 { return 1 }
func (fabric) Supports(_ consensus.NodeID, epoch uint64) (consensus.Timestamp, bool) {
	return Second, epoch == 1
}
func (fabric) SupportFrom(consensus.NodeID) bool        { return true }
func (fabric) Quarantined() (consensus.Timestamp, bool) { return 0, false }
func (fabric) Withdraw(_ consensus.NodeID, _ uint64) error {
	return errors.New("support does not end here")
}
func (fabric) Clock() consensus.Timestamp                     { return 0 }
func (fabric) ClockFrom(consensus.NodeID) consensus.Timestamp { return 0 }
func (fabric) Observe(consensus.Timestamp)                    {}

// world is one run.
type world struct {
	o       Options
	now     Time
	seq     uint64
	events  events
	nodes   []*node // by number-1
	load    *load
	quorums *quorum.Config
	bounds  ownership.Bounds
	tuning  consensus.Tuning
	where   [][]quorum.NodeID // by region and object: who owns it, as far as the region knows
	payload []byte
	result  *Result
	// The measuring begins at from; what is sent before tail has to be answered.
	from, tail Time
}

// Run runs the options to their end.
func Run(o Options) (*Result, error) {
	w := &world{o: o, now: start, load: newLoad(&o), payload: make([]byte, payloadLen), tuning: consensus.DefaultTuning()}
	w.result = &Result{Options: o, Latency: make([][]uint32, len(Regions)), Unanswered: make([]int, len(Regions))}
	w.tuning.RetainedEntries = 64
	var voters []quorum.Voter
	for r, name := range Regions {
		if o.Mode == Leader {
			name = "all"
		}
		for i := range o.Nodes {
			voters = append(voters, quorum.Voter{Node: o.NodeOf(r, i), Region: name})
		}
	}
	if o.Mode == Leader {
		o.Fn, o.Fz = len(voters), 0
	}
	var err error
	if w.quorums, err = quorum.New(voters, o.Fn, o.Fz); err != nil {
		return nil, err
	}
	w.bounds = ownership.Bounds{Config: w.quorums}
	if o.WideHome {
		w.bounds.Home = Regions
	}
	if err := w.addNodes(); err != nil {
		return nil, err
	}
	if err := w.begin(); err != nil {
		return nil, err
	}
	return w.result, w.run()
}

func (w *world) addNodes() error {
	rtt := make([][]ownership.Timestamp, len(Regions))
	for i, row := range roundTrip {
		for _, ms := range row {
			rtt[i] = append(rtt[i], ms*Millisecond)
		}
	}
	m, err := ownership.NewMap(Regions, rtt, nil)
	if err != nil {
		return err
	}
	for r, name := range Regions {
		for i := range w.o.Nodes {
			n := &node{id: w.o.NodeOf(r, i), region: r, replicas: make([]*replica, w.o.Objects)}
			if n.policy, err = ownership.New(w.o.Policy, n.id, name, m); err != nil {
				return err
			}
			w.nodes = append(w.nodes, n)
		}
	}
	return nil
}

// begin lets the first owner of each object campaign, and the clients begin when all have won.
func (w *world) begin() error {
	w.where = make([][]quorum.NodeID, len(Regions))
	for r := range w.where {
		w.where[r] = make([]quorum.NodeID, w.o.Objects)
	}
	for object := range w.o.Objects {
		region := w.load.rng.IntN(len(Regions))
		switch w.o.Mode {
		case Placed:
			region = w.load.homeOf(object)
		case Leader:
			region = w.o.LeaderRegion
		}
		owners := w.o.Owners
		if owners == 0 {
			owners = w.o.Nodes
		}
		owner := w.o.NodeOf(region, object%owners)
		for r := range w.where {
			w.where[r][object] = owner
		}
		r, err := w.replica(w.nodes[owner-1], object)
		if err != nil {
			return err
		}
		if err := r.core.Campaign(consensus.Global); err != nil {
			return err
		}
		if err := w.pump(r); err != nil {
			return err
		}
	}
	for _, n := range w.nodes {
		w.push(&event{at: w.now + tickEvery, kind: evTick, node: n})
	}
	for r := range Regions {
		w.push(&event{at: w.now + 2*Second + w.load.gap(w.o.Rate), kind: evAsk, zone: r})
	}
	return nil
}

func (w *world) push(e *event) {
	w.seq++
	e.seq = w.seq
	heap.Push(&w.events, e)
}

// oneWay is half of a round trip.
func oneWay(from, to int) Time { return roundTrip[from][to] * Millisecond / 2 }

// replica is the core of an object on a node; it is made when first asked for.
func (w *world) replica(n *node, object int) (*replica, error) {
	if r := n.replicas[object]; r != nil {
		return r, nil
	}
	r := &replica{n: n, object: object, first: 1}
	o := consensus.Options{
		Self: n.id, Configurations: []consensus.Configuration{{Version: 1, Quorums: w.quorums}}, Log: r, Fabric: fabric{}, Tuning: &w.tuning,
	}
	if w.o.Mode != Leader {
		o.Home = n.policy.Home(&w.bounds, Regions[n.region])
	}
	var err error
	r.core, err = consensus.New(o)
	n.replicas[object] = r
	return r, err
}

// Entries implements consensus.Log.
func (r *replica) Entries(lo, hi consensus.Slot, maxBytes int) ([]consensus.Entry, error) {
	if lo < r.first || hi >= r.first+consensus.Slot(len(r.log)) {
		return nil, fmt.Errorf("slots %d to %d are not in the log from %d", lo, hi, r.first)
	}
	size, end := 0, lo
	for end <= hi && (end == lo || size < maxBytes) {
		size += len(r.log[end-r.first].Payload)
		end++
	}
	return slices.Clone(r.log[lo-r.first : end-r.first]), nil
}

func (w *world) run() error {
	measured := start + 2*Second + w.o.Warm
	end := measured + w.o.Measure
	w.from, w.tail = measured, max(measured, end-min(end, AnswerTail))
	begun := false
	for len(w.events) > 0 {
		e := heap.Pop(&w.events).(*event)
		if e.at >= end {
			break
		}
		w.now = e.at
		w.result.Events++
		if !begun && w.now >= measured {
			begun = true
			if w.o.Shift {
				w.load.shift = 1
			}
			for _, id := range w.o.Kill {
				w.nodes[id-1].dead = true
			}
		}
		if e.node != nil && e.node.dead {
			continue
		}
		if err := w.handle(e); err != nil {
			return fmt.Errorf("at %d ms: %w", (w.now-start)/Millisecond, err)
		}
	}
	for r := range w.result.Latency {
		slices.Sort(w.result.Latency[r])
	}
	return nil
}

func (w *world) handle(e *event) error {
	switch e.kind {
	case evMessage:
		return w.message(e)
	case evSynced:
		e.on.out = false
		w.send(e.on, e.on.after)
		e.on.after = nil
		e.on.core.Advance()
		return w.pump(e.on)
	case evTick:
		return w.tick(e.node)
	case evAsk:
		ask := &request{region: e.zone, object: w.load.object(e.zone), sent: w.now}
		if w.counts(ask) {
			w.result.Unanswered[e.zone]++
		}
		w.route(ask, e.zone, w.where[e.zone][ask.object])
		w.push(&event{at: w.now + max(1, w.load.gap(w.o.Rate)), kind: evAsk, zone: e.zone})
	case evRequest:
		return w.request(e.node, e.ask)
	case evAnswer:
		w.answered(e)
	}
	return nil
}

func (w *world) message(e *event) error {
	r, err := w.replica(e.node, e.object)
	if err != nil {
		return err
	}
	if e.told != nil {
		r.told, r.since, r.next = e.told, w.now, 0
	}
	if err := r.core.Step(e.msg); err != nil {
		return fmt.Errorf("node %d object %d: %v: %w", e.node.id, e.object, e.msg.Type, err)
	}
	return w.pump(r)
}

// route sends a request from a region to a node.
func (w *world) route(ask *request, from int, to quorum.NodeID) {
	n := w.nodes[to-1]
	w.push(&event{at: w.now + oneWay(from, n.region), kind: evRequest, node: n, ask: ask})
}

// counts reports whether a request has to be answered before the end.
func (w *world) counts(ask *request) bool { return ask.sent >= w.from && ask.sent < w.tail }

// answered takes the time, and notes where the answer came from.
func (w *world) answered(e *event) {
	ask := e.ask
	w.where[ask.region][ask.object] = e.on.n.id
	if w.counts(ask) {
		w.result.Unanswered[ask.region]--
	}
	if w.now-start < 2*Second+w.o.Warm || ask.sent-start < 2*Second+w.o.Warm {
		return
	}
	w.result.Latency[ask.region] = append(w.result.Latency[ask.region], uint32((w.now-ask.sent)/Microsecond))
	slice := (ask.sent - start - 2*Second - w.o.Warm) / SliceLen
	for slice >= uint64(len(w.result.Slices)) {
		w.result.Slices = append(w.result.Slices, Slice{})
	}
	s := &w.result.Slices[slice]
	s.Requests++
	s.Sum += w.now - ask.sent
	if e.on.n.region == ask.region {
		w.result.Local++
		s.Local++
	}
}
