// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/atlas-edge/atlas/internal/invariants"
)

// run is a fixed list of commits with reads, flushes and a restart between them, against which faults are thrown. It
// knows at each moment which commits may, and which must, have survived.
type run struct {
	o       Options
	commits []*commit
	applied []*commit // those that did not fail as not applied

	started atomic.Uint64 // the newest commit handed to the store
	synced  atomic.Uint64 // the newest commit that was acknowledged as durable
	reads   int
	full    int // commits refused for want of space
}

func newRun(o Options, seed uint64, commits, large int) *run {
	r := &run{o: o}
	k := &maker{rng: rand.New(rand.NewPCG(seed, 7)), large: large, now: 100, small: map[string]int{}}
	for range commits {
		r.commits = append(r.commits, k.commit())
	}
	return r
}

// do carries out the run; it ends early on an error other than a full disk, which it waits out with patience.
func (r *run) do(patience int) (err error) {
	s, err := Open(r.o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i, c := range r.commits {
		if err := r.commit(s, c, patience); err != nil {
			return err
		}
		switch i % 10 {
		case 3:
			r.reads++
			if _, err := dumpStore(s); err != nil {
				return err
			}
		case 6:
			if err := s.db.Flush(); err != nil && s.Err() == nil {
				return err
			}
		case 9:
			if err := s.Close(); err != nil {
				return err
			}
			if s, err = Open(r.o); err != nil {
				// For the deferred Close: a store that is closed.
				s = &Store{}
				s.closing.Do(func() {})
				return err
			}
		}
	}
	return nil
}

func (r *run) commit(s *Store, c *commit, patience int) error {
	b := s.NewBatch()
	defer b.Close()
	c.fill(b)
	for {
		r.started.Store(c.n)
		err := b.Commit(c.sync)
		if err == nil {
			r.applied = append(r.applied, c)
			if c.sync {
				r.synced.Store(c.n)
			}
			return nil
		}
		if !errors.Is(err, ErrDiskFull) || errors.Is(err, ErrFatal) {
			r.applied = append(r.applied, c) // perhaps
			return err
		}
		r.full++
		// Nothing of it may be there, and reads go on.
		n, _, err := s.State(counterGroup, "n")
		if err != nil {
			return fmt.Errorf("read on a full disk: %w", err)
		}
		if uint64OrZero(n) == c.n {
			return fmt.Errorf("commit %d was refused and is there", c.n)
		}
		if patience--; patience < 0 {
			return errors.New("the disk stays full")
		}
		time.Sleep(r.o.SpaceRetry) // sleep: it polls the store, which has no other way to say that space is back
	}
}

func uint64OrZero(b []byte) (n uint64) {
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return n
}

// check opens what a fault has left and compares it with the state after one of the commits that may be the last.
func (r *run) check(fs vfs.FS, synced, started uint64) error {
	o := r.o
	o.FS = fs
	s, err := Open(o)
	if err != nil {
		return fmt.Errorf("open after the fault: %w", err)
	}
	got, err := dumpStore(s)
	if err := errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("read after the fault: %w", err)
	}
	var n uint64
	if _, err := fmt.Sscanf(got, "commits %d", &n); err != nil {
		return err
	}
	if n < synced || n > started {
		return fmt.Errorf("back at commit %d, but %d was acknowledged and %d started", n, synced, started)
	}
	m := newModel()
	for _, c := range r.commits {
		if c.n <= n {
			m.apply(c)
		}
	}
	if d := diff(got, m.dump()); d != "" {
		return fmt.Errorf("at commit %d: %s", n, d)
	}
	return nil
}

// TestCrashAtEveryWrite takes, before each write of a run, what a power failure would leave: of the unsynced data
// nothing, all, or a random part. Each of these must open and hold a prefix of the commits with all acknowledged ones.
func TestCrashAtEveryWrite(t *testing.T) {
	seed := testSeed(t)
	fs := vfs.NewCrashableMem()
	r := newRun(memOptions(fs), seed, 20, 12)
	type shot struct {
		fs              *vfs.MemFS
		synced, started uint64
		op              errorfs.Op
		percent         int
	}
	var mu sync.Mutex
	var shots []shot
	rng := rand.New(rand.NewPCG(seed, 3))
	writes, stride := 0, strideOf(3)
	r.o.FS = withFaults(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() != errorfs.OpIsWrite || op.Kind == errorfs.OpFileClose {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		writes++
		for i, percent := range []int{0, 100, rng.IntN(101)} {
			if (writes+i)%stride != 0 {
				continue // in the short run each write gets one of the three, in turn
			}
			// What is synced is read before the clone and what is started after it, as the run goes on meanwhile.
			x := shot{synced: r.synced.Load(), op: op, percent: percent}
			x.fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng})
			x.started = r.started.Load()
			shots = append(shots, x)
		}
		return nil
	}))
	if err := r.do(0); err != nil {
		t.Fatal(err)
	}
	for i, x := range shots {
		if err := r.check(x.fs, x.synced, x.started); err != nil {
			t.Fatalf("crash %d before %v %s with %d %% of the unsynced: %v", i, opName(x.op.Kind), x.op.Path, x.percent, err)
		}
	}
	t.Logf("%d writes, %d crashes, all came back", writes, len(shots))
	if len(shots) < 20 {
		t.Fatal("too few crashes to mean anything")
	}
}

// TestFailEveryOperation fails file operation i of a run, for each i until a run meets no failure. The error must come
// out, or stop the store, or be on record as one that costs nothing; and what was acknowledged must be there after a
// power failure.
func TestFailEveryOperation(t *testing.T) {
	seed := testSeed(t)
	outcomes := map[string]int{}
	quiet := map[string]int{}
	injected := 0
	stride := strideOf(5)
	for i := 0; ; i += stride {
		fs := vfs.NewCrashableMem()
		r := newRun(memOptions(fs), seed, 20, 12)
		rec := &recorder{}
		r.o.Logger = rec.logger()
		var n, hits atomic.Int64
		var failed errorfs.Op
		r.o.FS = withFaults(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if n.Add(1)-1 != int64(i) {
				return nil
			}
			failed = op
			hits.Add(1)
			return errorfs.ErrInjected
		}))
		err := within(t, 30*time.Second, func() error { return r.do(0) })
		if hits.Load() == 0 {
			if err != nil {
				t.Fatalf("run without a failure: %v", err)
			}
			t.Logf("%d operations, %d failed one by one: %v; without a word: %v", n.Load(), injected, outcomes, quiet)
			break
		}
		injected++
		switch {
		case errors.Is(err, ErrFatal):
			outcomes["stopped"]++
		case err != nil:
			outcomes["returned"]++
		case rec.warned():
			outcomes["logged"]++
		default:
			outcomes["absorbed"]++
			quiet[opName(failed.Kind)+" "+fileClass(failed.Path)]++
			if !harmless(failed) {
				t.Errorf("failure %d of %s %s was hidden", i, opName(failed.Kind), failed.Path)
			}
		}
		crashed := fs.CrashClone(vfs.CrashCloneCfg{})
		if err := r.check(crashed, r.synced.Load(), r.started.Load()); err != nil {
			t.Fatalf("failure %d of %s %s, which gave %v: %v", i, opName(failed.Kind), failed.Path, err, err)
		}
	}
	if injected < 20 || outcomes["stopped"] == 0 || outcomes["returned"] == 0 {
		t.Fatalf("too few failures to mean anything: %v", outcomes)
	}
}

// harmless are the operations whose failure costs nothing and is not told: questions about space, hints, and the release
// of what was only read.
func harmless(op errorfs.Op) bool {
	switch op.Kind {
	case errorfs.OpGetDiskUsage, errorfs.OpFilePreallocate:
		return true
	case errorfs.OpFileClose:
		return true // a file that was written is synced before; one that was read has nothing to lose
	}
	return false
}

// within fails the test when f hangs.
func within(t *testing.T, d time.Duration, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }() // owner: this function waits for it, or ends the test
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		panic("the store hangs") // with all stacks
	}
}

// TestFlipEveryByte flips a bit of the i-th byte read while a store opens and is read whole. It must be found, or the
// byte must not matter.
func TestFlipEveryByte(t *testing.T) {
	seed := testSeed(t)
	fs := vfs.NewCrashableMem()
	r := newRun(memOptions(fs), seed, 25, 0) // the last five stand in the log
	r.commits[0].muts = slices.Insert(r.commits[0].muts, 0, mutation{
		op: "put", group: "shop", name: "/tt.a", at: 1, v: Version{Value: make([]byte, InlineLenMax+99)},
	})
	for _, c := range r.commits {
		c.sync = true
	}
	if err := r.do(0); err != nil {
		t.Fatal(err)
	}
	outcomes := map[string]int{}
	stride := 5 * strideOf(8)
	flipped, spared := 0, 0
	for i := int(seed) % stride; ; i += stride {
		image := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})
		ff := &flipFS{FS: image, at: int64(i), big: flipped%50 == 0}
		outcome, err := r.flip(ff)
		name := ff.hit.Load()
		if name == nil && ff.spared.Load() {
			spared++
			continue
		}
		if name == nil {
			break
		}
		flipped++
		if err != nil {
			t.Fatalf("bit flipped in byte %d read, of %s: %v", i, *name, err)
		}
		outcomes[outcome+" in "+fileClass(*name)]++
	}
	t.Logf("%d bytes flipped, %d in long blocks spared: %v", flipped, spared, outcomes)
	if flipped < 50 {
		t.Fatal("too few flips to mean anything")
	}
}

// flip opens and reads a store through a file system that flips a bit.
func (r *run) flip(ff *flipFS) (outcome string, err error) {
	o := r.o
	o.FS = ff
	s, err := Open(o)
	if err != nil {
		return "refused", nil
	}
	got, err := dumpStore(s)
	cerr := s.Close()
	if err != nil || cerr != nil {
		return "found", nil
	}
	m := newModel()
	var n uint64
	if _, err := fmt.Sscanf(got, "commits %d", &n); err != nil {
		return "", err
	}
	for _, c := range r.commits {
		if c.n <= n {
			m.apply(c)
		}
	}
	if d := diff(got, m.dump()); d != "" {
		return "", fmt.Errorf("wrong data: %s", d)
	}
	last := r.commits[len(r.commits)-1].n
	if n != last {
		return "", fmt.Errorf("silently back at commit %d of %d", n, last)
	}
	return "unused", nil
}

// flipFS flips the lowest bit of one byte in the order of reading. It spares long blocks of tables unless told not to:
// Pebble takes seconds to look for the bit in one.
type flipFS struct {
	vfs.FS
	at     int64
	big    bool
	read   atomic.Int64
	hit    atomic.Pointer[string]
	spared atomic.Bool
}

func (f *flipFS) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	file, err := f.FS.Open(name, opts...)
	if err != nil {
		return nil, err
	}
	return &flipFile{File: file, fs: f, name: name}, nil
}

type flipFile struct {
	vfs.File
	fs   *flipFS
	name string
}

func (f *flipFile) spoil(p []byte) {
	n := int64(len(p))
	end := f.fs.read.Add(n)
	if i := f.fs.at - (end - n); i >= 0 && i < n {
		if n > 16<<10 && !f.fs.big && strings.HasSuffix(f.name, ".sst") {
			f.fs.spared.Store(true)
			return
		}
		p[i] ^= 1
		f.fs.hit.Store(&f.name)
	}
}

func (f *flipFile) Read(p []byte) (int, error) {
	n, err := f.File.Read(p)
	f.spoil(p[:max(n, 0)])
	return n, err
}

func (f *flipFile) ReadAt(p []byte, off int64) (int, error) {
	n, err := f.File.ReadAt(p, off)
	f.spoil(p[:max(n, 0)])
	return n, err
}

// TestDiskFullAnywhere lets writes meet a full disk from operation i on, for j operations. Commits are refused with
// nothing applied or go through, reads go on, and when space returns all is as if nothing had been.
func TestDiskFullAnywhere(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 5))
	var rounds, refused, hits int
	results := map[string]int{}
	for i := 0; ; i += 1 + rng.IntN(strideOf(6)) {
		fs := vfs.NewCrashableMem()
		r := newRun(memOptions(fs), seed, 20, 12)
		r.o.BallastBytes = 8 << 10
		j := int64([]int{1, 4, 30}[rounds%3])
		var n, hit atomic.Int64
		r.o.FS = withFaults(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
			if !takesRoom(op.Kind) {
				return nil
			}
			if k := n.Add(1) - 1; k >= int64(i) && k < int64(i)+j {
				hit.Add(1)
				return syscall.ENOSPC
			}
			return nil
		}))
		var err error
		for tries := 0; ; tries++ {
			// A node that cannot start on a full disk says so, and is started again.
			if err = within(t, 30*time.Second, func() error { return r.do(10_000) }); !errors.Is(err, ErrDiskFull) || tries > 100 {
				break
			}
			results["start refused"]++
			r.commits = slices.DeleteFunc(r.commits, func(c *commit) bool { return slices.Contains(r.applied, c) })
		}
		if err != nil {
			t.Fatalf("full from operation %d for %d: %v", i, j, err)
		}
		if hit.Load() == 0 {
			break
		}
		rounds++
		hits += int(hit.Load())
		refused += r.full
		r.commits = r.applied
		last := r.applied[len(r.applied)-1].n
		if err := r.check(fs, last, last); err != nil {
			t.Fatalf("full from operation %d for %d: %v", i, j, err)
		}
	}
	t.Logf("%d rounds, %d operations met a full disk, %d commits refused, %v; all came back whole", rounds, hits, refused, results)
	if rounds < 8 || refused == 0 {
		t.Fatal("too few rounds to mean anything")
	}
}

// strideOf is how far apart the faults of a loop lie: the long run leaves none out.
func strideOf(n int) int {
	switch {
	case long():
		return 1
	case invariants.Enabled:
		return 4 * n
	}
	return n
}

func takesRoom(k errorfs.OpKind) bool {
	switch k {
	case errorfs.OpCreate, errorfs.OpLink, errorfs.OpRename, errorfs.OpReuseForWrite, errorfs.OpMkdirAll,
		errorfs.OpFileWrite, errorfs.OpFileWriteAt, errorfs.OpFilePreallocate:
		return true
	}
	return false
}

func fileClass(path string) string {
	name := path[strings.LastIndexByte(path, '/')+1:]
	for _, suffix := range []string{".log", ".sst", ".dbtmp"} {
		if strings.HasSuffix(name, suffix) {
			return suffix
		}
	}
	for _, prefix := range []string{"MANIFEST", "OPTIONS", "marker", "ATLAS", "LOCK", "ballast"} {
		if strings.HasPrefix(name, prefix) {
			return prefix
		}
	}
	return "dir"
}

// opNames are errorfs's kinds in its order.
var opNames = map[errorfs.OpKind]string{
	errorfs.OpCreate: "create", errorfs.OpLink: "link", errorfs.OpOpen: "open", errorfs.OpOpenDir: "opendir",
	errorfs.OpRemove: "remove", errorfs.OpRemoveAll: "removeall", errorfs.OpRename: "rename",
	errorfs.OpReuseForWrite: "reuse", errorfs.OpMkdirAll: "mkdir", errorfs.OpLock: "lock", errorfs.OpList: "list",
	errorfs.OpFilePreallocate: "preallocate", errorfs.OpStat: "stat", errorfs.OpGetDiskUsage: "usage",
	errorfs.OpFileClose: "close", errorfs.OpFileRead: "read", errorfs.OpFileReadAt: "readat",
	errorfs.OpFileWrite: "write", errorfs.OpFileWriteAt: "writeat", errorfs.OpFileStat: "fstat",
	errorfs.OpFileSync: "sync", errorfs.OpFileSyncData: "datasync", errorfs.OpFileSyncTo: "syncto",
}

func opName(k errorfs.OpKind) string { return opNames[k] }
