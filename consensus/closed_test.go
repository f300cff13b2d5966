// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"
)

// TestReadableTo: a claim adds to what is applied only where its slot is reached, and its time is later.
func TestReadableTo(t *testing.T) {
	for _, c := range []struct {
		claim   Closed
		applied Slot
		at      Timestamp
		want    Timestamp
	}{
		{Closed{}, 0, 0, 0},
		{Closed{}, 7, 70, 70},
		{Closed{8, 100}, 7, 70, 70},
		{Closed{7, 100}, 7, 70, 100},
		{Closed{6, 100}, 7, 70, 100},
		{Closed{6, 60}, 7, 70, 70},
	} {
		if got := c.claim.ReadableTo(c.applied, c.at); got != c.want {
			t.Errorf("%+v, applied %d of time %d: readable to %d, want %d", c.claim, c.applied, c.at, got, c.want)
		}
	}
}

// TestCloseOfASoleVoter: it writes nothing, allocates nothing, and needs a clock.
func TestCloseOfASoleVoter(t *testing.T) {
	fabric := &testFabric{epoch: 1, clock: 50, clocks: map[NodeID]Timestamp{1: 50}}
	for _, f := range []*testFabric{fabric, nil} {
		o := Options{Self: 1, Configurations: configs(0, layout([]int{1}, 0, 0))}
		if f != nil {
			o.Fabric = f
		}
		c, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Campaign(Global); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Close(10); !errors.Is(err, ErrNotOwner) {
			t.Errorf("closed before anything is chosen: %v", err)
		}
		slot, at, err := c.Propose(10, Proposal{Payload: []byte("a")})
		if err != nil {
			t.Fatal(err)
		}
		if f != nil && at != 51 {
			t.Errorf("time %d: want one above the own clock at the campaign, which earlier claims may have reached", at)
		}
		c.Ready()
		c.Advance()
		if f == nil {
			if _, err := c.Close(at + 1); !errors.Is(err, ErrNoLease) {
				t.Errorf("closed without a clock: %v", err)
			}
			continue
		}
		f.clocks[1] = 1000
		var claim Closed
		allocs := testing.AllocsPerRun(100, func() {
			if claim, err = c.Close(900); err != nil {
				t.Fatal(err)
			}
		})
		if want := (Closed{slot, 900}); claim != want || allocs != 0 || c.HasReady() {
			t.Errorf("%+v, %v allocations, a Ready %v: want %+v, none, none", claim, allocs, c.HasReady(), want)
		}
	}
}

// TestTimesAreUsedUp: a bound at the end of time leaves nothing to propose, and says so.
func TestTimesAreUsedUp(t *testing.T) {
	fabric := &testFabric{epoch: 1, clock: TimeMax}
	c, err := New(Options{Self: 1, Configurations: configs(0, layout([]int{1}, 0, 0)), Fabric: fabric})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Campaign(Global); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Propose(10, Proposal{Payload: []byte("a")}); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

// TestClockFarAhead: one clock gone wrong does not take the others along.
func TestClockFarAhead(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	fabric := &testFabric{epoch: 1, clock: 1000}
	c, err := New(Options{Self: 1, Configurations: configs(0, q), Log: noLog{t}, Fabric: fabric})
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Type: AcceptSync, From: 2, To: 1, Ballot: Ballot{Cfg: c.newest().Version, Round: 1, Node: 2}, Home: q.All(), Time: 1001 + ClockAheadMax}
	if err := c.Step(m); !errors.Is(err, ErrInvalid) || c.HasReady() || fabric.clock != 1000 {
		t.Errorf("a bound too far ahead: %v, a Ready %v, clock %d", err, c.HasReady(), fabric.clock)
	}
	m.Time--
	if err := c.Step(m); err != nil || fabric.clock != m.Time {
		t.Errorf("a bound just not too far ahead: %v, clock %d", err, fabric.clock)
	}
	if r := c.Ready(); r.Clock != m.Time || !r.MustSync || r.Record == nil || r.Record.Accepted != m.Ballot {
		t.Errorf("%+v: want clock %d with the acceptance", r, m.Time)
	}
}
