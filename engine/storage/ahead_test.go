// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// aheadOptions open a store on mem and count the writes of zeroes ahead of a log; fail gives the error of each.
func aheadOptions(mem *vfs.MemFS, count *atomic.Int64, fail func() error) Options {
	return memOptions(withFaults(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWriteAt || !strings.HasSuffix(op.Path, ".log") {
			return nil
		}
		count.Add(1)
		return fail()
	})))
}

func succeed() error { return nil }

// TestZeroesAheadOfTheLog: a log grows by logAheadLen at once, nothing of it is lost by a crash, and one that is used again grows only
// past what it was.
func TestZeroesAheadOfTheLog(t *testing.T) {
	mem := vfs.NewCrashableMem()
	var grown atomic.Int64
	o := aheadOptions(mem, &grown, succeed)
	o.MemTableBytes = 256 << 10
	s := mustOpen(t, o)
	size := func() (n int64) {
		names, err := mem.List("/data/atlas/" + pebbleDirName)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, ".log") {
				fi, err := mem.Stat("/data/atlas/" + pebbleDirName + "/" + name)
				if err != nil {
					t.Fatal(err)
				}
				n = max(n, fi.Size())
			}
		}
		return n
	}
	put(t, s, "g", ".a", 1, Version{Value: []byte("first")})
	before, began := size(), grown.Load()
	if before < logAheadLen || began == 0 {
		t.Fatalf("a log of %d bytes, grown %d times", before, began)
	}
	value := make([]byte, 1000)
	at := Timestamp(2)
	for ; at < 100; at++ { // in all less than logAheadLen
		put(t, s, "g", ".a", at, Version{Value: value})
	}
	if after := size(); after != before || grown.Load() != began {
		t.Errorf("the log grew from %d to %d bytes", before, after)
	}
	for _, percent := range []int{0, 100} {
		img := mustOpen(t, memOptions(mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))})))
		if v, ok, err := img.Latest("g", []byte(".a")); err != nil || !ok || v.Time != at-1 {
			t.Errorf("with %d %% of what was not synced: %+v, %v, %v", percent, v, ok, err)
		}
		mustClose(t, img)
	}
	// Many times round: the logs are used again, and need to grow no more.
	fill := func() {
		for range 10_000 {
			put(t, s, "g", ".a", at, Version{Value: value})
			at++
		}
	}
	fill()
	began = grown.Load()
	fill()
	if more := grown.Load() - began; more > 1 {
		t.Errorf("grew %d times when the logs were used again, %d before", more, began)
	}
	mustClose(t, s)
}

// TestNoRoomAheadOfTheLog (G27): without room for zeroes commits go on; any other failure there is one of the log.
func TestNoRoomAheadOfTheLog(t *testing.T) {
	var hits atomic.Int64
	s := mustOpen(t, aheadOptions(vfs.NewMem(), &hits, func() error { return syscall.ENOSPC }))
	for at := range Timestamp(50) {
		put(t, s, "g", ".a", at+1, Version{Value: []byte("v")})
	}
	if hits.Load() < 50 || s.Err() != nil {
		t.Errorf("%d writes ahead, %v", hits.Load(), s.Err())
	}
	mustClose(t, s)

	s, err := Open(aheadOptions(vfs.NewMem(), &hits, func() error { return syscall.EIO }))
	if err == nil {
		b := s.NewBatch()
		b.PutVersion("g", []byte(".a"), 1, 0, Version{Value: []byte("v")})
		if err = b.Commit(true); err == nil {
			t.Error("committed")
		}
		b.Close()
		_ = s.Close() // the store has failed
	}
	if !errors.Is(err, ErrFatal) && !errors.Is(err, syscall.EIO) {
		t.Error(err)
	}
}
