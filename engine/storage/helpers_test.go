// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/internal/invariants"
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

// withFaults asks the injector before each operation on fs.
func withFaults(fs vfs.FS, inj errorfs.Injector) vfs.FS { return &faultyFS{errorfs.Wrap(fs, inj), inj} }

// faultyFS is errorfs.FS, which of itself forgets about a file that is used again: half of all logs.
type faultyFS struct {
	*errorfs.FS
	inj errorfs.Injector
}

func (f *faultyFS) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, err
	}
	return errorfs.WrapFile(file, errorfs.InjectorFunc(func(op errorfs.Op) error {
		op.Path = newname
		return f.inj.MaybeError(op)
	})), nil
}

func row(i int) []byte { return fmt.Appendf(nil, ".row%09d", i) }

// ctxForTest is for helpers that have no test at hand.
var ctxForTest = context.Background()

// long says whether the long runs are asked for.
func long() bool { return os.Getenv("ATLAS_LONG") != "" }

// scaled is a number of rounds: short by default, far fewer under the race detector, and times ten on long runs.
func scaled(n int) int {
	switch {
	case long():
		return 10 * n
	case invariants.Enabled:
		return max(n/4, 1)
	}
	return n
}

// testSeed prints the seed of a random test, with the command that replays it. ATLAS_SEED sets it.
func testSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := uint64(20261122)
	if s := os.Getenv("ATLAS_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			tb.Fatal(err)
		}
		seed = n
	}
	tb.Logf("seed=%d; again with ATLAS_SEED=%d go test ./engine/storage -run '^%s$'", seed, seed, tb.Name())
	return seed
}

// recorder keeps what the store logs at warning and above.
type recorder struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func (r *recorder) logger() *slog.Logger { return slog.New(r) }

func (r *recorder) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }
func (r *recorder) WithAttrs([]slog.Attr) slog.Handler           { return r }
func (r *recorder) WithGroup(string) slog.Handler                { return r }

func (r *recorder) Handle(_ context.Context, rec slog.Record) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	line := rec.Message
	rec.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	r.lines = append(r.lines, line)
	return nil
}

func (r *recorder) warned() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.lines) > 0
}
