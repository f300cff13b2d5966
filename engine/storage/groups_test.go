// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestGroupsWithState walks groups of which some have state, of one name or several, and asks each whether it has: in the view that the
// walk is of, and also when only some are asked.
func TestGroupsWithState(t *testing.T) {
	s := mustOpen(t, memOptions(vfs.NewMem()))
	defer mustClose(t, s)
	b := s.NewBatch()
	defer b.Close()
	state := map[string]int{"a": 1, "ab": 0, "b": 0, "c": 3, "c/x": 0, "d": 2, "da": 1, "z": 0}
	for group, n := range state {
		b.SetRecord(group, []byte("r"))
		for i := range n {
			b.SetState(group, fmt.Sprintf("s%d", i), []byte("v"))
		}
	}
	b.SetState("bb", "of no record", []byte("v"))
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	for every := 1; every <= 3; every++ {
		gs, err := s.Groups("")
		if err != nil {
			t.Fatal(err)
		}
		later := s.NewBatch() // the walk does not see it
		later.SetState("z", "later", []byte("v"))
		if err := later.Commit(true); err != nil {
			t.Fatal(err)
		}
		n := 0
		for ; gs.Next(); n++ {
			if n%every != 0 {
				continue
			}
			if has, err := gs.HasState(); err != nil || has != (state[gs.Group()] > 0) {
				t.Errorf("every %d: group %s has state: %v, %v", every, gs.Group(), has, err)
			}
		}
		if err := errors.Join(gs.Err(), gs.Close()); err != nil || n != len(state) {
			t.Fatalf("%d groups, want %d: %v", n, len(state), err)
		}
		later.Reset()
		later.DeleteState("z", "later")
		if err := later.Commit(true); err != nil {
			t.Fatal(err)
		}
		later.Close()
	}
}

// TestGroupsWithStateThatFails: when the states of groups cannot be read, the walk says so, ends, and does not say it again when it is closed.
func TestGroupsWithStateThatFails(t *testing.T) {
	var failing atomic.Bool
	o := memOptions(withFaults(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if failing.Load() && op.Kind == errorfs.OpFileReadAt {
			return errorfs.ErrInjected
		}
		return nil
	})))
	s := mustOpen(t, o)
	b := s.NewBatch()
	defer b.Close()
	for i := range 3 {
		group := fmt.Sprintf("g%d", i)
		b.SetRecord(group, []byte("r"))
		b.SetState(group, "s", bytes.Repeat([]byte{byte(i)}, 100_000)) // in a block of its own
	}
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, o) // with nothing in the cache
	defer mustClose(t, s)
	gs, err := s.Groups("")
	if err != nil {
		t.Fatal(err)
	}
	for range 3 { // the first state can lie in the block of the records
		if !gs.Next() {
			t.Fatal(gs.Err())
		}
	}
	failing.Store(true)
	for range 2 {
		if has, err := gs.HasState(); has || !errors.Is(err, errorfs.ErrInjected) {
			t.Errorf("has state: %v, %v", has, err)
		}
	}
	if gs.Next() || !errors.Is(gs.Err(), errorfs.ErrInjected) {
		t.Errorf("the walk goes on: %v", gs.Err())
	}
	if err := gs.Close(); err != nil {
		t.Errorf("closing repeats it: %v", err)
	}
	failing.Store(false)
	if has, err := gs.HasState(); has || err == nil {
		t.Errorf("closed, it has state: %v, %v", has, err)
	}
}
