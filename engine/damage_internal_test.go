// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"testing"

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
