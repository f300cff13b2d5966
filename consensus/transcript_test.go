// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/consensus/quorum"
	storytest "github.com/atlas-edge/atlas/internal/story"
)

// story is the world of one file in testdata. Its commands:
//
//	cluster regions=(3,2) [fn=1] [fz=0] [message-bytes=N] [retained=N]   new nodes 1, 2, ... by region
//	               [home=(a,b)] [epoch=E] [snapshot-ms=T]                    epoch: with leases; each node's life
//	node N                                                               one more node, which is no voter
//	configure N|all version=V regions=(1,1) [nodes=(1,2)] [fn=1] [fz=0] [learners=(4)]   nodes by region, else 1, 2, ...
//	retire N V | seal N V | home N [a b] | compact N upTo | release N to=M | lease N | read N id
//	stop-sign N at=T next=V
//	support N->M ... | expire N->M ... | epoch N E | quarantine N ms     what the fabric says; N supports M
//	clock N T [untold]                                                   its hybrid clock; all others hear it unless untold
//	close N at=T                                                         claims that nothing more is chosen up to T
//	campaign N [local] [unasked]   unasked: as if all had answered the PrePrepare
//	propose N at=T [payload ...] | tick T                   inputs; tick is for all nodes, T in milliseconds
//	io N ...            take each node's Ready and do it whole, until there is none
//	write N | sync N | advance N                                         the stages of a Ready, one by one
//	deliver [from=N] [to=N] [type=T] [count=N]                           messages on their way, the oldest first
//	repeat ...          the same, and they stay on their way
//	drop ...            the same, and they are lost
//	step                a message made by hand: fields in the input, `type=Prepare from=2 to=1 ballot=1.5.2 ...`
//	run                 io and deliver for all, until nothing is left to do
//	crash N [keep=B] | start N                                           the disk keeps what was synced and B batches more
//	status N ... | log N ... | network                                   what there is
type story struct {
	t      *testing.T
	nodes  []*testNode
	q      *quorum.Config
	tuning Tuning
	net    []Message
	out    strings.Builder
}

func TestTranscripts(t *testing.T) { storytest.Run(t, "testdata/stories", newStory) }

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
	for _, e := range []error{ErrInvalid, ErrNotOwner, ErrBusy, ErrNotVoter, ErrStopped, ErrUnknownConfiguration, ErrNoLease, ErrCeiling} {
		if errors.Is(err, e) {
			class = "refused"
		}
	}
	s.printf("%s: %s: %v", what, class, err)
}

func (s *story) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "cluster":
		s.cluster(d)
	case "campaign":
		s.campaign(d)
	case "propose":
		s.propose(d)
	case "tick":
		ms, err := strconv.Atoi(d.CmdArgs[0].Key)
		s.must(err)
		for _, n := range s.nodes {
			if n.core != nil {
				n.core.Tick(Timestamp(ms) * 1e6)
			}
		}
	case "io":
		for _, n := range s.listed(d) {
			for n.busy() && s.stage(n) {
			}
		}
	case "write", "sync", "advance":
		n := s.node(d)
		if want := map[string]stage{"write": idle, "sync": written, "advance": synced}[d.Cmd]; n.stage != want {
			s.t.Fatalf("%s: node %d is in stage %d", d.Pos, n.id, n.stage)
		}
		s.stage(n)
	case "deliver", "repeat", "drop":
		s.deliver(d)
	case "step":
		s.step(d)
	case "run":
		s.run()
	case "crash":
		keep := 0
		d.MaybeScanArgs(s.t, "keep", &keep)
		n := s.node(d)
		s.printf("node %d loses %d of %d batches", n.id, len(n.pending)-keep, len(n.pending))
		n.crash(keep)
	case "start":
		s.failed("start", s.node(d).start())
	case "status":
		for _, n := range s.listed(d) {
			st := n.core.Status()
			s.printf("node %d: %s ballot=%s promised=%s owner=%d last=%d commit=%d applied=%d%s", n.id, st.State, st.Ballot, st.Promised, st.Owner, st.Last, st.Commit, st.Applied, flags(st, n.core))
		}
	case "log":
		for _, n := range s.listed(d) {
			s.log(n)
		}
	case "network":
		for _, m := range s.net {
			s.printf("%v", m)
		}
	case "node", "configure", "retire", "seal", "home", "compact", "release", "lease", "read", "stop-sign", "close":
		s.inputs(d)
	case "support", "expire", "epoch", "quarantine", "clock":
		s.fabrics(d)
	default:
		s.t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
}

func flags(st Status, c *Core) string {
	var b strings.Builder
	if st.SoleVoter {
		b.WriteString(" sole")
	}
	if c.MayServeLocal() {
		b.WriteString(" may-serve-local")
	}
	if st.Behind {
		b.WriteString(" behind")
	}
	if st.NeedGlobal {
		b.WriteString(" need-global")
	}
	if st.Stopped {
		fmt.Fprintf(&b, " stopped=%d->%d", st.StopSlot, st.StopNext)
	}
	if st.LeasedBy.Owner != 0 {
		fmt.Fprintf(&b, " leased-by=%d", st.LeasedBy.Owner)
	}
	if st.Cfg > 1 {
		fmt.Fprintf(&b, " cfg=%d established=%d", st.Cfg, st.Established)
	}
	if st.StaleCfg > 0 {
		fmt.Fprintf(&b, " stale-cfg=%d", st.StaleCfg)
	}
	if c.NeedsTick() {
		b.WriteString(" needs-tick")
	}
	return b.String()
}

func (s *story) campaign(d *datadriven.TestData) {
	n, scope := s.node(d), Global
	if d.HasArg("local") {
		scope = Local
	}
	s.failed("campaign", n.core.Campaign(scope))
	if d.HasArg("unasked") && n.core.state == Probing {
		n.core.now = nil
		s.failed("campaign", n.core.prepare())
	}
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *story) cluster(d *datadriven.TestData) {
	var (
		regions []string
		fn, fz  int
		tuning  = DefaultTuning()
		sizes   []int
	)
	for _, a := range d.CmdArgs {
		if a.Key == "regions" {
			regions = a.Vals
		}
	}
	d.MaybeScanArgs(s.t, "fn", &fn)
	d.MaybeScanArgs(s.t, "fz", &fz)
	d.MaybeScanArgs(s.t, "message-bytes", &tuning.MessageBytes)
	d.MaybeScanArgs(s.t, "retained", &tuning.RetainedEntries)
	d.MaybeScanArgs(s.t, "uncommitted", &tuning.UncommittedEntries)
	for _, r := range regions {
		n, err := strconv.Atoi(r)
		s.must(err)
		sizes = append(sizes, n)
	}
	ms := 0
	if d.MaybeScanArgs(s.t, "snapshot-ms", &ms) {
		tuning.SnapshotRetryAfter = Timestamp(ms) * 1e6
	}
	epoch := uint64(0)
	d.MaybeScanArgs(s.t, "epoch", &epoch)
	s.q, s.nodes, s.net, s.tuning = layout(sizes, fn, fz), nil, nil, tuning
	for i := range s.q.Len() {
		n := s.addNode(NodeID(i + 1))
		if epoch != 0 {
			n.fabric = &testFabric{epoch: epoch, supports: map[NodeID]uint64{}, from: map[NodeID]bool{}, clocks: map[NodeID]Timestamp{}}
		}
		for _, a := range d.CmdArgs {
			if a.Key == "home" {
				n.home = regionsOf(a.Vals)
			}
		}
		s.must(n.start())
	}
}

func (s *story) addNode(id NodeID) *testNode {
	n := newTestNode(id, s.q, &s.tuning, nil)
	n.send = func(m Message) {
		s.printf("  send %v", m)
		if m.Type == Snapshot { // the state travels beside it, and arrives
			s.byID(fmt.Sprint(m.To)).staged = n.state(m.Slot)
		}
		s.net = append(s.net, m)
	}
	n.onReady = s.ready
	s.nodes = append(s.nodes, n)
	return n
}

// ready prints what a core handed out.
func (s *story) ready(n *testNode, r *Ready) {
	line := fmt.Sprintf("node %d:", n.id)
	if r.TruncateFrom != 0 {
		line += fmt.Sprintf(" truncate=%d", r.TruncateFrom)
	}
	if len(r.Entries) > 0 {
		line += fmt.Sprintf(" write [%s]", describeEntries(r.Entries))
	}
	if rec := r.Record; rec != nil {
		line += fmt.Sprintf(" record promised=%s accepted=%s last=%d commit=%d applied=%d first=%d%s", rec.Promised, rec.Accepted, rec.Last, rec.Commit, rec.Applied, rec.First, ties(rec))
	}
	if r.MustSync {
		line += " SYNC"
	}
	if len(r.Committed) > 0 {
		line += fmt.Sprintf(" apply [%s]", describeEntries(r.Committed))
	}
	if r.Atomic {
		line += " ATOMIC"
	}
	if r.CompactTo != 0 {
		line += fmt.Sprintf(" compact=%d", r.CompactTo)
	}
	if r.Snapshot != nil {
		line += fmt.Sprintf(" ingest the state at %d", r.Snapshot.Slot)
	}
	if r.Clock != 0 {
		line += fmt.Sprintf(" clock=%d", r.Clock)
	}
	for _, w := range r.Withdrawals {
		line += fmt.Sprintf(" withdraw node %d below epoch %d", w.Node, w.Epoch)
	}
	for _, read := range r.Reads {
		line += fmt.Sprintf(" read %d at %d", read.ID, read.Slot)
	}
	for _, id := range r.ReadsLost {
		line += fmt.Sprintf(" read %d is lost", id)
	}
	if line != fmt.Sprintf("node %d:", n.id) {
		s.printf("%s", line)
	}
}

// stage does the next stage of a node's Ready, and says whether the node is still sound.
func (s *story) stage(n *testNode) bool {
	if err := n.progress(false); err != nil {
		s.failed(fmt.Sprintf("node %d", n.id), err)
		return false
	}
	return true
}

func (s *story) node(d *datadriven.TestData) *testNode { return s.byID(d.CmdArgs[0].Key) }

func (s *story) byID(id string) *testNode {
	n, err := strconv.Atoi(id)
	s.must(err)
	return s.nodes[n-1]
}

func (s *story) listed(d *datadriven.TestData) []*testNode {
	var nodes []*testNode
	for _, a := range d.CmdArgs {
		nodes = append(nodes, s.byID(a.Key))
	}
	if len(nodes) == 0 {
		return s.nodes
	}
	return nodes
}

func (s *story) propose(d *datadriven.TestData) {
	n := s.node(d)
	var at int
	d.ScanArgs(s.t, "at", &at)
	for _, a := range d.CmdArgs[1:] {
		if a.Key == "at" {
			continue
		}
		slot, t, err := n.core.Propose(Timestamp(at), Proposal{Payload: []byte(a.Key)})
		if err != nil {
			s.failed("propose "+a.Key, err)
			continue
		}
		s.printf("%s: slot %d, time %d", a.Key, slot, t)
	}
}

// deliver takes the messages that the arguments name and that are on their way now.
func (s *story) deliver(d *datadriven.TestData) {
	var from, to, count int
	var kind string
	d.MaybeScanArgs(s.t, "from", &from)
	d.MaybeScanArgs(s.t, "to", &to)
	d.MaybeScanArgs(s.t, "type", &kind)
	if !d.MaybeScanArgs(s.t, "count", &count) {
		count = len(s.net)
	}
	var rest []Message
	net := s.net
	s.net = nil
	for _, m := range net {
		if count == 0 || from != 0 && m.From != NodeID(from) || to != 0 && m.To != NodeID(to) || kind != "" && m.Type.String() != kind {
			rest = append(rest, m)
			continue
		}
		count--
		if d.Cmd == "repeat" {
			rest = append(rest, m)
		}
		if d.Cmd == "drop" {
			s.printf("lost %v", m)
			continue
		}
		s.give(m)
	}
	s.net = append(rest, s.net...)
}

func (s *story) give(m Message) {
	n := s.nodes[m.To-1]
	if n.core == nil {
		s.printf("%v: node is down", m)
		return
	}
	s.printf("%v", m)
	s.failed(fmt.Sprintf("node %d", n.id), n.core.Step(m))
}

// run lets all that is to happen happen, in a fixed order.
func (s *story) run() {
	for more := true; more; {
		more = false
		for _, n := range s.nodes {
			for n.busy() {
				more = true
				if !s.stage(n) {
					return
				}
			}
		}
		for range len(s.net) {
			more = true
			m := s.net[0]
			s.net = s.net[1:]
			s.give(m)
		}
	}
}

func (s *story) log(n *testNode) {
	rec := n.record()
	var entries []Entry
	for slot := max(rec.First, 1); slot <= rec.Last; slot++ {
		e, err := DecodeEntry(n.disk.log[slot])
		s.must(err)
		entries = append(entries, e)
	}
	s.printf("node %d: promised=%s accepted=%s commit=%d log [%s] state [%s]", n.id, rec.Promised, rec.Accepted, rec.Commit, describeEntries(entries), describeEntries(n.disk.applied))
}

func parseBallot(t *testing.T, s string) Ballot {
	if s == "-" || s == "" {
		return Ballot{}
	}
	var b Ballot
	var node uint64
	if _, err := fmt.Sscanf(s, "%d.%d.%d", &b.Cfg, &b.Round, &node); err != nil {
		t.Fatalf("ballot %q: %v", s, err)
	}
	b.Node = NodeID(node)
	return b
}

// step gives a node a message made by hand, as a hostile or broken peer could make it. `entries=a,b` follow on slot with
// right chains from that of the receiver's log. `at` is the node that gets it, if that is not `to`.
func (s *story) step(d *datadriven.TestData) {
	var (
		m Message
		n NodeID
	)
	for _, field := range strings.Fields(d.Input) {
		key, value, _ := strings.Cut(field, "=")
		number := func() uint64 {
			v, err := strconv.ParseUint(value, 0, 64)
			s.must(err)
			return v
		}
		switch key {
		case "type":
			if i := slices.Index(messageNames[:], value); i > 0 {
				m.Type = MessageType(i)
			} else {
				m.Type = MessageType(number())
			}
		case "from":
			m.From = NodeID(number())
		case "to":
			m.To = NodeID(number())
			n = m.To
		case "at":
			n = NodeID(number())
		case "ballot":
			m.Ballot = parseBallot(s.t, value)
		case "promised":
			m.Promised = parseBallot(s.t, value)
		case "accepted":
			m.Accepted = parseBallot(s.t, value)
		case "slot":
			m.Slot = Slot(number())
		case "chain":
			m.Chain = number()
		case "commit":
			m.Commit = Slot(number())
		case "home":
			home, err := s.nodes[m.To-1].core.newest().Quorums.HomeOf(regionsOf(strings.Split(value, "+"))...)
			s.must(err)
			m.Home = home
		case "scope":
			m.Scope = map[string]Scope{"Local": Local, "Global": Global}[value]
		case "accepted-home":
			home, err := s.nodes[m.To-1].core.newest().Quorums.HomeOf(regionsOf(strings.Split(value, "+"))...)
			s.must(err)
			m.AcceptedHome = home
		case "release":
			m.Release = parseBallot(s.t, value)
		case "established":
			m.Established = number()
		case "stop":
			slot, next, _ := strings.Cut(value, "->")
			m.StopSlot, m.StopNext = Slot(s.number(slot)), s.number(next)
		case "time":
			m.Time = number()
		case "seq":
			m.Seq = number()
		case "epoch":
			m.Epoch = number()
		case "fort":
			m.FortEpoch = number()
		case "last":
			m.Last = Slot(number())
		case "first":
			m.First = Slot(number())
		case "entries":
			s.entries(&m, value)
		default:
			s.t.Fatalf("%s: unknown field %s", d.Pos, key)
		}
	}
	if cfg := s.nodes[n-1].core.config(m.Ballot.Cfg); cfg != nil {
		if m.Home.IsZero() {
			m.Home = cfg.Quorums.All()
		}
		if m.AcceptedHome.IsZero() {
			m.AcceptedHome = cfg.Quorums.All()
		}
	}
	before := s.nodes[n-1].core.Status()
	err := s.nodes[n-1].core.Step(m)
	s.failed(fmt.Sprintf("node %d", n), err)
	if after := s.nodes[n-1].core.Status(); err != nil && after != before {
		s.t.Errorf("%s: a refused message changed %+v to %+v", d.Pos, before, after)
	}
}

func (s *story) entries(m *Message, payloads string) {
	at, before := m.Slot, m.Chain
	if c := s.nodes[m.To-1].core; before == 0 {
		before, _ = c.chainAt(at)
		m.Chain = before
	}
	for p := range strings.SplitSeq(payloads, ",") {
		at++
		e := Entry{Slot: at, Ballot: m.Ballot, Time: 1000 + Timestamp(at), Payload: []byte(p)}
		e.Chain = chain(before, &e)
		before = e.Chain
		m.Entries = append(m.Entries, e)
	}
}
