// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// What a read finds damaged, a layer above the checksums of storage, stops the node as what a write finds does. It once went on: the
// reader was told that stored data is wrong and the node stops, and it did not. G28.
func TestDamageFoundByReadingStopsTheNode(t *testing.T) {
	grants := func(b *storage.Batch) {
		b.PutVersion("t", []byte(".k"), 1, 0, storage.Version{Value: []byte("x")})
		b.SetState("t", command.StateName, command.GroupState{TableLists: 1}.AppendTo(nil))
		b.SetState("t", authz.Object{Group: "t", Kind: authz.KindTable}.StateName(), []byte{0xff})
	}
	for name, c := range map[string]struct {
		damage func(b *storage.Batch)
		read   func(t *testing.T, s *Session) error
	}{
		"grants, by a get": {grants, func(t *testing.T, s *Session) error {
			_, err := s.Get(t.Context(), []byte("t.k"))
			return err
		}},
		"grants, by a count": {grants, func(t *testing.T, s *Session) error {
			_, err := s.Count(t.Context(), []byte("t"))
			return err
		}},
		"record": {
			func(b *storage.Batch) { b.SetRecord("t", []byte("damaged")) },
			func(t *testing.T, s *Session) error {
				_, err := s.GroupInfo(t.Context(), "t")
				return err
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			q := openQuiet(t)
			b := q.store.NewBatch()
			defer b.Close()
			c.damage(b)
			if err := b.Commit(true); err != nil {
				t.Fatal(err)
			}
			if err := c.read(t, q.s); ClassOf(err) != ClassCorrupt {
				t.Fatalf("got %v", err)
			}
			if err := q.Ready(); err == nil {
				t.Fatal("the node goes on")
			}
			<-q.Done()
			if _, err := q.s.Put(t.Context(), PutRequest{Key: []byte("other.k")}); ClassOf(err) != ClassUnavailable {
				t.Fatalf("a stopped node took a write: %v", err)
			}
		})
	}
}

// TestDamageFoundByReadingAhead: a node whose disk holds a damaged record of a group that nobody asks for starts, and then stops and says why.
// Now and then it did not start: what was read ahead came before what a start reads. G28.
func TestDamageFoundByReadingAhead(t *testing.T) {
	fs := vfs.NewMem()
	open := func(later time.Duration) *Engine {
		t.Helper()
		e, err := Open(t.Context(), Options{
			Dir: "data", FS: fs, MinFreeBytes: -1, SweepInterval: time.Hour, Now: func() time.Time { return time.Now().Add(later) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	e := open(0)
	b := e.store.NewBatch()
	defer b.Close()
	b.SetRecord("a", []byte("damaged"))
	if err := errors.Join(b.Commit(true), e.Close()); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		e := open(time.Duration(1+i) * time.Hour) // so much later that the clock need not ask the records
		select {
		case <-e.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("the damage is not found")
		}
		if err := e.Ready(); err == nil {
			t.Error("the node goes on")
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
