// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// putTTL stores a value that lives for ten seconds.
func putTTL(ctx context.Context, e *engine.Engine, key, value string) error {
	_, err := trusted(e).Put(ctx, engine.PutRequest{Key: []byte(key), Value: []byte(value), TTL: 10 * time.Second})
	return err
}

// looks are the ways to find out whether t.k is there.
var looks = map[string]func(t *testing.T, s *engine.Session) bool{
	"get": func(t *testing.T, s *engine.Session) bool { return get(t, s, "t.k") != absent },
	"scan": func(t *testing.T, s *engine.Session) bool {
		return len(rows(t, s, engine.ScanRequest{Prefix: []byte("t")})) == 1
	},
	"count": func(t *testing.T, s *engine.Session) bool {
		n, err := s.Count(t.Context(), []byte("t"))
		must(t, err)
		return n == 1
	},
	"sample": func(t *testing.T, s *engine.Session) bool {
		keys, err := s.Sample(t.Context(), []byte("t"), 1)
		must(t, err)
		return len(keys) == 1
	},
	"transaction": func(t *testing.T, s *engine.Session) bool {
		must(t, s.Begin(t.Context()))
		defer func() { must(t, s.Rollback()) }()
		return get(t, s, "t.k") != absent
	},
}

// A value that is renewed in time is there for every reader, also for one who is held up between any two of its steps while the value
// is renewed and its first time passes. The reader once looked at the state before the renewal with the time after it. G7, G11.
func TestRenewedValueIsNeverAbsent(t *testing.T) {
	for name, look := range looks {
		t.Run(name, func(t *testing.T) {
			w := newWall()
			var armed atomic.Int64 // the reading of the clock at which the reader is held up
			var renew atomic.Pointer[func()]
			e := open(t, vfs.NewMem(), func(o *engine.Options) {
				o.SweepInterval = time.Hour
				o.Now = func() time.Time {
					if armed.Load() > 0 && armed.Add(-1) == 0 {
						(*renew.Load())()
					}
					return w.now()
				}
			})
			hook := func() {
				if err := putTTL(t.Context(), e, "t.k", "renewed"); err != nil {
					t.Error(err)
				}
				w.add(5 * time.Second)
			}
			renew.Store(&hook)
			for step := int64(1); ; step++ {
				must(t, putTTL(t.Context(), e, "t.k", fmt.Sprint("first ", step)))
				w.add(9 * time.Second)
				armed.Store(step)
				there := look(t, trusted(e))
				if left := armed.Swap(0); left > 0 {
					if step < 3 {
						t.Fatalf("the reader asks the clock %d times: too few to mean anything", step-left)
					}
					break
				}
				if !there {
					t.Errorf("held up at reading %d of the clock: a value that was renewed in time is absent", step)
				}
			}
		})
	}
}

// The same while the renewal is on its way to the disk: it will be answered, so nobody may find the value gone meanwhile. G7, G11.
func TestRenewalOnItsWayToTheDisk(t *testing.T) {
	for name, look := range looks {
		t.Run(name, func(t *testing.T) {
			w, fs := newWall(), newFaultFS()
			e := open(t, fs, func(o *engine.Options) { o.SweepInterval, o.Now = time.Hour, w.now })
			must(t, putTTL(t.Context(), e, "t.k", "first"))
			w.add(8 * time.Second)
			put(t, trusted(e), "other.k", "x") // the ceiling of the clock is far enough away now, for a transaction does not wait for the disk
			w.add(time.Second)
			fs.held.Store(true)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := putTTL(context.Background(), e, "t.k", "renewed"); err != nil {
					t.Error(err)
				}
			})
			eventually(t, "the sync", func() bool { return fs.waiting.Load() > 0 })
			w.add(2 * time.Second)
			there := look(t, trusted(e))
			fs.held.Store(false)
			close(fs.release)
			wg.Wait()
			if !there || !look(t, trusted(e)) {
				t.Errorf("a value is absent (%v before its renewal was durable) that was renewed in time", !there)
			}
			w.add(10 * time.Second)
			if look(t, trusted(e)) {
				t.Error("an expired value is there")
			}
		})
	}
}

// What a reader found expired stays so while a write of its group waits for the clock's ceiling to rise, and then for its own sync. G11.
func TestExpiredWhileTheCeilingRises(t *testing.T) {
	w, fs := newWall(), newFaultFS()
	e := open(t, fs, func(o *engine.Options) { o.SweepInterval, o.Now = time.Hour, w.now })
	s := trusted(e)
	must(t, putTTL(t.Context(), e, "t.k", "first"))
	w.add(9 * time.Second)
	fs.held.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := trusted(e).Put(context.Background(), request("t.other", "x")); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the sync of the ceiling", func() bool { return fs.waiting.Load() == 1 })
	w.add(2 * time.Second)
	first := get(t, s, "t.k")
	fs.release <- struct{}{}
	eventually(t, "the sync of the write", func() bool { return fs.waiting.Load() == 2 })
	second := get(t, s, "t.k")
	fs.held.Store(false)
	close(fs.release)
	wg.Wait()
	if first == absent && second != absent {
		t.Errorf("a value that had expired reads %s", second)
	}
	if got := get(t, s, "t.k"); got != absent {
		t.Errorf("a value that has expired reads %s", got)
	}
}
