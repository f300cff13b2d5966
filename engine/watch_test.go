// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

func watch(t *testing.T, s *engine.Session, prefix string, from *uint64) *engine.Watch {
	t.Helper()
	w, err := s.Watch(t.Context(), engine.WatchRequest{Prefix: []byte(prefix), From: from})
	must(t, err)
	t.Cleanup(func() { must(t, w.Close()) })
	return w
}

func next(t *testing.T, w *engine.Watch) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ev, err := w.Next(ctx)
	must(t, err)
	return show(ev)
}

func show(ev engine.Event) string {
	kind := map[engine.EventKind]string{engine.EventPut: "PUT", engine.EventDelete: "DEL"}[ev.Kind]
	return fmt.Sprintf("%s %d %s", kind, ev.Version, ev.Key)
}

func want(t *testing.T, got, format string, args ...any) {
	t.Helper()
	if w := fmt.Sprintf(format, args...); got != w {
		t.Fatalf("got %q, want %q", got, w)
	}
}

func TestWatch(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	v1 := put(t, s, "t.a", "1")
	live := watch(t, s, "t", nil)
	zero := uint64(0)
	all := watch(t, s, "t", &zero)
	behind := watch(t, s, "t", &v1)
	prefix := watch(t, s, "t.b", &zero)
	v2 := put(t, s, "t.b", "2")
	v3 := del(t, s, "t.a")
	put(t, s, "other.a", "x")
	must(t, s.Begin(t.Context()))
	put(t, s, "t.x", "1")
	put(t, s, "t.y", "1")
	v4, err := s.Commit(t.Context())
	must(t, err)
	want(t, next(t, all), "PUT %d t.a", v1)
	for _, w := range []*engine.Watch{live, all, behind} {
		want(t, next(t, w), "PUT %d t.b", v2)
		want(t, next(t, w), "DEL %d t.a", v3)
		want(t, next(t, w), "PUT %d t.x", v4)
		want(t, next(t, w), "PUT %d t.y", v4)
	}
	want(t, next(t, prefix), "PUT %d t.b", v2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if ev, err := prefix.Next(ctx); err == nil {
		t.Fatalf("an event that did not happen: %s", show(ev))
	}
}

// TestWatchSeesAllInOrder: watchers that begin at any time and from any version see every change exactly once, in order.
func TestWatchSeesAllInOrder(t *testing.T) {
	e := open(t, vfs.NewMem())
	const writers, each = 4, 60
	var mu sync.Mutex
	versions := map[string]uint64{}
	var wg sync.WaitGroup
	var begin sync.WaitGroup
	begin.Add(1)
	results := make([][]string, 3)
	for i := range results {
		wg.Go(func() {
			if i > 0 {
				begin.Wait()
			}
			zero := uint64(0)
			w, err := trusted(e).Watch(t.Context(), engine.WatchRequest{Prefix: []byte("t"), From: &zero})
			if err != nil {
				t.Error(err)
				return
			}
			defer w.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			var last uint64
			for range writers * each {
				ev, err := w.Next(ctx)
				if err != nil {
					t.Errorf("watcher %d after %d events: %v", i, len(results[i]), err)
					return
				}
				if ev.Version < last {
					t.Errorf("version %d after %d", ev.Version, last)
				}
				last = ev.Version
				results[i] = append(results[i], fmt.Sprintf("%s@%d", ev.Key, ev.Version))
			}
		})
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			s := trusted(e)
			for i := range each {
				k := fmt.Sprintf("t.%d-%d", w, i)
				v, err := s.Put(t.Context(), request(k, "v"))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				versions[k] = v
				mu.Unlock()
				if w == 0 && i == each/2 {
					begin.Done()
				}
			}
		})
	}
	writing.Wait()
	wg.Wait()
	for i, got := range results {
		seen := map[string]bool{}
		for _, ev := range got {
			if seen[ev] {
				t.Fatalf("watcher %d saw %s twice", i, ev)
			}
			seen[ev] = true
		}
		for k, v := range versions {
			if !seen[fmt.Sprintf("%s@%d", k, v)] {
				t.Fatalf("watcher %d missed %s@%d", i, k, v)
			}
		}
	}
}

// TestWatchOfExpiry: a value whose time has passed is deleted by the sweeper, and watchers hear of it.
func TestWatchOfExpiry(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now; o.SweepInterval = engine.SweepIntervalMin })
	s := trusted(e)
	v, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.a"), Value: []byte("v"), TTL: time.Minute})
	must(t, err)
	put(t, s, "t.b", "overwritten before its end")
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.b"), Value: []byte("v"), TTL: time.Minute})
	must(t, err)
	put(t, s, "t.b", "stays")
	watcher := watch(t, s, "t", &v)
	for range 3 {
		next(t, watcher)
	}
	w.add(2 * time.Minute)
	got := next(t, watcher)
	var version uint64
	if _, err := fmt.Sscanf(got, "DEL %d t.a", &version); err != nil || version <= v {
		t.Fatalf("got %q", got)
	}
	if got := get(t, s, "t.b"); got != "stays" {
		t.Fatalf("an overwritten value's time to live deleted its successor: %q", got)
	}
}

// TestHistoryEnds: old versions go after the retention, and a watch from before them is told so.
func TestHistoryEnds(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now; o.SweepInterval = engine.SweepIntervalMin })
	s := trusted(e)
	v1 := put(t, s, "t.a", "1")
	put(t, s, "t.a", "2")
	put(t, s, "t.gone", "1")
	del(t, s, "t.gone")
	slow := watch(t, s, "t", &v1)
	w.add(time.Hour)
	now := put(t, s, "t.b", "now")
	var oldest uint64
	deadline := time.Now().Add(20 * time.Second)
	for {
		_, err := s.Watch(t.Context(), engine.WatchRequest{Prefix: []byte("t"), From: &v1})
		if err != nil {
			wantErr(t, err, engine.ErrNotFound)
			oldest = oldestVersion(t, err)
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("history did not end")
		}
		put(t, s, "t.tick", "x")
	}
	if _, err := slow.Next(t.Context()); err == nil {
		t.Fatal("a watcher that fell behind what is kept was given events with a hole before them")
	} else {
		wantErr(t, err, engine.ErrNotFound)
	}
	// From the version that the refusal names, a watch begins; it stays the oldest, for the wall clock stands.
	want(t, next(t, watch(t, s, "t.b", &oldest)), "PUT %d t.b", now)
	wantRows(t, rows(t, s, engine.ScanRequest{Prefix: []byte("t"), Limit: 2}), "t.a=2", "t.b=now")
}

// oldestVersion is what a watch from too long ago is told.
func oldestVersion(t *testing.T, err error) (v uint64) {
	t.Helper()
	_, text, ok := strings.Cut(err.Error(), "the oldest version to watch from is now ")
	if v, err = strconv.ParseUint(text, 10, 64); !ok || err != nil {
		t.Fatalf("no version in %q: %v", text, err)
	}
	return v
}

func TestWatchAndGrants(t *testing.T) {
	e := open(t, vfs.NewMem())
	alice, bob := as(t, e, "alice"), as(t, e, "bob")
	must(t, alice.Grant(t.Context(), []byte("t.secret"), "alice", engine.PermOwner))
	w := watch(t, bob, "t", nil)
	put(t, alice, "t.secret", "x")
	v := put(t, alice, "t.open", "x")
	want(t, next(t, w), "PUT %d t.open", v)
}

// A watch that is catching up over a long stretch of other keys ends with its context, and goes on from there with the next.
func TestWatchEndsWithItsContextWhileCatchingUp(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	first := put(t, s, "t.a", "1")
	for i := range 5000 {
		put(t, s, fmt.Sprintf("t.other%d", i), "1")
	}
	put(t, s, "t.a", "2")
	w, err := s.Watch(t.Context(), engine.WatchRequest{Prefix: []byte("t.a"), From: &first})
	must(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = w.Next(ended)
	wantErr(t, err, engine.ErrUnavailable)
	ev, err := w.Next(t.Context())
	must(t, err)
	if string(ev.Key) != "t.a" || ev.Version <= first {
		t.Fatalf("got %+v", ev)
	}
	must(t, w.Close())
}

// A watch from a version that is yet to come does not give what comes before that version. G20.
func TestWatchFromTheFuture(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now })
	s := trusted(e)
	from := put(t, s, "t.a", "1") + uint64(time.Minute)
	later := watch(t, s, "t", &from)
	put(t, s, "t.a", "2")
	w.add(2 * time.Minute)
	v := put(t, s, "t.a", "3")
	want(t, next(t, later), "PUT %d t.a", v)
}
