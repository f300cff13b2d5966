// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"testing"
)

// TestBoundThatCannotBeKept: a node that knows no clock took the log of an owner that is bound to later times, and promised with it
// as if nothing had been said: whoever adopted it from there could write at a time that is closed.
func TestBoundThatCannotBeKept(t *testing.T) {
	q := layout([]int{3}, 1, 0)
	c, err := New(Options{Self: 1, Configurations: configs(0, q), Log: noLog{t}})
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Type: AcceptSync, From: 2, To: 1, Ballot: Ballot{Cfg: c.newest().Version, Round: 1, Node: 2}, Home: q.All(), Time: 100}
	if err := c.Step(m); !errors.Is(err, ErrInvalid) {
		t.Errorf("a bound that cannot be kept: %v", err)
	}
	if m.Time = 0; c.Step(m) != nil || c.rec.Accepted != m.Ballot {
		t.Errorf("no bound: %+v", c.Status())
	}
}

// TestTwoClaims (duty 18): the later of two claims says more where its slot is applied, and less where only that of the other is.
func TestTwoClaims(t *testing.T) {
	older, later := Closed{5, 100}, Closed{9, 200}
	for _, c := range []struct {
		applied              Slot
		at, byOlder, byLater Timestamp
	}{{4, 40, 40, 40}, {5, 50, 100, 50}, {8, 80, 100, 80}, {9, 120, 120, 200}} {
		if a, b := older.ReadableTo(c.applied, c.at), later.ReadableTo(c.applied, c.at); a != c.byOlder || b != c.byLater {
			t.Errorf("applied %d: readable to %d and %d", c.applied, a, b)
		}
	}
}
