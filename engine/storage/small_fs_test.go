// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestRealFullDisk fills a real file system, which ATLAS_SMALL_FS names (a few hundred MiB, as root for example
// `mount -t tmpfs -o size=256m none /mnt/small`), by its own writes and by somebody else's file, and makes room again.
func TestRealFullDisk(t *testing.T) {
	root := os.Getenv("ATLAS_SMALL_FS")
	if root == "" {
		t.Skip("ATLAS_SMALL_FS names no file system")
	}
	dir, err := os.MkdirTemp(root, "atlas-")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	o := Options{Dir: dir + "/data", MemTableBytes: 4 << 20, SpaceRetry: 10 * time.Millisecond}
	s := mustOpen(t, o)
	k := &maker{rng: rand.New(rand.NewPCG(1, 1))}
	var written []Timestamp
	write := func(n int) error {
		b := s.NewBatch()
		defer b.Close()
		at := Timestamp(len(written) + 1)
		b.PutVersion("g", row(int(at)), at, 0, Version{Value: k.blob(n)})
		err := b.Commit(true)
		if err == nil {
			written = append(written, at)
		}
		return err
	}
	fill := func(why string) {
		t.Helper()
		for i := 0; ; i++ {
			if err := write(32 << 10); err != nil {
				if !errors.Is(err, ErrDiskFull) || s.Err() != nil {
					t.Fatalf("%s: %v", why, err)
				}
				break
			}
		}
		for _, at := range []Timestamp{written[0], written[len(written)-1]} {
			if v, ok, err := s.Latest("g", row(int(at))); err != nil || !ok || v.Time != at {
				t.Fatalf("%s: %v %v %v", why, v, ok, err)
			}
		}
		u, err := vfs.Default.GetDiskUsage(dir)
		t.Logf("%s: full after %d values, %d MiB free: %v", why, len(written), u.AvailBytes>>20, err)
	}
	again := func(why string) {
		t.Helper()
		for range 1000 {
			if err := write(100); err == nil {
				t.Logf("%s: writes are taken again", why)
				return
			}
			time.Sleep(20 * time.Millisecond) // sleep: there is nothing else to wait on but the disk
		}
		t.Fatalf("%s: writes are not taken again", why)
	}
	// Somebody else takes all there is, below the watermark and past it.
	hog, err := os.Create(dir + "/hog")
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for range 20 {
		if err := write(1000); err != nil {
			t.Fatal(err)
		}
	}
	s.space.minFree = 0 // as if the watermark had not seen it coming
	for {
		if _, err := hog.Write(block); err != nil {
			break
		}
	}
	fill("taken by another")
	if err := errors.Join(hog.Close(), os.Remove(dir+"/hog")); err != nil {
		t.Fatal(err)
	}
	again("taken by another")
	s.space.minFree = o.MinFreeBytes
	mustClose(t, s)
	s = mustOpen(t, o)
	fill("its own data")
	mustClose(t, s)
	s = mustOpen(t, o) // also on a full disk
	if n, err := s.Count(t.Context(), ScanOptions{Group: "g", At: newest}); err != nil || n != int64(len(written)) {
		t.Fatal(n, len(written), err)
	}
	mustClose(t, s)
}
