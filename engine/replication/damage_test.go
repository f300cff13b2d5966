// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// TestDamagedStateStopsTheNode damages, a layer above the checksums of storage, what is kept of a group. The node stops and says so: it
// once refused the group's commands as unavailable for ever, and with them those of other groups that shared their batches. G28.
func TestDamagedStateStopsTheNode(t *testing.T) {
	grants := authz.Object{Group: "g", Kind: authz.KindTable}
	propose := func(n *node) error { _, err := n.Propose(t.Context(), "g", put(".k", "x")); return err }
	for name, c := range map[string]struct {
		damage func(b *storage.Batch)
		use    func(n *node) error
	}{
		"record":                    {func(b *storage.Batch) { b.SetRecord("g", []byte("damaged")) }, propose},
		"state of a group to write": {func(b *storage.Batch) { b.SetState("g", command.StateName, []byte{0xff}) }, propose},
		"state of a group to read": {
			func(b *storage.Batch) { b.SetState("g", command.StateName, []byte{0xff}) },
			func(n *node) error { _, err := n.ReadView("g"); return err },
		},
		"grants": {func(b *storage.Batch) {
			b.SetState("g", command.StateName, command.GroupState{TableLists: 1}.AppendTo(nil))
			b.SetState("g", grants.StateName(), []byte{0xff})
		}, propose},
	} {
		t.Run(name, func(t *testing.T) {
			n := openNode(t, 1, time.Hour)
			b := n.store.NewBatch()
			c.damage(b)
			if err := b.Commit(true); err != nil {
				t.Fatal(err)
			}
			b.Close()
			if err := c.use(n); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("got %v", err)
			}
			if err := n.Err(); !errors.Is(err, storage.ErrCorrupt) {
				t.Fatalf("the node goes on: %v", err)
			}
			if _, err := n.Propose(t.Context(), "other", put(".k", "x")); !errors.Is(err, ErrUnavailable) {
				t.Fatalf("a stopped node took a command: %v", err)
			}
		})
	}
}
