// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends/socket"
)

// faultyFS is a disk that misbehaves while it is told to, and counts how often it did.
type faultyFS struct {
	vfs.FS
	mode  atomic.Int32
	count atomic.Int64
}

// What a faultyFS does.
const (
	diskWell     = iota
	diskLies     // syncs return at once and do nothing
	diskLow      // little space is left, and the file system says so
	diskFull     // none is left: writes fail, until a file is removed
	diskSyncFail // syncs fail
)

func (f *faultyFS) in(mode int32) bool {
	if f.mode.Load() != mode {
		return false
	}
	f.count.Add(1)
	return true
}

func (f *faultyFS) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{file, f}, nil
}

func (f *faultyFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.in(diskFull) {
		return nil, &fs.PathError{Op: "create", Path: name, Err: syscall.ENOSPC}
	}
	return f.wrap(f.FS.Create(name, c))
}

func (f *faultyFS) Remove(name string) error {
	err := f.FS.Remove(name)
	if err == nil {
		f.mode.CompareAndSwap(diskFull, diskLow)
	}
	return err
}

func (f *faultyFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	// Small, so that what a node sets aside of it is small.
	const size = 512 << 20
	free := uint64(400 << 20)
	if mode := f.mode.Load(); mode == diskLow || mode == diskFull {
		f.count.Add(1)
		free = 1 << 20
	}
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: size, UsedBytes: size - free}, nil
}

func (f *faultyFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	return f.wrap(f.FS.OpenReadWrite(name, c, o...))
}

func (f *faultyFS) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	return f.wrap(f.FS.ReuseForWrite(from, to, c))
}

func (f *faultyFS) OpenDir(name string) (vfs.File, error) { return f.wrap(f.FS.OpenDir(name)) }

// faultyFile is a file of it.
type faultyFile struct {
	vfs.File
	fs *faultyFS
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if f.fs.in(diskFull) {
		return 0, syscall.ENOSPC
	}
	return f.File.Write(p)
}

func (f *faultyFile) sync(really func() error) error {
	switch {
	case f.fs.in(diskLies):
		return nil
	case f.fs.in(diskSyncFail):
		return syscall.EIO
	}
	return really()
}

func (f *faultyFile) Sync() error     { return f.sync(f.File.Sync) }
func (f *faultyFile) SyncData() error { return f.sync(f.File.SyncData) }

func (f *faultyFile) SyncTo(n int64) (full bool, err error) {
	err = f.sync(func() error {
		full, err = f.File.SyncTo(n)
		return err
	})
	return full, err
}

// TestPowerLossSees gives the power-loss oracle a disk that lies about its syncs: it must see what is lost.
func TestPowerLossSees(t *testing.T) {
	own(t)
	rng := crashSeed(t)
	mem := vfs.NewCrashableMem()
	disk := &faultyFS{FS: mem}
	dir := socketDir(t)
	n, err := openNode(t.Context(), nodeOptions{dir: "/data", fs: disk}, filepath.Join(dir, "s0"))
	if err != nil {
		t.Fatal(err)
	}
	e := crashEnv(t, n.path)
	l := newCrashLoad(t, e, rng)
	disk.mode.Store(diskLies)
	var before, after int64
	err = l.run(t.Context(), func() {
		before = l.rec.now()
		mem = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 0})
		after = l.rec.now()
		_ = n.cut() // its disk is gone
	})
	if err != nil {
		t.Fatal(err)
	}
	if disk.count.Load() == 0 {
		t.Fatal("the disk never lied")
	}
	l.cut(before, after)
	n, err = openNode(t.Context(), nodeOptions{dir: "/data", fs: &faultyFS{FS: mem}}, filepath.Join(dir, "s1"))
	if err != nil {
		t.Logf("seen at the start: %v", err)
		return
	}
	e.address = n.path
	if err := l.verify(t.Context(), e); err == nil {
		t.Errorf("%d operations were acknowledged by a disk that lies, and the oracle saw no loss", l.acked.Load())
	} else {
		t.Logf("seen: %v", err)
	}
	if err := n.close(); err != nil {
		t.Error(err)
	}
}

// TestFullDisk fills the disk under a node, slowly and at once: writes are refused as unavailable and leave nothing, reads
// go on, and when there is space again writes succeed, without a restart. (G2, G27)
func TestFullDisk(t *testing.T) {
	own(t)
	for name, mode := range map[string]int32{"slowly": diskLow, "at once": diskFull} {
		t.Run(name, func(t *testing.T) { fillDisk(t, mode) })
	}
}

func fillDisk(t *testing.T, mode int32) {
	disk := &faultyFS{FS: vfs.NewMem()}
	n := startNode(t, nodeOptions{dir: "/data", fs: disk})
	e := crashEnv(t, n.path)
	table := e.freshTable()
	err := e.with(t.Context(), func(c *conn) error {
		if err := c.want("KEY PUT "+table+".before kept", "OK"); err != nil {
			return err
		}
		disk.mode.Store(mode)
		kept, refused := 1, 0 // the node looks from time to time, so that some writes may still succeed
		deadline := time.Now().Add(patience)
		for i := 0; refused < 200; i++ {
			r, err := c.do(fmt.Sprintf("KEY PUT %s.r%06d x", table, i))
			if err != nil {
				return fmt.Errorf("write %d: %w", i, err)
			}
			switch r.word() {
			case "":
				kept++
			case "unavailable":
				refused++
			default:
				return fmt.Errorf("write %d: %s", i, r.fail)
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("%d writes were taken by a full disk, %d refused", kept, refused)
			}
			if err := errors.Join(c.want("KEY GET "+table+".before", "VALUE:kept", "OK"),
				c.want("COUNT "+table, fmt.Sprintf("COUNT:%d", kept), "OK")); err != nil {
				return err
			}
		}
		if disk.count.Load() == 0 {
			return errors.New("the disk was never full")
		}
		disk.mode.Store(diskWell)
		deadline = time.Now().Add(patience)
		for {
			r, err := c.do("KEY PUT " + table + ".after x")
			if err != nil {
				return err
			}
			if r.fail == "" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("there is space again, and writes are still refused: %s", r.fail)
			}
			time.Sleep(10 * time.Millisecond) // sleep: the pause between two polls
		}
		return c.want("COUNT "+table, fmt.Sprintf("COUNT:%d", kept+1), "OK")
	})
	if err != nil {
		t.Error(err)
	}
	addRounds("full disk", 1)
}

// TestBrokenDisk fails a sync: the write is not answered as done, the node stops for good, and what was answered before is
// there when it starts on a disk that is well. (G1, G3, G28, G30)
func TestBrokenDisk(t *testing.T) {
	own(t)
	mem := vfs.NewMem()
	disk := &faultyFS{FS: mem}
	dir := socketDir(t)
	n, err := openNode(t.Context(), nodeOptions{dir: "/data", fs: disk}, filepath.Join(dir, "s0"))
	if err != nil {
		t.Fatal(err)
	}
	e := crashEnv(t, n.path)
	table := e.freshTable()
	err = e.with(t.Context(), func(c *conn) error {
		if err := c.want("KEY PUT "+table+".a kept", "OK"); err != nil {
			return err
		}
		disk.mode.Store(diskSyncFail)
		// Whatever it says, or if it says nothing any more: not OK.
		if r, err := c.do("KEY PUT " + table + ".b doubtful"); err == nil && r.fail == "" {
			return errors.New("a write was answered although its sync failed")
		} else if err == nil && r.word() != "unknown" && r.word() != "unavailable" && r.word() != "corrupt" {
			return fmt.Errorf("a write whose sync failed: %s", r.fail)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	if disk.count.Load() == 0 {
		t.Error("no sync failed")
	}
	select {
	case <-n.engine.Done():
	case <-time.After(patience):
		t.Error("the node goes on with a disk whose sync failed")
	}
	if err := n.engine.Ready(); err == nil {
		t.Error("a node whose disk failed says that it is ready")
	}
	disk.mode.Store(diskWell)
	_ = n.cut() // it reports the failure again
	n = startNode(t, nodeOptions{dir: "/data", fs: &faultyFS{FS: mem}})
	e.address = n.path
	err = e.with(t.Context(), func(c *conn) error {
		if err := c.want("KEY GET "+table+".a", "VALUE:kept", "OK"); err != nil {
			return err
		}
		first, err := c.must("KEY GET " + table + ".b")
		if err != nil {
			return err
		}
		return c.want("KEY GET "+table+".b", first[0], "OK")
	})
	if err != nil {
		t.Error(err)
	}
	addRounds("failed sync", 1)
}

// TestDirectoryHasOneOwner starts a second node on a directory in use, and one of another cluster: both are refused, and
// not a byte changes. (G29)
func TestDirectoryHasOneOwner(t *testing.T) {
	own(t)
	dir := filepath.Join(t.TempDir(), "data")
	n := startNode(t, nodeOptions{dir: dir})
	e := crashEnv(t, n.path)
	table := e.freshTable()
	if _, err := e.mark(t.Context(), table); err != nil {
		t.Fatal(err)
	}
	before := listing(t, dir)
	if other, err := engine.Open(t.Context(), engine.Options{Dir: dir}); err == nil {
		t.Errorf("a second node opens the directory: %v", other.Close())
	} else {
		t.Logf("second node: %v", err)
	}
	if other, err := engine.Open(t.Context(), engine.Options{Dir: dir, ClusterID: strings.Repeat("0", 32)}); err == nil {
		t.Errorf("a node of another cluster opens the directory: %v", other.Close())
	} else {
		t.Logf("another cluster: %v", err)
	}
	if after := listing(t, dir); after != before {
		t.Errorf("the directory changed from\n%s\nto\n%s", before, after)
	}
	if err := e.with(t.Context(), func(c *conn) error { return c.want("COUNT "+table, "COUNT:1", "OK") }); err != nil {
		t.Error(err)
	}
}

// listing is the files of a directory, with their sizes.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			fmt.Fprintf(&b, "%s %d %v\n", path, info.Size(), info.Mode())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestSocketFile puts things where the socket should go: what is not the node's own stale socket is refused and left
// alone. (G26)
func TestSocketFile(t *testing.T) {
	own(t)
	e, err := engine.Open(t.Context(), engine.Options{Dir: "/data", FS: &faultyFS{FS: vfs.NewMem()}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	listen := func(path string) (func(), error) {
		s, err := socket.New(e, socket.Options{Path: path})
		if err != nil {
			return nil, err
		}
		if err := s.Listen(); err != nil {
			return nil, err
		}
		done := make(chan error, 1)
		go func() { done <- s.Serve(t.Context()) }() // owner: the function returned waits for it
		return func() {
			if err := errors.Join(s.Shutdown(context.Background()), <-done); err != nil {
				t.Error(err)
			}
		}, nil
	}
	for _, row := range []struct {
		name string
		make func(path string) error
		path string // instead of one in the test's directory
		fine bool
	}{
		{name: "nothing", make: func(string) error { return nil }, fine: true},
		{name: "a file", make: func(p string) error { return os.WriteFile(p, []byte("mine"), 0o644) }},
		{name: "an empty file", make: func(p string) error { return os.WriteFile(p, nil, 0o644) }},
		{name: "a directory", make: func(p string) error { return os.Mkdir(p, 0o755) }},
		{name: "a symlink to a file", make: func(p string) error {
			return errors.Join(os.WriteFile(p+"target", []byte("mine"), 0o644), os.Symlink(p+"target", p))
		}},
		{name: "a symlink to nothing", make: func(p string) error { return os.Symlink(p+"nowhere", p) }},
		{name: "a stale socket", make: stale, fine: true},
		{name: "a pipe", make: func(p string) error { return syscall.Mkfifo(p, 0o600) }},
		{name: "108 bytes", make: func(string) error { return nil }, path: "/tmp/" + strings.Repeat("x", 103)},
		{name: "a NUL", make: func(string) error { return nil }, path: "/tmp/a\x00b"},
	} {
		t.Run(row.name, func(t *testing.T) {
			dir := socketDir(t)
			path := filepath.Join(dir, "s")
			if err := row.make(path); err != nil {
				t.Fatal(err)
			}
			before := listing(t, dir)
			if row.path != "" {
				path = row.path
			}
			stop, err := listen(path)
			total.Lock()
			total.BadInputs++
			total.Unlock()
			if !row.fine {
				if err == nil {
					stop()
					t.Fatal("the node listens there")
				}
				if after := listing(t, dir); after != before {
					t.Errorf("what was there changed from %s to %s", before, after)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			v := &env{network: "unix", address: path}
			if err := v.with(t.Context(), func(c *conn) error { return c.want("COUNT x", "COUNT:0", "OK") }); err != nil {
				t.Error(err)
			}
			info, err := os.Lstat(path)
			if err != nil || info.Mode()&fs.ModeSocket == 0 || info.Mode().Perm() != 0o600 {
				t.Errorf("the socket is %v, %v: want mode 0600", info, err)
			}
			stop()
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("after the end the socket is still there: %v", err)
			}
		})
	}
	t.Run("a live socket", func(t *testing.T) {
		path := filepath.Join(socketDir(t), "s")
		stop, err := listen(path)
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		if again, err := listen(path); err == nil {
			again()
			t.Error("two servers listen on one path")
		}
		c := &env{network: "unix", address: path}
		if err := c.with(t.Context(), func(c *conn) error { return c.want("COUNT x", "COUNT:0", "OK") }); err != nil {
			t.Error(err)
		}
	})
	t.Run("missing parents", func(t *testing.T) {
		dir := filepath.Join(socketDir(t), "a", "b")
		stop, err := listen(filepath.Join(dir, "s"))
		if err != nil {
			t.Fatal(err)
		}
		defer stop()
		v := &env{network: "unix", address: filepath.Join(dir, "s")}
		if err := v.with(t.Context(), func(c *conn) error { return c.want("COUNT x", "COUNT:0", "OK") }); err != nil {
			t.Error(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the directory made is %v, %v: want mode 0700", info, err)
		}
	})
}

// stale leaves the socket of a server that ended without removing it.
func stale(path string) error {
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	l.SetUnlinkOnClose(false)
	return l.Close()
}

// TestClockStepsBack restarts a node with a clock that went back an hour, and one that jumps between writes: versions
// go up all the same. (G5)
func TestClockStepsBack(t *testing.T) {
	own(t)
	mem := &faultyFS{FS: vfs.NewMem()}
	dir := socketDir(t)
	rng := rand.New(rand.NewPCG(1, 1))
	var last uint64
	for round := range 4 {
		base := time.Now().Add(-time.Duration(round) * time.Hour)
		var jumps atomic.Int64
		now := func() time.Time { return base.Add(time.Duration(jumps.Load()) * time.Minute) }
		e, err := engine.Open(t.Context(), engine.Options{Dir: "/data", FS: mem, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		s, err := socket.New(e, socket.Options{Path: filepath.Join(dir, fmt.Sprintf("s%d", round))})
		if err != nil {
			t.Fatal(err)
		}
		n := &node{engine: e, server: s, served: make(chan error, 1)}
		if err := s.Listen(); err != nil {
			t.Fatal(err)
		}
		go func() { n.served <- s.Serve(t.Context()) }() // owner: close waits for it
		v := &env{network: "unix", address: filepath.Join(dir, fmt.Sprintf("s%d", round))}
		for range 20 {
			jumps.Store(rng.Int64N(120) - 60)
			at, err := v.mark(t.Context(), "clock")
			if err != nil {
				t.Fatal(err)
			}
			if at <= last {
				t.Fatalf("round %d: version %d after %d", round, at, last)
			}
			last = at
		}
		if err := n.close(); err != nil {
			t.Error(err)
		}
	}
}
