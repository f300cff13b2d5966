// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	storytest "github.com/atlas-edge/atlas/internal/story"
)

// story is the world of one file in testdata. Times are milliseconds. Its commands:
//
//	nodes N [key=value ...]     new nodes 1 to N, all started at time 100000; the keys are those of options
//	time T | time +T            all clocks of nodes that are up go on to T, or by T; every node does its io
//	clock N boot=+T wall=-T     node N's clocks step; it notices at once
//	io N ...                    the nodes' Readies, whole, until there is none
//	hold N                      from now on node N's Readies are taken by hand: write and sync
//	write N | sync N            a Ready by halves: taken and sent; durable
//	deliver | repeat | drop [from=N] [to=N] [type=Heartbeat|HeartbeatAck] [count=N]   messages under way, the oldest first
//	run                         deliver and io until nothing is left
//	step                        a message made by hand: type=.. from=.. to=.. epoch=.. seq=.. support=.. minEpoch=..
//	withdraw N node=M minEpoch=E | disk N since=T | hlc N now=T ceil=T | peers N M ...
//	crash N | start N           what is not durable is lost; a start takes the next epoch
//	status N ... | network
type story struct {
	t     *testing.T
	nodes []*storyNode
	net   []Message
	out   strings.Builder
	now   Timestamp
}

type storyNode struct {
	id         NodeID
	o          Options
	core       *Core
	boot, wall Timestamp // offsets of its clocks
	out        *Ready
	held       bool
	epoch      uint64
	minEpochs  map[NodeID]uint64
}

const ms = 1e6

func TestTranscripts(t *testing.T) { storytest.Run(t, "testdata", newStory) }

func newStory() storytest.World {
	s := &story{}
	return func(t *testing.T, d *datadriven.TestData) string {
		s.t = t
		s.out.Reset()
		s.command(d)
		return s.out.String()
	}
}

func (s *story) printf(format string, args ...any) { fmt.Fprintf(&s.out, format+"\n", args...) }

func (s *story) failed(what string, err error) {
	if err == nil {
		return
	}
	class := "FATAL"
	if errors.Is(err, ErrInvalid) || errors.Is(err, ErrUnknownPeer) {
		class = "refused"
	}
	s.printf("%s: %s: %v", what, class, err)
}

// arg is a number among the arguments, in milliseconds if asked so; 0 if it is not there.
func (s *story) arg(d *datadriven.TestData, key string, unit uint64) uint64 {
	var v uint64
	d.MaybeScanArgs(s.t, key, &v)
	return v * unit
}

func (s *story) node(d *datadriven.TestData) *storyNode {
	return s.nodes[s.number(d.CmdArgs[0].Key)-1]
}

func (s *story) number(text string) uint64 {
	v, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return v
}

func (s *story) listed(d *datadriven.TestData) []*storyNode {
	var out []*storyNode
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			out = append(out, s.nodes[s.number(a.Key)-1])
		}
	}
	if len(out) == 0 {
		return s.nodes
	}
	return out
}

func (s *story) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "nodes":
		s.make(d)
	case "time":
		s.time(d.CmdArgs[0].Key)
	case "clock":
		s.clock(d)
	case "io":
		for _, n := range s.listed(d) {
			s.io(n)
		}
	case "hold":
		s.node(d).held = true
	case "write":
		s.write(s.node(d))
	case "sync":
		s.sync(s.node(d))
	case "deliver", "repeat", "drop":
		s.deliver(d)
	case "run":
		for len(s.net) > 0 {
			s.receive(s.net[0])
			s.net = s.net[1:]
		}
	case "step":
		s.step(d)
	case "withdraw":
		n := s.node(d)
		s.failed("withdraw", n.core.Withdraw(NodeID(s.arg(d, "node", 1)), s.arg(d, "minEpoch", 1)))
		s.io(n)
	case "disk":
		s.node(d).core.DiskProgress(s.arg(d, "since", ms))
	case "hlc":
		s.node(d).core.SetHLC(s.arg(d, "now", 1), s.arg(d, "ceil", 1))
	case "peers":
		var peers []NodeID
		for _, a := range d.CmdArgs[1:] {
			peers = append(peers, NodeID(s.number(a.Key)))
		}
		s.failed("peers", s.node(d).core.SetPeers(peers))
	case "crash":
		n := s.node(d)
		n.core, n.out, n.held = nil, nil, false
	case "start":
		s.start(s.node(d))
	case "status":
		for _, n := range s.listed(d) {
			s.status(n)
		}
	case "network":
		for _, m := range s.net {
			s.printf("%v", m)
		}
	default:
		s.t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
}

func (s *story) make(d *datadriven.TestData) {
	n := s.number(d.CmdArgs[0].Key)
	o := Options{
		Interval: s.arg(d, "interval", ms), Support: s.arg(d, "support", ms), DriftPPM: s.arg(d, "ppm", 1),
		SyncStall: s.arg(d, "stall", ms), ClockJumpMax: s.arg(d, "jump", ms),
	}
	for i := range n {
		o.Peers = append(o.Peers, NodeID(i+1))
	}
	s.nodes, s.net, s.now = nil, nil, 100_000*ms
	for i := range n {
		node := &storyNode{id: NodeID(i + 1), o: o, minEpochs: map[NodeID]uint64{}}
		s.nodes = append(s.nodes, node)
		s.start(node)
	}
}

func (s *story) start(n *storyNode) {
	n.epoch++
	o := n.o
	o.Self, o.Epoch = n.id, n.epoch
	for node, e := range n.minEpochs {
		o.MinEpochs = append(o.MinEpochs, MinEpoch{node, e})
	}
	slices.SortFunc(o.MinEpochs, func(a, b MinEpoch) int { return cmp.Compare(a.Node, b.Node) })
	var err error
	if n.core, err = New(o); err != nil {
		s.t.Fatal(err)
	}
	s.tick(n)
	s.io(n)
}

func (s *story) tick(n *storyNode) { n.core.Tick(s.now+n.boot, s.now+n.wall+1e12) }

func (s *story) time(to string) {
	by, relative := strings.CutPrefix(to, "+")
	if relative {
		s.now += s.number(by) * ms
	} else {
		s.now = s.number(to) * ms
	}
	for _, n := range s.nodes {
		if n.core != nil {
			s.tick(n)
			s.io(n)
		}
	}
}

func (s *story) clock(d *datadriven.TestData) {
	n := s.node(d)
	for _, a := range d.CmdArgs[1:] {
		v, err := strconv.ParseInt(a.Vals[0], 10, 64)
		if err != nil {
			s.t.Fatal(err)
		}
		if a.Key == "boot" {
			n.boot += Timestamp(v * ms)
		} else {
			n.wall += Timestamp(v * ms)
		}
	}
	s.tick(n)
	s.io(n)
}

func (s *story) write(n *storyNode) {
	if n.core == nil || n.out != nil || !n.core.HasReady() {
		return
	}
	r := n.core.Ready()
	n.out = &r
	if r.Epoch != 0 {
		s.printf("node %d: write epoch=%d", n.id, r.Epoch)
	}
	for _, e := range r.MinEpochs {
		s.printf("node %d: write minEpoch(%d)=%d", n.id, e.Node, e.Epoch)
	}
	for _, m := range r.MsgsNow {
		s.printf("  send %v", m)
		s.net = append(s.net, m)
	}
}

func (s *story) sync(n *storyNode) {
	if n.out == nil {
		return
	}
	if n.out.Epoch != 0 {
		n.epoch = n.out.Epoch
	}
	for _, e := range n.out.MinEpochs {
		n.minEpochs[e.Node] = e.Epoch
	}
	n.out = nil
	n.core.Advance()
}

func (s *story) io(n *storyNode) {
	for n.core != nil && !n.held && (n.out != nil || n.core.HasReady()) {
		s.write(n)
		s.sync(n)
	}
}

func (s *story) receive(m Message) {
	n := s.nodes[m.To-1]
	s.printf("%v", m)
	if n.core == nil {
		return
	}
	s.tick(n)
	s.failed("step", n.core.Step(m))
	s.io(n)
}

func (s *story) deliver(d *datadriven.TestData) {
	from, to, count := NodeID(s.arg(d, "from", 1)), NodeID(s.arg(d, "to", 1)), int(s.arg(d, "count", 1))
	var kind string
	d.MaybeScanArgs(s.t, "type", &kind)
	var chosen, rest []Message
	for _, m := range s.net {
		if (from == 0 || m.From == from) && (to == 0 || m.To == to) && (kind == "" || m.Type.String() == kind) && (count == 0 || len(chosen) < count) {
			chosen = append(chosen, m)
			if d.Cmd != "repeat" {
				continue
			}
		}
		rest = append(rest, m)
	}
	s.net = rest
	for _, m := range chosen {
		if d.Cmd == "drop" {
			s.printf("lost: %v", m)
			continue
		}
		s.receive(m)
	}
}

func (s *story) step(d *datadriven.TestData) {
	m := Message{
		From: NodeID(s.arg(d, "from", 1)), To: NodeID(s.arg(d, "to", 1)), Epoch: s.arg(d, "epoch", 1), Seq: s.arg(d, "seq", 1),
		Support: s.arg(d, "support", ms), MinEpoch: s.arg(d, "minEpoch", 1), HLC: s.arg(d, "hlc", 1), HLCCeil: s.arg(d, "ceil", 1),
		About: NodeID(s.arg(d, "about", 1)), RTT: s.arg(d, "rtt", ms),
	}
	var kind string
	d.MaybeScanArgs(s.t, "type", &kind)
	for t := Heartbeat; t <= HeartbeatAck; t++ {
		if t.String() == kind {
			m.Type = t
		}
	}
	s.receive(m)
}

func (s *story) status(n *storyNode) {
	if n.core == nil {
		s.printf("node %d: down", n.id)
		return
	}
	st := n.core.Status()
	line := fmt.Sprintf("node %d: epoch=%d", n.id, st.Epoch)
	if st.NextEpoch != 0 {
		line += fmt.Sprintf(" next=%d", st.NextEpoch)
	}
	if left, ok := n.core.Quarantined(); ok {
		line += " quarantined=" + millis(left)
	}
	for _, f := range []struct {
		name string
		on   bool
	}{{"stalled", st.Stalled}, {"backwards", st.Backwards}} {
		if f.on {
			line += " " + f.name
		}
	}
	s.printf("%s", line)
	for _, p := range n.core.AppendPeers(nil) {
		line := fmt.Sprintf("  %d:", p.Node)
		if left, ok := n.core.Supports(p.Node, p.GivenEpoch); ok {
			line += fmt.Sprintf(" gives (epoch %d) %s", p.GivenEpoch, millis(left))
		}
		if p.MinEpoch != 0 {
			line += fmt.Sprintf(" minEpoch=%d", p.MinEpoch)
		}
		if until, ok := n.core.SupportFromUntil(p.Node); ok {
			line += " counts on it for " + millis(until-(s.now+n.boot))
		}
		if p.RTT != 0 {
			line += " rtt=" + millis(p.RTT)
		}
		if p.HLCCeil != 0 {
			line += fmt.Sprintf(" hlc=%d/%d", p.HLC, p.HLCCeil)
		}
		s.printf("%s", line)
	}
}
