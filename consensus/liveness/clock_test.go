// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import "testing"

// TestClockGoesAlong: a heartbeat takes the receiver's clock along as far as its ceiling, and the ack says how far. Nobody is told more
// than what outlives a crash.
func TestClockGoesAlong(t *testing.T) {
	var node [3]*Core
	for id := NodeID(1); id <= 2; id++ {
		c, err := New(Options{Self: id, Epoch: 1, Peers: []NodeID{1, 2}})
		if err != nil {
			t.Fatal(err)
		}
		c.Tick(1, 1)
		node[id] = c
	}
	talk := func() {
		t.Helper()
		for from := 1; from <= 2; from++ {
			r := node[from].Ready()
			for _, m := range r.MsgsNow {
				if err := node[m.To].Step(m); err != nil {
					t.Fatal(err)
				}
			}
			node[from].Advance()
		}
	}
	now := func(mono Timestamp) {
		node[1].Tick(mono, mono)
		node[2].Tick(mono, mono)
		talk() // heartbeats of 1, then heartbeats and acks of 2
		talk()
	}
	want := func(what string, got, want Timestamp) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %d, want %d", what, got, want)
		}
	}
	now(1)
	want("an unknown clock", node[1].ClockFrom(2), 0)
	want("the own unknown clock", node[1].Clock(), 0)

	node[1].SetHLC(500, 900)
	node[2].SetHLC(100, 300)
	now(1 + DefaultInterval)
	want("clock 2, taken along to its ceiling", node[2].Clock(), 300)
	want("clock 2, as its ack tells it", node[1].ClockFrom(2), 300)
	want("clock 1, as its heartbeat tells it", node[2].ClockFrom(1), 500)
	want("clock 1, ahead of the other", node[1].Clock(), 500)

	node[2].SetHLC(200, 200)
	want("a clock that is set back", node[2].Clock(), 300)

	node[2].Observe(700)
	want("an observed time", node[2].Clock(), 700)
	now(1 + 2*DefaultInterval)
	want("a clock beyond its ceiling, as it is told", node[1].ClockFrom(2), 300)
	want("the same, of itself", node[2].ClockFrom(2), 300)
	node[2].SetHLC(0, 800)
	now(1 + 3*DefaultInterval)
	want("a clock below its ceiling", node[1].ClockFrom(2), 700)
	want("clock 1, taken along", node[1].Clock(), 700)
	want("a node that is none", node[1].ClockFrom(9), 0)
}
