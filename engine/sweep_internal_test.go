// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"fmt"
	"testing"
	"time"
)

// The sweeper goes on without a pause of its own while more has expired than one round takes: with values of a short life written faster
// than a round in each interval takes them, their number on the disk once grew without bound.
func TestSweeperKeepsUp(t *testing.T) {
	q := openQuiet(t)
	const rounds = 3
	for i := range rounds*expireRoundMax/putsAtOnce + 1 {
		if err := q.s.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		for n := range putsAtOnce {
			if _, err := q.s.Put(t.Context(), PutRequest{Key: fmt.Appendf(nil, "t.%d.%d", i, n), TTL: time.Second}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := q.s.Commit(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	q.sleep(time.Minute)
	took := 10 * time.Millisecond
	for round := 1; ; round++ {
		more, err := q.expire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if done := q.metrics.expiredKeys.Load(); done != uint64(min(round*expireRoundMax, (rounds*expireRoundMax/putsAtOnce+1)*putsAtOnce)) {
			t.Fatalf("%d keys were deleted after round %d", done, round)
		}
		if want := round <= rounds; more != want {
			t.Fatalf("after round %d there is more: %v", round, more)
		}
		if !more {
			break
		}
		if pause := q.pause(true, took); pause != (sweepShare-1)*took {
			t.Fatalf("with more to do it pauses for %s", pause)
		}
	}
	if pause := q.pause(false, took); pause != q.opts.SweepInterval {
		t.Fatalf("with nothing to do it pauses for %s", pause)
	}
}

// putsAtOnce is how many values the test writes at once.
const putsAtOnce = 1024

// TestYoungNodeKeepsAllHistory: a round of the collector that finds nothing old forgets nothing, so that a node younger than the retention
// can be watched from its beginning.
func TestYoungNodeKeepsAllHistory(t *testing.T) {
	q := openQuiet(t)
	q.put(t, "t.a")
	if err := q.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	if q.collecting.due == 0 {
		t.Fatal("no round was made")
	}
	zero := uint64(0)
	w, err := q.s.Watch(t.Context(), WatchRequest{Prefix: []byte("t"), From: &zero})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	if ev, err := w.Next(t.Context()); err != nil || string(ev.Key) != "t.a" {
		t.Errorf("got %q, %v, want the first change", ev.Key, err)
	}
}
