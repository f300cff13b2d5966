// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// Writes that are handed over without waiting take effect in their order, share syncs, and each has its own outcome.
func TestPutLater(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	const n = 200
	var writes []engine.Write
	for i := range n {
		w, err := s.PutLater(t.Context(), engine.PutRequest{Key: []byte("t.a"), Value: fmt.Append(nil, i), IfAbsent: i%10 == 9})
		must(t, err)
		writes = append(writes, w)
	}
	last := uint64(0)
	for i, w := range writes {
		v, err := w.Wait(t.Context())
		if i%10 == 9 {
			wantErr(t, err, engine.ErrConflict)
			continue
		}
		must(t, err)
		if v <= last {
			t.Fatalf("write %d has version %d after %d", i, v, last)
		}
		last = v
	}
	if got := get(t, s, "t.a"); got != fmt.Sprint(n-2) {
		t.Errorf("the last value is %s", got)
	}

	_, err := s.PutLater(t.Context(), engine.PutRequest{Key: []byte("norow"), Value: nil})
	wantErr(t, err, engine.ErrInvalid)
	must(t, s.Begin(t.Context()))
	w, err := s.PutLater(t.Context(), engine.PutRequest{Key: []byte("t.b"), Value: []byte("x")})
	must(t, err)
	if v, err := w.Wait(t.Context()); v != 0 || err != nil {
		t.Errorf("inside a transaction: %d, %v", v, err)
	}
	must(t, s.Rollback())

	ctx, cancel := context.WithCancel(t.Context())
	w, err = s.PutLater(ctx, engine.PutRequest{Key: []byte("t.c"), Value: []byte("x")})
	must(t, err)
	cancel()
	if _, err := w.Wait(ctx); err != nil {
		wantErr(t, err, engine.ErrUnknown)
	}
}
