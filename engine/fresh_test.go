// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// TestReadsAreNeverOld covers G7 where it is easiest to break: many readers and few writers on few keys, so that every value is
// read while the next is on its way. A read must not give a version below the newest that was acknowledged, or read by anybody, before it
// began; and a version always comes with its own value.
func TestReadsAreNeverOld(t *testing.T) {
	e := open(t, vfs.NewMem())
	const keys, writes = 4, 400
	var newest [keys]atomic.Uint64 // versions that were acknowledged or read
	raise := func(i int, v uint64) {
		for {
			old := newest[i].Load()
			if v <= old || newest[i].CompareAndSwap(old, v) {
				return
			}
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	var reading, writing sync.WaitGroup
	var reads atomic.Int64
	var values sync.Map // version of a key -> value
	for r := range 6 {
		reading.Go(func() {
			s := trusted(e)
			for n := r; ctx.Err() == nil; n++ {
				i := n % keys
				least := newest[i].Load()
				item, err := s.Get(t.Context(), fmt.Appendf(nil, "t.%d", i))
				if errors.Is(err, engine.ErrNotFound) {
					// Every other write is a delete; whether this one is old shows in the version that a writer gets next.
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if item.Version < least {
					t.Errorf("key %d: read version %d, which began after version %d was known", i, item.Version, least)
				}
				raise(i, item.Version)
				b, err := item.Bytes()
				if err != nil {
					t.Error(err)
				}
				if was, ok := values.LoadOrStore(fmt.Sprint(i, "@", item.Version), string(b)); ok && was != string(b) {
					t.Errorf("key %d version %d reads %q and %q", i, item.Version, was, b)
				}
				if err := item.Close(); err != nil {
					t.Error(err)
				}
				reads.Add(1)
			}
		})
	}
	for w := range keys {
		writing.Go(func() {
			s := trusted(e)
			k := fmt.Appendf(nil, "t.%d", w)
			for n := range writes {
				v, err := s.Put(t.Context(), engine.PutRequest{Key: k, Value: fmt.Append(nil, n)})
				if err != nil {
					t.Error(err)
					return
				}
				raise(w, v)
				if got := get(t, s, string(k)); got != fmt.Sprint(n) {
					t.Errorf("key %d: its only writer wrote %d and reads %s", w, n, got)
				}
				if n%5 == 4 {
					del(t, s, string(k))
					if got := get(t, s, string(k)); got != absent {
						t.Errorf("key %d: deleted, and reads %s", w, got)
					}
				}
			}
		})
	}
	writing.Wait()
	stop()
	reading.Wait()
	t.Logf("%d reads checked beside %d writes", reads.Load(), keys*writes)
	if reads.Load() == 0 {
		t.Fatal("nothing was read: nothing was tested")
	}
}
