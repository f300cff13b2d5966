// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"bytes"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus"
)

var _ consensus.Fabric = (*Core)(nil)

func peers(n int) []NodeID {
	var out []NodeID
	for i := range n {
		out = append(out, NodeID(i+1))
	}
	return out
}

func started(t testing.TB, o Options) *Core {
	t.Helper()
	if o.Epoch == 0 {
		o.Epoch = 1
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	c.Tick(1e12, 1e18)
	return c
}

// settle takes what there is to do and does it.
func settle(c *Core) (sent []Message) {
	for c.HasReady() {
		sent = append(sent, c.Ready().MsgsNow...)
		c.Advance()
	}
	return sent
}

func TestOptions(t *testing.T) {
	good := Options{Self: 1, Epoch: 1}
	for _, c := range []struct {
		name string
		set  func(*Options)
		want string // a part of the error; empty: it is good
	}{
		{"defaults", func(*Options) {}, ""},
		{"no self", func(o *Options) { o.Self = 0 }, "no node"},
		{"epoch 0", func(o *Options) { o.Epoch = 0 }, "epoch 0"},
		{"epoch limit", func(o *Options) { o.Epoch = EpochMax }, ""},
		{"epoch beyond", func(o *Options) { o.Epoch = EpochMax + 1 }, "epoch 4611686018427387905"},
		{"peers limit", func(o *Options) { o.Peers = peers(PeersMax) }, ""},
		{"peers beyond", func(o *Options) { o.Peers = peers(PeersMax + 1) }, "4097 peers exceed limit 4096"},
		{"peer 0", func(o *Options) { o.Peers = []NodeID{0} }, "node 0"},
		{"minimal epochs beyond", func(o *Options) { o.MinEpochs = make([]MinEpoch, MinEpochsMax+1) }, "exceed limit 65536"},
		{"minimal epoch of nobody", func(o *Options) { o.MinEpochs = []MinEpoch{{0, 1}} }, "of node 0"},
		{"minimal epochs limit", func(o *Options) { o.MinEpochs = slices.Repeat([]MinEpoch{{2, 1}}, MinEpochsMax) }, ""},
		{"minimal epoch limit", func(o *Options) { o.MinEpochs = []MinEpoch{{2, EpochMax + 1}} }, ""},
		{"minimal epoch beyond", func(o *Options) { o.MinEpochs = []MinEpoch{{2, EpochMax + 2}} }, "of node 2"},
		{"own minimal epoch", func(o *Options) { o.MinEpochs = []MinEpoch{{1, 2}} }, "below its minimal epoch 2"},
		{"interval beyond", func(o *Options) { o.Interval = SupportMax + 1 }, "Interval is"},
		{"support of 2 intervals", func(o *Options) { o.Support = 2 * DefaultInterval }, ""},
		{"support below", func(o *Options) { o.Support = 2*DefaultInterval - 1 }, "Support is 1999999999"},
		{"support of many intervals", func(o *Options) { o.Support = 60 * DefaultInterval }, "ClockJumpMax"},
		{"support of many intervals, good clocks", func(o *Options) { o.Support, o.DriftPPM = 60*DefaultInterval, 400 }, ""},
		{"support beyond", func(o *Options) { o.Support, o.DriftPPM = 60*DefaultInterval+1, 400 }, "Support is"},
		{"short quarantine", func(o *Options) { o.Quarantine = DefaultSupport - 1 }, "Quarantine is"},
		{"drift limit", func(o *Options) { o.DriftPPM, o.ClockJumpMax = DriftPPMMax, 1200e6 }, ""},
		{"drift beyond", func(o *Options) { o.DriftPPM, o.ClockJumpMax = DriftPPMMax+1, 10e9 }, "DriftPPM is 100001"},
		{"clock jump below drift", func(o *Options) { o.ClockJumpMax = 12e6 - 1 }, "ClockJumpMax is 11999999"},
		{"clock jump of drift", func(o *Options) { o.ClockJumpMax = 12e6 }, ""},
		{"stall beyond", func(o *Options) { o.SyncStall = SupportMax + 1 }, "SyncStall is"},
	} {
		o := good
		c.set(&o)
		_, err := New(o)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: error %v, want %q", c.name, err, c.want)
		}
	}
	// All at once.
	bad := Options{DriftPPM: DriftPPMMax + 1}
	bad.EnsureDefaults()
	if err := bad.Validate(); err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems are reported as: %v", err)
	}
}

// TestDriftBound holds the integer arithmetic of rule A2 against fractions: what the holder counts, at its slowest, is over in
// true time no later than what the supporter gives, at its fastest.
func TestDriftBound(t *testing.T) {
	for _, d := range []Timestamp{2, 3, 7, 1000, 999_999, 1e6, 1e9 + 1, 3e9, 60e9, SupportMax - 1, SupportMax} {
		for _, ppm := range []uint64{1, 2, 999, 1000, 33_333, DriftPPMMax} {
			o := Options{DriftPPM: ppm}
			counted := d - o.driftBound(d)
			if counted > d {
				t.Fatalf("support %d, %d ppm: the bound %d is more than all", d, ppm, o.driftBound(d))
			}
			rho := big.NewRat(int64(ppm), 1e6)
			one := big.NewRat(1, 1)
			slow := new(big.Rat).Quo(new(big.Rat).SetUint64(counted), new(big.Rat).Sub(one, rho))
			fast := new(big.Rat).Quo(new(big.Rat).SetUint64(d), new(big.Rat).Add(one, rho))
			if slow.Cmp(fast) > 0 {
				t.Errorf("support %d, %d ppm: counted for %s of true time, given for %s", d, ppm, slow.FloatString(3), fast.FloatString(3))
			}
		}
	}
}

// TestGivesTheLesser: nodes that disagree about Support count on what is given.
func TestGivesTheLesser(t *testing.T) {
	c := started(t, Options{Self: 1, Peers: peers(2), Support: 5e9})
	settle(c)
	long := Message{Type: Heartbeat, From: 2, To: 1, Epoch: 1, Seq: 1, Support: 9e9}
	short := Message{Type: Heartbeat, From: 2, To: 1, Epoch: 1, Seq: 2, Support: 4e9}
	for _, m := range []Message{long, short} {
		if err := c.Step(m); err != nil {
			t.Fatal(err)
		}
		sent := settle(c)
		if want := min(m.Support, 5e9); len(sent) != 1 || sent[0].Support != want {
			t.Errorf("asked for %d: %v, want support of %d", m.Support, sent, want)
		}
		// What the first was given is not taken back by the second.
		if left, ok := c.Supports(2, 1); !ok || left != 5e9 {
			t.Errorf("gives %d, %v, want 5 s", left, ok)
		}
	}
	if err := c.Step(Message{Type: HeartbeatAck, From: 2, To: 1, Epoch: 1, Seq: 1, Support: 4e9}); err != nil {
		t.Fatal(err)
	}
	if until, ok := c.SupportFromUntil(2); !ok || until != 1e12+4e9-8e6 {
		t.Errorf("counts until %d, %v, want 3.992 s", until-1e12, ok)
	}
}

// TestSelf: a node supports itself at its present epoch, except with a stalled disk, and takes a new epoch when that is withdrawn.
func TestSelf(t *testing.T) {
	c := started(t, Options{Self: 1, Epoch: 4, Peers: peers(2)})
	settle(c)
	if _, ok := c.Supports(1, 4); !ok || !c.SupportFrom(1) {
		t.Error("a node does not count on itself")
	}
	for _, e := range []uint64{0, 3, 5} {
		if _, ok := c.Supports(1, e); ok {
			t.Errorf("it supports itself at epoch %d", e)
		}
	}
	if err := c.Withdraw(1, 4); err != nil || c.HasReady() {
		t.Errorf("withdrawing an old epoch of its own: %v, ready %v", err, c.HasReady())
	}
	c.DiskProgress(1e12)
	c.Tick(1e12+501e6, 1e18+501e6)
	if _, ok := c.Supports(1, 4); ok || !c.Status().Stalled {
		t.Error("it supports itself while its disk is stalled")
	}
	if err := c.Withdraw(1, 5); err != nil {
		t.Fatal(err)
	}
	if r := c.Ready(); r.Epoch != 5 || !r.MustSync || c.Epoch() != 4 {
		t.Errorf("%+v at epoch %d, want epoch 5 to write", r, c.Epoch())
	}
	c.Advance()
	if c.Epoch() != 5 {
		t.Errorf("epoch %d after the sync, want 5", c.Epoch())
	}
}

// TestNewEpoch: a node takes another epoch of its own will, once for all who asked before it is durable.
func TestNewEpoch(t *testing.T) {
	c := started(t, Options{Self: 1, Epoch: 4, Peers: peers(2)})
	settle(c)
	if err := c.Step(Message{Type: HeartbeatAck, From: 2, To: 1, Epoch: 4, Seq: 1, Support: 3e9}); err != nil {
		t.Fatal(err)
	}
	c.NewEpoch()
	c.NewEpoch()
	if r := c.Ready(); r.Epoch != 5 || !r.MustSync || c.Epoch() != 4 || !c.SupportFrom(2) {
		t.Errorf("%+v at epoch %d, want epoch 5 to write, and support at 4 until then", r, c.Epoch())
	}
	c.Advance()
	if c.Epoch() != 5 || c.SupportFrom(2) {
		t.Errorf("epoch %d, supported %v: want 5, and support that is not earned yet", c.Epoch(), c.SupportFrom(2))
	}
	if sent := settle(c); len(sent) != 1 || sent[0].Epoch != 5 {
		t.Errorf("%v, want a heartbeat of epoch 5 at once", sent)
	}
}

// TestWithdraw: several groups withdraw one node; the highest is written, once, and what a Ready that is out has does not hide a higher one.
func TestWithdraw(t *testing.T) {
	c := started(t, Options{Self: 1, Peers: peers(3), MinEpochs: []MinEpoch{{3, 7}, {3, 6}, {9, 2}}})
	settle(c)
	for _, e := range []uint64{4, 6, 5} {
		if err := c.Withdraw(2, e); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Withdraw(3, 7); err != nil {
		t.Fatal(err)
	}
	r := c.Ready()
	if want := []MinEpoch{{2, 6}}; !slices.Equal(r.MinEpochs, want) || !r.MustSync {
		t.Errorf("%+v, want %v to write", r, want)
	}
	if err := c.Withdraw(2, 9); err != nil {
		t.Fatal(err)
	}
	if c.HasReady() {
		t.Error("a second Ready while one is out")
	}
	c.Advance()
	if r := c.Ready(); !slices.Equal(r.MinEpochs, []MinEpoch{{2, 9}}) {
		t.Errorf("%+v, want epoch 9 of node 2 to write", r)
	}
	c.Advance()
	for n, want := range map[NodeID]uint64{2: 9, 3: 7, 9: 2, 4: 0} {
		if got := c.MinEpoch(n); got != want {
			t.Errorf("minimal epoch of node %d is %d, want %d", n, got, want)
		}
	}
	for _, bad := range []MinEpoch{{0, 1}, {2, EpochMax + 2}} {
		if err := c.Withdraw(bad.Node, bad.Epoch); !errors.Is(err, ErrInvalid) {
			t.Errorf("withdraw %+v: %v", bad, err)
		}
	}
}

// TestLastEpoch: support of the highest epoch there is can be withdrawn as that of any other. It was refused, and the group's core
// that had to promise stopped the node. A node whose last epoch is withdrawn has none left, and is supported no more.
func TestLastEpoch(t *testing.T) {
	c := started(t, Options{Self: 1, Peers: peers(2), Epoch: EpochMax})
	settle(c)
	beat := Message{Type: Heartbeat, From: 2, To: 1, Epoch: EpochMax, Seq: 1, Support: 1e9}
	if err := c.Step(beat); err != nil {
		t.Fatal(err)
	}
	settle(c)
	c.Tick(1e12+1e9, 1e18+1e9)
	if err := c.Withdraw(2, EpochMax+1); err != nil {
		t.Fatal(err)
	}
	beat.Seq = 2
	if err := c.Step(beat); err != nil {
		t.Fatal(err)
	}
	if sent := settle(c); len(sent) == 0 || sent[0].MinEpoch != EpochMax+1 {
		t.Errorf("%v, want an ack that refuses", sent)
	}
	if err := c.Step(Message{Type: HeartbeatAck, From: 2, To: 1, Epoch: EpochMax, Seq: 1, MinEpoch: EpochMax + 1}); err != nil {
		t.Fatal(err)
	}
	c.NewEpoch()
	if s := c.Status(); s.NextEpoch != 0 || c.Epoch() != EpochMax {
		t.Errorf("%+v, want to stay at the last epoch", s)
	}
	beat.Epoch++
	if err := c.Step(beat); !errors.Is(err, ErrInvalid) {
		t.Errorf("one beyond: %v", err)
	}
}

// TestBeforeFirstTick: without a time nothing is given, counted or sent.
func TestBeforeFirstTick(t *testing.T) {
	c, err := New(Options{Self: 1, Epoch: 2, Peers: peers(2)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Step(Message{Type: Heartbeat, From: 2, To: 1, Epoch: 1, Seq: 1, Support: 3e9}); err != nil {
		t.Fatal(err)
	}
	_, given := c.Supports(2, 1)
	left, quarantined := c.Quarantined()
	if given || c.HasReady() || c.SupportFrom(2) || c.SupportFrom(1) || !quarantined || left != DefaultSupport {
		t.Errorf("given %v, ready %v, quarantined %v for %d", given, c.HasReady(), quarantined, left)
	}
}

// TestRoundsForgotten: an ack of a round that is not remembered any more counts for nothing, though its place holds a newer one.
func TestRoundsForgotten(t *testing.T) {
	c := started(t, Options{Self: 1, Peers: peers(2)})
	for i := range Timestamp(RoundsMax + 1) {
		c.Tick(1e12+i*DefaultInterval, 1e18+i*DefaultInterval)
		settle(c)
	}
	if got := c.Status().Rounds; got != RoundsMax+1 {
		t.Fatalf("%d rounds, want %d", got, RoundsMax+1)
	}
	if err := c.Step(Message{Type: HeartbeatAck, From: 2, To: 1, Epoch: 1, Seq: 1, Support: 3e9}); err != nil {
		t.Fatal(err)
	}
	if c.SupportFrom(2) {
		t.Error("counts on the ack of a forgotten round")
	}
}

// TestAckQueueIsBounded: a flood of heartbeats makes one ack for each peer.
func TestAckQueueIsBounded(t *testing.T) {
	c := started(t, Options{Self: 1, Peers: peers(4)})
	settle(c)
	for seq := range uint64(1000) {
		for _, from := range peers(4)[1:] {
			if err := c.Step(Message{Type: Heartbeat, From: from, To: 1, Epoch: 1, Seq: seq + 1, Support: 3e9}); err != nil {
				t.Fatal(err)
			}
		}
	}
	sent := settle(c)
	if len(sent) != 3 {
		t.Fatalf("%d messages, want 3", len(sent))
	}
	for _, m := range sent {
		if m.Seq != 1000 {
			t.Errorf("%v, want the ack of the newest", m)
		}
	}
}

// TestRTT: the matrix of round trips, from own measurements and from what others tell.
func TestRTT(t *testing.T) {
	c := started(t, Options{Self: 2, Peers: peers(4)})
	settle(c)
	c.Tick(1e12+80e6, 1e18+80e6)
	for _, m := range []Message{
		{Type: HeartbeatAck, From: 1, To: 2, Epoch: 1, Seq: 1, Support: 3e9},
		{Type: Heartbeat, From: 1, To: 2, Epoch: 1, Seq: 1, Support: 3e9, About: 3, RTT: 20e6},
		{Type: Heartbeat, From: 4, To: 2, Epoch: 1, Seq: 1, Support: 3e9, About: 1, RTT: 1<<63 - 1},
		{Type: Heartbeat, From: 3, To: 2, Epoch: 1, Seq: 1, Support: 3e9, About: 77, RTT: 5},
		{Type: Heartbeat, From: 3, To: 2, Epoch: 1, Seq: 2, Support: 3e9, About: 2, RTT: 5},
	} {
		if err := c.Step(m); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range []struct {
		a, b NodeID
		rtt  Timestamp
	}{
		{1, 1, 0},
		{2, 1, 80e6},
		{1, 2, 80e6},
		{1, 3, 20e6},
		{3, 1, 20e6},
		{4, 1, RTTMax},
		{1, 4, RTTMax},
		{2, 3, 0},
		{3, 4, 0},
		{3, 77, 0},
		{77, 3, 0},
	} {
		rtt, ok := c.RTT(w.a, w.b)
		if rtt != w.rtt || ok != (w.rtt > 0 || w.a == w.b) {
			t.Errorf("from %d to %d: %d, %v, want %d", w.a, w.b, rtt, ok, w.rtt)
		}
	}
	// A node that is no peer any more, of which support is withdrawn, is remembered: it takes a place between the others.
	if err := c.SetPeers([]NodeID{1, 4}); err != nil {
		t.Fatal(err)
	}
	if err := c.Step(Message{Type: Heartbeat, From: 1, To: 2, Epoch: 1, Seq: 2, Support: 3e9, About: 4, RTT: 30e6}); err != nil {
		t.Fatal(err)
	}
	c.Tick(1e12+10e9, 1e18+10e9)
	if err := c.SetPeers([]NodeID{1, 4, 5}); err != nil {
		t.Fatal(err)
	}
	if err := c.Step(Message{Type: Heartbeat, From: 1, To: 2, Epoch: 1, Seq: 3, Support: 3e9, About: 4, RTT: 30e6}); err != nil {
		t.Fatal(err)
	}
	if err := c.Withdraw(3, 2); err != nil {
		t.Fatal(err)
	}
	for _, n := range []NodeID{3, 4, 5} {
		if rtt, ok := c.RTT(1, n); ok != (n == 4) || n == 4 && rtt != 30e6 {
			t.Errorf("from 1 to %d: %d, %v after node 3 came in between; told was 30 ms to 4", n, rtt, ok)
		}
	}
	if err := c.SetPeers(peers(3)); err != nil {
		t.Fatal(err)
	}
	if _, ok := c.RTT(1, 3); ok {
		t.Error("what was told of others is kept after the peers changed")
	}
	if rtt, _ := c.RTT(1, 2); rtt != 80e6 {
		t.Errorf("the own measurement is %d after the peers changed", rtt)
	}
}

// TestCloneAndState: a copy goes its own way, equal states go the same way, and times count only as they lie from now.
func TestCloneAndState(t *testing.T) {
	at := func(base Timestamp) *Core {
		c, err := New(Options{Self: 1, Epoch: 3, Peers: peers(3)})
		if err != nil {
			t.Fatal(err)
		}
		c.Tick(base, 1e18+base)
		settle(c)
		for _, m := range []Message{
			{Type: Heartbeat, From: 2, To: 1, Epoch: 5, Seq: 8, Support: 2e9},
			{Type: HeartbeatAck, From: 3, To: 1, Epoch: 3, Seq: 1, Support: 3e9},
			{Type: Heartbeat, From: 3, To: 1, Epoch: 1, Seq: 8, Support: 3e9, About: 2, RTT: 7},
		} {
			if err := c.Step(m); err != nil {
				t.Fatal(err)
			}
		}
		return c
	}
	a, b := at(1e12), at(7e15)
	if !bytes.Equal(a.AppendState(nil), b.AppendState(nil)) {
		t.Errorf("the same at another time is another state:\n%x\n%x", a.AppendState(nil), b.AppendState(nil))
	}
	before := a.AppendState(nil)
	clone := a.Clone()
	// Each of these makes a state of its own, and leaves the other core alone.
	seen := map[string]string{string(before): "before"}
	for _, c := range []struct {
		name string
		do   func(*Core)
	}{
		{"tick", func(c *Core) { c.Tick(1e12+1, 1e18+1e12+1) }},
		{"stall", func(c *Core) { c.DiskProgress(1) }},
		{"pending", func(c *Core) { c.DiskProgress(1e12 - 1) }},
		{"withdraw", func(c *Core) { _ = c.Withdraw(4, 2) }},                                                           // ignored: cannot fail
		{"step", func(c *Core) { _ = c.Step(Message{Type: Heartbeat, From: 2, To: 1, Epoch: 6, Seq: 1, Support: 1}) }}, // ignored: as above
		{"bump", func(c *Core) { _ = c.Withdraw(1, 4) }},                                                               // ignored: as above
		{"ready", func(c *Core) { c.Ready() }},
		{"jump", func(c *Core) { c.Tick(1e12, 2e18) }},
		{"back", func(c *Core) { c.Tick(1, 1) }},
		{"peers", func(c *Core) { _ = c.SetPeers(peers(2)) }}, // ignored: as above
	} {
		d := clone.Clone()
		c.do(d)
		state := string(d.AppendState(nil))
		if other := seen[state]; other != "" {
			t.Errorf("%s: the state is that of %s", c.name, other)
		}
		seen[state] = c.name
	}
	if !bytes.Equal(before, a.AppendState(nil)) || !bytes.Equal(before, clone.AppendState(nil)) {
		t.Error("a copy's changes reach the original")
	}
}

// round makes peers' heartbeats and acks of what c sends, as messages to c.
func round(c *Core, n int, seq uint64) []Message {
	var in []Message
	for i := range n {
		from := NodeID(i + 2)
		in = append(in,
			Message{Type: Heartbeat, From: from, To: 1, Epoch: 1, Seq: seq, Support: 3e9, About: NodeID(2 + (i+1)%n), RTT: 30e6},
			Message{Type: HeartbeatAck, From: from, To: 1, Epoch: c.Epoch(), Seq: seq, Support: 3e9})
	}
	return in
}

// TestNoAllocation: in steady state a round of heartbeats, and the steps and acks of everybody else's, allocate nothing.
func TestNoAllocation(t *testing.T) {
	const n = 100
	c := started(t, Options{Self: 1, Peers: peers(n + 1)})
	seq := uint64(0)
	in := round(c, n, 1)
	one := func() {
		seq++
		c.Tick(1e12+seq*DefaultInterval, 1e18+seq*DefaultInterval)
		c.Ready()
		c.Advance()
		for i := range in {
			in[i].Seq = c.Status().Rounds
			if err := c.Step(in[i]); err != nil {
				t.Fatal(err)
			}
		}
		if !c.SupportFrom(50) {
			t.Fatal("does not count on node 50")
		}
	}
	for range 3 {
		one()
	}
	if got := testing.AllocsPerRun(100, one); got > 0 {
		t.Errorf("%v allocations in a round of %d peers, want none", got, n)
	}
}

// BenchmarkRound is one interval of a node: its heartbeats, everybody else's, and all acks. The figure per heartbeat is for one peer:
// a heartbeat sent, its ack taken, a heartbeat taken and its ack sent.
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{2, 8, 100, 1000} {
		b.Run(fmt.Sprintf("peers=%d", n), func(b *testing.B) {
			c := started(b, Options{Self: 1, Peers: peers(n + 1)})
			in := round(c, n, 1)
			seq := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				seq++
				c.Tick(1e12+seq*DefaultInterval, 1e18+seq*DefaultInterval)
				c.Ready()
				c.Advance()
				for i := range in {
					in[i].Seq = seq
					if err := c.Step(in[i]); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/peer")
		})
	}
}

// BenchmarkQuestions are what a group's core asks for each read under a lease.
func BenchmarkQuestions(b *testing.B) {
	for _, n := range []int{2, 1000} {
		c := started(b, Options{Self: 1, Peers: peers(n + 1)})
		settle(c)
		for _, m := range round(c, n, 1) {
			if err := c.Step(m); err != nil {
				b.Fatal(err)
			}
		}
		b.Run(fmt.Sprintf("SupportFrom/peers=%d", n), func(b *testing.B) {
			for b.Loop() {
				if !c.SupportFrom(3) {
					b.Fatal("not supported")
				}
			}
		})
		b.Run(fmt.Sprintf("Supports/peers=%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, ok := c.Supports(3, 1); !ok {
					b.Fatal("not supported")
				}
			}
		})
	}
}
