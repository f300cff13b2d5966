// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quiet is a node whose clock and sweeper the test drives.
type quiet struct {
	*Engine
	s     *Session
	nanos atomic.Int64
}

func openQuiet(t *testing.T, change ...func(*Options)) *quiet {
	t.Helper()
	q := &quiet{}
	q.nanos.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	o := Options{
		Dir: "data", FS: vfs.NewMem(), MinFreeBytes: -1, SweepInterval: time.Hour,
		Now: func() time.Time { return time.Unix(0, q.nanos.Add(1)) },
	}
	for _, c := range change {
		c(&o)
	}
	var err error
	if q.Engine, err = Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := q.Close(); err != nil {
			t.Error(err)
		}
	})
	for !q.replicator.IsAhead() {
		runtime.Gosched() // nothing is collected before
	}
	q.s = q.NewSession(SessionOptions{Trusted: true})
	return q
}

func (q *quiet) sleep(d time.Duration) { q.nanos.Add(int64(d)) }

func (q *quiet) put(t *testing.T, key string) uint64 {
	t.Helper()
	v, err := q.s.Put(t.Context(), PutRequest{Key: []byte(key)})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func (q *quiet) watch(t *testing.T, from *uint64) *Watch {
	t.Helper()
	w, err := q.s.Watch(t.Context(), WatchRequest{Prefix: []byte("t"), From: from})
	if err != nil {
		t.Fatalf("watch from %v: %v", from, err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (q *quiet) sweepPast(t *testing.T, version uint64) {
	t.Helper()
	if err := q.collect(t.Context()); err != nil {
		t.Fatal(err)
	}
	swept, err := q.store.SweptTo()
	if err != nil {
		t.Fatal(err)
	}
	if swept <= version {
		t.Fatalf("history is kept from %d on, want past %d", swept, version)
	}
}

// What a node has to collect is collected also when nothing is written any more. Its clock for readers stands still then, and collection
// went by that: after a great delete and no further write the space never came back.
func TestCollectsOnAnIdleNode(t *testing.T) {
	q := openQuiet(t)
	q.put(t, "t.a")
	v := q.put(t, "t.a")
	q.sleep(time.Hour)
	q.sweepPast(t, v)
	if n := q.metrics.collectedVersions.Load(); n != 1 {
		t.Fatalf("%d versions were collected, want 1", n)
	}
}

// A watch of a group in which nothing happens goes on, however long that takes and however much is collected meanwhile. The times to read
// at stand still on a node without writes, and the watch's place in history with them: a write of another group moved the clock by
// an hour, the sweeper followed, and all waiting watches ended as if they had missed something. G19.
func TestQuietWatchOutlivesCollection(t *testing.T) {
	q := openQuiet(t)
	from := q.put(t, "t.a")
	watches := []*Watch{q.watch(t, nil), q.watch(t, &from)}
	for range 3 {
		// Each looks from time to time, as every watch does in watchIdle.
		for range 12 {
			q.sleep(5 * time.Minute)
			for _, w := range watches {
				if more, err := w.read(); more || err != nil || len(w.ready) > 0 {
					t.Fatalf("a quiet watch: %v, %v, %d events", more, err, len(w.ready))
				}
			}
		}
		q.put(t, "other.x")
		q.sweepPast(t, from)
		v := q.put(t, "t.b")
		for _, w := range watches {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			ev, err := w.Next(ctx)
			cancel()
			if err != nil || ev.Version != v {
				t.Fatalf("event %+v, want version %d: %v", ev, v, err)
			}
		}
	}
}

// A client resumes a watch of a quiet group from the last version that it saw, however old that is: nothing has happened since that
// could be gone. One change later it is too late. G20.
func TestResumesInAQuietGroup(t *testing.T) {
	q := openQuiet(t)
	before := q.put(t, "t.a")
	last := q.put(t, "t.a")
	sleeper := q.watch(t, nil) // its node was suspended: it does not look at anything for an hour
	q.sleep(time.Hour)
	q.put(t, "other.x")
	q.sweepPast(t, last)
	resumed := q.watch(t, &last)
	for _, w := range []*Watch{sleeper, resumed} {
		if more, err := w.read(); more || err != nil || len(w.ready) > 0 {
			t.Fatalf("a watch of a quiet group, after an hour: %v, %v, %d events", more, err, len(w.ready))
		}
	}
	v := q.put(t, "t.b")
	for _, w := range []*Watch{sleeper, resumed} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		ev, err := w.Next(ctx)
		cancel()
		if err != nil || ev.Version != v {
			t.Fatalf("event %+v, want version %d: %v", ev, v, err)
		}
	}
	if _, err := q.s.Watch(t.Context(), WatchRequest{Prefix: []byte("t"), From: &before}); ClassOf(err) != ClassNotFound {
		t.Fatalf("a watch from before a change that is gone: %v", err)
	}
}

// While the wall clock stands, versions are the only times there are, and a watch still gives each change once. G18.
func TestWatchWhileTheWallClockStands(t *testing.T) {
	wall := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	q := openQuiet(t, func(o *Options) { o.Now = func() time.Time { return wall } })
	zero := uint64(0)
	late, w := q.watch(t, nil), q.watch(t, &zero)
	for range 5 {
		v := q.put(t, "t.a")
		fresh := q.watch(t, nil)
		for _, w := range []*Watch{late, w} {
			if _, err := w.read(); err != nil || len(w.ready) != 1 || w.ready[0].Version != v {
				t.Fatalf("%d events, %v, want version %d", len(w.ready), err, v)
			}
			w.ready = nil
		}
		for _, w := range []*Watch{late, w, fresh} {
			if more, err := w.read(); more || err != nil || len(w.ready) > 0 {
				t.Fatalf("a change is given again: %v, %v, %d events", more, err, len(w.ready))
			}
		}
	}
}
