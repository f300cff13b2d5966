// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// faultFS holds up or fails what is done to log files.
type faultFS struct {
	vfs.FS
	held    atomic.Bool
	release chan struct{}
	waiting atomic.Int32
	failing atomic.Bool // syncs fail
	full    atomic.Bool // writes find no space
	refused atomic.Int32
}

func newFaultFS() *faultFS { return &faultFS{FS: vfs.NewMem(), release: make(chan struct{})} }

func (f *faultFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultFile{File: file, fs: f, log: filepath.Ext(name) == ".log"}, nil
}

func (f *faultFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.full.Load() {
		f.refused.Add(1)
		return nil, syscall.ENOSPC
	}
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f *faultFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return f.wrap(name, file, err)
}

type faultFile struct {
	vfs.File
	fs  *faultFS
	log bool
}

func (f *faultFile) Write(p []byte) (int, error) {
	if f.fs.full.Load() {
		f.fs.refused.Add(1)
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *faultFile) sync(do func() error) error {
	if f.log && f.fs.held.Load() {
		f.fs.waiting.Add(1)
		<-f.fs.release
	}
	if f.log && f.fs.failing.Load() {
		f.fs.refused.Add(1)
		return errors.New("injected: sync failed")
	}
	return do()
}

func (f *faultFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *faultFile) SyncData() error { return f.sync(f.File.SyncData) }
func (f *faultFile) SyncTo(n int64) (full bool, err error) {
	return true, f.sync(f.File.Sync)
}

// eventually polls a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond) // sleep: between two looks at a condition with a deadline
	}
}

// TestNobodySeesWhatIsNotDurable holds the sync of a write up and looks from every side meanwhile.
func TestNobodySeesWhatIsNotDurable(t *testing.T) {
	fs := newFaultFS()
	e := open(t, fs)
	s := trusted(e)
	put(t, s, "t.a", "old")
	zero := uint64(0)
	w := watch(t, s, "t", &zero)
	next(t, w)
	fs.held.Store(true)
	var version uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		var err error
		if version, err = trusted(e).Put(context.Background(), request("t.a", "new")); err != nil {
			t.Error(err)
		}
	})
	wg.Go(func() { // a group that is not in memory
		if _, err := trusted(e).Put(context.Background(), request("cold.a", "new")); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the sync", func() bool { return fs.waiting.Load() > 0 })
	for range 100 {
		if got := get(t, s, "t.a"); got != "old" {
			t.Errorf("a write that is not durable is read: %q", got)
		}
		if got := get(t, s, "cold.a"); got != absent {
			t.Errorf("a write that is not durable is read: %q", got)
		}
		for _, row := range rows(t, s, engine.ScanRequest{Prefix: []byte("t")}) {
			if row != "t.a=old" {
				t.Errorf("a write that is not durable is scanned: %q", row)
			}
		}
		txn, err := s.BeginTxn(t.Context())
		must(t, err)
		item, err := txn.Get([]byte("t.a"))
		must(t, err)
		if b, _ := item.Bytes(); string(b) != "old" {
			t.Errorf("a write that is not durable is read in a transaction: %q", b)
		}
		must(t, errors.Join(item.Close(), txn.Rollback()))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	if ev, err := w.Next(ctx); err == nil {
		t.Errorf("a write that is not durable is watched: %s", show(ev))
	}
	cancel()
	fs.held.Store(false)
	close(fs.release)
	wg.Wait()
	want(t, next(t, w), "PUT %d t.a", version)
	if got := get(t, s, "t.a") + get(t, s, "cold.a"); got != "newnew" {
		t.Fatalf("after the sync it reads %q", got)
	}
}

// TestFailedSyncStopsTheNode: the write is unknown, nothing is read or written after it, and Done tells.
func TestFailedSyncStopsTheNode(t *testing.T) {
	fs := newFaultFS()
	e, err := engine.Open(t.Context(), engine.Options{Dir: "data", FS: fs, MinFreeBytes: -1})
	must(t, err)
	defer func() {
		if err := e.Close(); err == nil {
			t.Error("closing a node whose disk failed says nothing of it")
		}
	}()
	s := trusted(e)
	put(t, s, "t.a", "old")
	fs.failing.Store(true)
	_, err = s.Put(t.Context(), request("t.a", "new"))
	wantErr(t, err, engine.ErrUnknown)
	if fs.refused.Load() == 0 {
		t.Fatal("no sync failed: nothing was tested")
	}
	<-e.Done()
	if e.Ready() == nil {
		t.Fatal("the node calls itself ready")
	}
	fs.failing.Store(false)
	_, err = s.Put(t.Context(), request("t.a", "later"))
	wantErr(t, err, engine.ErrUnavailable)
	if got, err := read(t.Context(), s, "t.a"); err == nil {
		t.Fatalf("a stopped node reads %q", got)
	}
}

// TestFullDisk: writes are refused with nothing applied, reads go on, and the node recovers when space returns.
func TestFullDisk(t *testing.T) {
	fs := vfs.NewMem()
	space := &spaceFS{FS: fs}
	space.free.Store(1 << 30)
	e := open(t, space, func(o *engine.Options) { o.MinFreeBytes = 64 << 20 })
	s := trusted(e)
	put(t, s, "t.a", "old")
	space.free.Store(1 << 20)
	refused := 0
	eventually(t, "a refusal", func() bool {
		_, err := s.Put(t.Context(), request("t.b", "new"))
		if err != nil {
			wantErr(t, err, engine.ErrUnavailable)
			refused++
		}
		return refused > 0
	})
	for i := range 20 {
		_, err := s.Put(t.Context(), request(fmt.Sprintf("t.c%d", i), "refused"))
		wantErr(t, err, engine.ErrUnavailable)
	}
	if got := get(t, s, "t.a"); got != "old" {
		t.Fatalf("while the disk is full it reads %q", got)
	}
	for i := range 20 {
		if got := get(t, s, fmt.Sprintf("t.c%d", i)); got != absent {
			t.Fatalf("a refused write is read: %q", got)
		}
	}
	if err := e.Ready(); err != nil {
		t.Fatalf("a full disk stopped the node: %v", err)
	}
	space.free.Store(1 << 30)
	eventually(t, "recovery", func() bool {
		_, err := s.Put(t.Context(), request("t.a", "new"))
		return err == nil
	})
	if got := get(t, s, "t.a"); got != "new" {
		t.Fatalf("after space returned it reads %q", got)
	}
}

// spaceFS says how much space is free.
type spaceFS struct {
	vfs.FS
	free atomic.Uint64
}

func (f *spaceFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := f.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 10 << 30, UsedBytes: 10<<30 - free}, nil
}

// TestPowerLoss crashes the file system under load, again and again: what was acknowledged before the crash is there, at that version or
// a later one (G1). The loop is short here; the conformance suite has the long one.
func TestPowerLoss(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	fs := vfs.NewCrashableMem()
	acked := map[string]uint64{}
	checked := 0
	for round := range 8 {
		e := open(t, fs)
		s := trusted(e)
		for k, v := range acked {
			item, err := s.Get(t.Context(), []byte(k))
			if err != nil {
				t.Fatalf("round %d: acknowledged %s@%d is lost: %v", round, k, v, err)
			}
			if item.Version < v {
				t.Fatalf("round %d: %s has version %d, acknowledged %d", round, k, item.Version, v)
			}
			must(t, item.Close())
			checked++
		}
		var mu sync.Mutex
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				s := trusted(e)
				for i := 0; ctx.Err() == nil; i++ {
					k := fmt.Sprintf("t%d.%d-%d", w%2, w, i%50)
					v, err := s.Put(t.Context(), request(k, fmt.Sprint(round)))
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[k] = v
					mu.Unlock()
				}
			})
		}
		want := 100 * (round + 1)
		eventually(t, "load", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return len(acked) >= min(want, 150)
		})
		mu.Lock()
		before := maps.Clone(acked)
		mu.Unlock()
		crashed := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: (round % 2) * 100, RNG: rng})
		stop()
		wg.Wait()
		closeEngine(t, e)
		fs, acked = crashed, before
	}
	t.Logf("%d acknowledged writes verified after 7 power losses", checked)
}
