// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"testing"
)

// TestIdleSnapshotsKeepNoMemtables reads in snapshots that then stay open, as those of idle transactions do: an iterator that they
// kept for the next read once held the memtables of their time in memory, so that clients could fill it by doing nothing.
func TestIdleSnapshotsKeepNoMemtables(t *testing.T) {
	s := openMem(t)
	const n = 8
	for i := range n {
		rest := fmt.Sprintf(".k%d", i)
		put(t, s, "g", rest, Timestamp(i+1), Version{Value: []byte("x")})
		snap := s.NewSnapshot()
		t.Cleanup(func() {
			if err := snap.Close(); err != nil {
				t.Error(err)
			}
		})
		for range 3 {
			if _, found, err := snap.Latest("g", []byte(rest)); err != nil || !found {
				t.Fatalf("%s: %v %v", rest, found, err)
			}
		}
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.cache.empty(); err != nil { // as the tick does
		t.Fatal(err)
	}
	if m := s.db.Metrics().MemTable; m.ZombieCount > 1 { // one is kept for use again
		t.Fatalf("%d memtables that were flushed are still in memory, %d bytes", m.ZombieCount, m.ZombieSize)
	}
}
