// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import "testing"

// TestOneClockGoneWrong: with a ceiling that follows the wall clock (duty 7) a peer that is a day ahead takes this node along by one ceiling,
// however many heartbeats it sends and however often the node is started again. With one that followed Clock each of both
// added another.
func TestOneClockGoneWrong(t *testing.T) {
	const (
		day, headroom = Timestamp(24 * 3600e9), Timestamp(10e9)
		base          = Timestamp(1_700_000_000e9)
	)
	var c *Core
	var ceil Timestamp
	for i := Timestamp(0); i < 3600; i++ { // an hour of heartbeats, one each second
		now := base + i*1e9
		if i%60 == 0 { // a life begins at the ceiling
			var err error
			if c, err = New(Options{Self: 1, Epoch: 1 + i, Peers: []NodeID{1, 2}}); err != nil {
				t.Fatal(err)
			}
			c.SetHLC(ceil, ceil)
		}
		c.Tick(1+i*1e9, now)
		if now+headroom/2 > ceil {
			ceil = now + headroom
		}
		c.SetHLC(now, ceil)
		m := Message{Type: Heartbeat, From: 2, To: 1, Epoch: 1, Seq: uint64(i) + 1, Support: DefaultSupport, HLC: now + day, HLCCeil: now + day}
		if err := c.Step(m); err != nil {
			t.Fatal(err)
		}
		if clock := c.Clock(); clock > now+headroom || c.ClockFrom(1) != clock || i%60 > 0 && clock < ceil {
			t.Fatalf("after %d heartbeats of a peer whose clock is a day ahead: %d ns ahead, ceiling %d ns", i+1, clock-now, ceil-now)
		}
	}
}
