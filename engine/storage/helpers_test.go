// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memOptions are those of a small store in memory.
func memOptions(fs vfs.FS) Options {
	return Options{
		Dir: "/data/atlas", FS: fs, CacheBytes: 4 << 20, MemTableBytes: 1 << 20,
		MinFreeBytes: -1, BallastBytes: -1, SpaceRetry: time.Millisecond, SpaceWait: 5 * time.Second,
	}
}

func mustOpen(tb testing.TB, o Options) *Store {
	tb.Helper()
	s, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func mustClose(tb testing.TB, s *Store) {
	tb.Helper()
	if err := s.Close(); err != nil {
		tb.Fatal(err)
	}
}

func openMem(tb testing.TB) *Store {
	tb.Helper()
	s := mustOpen(tb, memOptions(vfs.NewMem()))
	tb.Cleanup(func() { mustClose(tb, s) })
	return s
}

// put commits one version.
func put(tb testing.TB, s *Store, group, rest string, at Timestamp, v Version) {
	tb.Helper()
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion(group, []byte(rest), at, 0, v)
	if err := b.Commit(true); err != nil {
		tb.Fatal(err)
	}
}

func row(i int) []byte { return fmt.Appendf(nil, ".row%09d", i) }
