// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/quorum"
	"github.com/atlas-edge/atlas/consensus/reconfig"
	"github.com/atlas-edge/atlas/internal/story"
)

// tale is the world of one file in testdata/stories: one group of simulated nodes on a network and disks without faults, except for
// those of the story. A message takes 10 ms, a sync about 1 ms, support lasts 900 ms. Its commands:
//
//	world regions=(3) [fn=1] [fz=0] [leases]   new nodes 1, 2, ... by region, started
//	run T                                      time goes on: 50ms, 2s
//	campaign N
//	open N | put N K V | get N K               client 1 opens its session, or asks, at node N; client=C for another
//	                                           unheard: the answer does not reach the client
//	again N                                    the client's last request once more, at node N
//	get-slowly N K for=T                       a read under the lease; the machine stands still between state and lease
//	crash N | start N | stand-still N for=T    a crash loses what was not synced
//	drop N                                     the node drops its core
//	compact N                                  its log, as far as it is applied
//	fail-sync N | slow-disk N                  the next sync fails; syncs take 200 times as long
//	cut A->B ... | hold A->B ... for=T         what is sent is lost until `join`; what is sent arrives that much later
//	join
//	configure V nodes=(1,2)                    configuration V, of region a, which all are told of
//	seal N V                                   the order of node 3's driver to seal all below V
//	nodes                                      what there is
//
// Answers to clients are told when they come, with what the checkers find broken; the story goes on all the same.
type tale struct {
	t *testing.T
	w *World
	// told is what clients were answered, and nodes answered orders, since the last command ended.
	told strings.Builder
}

func TestStories(t *testing.T) { story.Run(t, "testdata/stories", newTale) }

func newTale() story.World {
	s := &tale{}
	return func(t *testing.T, d *datadriven.TestData) string {
		s.t = t
		s.told.Reset()
		s.command(d)
		for s.w.err != nil {
			fmt.Fprintf(&s.told, "broken: %v\n", s.w.err)
			s.w.err = nil
		}
		return s.told.String()
	}
}

// Write takes the trace of the world, of which a story tells how orders are answered.
func (s *tale) Write(line []byte) (int, error) {
	if _, text, ok := strings.Cut(string(line), " n"); ok && strings.Contains(text, " answers ") {
		who, _, _ := strings.Cut(text, " ")
		fmt.Fprintf(&s.told, "node %s answers\n", who)
	}
	return len(line), nil
}

func (s *tale) number(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

func (s *tale) duration(text string) Time {
	d, err := parseTime(text)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// arg is the number behind a command; 0 if there are not so many.
func (s *tale) arg(d *datadriven.TestData, i int) int64 {
	if i >= len(d.CmdArgs) {
		return 0
	}
	return s.number(d.CmdArgs[i].Key)
}

// span is the argument `for`.
func (s *tale) span(d *datadriven.TestData) Time {
	var text string
	d.ScanArgs(s.t, "for", &text)
	return s.duration(text)
}

func (s *tale) command(d *datadriven.TestData) {
	switch d.Cmd {
	case "world":
		s.world(d)
		return
	case "run":
		s.w.runUntil(s.w.now + s.duration(d.CmdArgs[0].Key))
		return
	case "cut", "hold", "join":
		s.network(d)
		return
	case "configure":
		s.configure(d)
		return
	case "nodes":
		for _, n := range s.w.nodes {
			s.show(n)
		}
		return
	}
	n := s.w.nodes[s.arg(d, 0)-1]
	switch d.Cmd {
	case "campaign":
		n.campaign(n.open(0))
	case "open", "put", "get", "again":
		s.ask(n, d)
	case "get-slowly":
		s.getSlowly(n, d)
	case "crash":
		n.crash()
	case "start":
		s.w.restart(n)
	case "stand-still":
		n.suspend(s.span(d))
	case "drop":
		n.dropAnswering(n.open(0))
	case "compact":
		r := n.open(0)
		r.core.Compact(r.core.Status().Applied)
		r.touched()
		n.plan()
	case "fail-sync":
		n.disk.failNext = true
	case "slow-disk":
		n.disk.slowUntil = s.w.now + Minute
	case "seal":
		n.obey(&reconfig.Order{Kind: reconfig.Seal, Version: uint64(s.arg(d, 1)), To: n.id}, 3)
	default:
		s.t.Fatalf("%s: unknown command %s", d.Pos, d.Cmd)
	}
}

func (s *tale) world(d *datadriven.TestData) {
	o := Options{
		Groups: 1, Keys: keysMax, Clients: 2, Near: 10 * Millisecond, Far: 10 * Millisecond, DownFor: Minute, SyncTime: Millisecond,
		TickEvery: 10 * Millisecond, EvictAfter: Minute, SnapshotTime: Millisecond, LearnSystemLog: Millisecond, Leases: d.HasArg("leases"),
		DriftBound: 500, WallSkew: 1, PolicyScale: Second, Think: Second, AttemptFor: Minute, Attempts: 1, SessionLife: 10 * Minute,
		UncommittedEntries: 60, MessageBytes: 4096, InflightMessages: 8, RetainedBytes: 4096, RetryAfter: 100 * Millisecond,
		FlushAfter: 10 * Millisecond, Interval: 300 * Millisecond, Support: 900 * Millisecond,
	}
	for _, a := range d.CmdArgs {
		switch a.Key {
		case "regions":
			for _, v := range a.Vals {
				o.Regions = append(o.Regions, s.number(v))
			}
		case "fn":
			o.Fn = s.number(a.Vals[0])
		case "fz":
			o.Fz = s.number(a.Vals[0])
		}
	}
	s.w = NewWorld(o, Setup{Trace: s, Done: func(op *Op, _ int) { s.answered(op) }})
	s.w.clientsStop = true // they ask when the story says so
	for _, n := range s.w.nodes {
		n.boot()
	}
}

// answered tells what a client was told.
func (s *tale) answered(op *Op) {
	fmt.Fprintf(&s.told, "client %d: %s", op.Client+1, op.verb)
	if op.verb != verbOpen {
		fmt.Fprintf(&s.told, " %d", op.Key)
	}
	if op.verb == verbPut {
		fmt.Fprintf(&s.told, " %d", op.Value)
	}
	switch {
	case op.Outcome == Done && op.verb == verbGet:
		fmt.Fprintf(&s.told, " is %d, version %d\n", op.Value, op.Version)
	case op.Outcome == Done && op.verb == verbPut:
		fmt.Fprintf(&s.told, " is done, version %d\n", op.Version)
	default:
		fmt.Fprintf(&s.told, " is %s\n", map[Outcome]string{Done: "done", Refused: "refused", NotDone: "not done", Unknown: "unknown"}[op.Outcome])
	}
}

// ask lets a client ask a node, once.
func (s *tale) ask(n *node, d *datadriven.TestData) {
	client := 1
	d.MaybeScanArgs(s.t, "client", &client)
	c := s.w.clients[client-1]
	if d.Cmd != "again" {
		c.verb = map[string]verb{"open": verbOpen, "put": verbPut, "get": verbGet}[d.Cmd]
		c.op = Op{Client: c.id, verb: c.verb}
		switch c.verb {
		case verbPut:
			c.seqs[0]++
			c.op.session, c.op.seq = c.sessions[0], c.seqs[0]
			c.op.Key, c.op.Value = int(s.arg(d, 1)), uint64(s.arg(d, 2))
		case verbGet:
			c.op.Key = int(s.arg(d, 1))
		}
	} else if !c.busy {
		c.op.Outcome, c.op.Version = 0, 0
	}
	c.op.Call, c.op.Floor = s.w.now, s.w.check.acked(0, c.op.Key)
	if !c.busy {
		c.attempt, c.asked, c.lost = 0, 0, 0
	}
	c.busy = true
	c.attempt++
	c.asked |= 1 << c.attempt
	c.life++ // it is not woken by itself
	s.w.used[0] = true
	if n.running() {
		n.serve(s.request(c, n))
	}
	if d.HasArg("unheard") {
		c.done++
	}
}

func (s *tale) request(c *client, n *node) *rpc {
	return &rpc{
		client: c.id, op: c.done, attempt: c.attempt, gateway: n.id, session: c.op.session, seq: c.op.seq,
		command: command{verb: c.verb, key: uint8(c.op.Key), value: c.op.Value},
	}
}

// getSlowly is what replica.read does where the machine stands still in between.
func (s *tale) getSlowly(n *node, d *datadriven.TestData) {
	c := s.w.clients[0]
	c.verb = verbGet
	c.op = Op{Client: c.id, verb: verbGet, Key: int(s.arg(d, 1)), Call: s.w.now}
	c.op.Floor = s.w.check.acked(0, c.op.Key)
	c.attempt, c.asked, c.lost, c.busy = 1, 1<<1, 0, true
	c.life++
	r, q, pause := n.open(0), s.request(c, n), s.span(d)
	held := r.machine().read(q.command.key)
	n.suspend(pause)
	s.w.after(pause, func() { r.leaseRead(q, held) })
}

func (s *tale) network(d *datadriven.TestData) {
	if d.Cmd == "join" {
		for i := range s.w.links {
			for j := range s.w.links[i] {
				s.w.links[i][j].cutUntil = 0
			}
		}
		return
	}
	for _, a := range d.CmdArgs {
		from, to, ok := strings.Cut(a.Key, "->")
		if !ok {
			continue
		}
		l := s.w.link(consensus.NodeID(s.number(from)), consensus.NodeID(s.number(to)))
		if d.Cmd == "cut" {
			l.cutUntil = s.w.now + Minute
		} else {
			l.clogUntil = s.w.now + s.span(d)
		}
	}
}

func (s *tale) configure(d *datadriven.TestData) {
	c := reconfig.Config{Version: uint64(s.arg(d, 0)), Fn: int(s.w.o.Fn), Fz: int(s.w.o.Fz)}
	for _, a := range d.CmdArgs {
		for _, v := range a.Vals {
			c.Voters = append(c.Voters, quorum.Voter{Node: consensus.NodeID(s.number(v)), Region: regionName(0)})
		}
	}
	if err := s.w.proposeSystem(reconfig.Entry{Kind: reconfig.SetConfig, Config: c}); err != nil {
		s.t.Fatal(err)
	}
	for _, n := range s.w.nodes {
		n.learn(len(s.w.systemLog))
	}
}

// show tells what a node has on its disk, and what its core is.
func (s *tale) show(n *node) {
	disk := &n.disk.durable
	fmt.Fprintf(&s.told, "node %d:", n.id)
	if !n.up {
		s.told.WriteString(" down,")
	} else if r := n.groups[0]; r != nil {
		fmt.Fprintf(&s.told, " %s,", r.core.Status().State)
	}
	fmt.Fprintf(&s.told, " epoch %d", disk.node.epoch)
	if v := disk.node.minCfg; v != 0 {
		fmt.Fprintf(&s.told, ", sealed below %d", v)
	}
	for _, m := range disk.node.minEpochs {
		fmt.Fprintf(&s.told, ", supports node %d from epoch %d on", m.node, m.epoch)
	}
	if im := disk.groups[0]; im != nil && im.record != nil {
		fmt.Fprintf(&s.told, ", promised %v, accepted %v, log to %d, applied to %d", im.rec.Promised, im.rec.Accepted, im.rec.Last, im.rec.Applied)
		for key, c := range im.machine.keys {
			if c.version != 0 {
				fmt.Fprintf(&s.told, "; %d is %d, version %d", key, c.value, c.version)
			}
		}
	}
	s.told.WriteString("\n")
}
