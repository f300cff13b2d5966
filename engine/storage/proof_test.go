// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestStartCutOffBetweenLogs (G30): at a start Pebble removes the old log, whose commits are in tables by then, before it makes the new one. A
// start that ended in between, by a full disk, a kill or a power failure, left a directory that was called corrupt for ever,
// since the log that was last synced was missing.
func TestStartCutOffBetweenLogs(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s := mustOpen(t, memOptions(mem))
	put(t, s, "g", ".a", 5, Version{Value: []byte("kept")})
	mustClose(t, s)

	// Pebble removes in the background: the new log waits for that here.
	gone := func() bool {
		names, err := mem.List("/data/atlas/" + pebbleDirName)
		return err == nil && !slices.ContainsFunc(names, func(n string) bool { return strings.HasSuffix(n, ".log") })
	}
	var shots []*vfs.MemFS
	o := memOptions(withFaults(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasSuffix(op.Path, ".log") && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpReuseForWrite) {
			for deadline := time.Now().Add(10 * time.Second); !gone() && time.Now().Before(deadline); {
				runtime.Gosched()
			}
			for _, percent := range []int{0, 100} {
				shots = append(shots, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))}))
			}
			return syscall.EIO
		}
		return nil
	})))
	if s, err := Open(o); err == nil {
		mustClose(t, s)
		t.Fatal("opened without a log")
	}
	if len(shots) == 0 || !gone() {
		t.Fatal("the start was not cut off between the logs")
	}
	for i, fs := range append(shots, mem) {
		s, err := Open(memOptions(fs))
		if err != nil {
			t.Errorf("image %d: %v", i, err)
			continue
		}
		v, ok, err := s.Latest("g", []byte(".a"))
		if err != nil || !ok || v.Time != 5 {
			t.Errorf("image %d: %+v, %v, %v", i, v, ok, err)
		}
		mustClose(t, s)
	}
}
