// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// G19: TestWatchHoldsFewEvents: a version of many changes is given whole and in order, and a watch never holds more than a few of them:
// with all of them, each watcher of a large transaction would hold as much memory as the transaction.
func TestWatchHoldsFewEvents(t *testing.T) {
	e, err := Open(t.Context(), Options{Dir: "data", FS: vfs.NewMem(), MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := e.NewSession(SessionOptions{Trusted: true})
	zero := uint64(0)
	w, err := s.Watch(t.Context(), WatchRequest{Prefix: []byte("t"), From: &zero})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}()
	var want []string
	long := strings.Repeat("k", 1000)
	for round, n := range []int{1, watchBatchMax - 1, watchBatchMax, 1, 3*watchBatchMax + 7, 2 * watchBatchMax, 5} {
		if err := s.Begin(t.Context()); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			for _, table := range []string{"t", "t/other"} {
				if _, err := s.Put(t.Context(), PutRequest{Key: fmt.Appendf(nil, "%s.%d.%05d%s", table, round, i, long)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		v, err := s.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			want = append(want, fmt.Sprintf("%d t.%d.%05d%s", v, round, i, long))
		}
	}
	for i, want := range want {
		ev, err := w.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d %s", ev.Version, ev.Key); got != want {
			t.Fatalf("event %d is %s, want %s", i, got, want)
		}
		held := 0
		for _, ev := range w.ready {
			held += len(ev.Key)
		}
		if held > watchBatchBytes+2*len(ev.Key) {
			t.Fatalf("the watch holds keys of %d bytes", held)
		}
	}
}

// Who asks without waiting gets what is there, but not what lies behind very many changes of other keys, or of keys that are hidden from
// him: that is how far a watch goes that nobody waits for. Waiting, or asking again, finds it. Hidden changes once did not count: UNWATCH,
// a client that had gone and a node that stopped waited until a watch had passed over all that there were.
func TestWatchPassesOverChanges(t *testing.T) {
	const most = watchPassMax*watchBatchMax - 1
	q := openQuiet(t)
	if err := q.s.Grant(t.Context(), []byte("t.other"), "owner", PermOwner); err != nil {
		t.Fatal(err)
	}
	if err := q.s.Assume(t.Context(), "owner"); err != nil {
		t.Fatal(err)
	}
	from := q.put(t, "t.other")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		prefix, principal string
		others            int
	}{
		{".k", "owner", most},
		{".k", "owner", most + 1},
		{".", "somebody", most},
		{".", "somebody", most + 1},
	} {
		w := q.watch(t, &from)
		w.prefix, w.principal = []byte(c.prefix), c.principal
		for range c.others {
			q.put(t, "t.other")
		}
		v := q.put(t, "t.k")
		ev, err := w.Next(ended)
		if c.others > most {
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("%+v: %+v, %v", c, ev, err)
			}
			ev, err = w.Next(ended)
		}
		if err != nil || ev.Version != v {
			t.Fatalf("%+v: %+v, want version %d: %v", c, ev, v, err)
		}
		from = v
	}
}
