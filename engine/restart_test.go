// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// restart stops the node and opens its directory again.
func restart(t *testing.T, e *engine.Engine, fs vfs.FS, w *wall) *engine.Engine {
	t.Helper()
	closeEngine(t, e)
	return open(t, fs, func(o *engine.Options) { o.Now = w.now })
}

// A node that is restarted once a second, as by a supervisor, judges write-once ends and expiry by times that go as the wall clock
// goes: it once jumped ahead to the stored ceiling, 10 s with every restart, and stood there. G10, G11.
func TestTimeGoesOnAsBeforeOverRestarts(t *testing.T) {
	fs, w := vfs.NewMem(), newWall()
	e := open(t, fs, func(o *engine.Options) { o.Now = w.now })
	s := trusted(e)
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.worm"), Value: []byte("first"), WormTTL: 8 * time.Second})
	must(t, err)
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.old"), Value: []byte("here"), TTL: 8 * time.Second})
	must(t, err)
	for range 5 {
		w.add(time.Second)
		e = restart(t, e, fs, w)
		s = trusted(e)
		if got := get(t, s, "t.old"); got != "here" {
			t.Fatalf("value with time left reads %s", got)
		}
		_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.worm"), Value: []byte("second")})
		wantErr(t, err, engine.ErrDenied)
	}
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.new"), Value: []byte("x"), TTL: time.Second})
	must(t, err)
	w.add(2 * time.Second)
	if got := get(t, s, "t.new"); got != absent {
		t.Fatalf("value whose time has passed reads %s", got)
	}
	w.add(2 * time.Second)
	put(t, s, "t.worm", "second")
}

// What a reader was told has expired is absent for conditions, when the wall clock steps back in between. G11.
func TestExpiredIsAbsentForConditionsWhenTheClockStepsBack(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now, o.SweepInterval = w.now, time.Hour })
	s := trusted(e)
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.k"), Value: []byte("x"), TTL: 20 * time.Second})
	must(t, err)
	w.add(30 * time.Second) // past the ceiling, which reads do not raise
	if got := get(t, s, "t.k"); got != absent {
		t.Fatalf("expired value reads %s", got)
	}
	w.add(-25 * time.Second)
	if _, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.k"), Value: []byte("y"), IfAbsent: true}); err != nil {
		t.Fatalf("put of an absent key: %v", err)
	}
}
