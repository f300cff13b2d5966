// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
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

func TestGetAtReportsTombstones(t *testing.T) {
	s := openMem(t)
	put(t, s, "g", ".a", 10, Version{Value: []byte("one"), WormUntil: 99})
	put(t, s, "g", ".a", 20, Version{Deleted: true})
	put(t, s, "g", ".a", 30, Version{Value: nil, Expires: 40})
	for _, c := range []struct {
		at    Timestamp
		time  Timestamp
		found bool
		value string
	}{{9, 0, false, ""}, {10, 10, true, "one"}, {19, 10, true, "one"}, {20, 20, false, ""}, {30, 30, true, ""}, {newest, 30, true, ""}} {
		v, found, err := s.GetAt("g", []byte(".a"), c.at)
		if err != nil || found != c.found || v.Version().Time != c.time || string(v.Version().Value) != c.value {
			t.Errorf("at %d: %+v %v %v", c.at, v.Version(), found, err)
		}
		if err := errors.Join(v.Close(), v.Close()); err != nil {
			t.Error(err)
		}
	}
	if v, ok, err := s.Latest("g", []byte(".a")); err != nil || !ok || v.Time != 30 || v.Expires != 40 || v.Value != nil {
		t.Error(v, ok, err)
	}
	if _, ok, err := s.Latest("g", []byte(".")); err != nil || ok {
		t.Error(ok, err)
	}
	var none *Value
	if b, err := none.Bytes(); b != nil || err != nil || none.Close() != nil {
		t.Error(b, err)
	}
}

func TestBatchRefusesWhatExceedsLimits(t *testing.T) {
	s := openMem(t)
	for name, fill := range map[string]func(b *Batch){
		"no group":      func(b *Batch) { b.SetRecord("", nil) },
		"long group":    func(b *Batch) { b.SetRecord(strings.Repeat("g", GroupLenMax+1), nil) },
		"NUL in group":  func(b *Batch) { b.SetState("a\x00b", "n", nil) },
		"long rest":     func(b *Batch) { b.PutVersion("g", make([]byte, RestLenMax+1), 1, 0, Version{}) },
		"version 0":     func(b *Batch) { b.PutVersion("g", nil, 0, 0, Version{}) },
		"long value":    func(b *Batch) { b.PutVersion("g", nil, 1, 0, Version{Value: make([]byte, ValueLenMax+1)}) },
		"long name":     func(b *Batch) { b.SetState("g", strings.Repeat("n", StateNameLenMax+1), nil) },
		"full tomb":     func(b *Batch) { b.PutVersion("g", nil, 1, 0, Version{Deleted: true, Value: []byte("x")}) },
		"expired value": func(b *Batch) { b.PutVersion("g", nil, 1, 0, Version{Expired: true}) },
	} {
		b := s.NewBatch()
		b.SetState("g", "before", []byte("x"))
		fill(b)
		b.SetState("g", "after", []byte("x"))
		if err := b.Commit(true); !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v", name, err)
		}
		b.Close()
		for _, n := range []string{"before", "after"} {
			if _, ok, err := s.State("g", n); ok || err != nil {
				t.Errorf("%s: %s was applied, %v", name, n, err)
			}
		}
	}
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion(strings.Repeat("g", GroupLenMax), make([]byte, RestLenMax), 1, 0, Version{Value: make([]byte, InlineLenMax)})
	if err := b.Commit(true); err != nil {
		t.Error(err)
	}
	if b.Empty() || b.Len() < InlineLenMax {
		t.Error(b.Len())
	}
	if b.Reset(); !b.Empty() {
		t.Error("not empty")
	}
}

func TestExpiredListsLiveAndDropsStale(t *testing.T) {
	s := openMem(t)
	put(t, s, "g", ".live", 10, Version{Expires: 100})
	put(t, s, "g", ".later", 11, Version{Expires: 200})
	put(t, s, "g", ".replaced", 12, Version{Expires: 90})
	put(t, s, "g", ".replaced", 13, Version{Value: []byte("x")})
	put(t, s, "h", ".\xff\x00", 14, Version{Expires: 95})
	check := func(now Timestamp, limit int, want ...string) {
		t.Helper()
		list, more, err := s.Expired(now, limit)
		var got []string
		for _, e := range list {
			got = append(got, fmt.Sprintf("%s%q@%d:%d", e.Group, e.Rest, e.Time, e.Expires))
		}
		if err != nil || !slices.Equal(got, want) || more != (limit == 1) {
			t.Fatalf("at %d: %q, more: %v, %v, want %q", now, got, more, err, want)
		}
	}
	check(89, 9)
	check(99, 9, `h".\xff\x00"@14:95`)
	check(100, 9, `h".\xff\x00"@14:95`, `g".live"@10:100`)
	check(newest, 1, `h".\xff\x00"@14:95`)
	ttl, err := dumpExpiry(s)
	if err != nil || len(ttl) != 3 {
		t.Fatal(ttl, err)
	}
	b := s.NewBatch()
	b.PutVersion("g", []byte(".live"), 101, 0, Version{Deleted: true, Expired: true})
	b.DropExpiry(ExpiredKey{Group: "g", Rest: []byte(".live"), Time: 10, Expires: 100})
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	b.Close()
	check(newest, 9, `h".\xff\x00"@14:95`, `g".later"@11:200`)

	// A key that was renewed often: so many entries of its are not gone through at once.
	b = s.NewBatch()
	defer b.Close()
	for i := range Timestamp(1100) {
		b.PutVersion("a", []byte(".renewed"), 1000+i, 0, Version{Expires: 1 + i%80})
	}
	b.PutVersion("a", []byte(".renewed"), 3000, 0, Version{})
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	check(2000, 1)
	check(2000, 9, `h".\xff\x00"@14:95`, `g".later"@11:200`)
}

func TestCollectRemovesChunksAndExpiry(t *testing.T) {
	s := openMem(t)
	big := bytes.Repeat([]byte("x"), 3*ChunkLen)
	put(t, s, "g", ".a", 10, Version{Value: big, Expires: 1000})
	put(t, s, "g", ".a", 20, Version{Value: big[1:], Expires: 2000})
	put(t, s, "g", ".b", 21, Version{Deleted: true})
	put(t, s, "h", ".c", 500, Version{Value: big})
	stats, more, err := s.CollectBefore(t.Context(), 100, 1000)
	if err != nil || more || stats.Versions != 2 || stats.Large != 1 || stats.Changes != 3 {
		t.Fatalf("%+v %v %v", stats, more, err)
	}
	v, ok, err := s.GetAt("g", []byte(".a"), 50)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	got, err := v.Bytes()
	if err != nil || !bytes.Equal(got, big[1:]) {
		t.Fatal(len(got), err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	chunks := 0
	err = s.each([]byte{kindChunk, 0}, []byte{kindChunk + 1, 0}, func(_, _ []byte) error { chunks++; return nil })
	ttl, terr := dumpExpiry(s)
	if err := errors.Join(err, terr); err != nil || chunks != 3+3 || len(ttl) != 1 {
		t.Fatal(chunks, ttl, err)
	}
	if stats, more, err := s.CollectBefore(t.Context(), 100, 1000); err != nil || more || stats.Changes != 0 {
		t.Fatalf("%+v %v %v", stats, more, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, more, err := s.CollectBefore(ctx, 1000, 1000); !errors.Is(err, context.Canceled) || !more {
		t.Fatal(more, err)
	}
}

// TestOpenHandleKeepsCollectedValue: a large value that is being read survives its collection.
func TestOpenHandleKeepsCollectedValue(t *testing.T) {
	s := openMem(t)
	big := bytes.Repeat([]byte("x"), 5*ChunkLen)
	put(t, s, "g", ".a", 10, Version{Value: big})
	v, ok, err := s.GetAt("g", []byte(".a"), newest)
	if err != nil || !ok || !v.v.Large() || v.Version().Size != int64(len(big)) || v.Version().Value != nil {
		t.Fatal(ok, err)
	}
	put(t, s, "g", ".a", 20, Version{Value: []byte("small")})
	if _, _, err := s.CollectBefore(t.Context(), 30, 100); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.db.Flush(), s.db.Compact(t.Context(), []byte{0}, []byte{0xff, 0}, false)); err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	n, err := v.WriteTo(&w)
	if err != nil || n != int64(len(big)) || !bytes.Equal(w.Bytes(), big) {
		t.Fatal(n, err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestDamagedChunksAreFound(t *testing.T) {
	big := bytes.Repeat([]byte("x"), 3*ChunkLen+7)
	for name, harm := range map[string]func(s *Store) error{
		"missing": func(s *Store) error { return s.db.Delete(appendChunkKey(nil, "g", 10, 0, 1), nil) },
		"last":    func(s *Store) error { return s.db.Delete(appendChunkKey(nil, "g", 10, 0, 3), nil) },
		"changed": func(s *Store) error {
			b := make([]byte, chunkHeaderLen+ChunkLen)
			putChunk(b, bytes.Repeat([]byte("y"), ChunkLen))
			return s.db.Set(appendChunkKey(nil, "g", 10, 0, 1), b, nil)
		},
		"spoiled": func(s *Store) error {
			return s.db.Set(appendChunkKey(nil, "g", 10, 0, 0), make([]byte, chunkHeaderLen+ChunkLen), nil)
		},
		"short": func(s *Store) error { return s.db.Set(appendChunkKey(nil, "g", 10, 0, 0), []byte{1, 2, 3, 4, 5}, nil) },
	} {
		s := mustOpen(t, memOptions(vfs.NewMem()))
		put(t, s, "g", ".a", 10, Version{Value: big})
		if err := harm(s); err != nil {
			t.Fatal(err)
		}
		v, ok, err := s.GetAt("g", []byte(".a"), newest)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if _, err := v.Bytes(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if s.Err() == nil {
			t.Errorf("%s: the store goes on", name)
		}
		select {
		case <-s.Failed():
		default:
			t.Errorf("%s: Failed is open", name)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
		if err := s.Close(); !errors.Is(err, ErrFatal) {
			t.Error(err)
		}
	}
}

// peak measures the most Go heap that f holds above what it began with.
func peak(f func()) int64 {
	var before, now runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var most atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.ReadMemStats(&now)
				most.Store(max(most.Load(), int64(now.HeapInuse)-int64(before.HeapInuse)))
				runtime.Gosched()
			}
		}
	})
	f()
	close(stop)
	wg.Wait()
	return most.Load()
}

// TestLargeValueIsNotBuffered writes and reads a value of 128 MiB and looks at the memory that it takes.
func TestLargeValueIsNotBuffered(t *testing.T) {
	if testing.Short() || invariants.Enabled {
		t.Skip("128 MiB to disk, and the race detector's own memory")
	}
	s := mustOpen(t, Options{Dir: t.TempDir() + "/atlas", BallastBytes: -1, CacheBytes: 8 << 20, MemTableBytes: 4 << 20})
	defer mustClose(t, s)
	value := make([]byte, ValueLenMax)
	for i := 0; i < len(value); i += 4096 {
		value[i] = byte(i >> 12)
		value[i+1] = byte(i >> 20)
	}
	var began time.Time
	took := func(what string, heap int64) {
		t.Logf("%s: %.0f MiB/s, %d MiB of heap", what, ValueLenMax/time.Since(began).Seconds()/(1<<20), heap>>20)
		if heap > 64<<20 {
			t.Errorf("%s took %d bytes of heap above the value's own", what, heap)
		}
	}
	began = time.Now()
	took("write", peak(func() { put(t, s, "g", ".a", 10, Version{Value: value}) }))
	sum := checksumOf(value)
	value = nil
	began = time.Now()
	took("read", peak(func() {
		v, ok, err := s.GetAt("g", []byte(".a"), newest)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		if n, err := v.WriteTo(io.Discard); err != nil || n != ValueLenMax || v.v.checksum != sum {
			t.Error(n, err)
		}
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	}))
}

// TestOrphansOfLargeValuesAreSwept: what a crash leaves of a value that was never committed is gone at the next start.
func TestOrphansOfLargeValuesAreSwept(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s := mustOpen(t, memOptions(fs))
	l := largeValue{"g", 10, 3, bytes.Repeat([]byte("x"), 4*ChunkLen)}
	if err := s.writeChunks(&l); err != nil {
		t.Fatal(err)
	}
	put(t, s, "g", ".other", 20, Version{Value: l.value})
	fs = fs.CrashClone(vfs.CrashCloneCfg{})
	mustClose(t, s)
	s = mustOpen(t, memOptions(fs))
	defer mustClose(t, s)
	chunks, pending := 0, 0
	err := s.each([]byte{kindChunk, 0}, []byte{kindPending + 1, 0}, func(k, _ []byte) error {
		switch k[0] {
		case kindChunk:
			chunks++
		case kindPending:
			pending++
		}
		return nil
	})
	if err != nil || chunks != 4 || pending != 0 {
		t.Fatal(chunks, pending, err)
	}
}

// TestRefusedLargeValueIsCommittedAgain: the chunks of a refused batch are removed later, but not when the batch has been
// committed in the end.
func TestRefusedLargeValueIsCommittedAgain(t *testing.T) {
	mem := vfs.NewMem()
	roomy, full := vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30}, vfs.DiskUsage{AvailBytes: 1 << 20, TotalBytes: 2 << 30}
	mem.TestingSetDiskUsage(roomy)
	o := memOptions(mem)
	o.MinFreeBytes = 100 << 20
	s := mustOpen(t, o)
	defer mustClose(t, s)
	value := bytes.Repeat([]byte("x"), 20*ChunkLen)
	count := func() (chunks int) {
		err := s.each([]byte{kindChunk, 0}, []byte{kindPending + 1, 0}, func(k, _ []byte) error {
			if k[0] != kindChange {
				chunks++
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return chunks
	}
	look := func(u vfs.DiskUsage) {
		mem.TestingSetDiskUsage(u)
		s.space.checkedAt.Store(-int64(time.Hour))
	}
	for round, again := range []bool{true, false} {
		b := s.NewBatch()
		at := Timestamp(10 + round)
		b.PutVersion("g", []byte(".a"), at, 0, Version{Value: value})
		// The disk fills between the first chunks and the rest.
		look(full)
		if err := s.writeChunks(&largeValue{"g", at, 0, value[:ChunkLen]}); !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
		look(roomy)
		if err := s.writeChunks(&largeValue{"g", at, 0, value[:2*ChunkLen]}); err != nil {
			t.Fatal(err)
		}
		look(full)
		s.dropChunks(b.large)
		if len(s.orphans.list) != 1 {
			t.Fatal(s.orphans.list)
		}
		before := count()
		look(roomy)
		if again {
			if err := b.Commit(true); err != nil {
				t.Fatal(err)
			}
		}
		b.Close()
		if _, _, err := s.CollectBefore(t.Context(), 1, 10); err != nil {
			t.Fatal(err)
		}
		if after := count(); after != 20 {
			t.Fatalf("round %d: %d chunks and pending records, were %d", round, after, before)
		}
	}
	v, ok, err := s.GetAt("g", []byte(".a"), newest)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	if got, err := v.Bytes(); err != nil || !bytes.Equal(got, value) || v.Close() != nil {
		t.Fatal(len(got), err)
	}
}

func TestNearlyFullDiskRefusesAndRecovers(t *testing.T) {
	mem := vfs.NewMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30})
	o := memOptions(mem)
	o.MinFreeBytes = 100 << 20
	s := mustOpen(t, o)
	put(t, s, "g", ".a", 10, Version{Value: []byte("x")})
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 99 << 20, TotalBytes: 2 << 30})
	s.space.checkedAt.Store(-int64(time.Hour)) // the reading is old
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion("g", []byte(".a"), 20, 0, Version{Value: []byte("y")})
	for range 3 {
		if err := b.Commit(true); !errors.Is(err, ErrDiskFull) {
			t.Fatal(err)
		}
	}
	if v, ok, err := s.Latest("g", []byte(".a")); err != nil || !ok || v.Time != 10 {
		t.Fatal(v, ok, err)
	}
	if m := s.Metrics(); !m.DiskFull || m.Refusals != 3 || m.DiskFreeBytes != 99<<20 || s.Err() != nil {
		t.Fatalf("%+v", m)
	}
	if err := s.SetCeiling(1000); err != nil { // reads need it
		t.Fatal(err)
	}
	for floor := Timestamp(5); floor <= 10; floor += 5 { // makes room: of the first there is nothing to write
		if _, _, err := s.CollectBefore(t.Context(), floor, 10); err != nil {
			t.Fatal(err)
		}
	}
	// It was once taken for room for all, and the log told of room and of none in turns.
	if s.space.recheck(); !s.Metrics().DiskFull {
		t.Fatal("what may go below the watermark says that the disk has room")
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30})
	s.space.checkedAt.Store(-int64(time.Hour))
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	if m := s.Metrics(); m.DiskFull {
		t.Fatalf("%+v", m)
	}

	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 99 << 20, TotalBytes: 2 << 30})
	s.space.checkedAt.Store(-int64(time.Hour))
	if err := b.Commit(true); !errors.Is(err, ErrDiskFull) {
		t.Fatal(err)
	}
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100 << 20, TotalBytes: 2 << 30})
	if s.space.recheck(); s.Metrics().DiskFull { // as the watch does once a second
		t.Fatal("nobody writes, and the disk is said to be full")
	}
	mustClose(t, s)
}

// TestBallastOfAnEarlierStart: the reserve that an earlier start has laid is given up like one of this start's, when the disk is too full by
// then to lay one anew. It was once not known any more: the disk filled up, nothing was given up, and the store failed for good.
func TestBallastOfAnEarlierStart(t *testing.T) {
	mem := vfs.NewMem()
	const minFree, ballast = 100 << 20, 1 << 20
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 1 << 30, TotalBytes: 2 << 30})
	o := memOptions(mem)
	o.MinFreeBytes, o.BallastBytes, o.SpaceWait = minFree, ballast, 20*time.Millisecond
	mustClose(t, mustOpen(t, o))

	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: minFree + ballast/2, TotalBytes: 2 << 30})
	var filled atomic.Bool
	var met atomic.Int64
	o.FS = errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileWrite || !strings.HasSuffix(op.Path, ".log") || !filled.Load() {
			return nil
		}
		if _, err := mem.Stat(mem.PathJoin(o.Dir, ballastName)); err != nil {
			return nil // it was given up, and there is room
		}
		met.Add(1)
		return syscall.ENOSPC
	}))
	s := mustOpen(t, o)
	filled.Store(true)
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion("g", []byte(".a"), 10, 0, Version{Value: []byte("x")})
	if err := b.Commit(true); err != nil {
		t.Fatalf("a commit on its way, with a reserve: %v", err)
	}
	if met.Load() != 1 {
		t.Fatalf("the disk was full %d times, want once", met.Load())
	}
	mustClose(t, s)
}

// TestFileHandlesAreNotSpace: a process without file handles was told that its disk is full, and whoever looked found gigabytes free.
func TestFileHandlesAreNotSpace(t *testing.T) {
	var none atomic.Bool
	mem := vfs.NewMem()
	o := memOptions(withFaults(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !none.Load() || op.Kind != errorfs.OpCreate {
			return nil
		}
		return &os.PathError{Op: "open", Path: op.Path, Err: syscall.EMFILE}
	})))
	o.SpaceWait = time.Millisecond
	says := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "no file handles are left") || strings.Contains(err.Error(), "disk is full") {
			t.Errorf("got %v", err)
		}
	}
	mustClose(t, mustOpen(t, o))
	none.Store(true)
	_, err := Open(o)
	says(err)

	none.Store(false)
	s := mustOpen(t, o)
	defer mustClose(t, s)
	none.Store(true) // not even the probe that would show that there is room
	s.space.latch(&os.PathError{Op: "open", Path: "x.sst", Err: syscall.EMFILE})
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion("g", []byte(".a"), 10, 0, Version{Value: []byte("x")})
	says(b.Commit(true))

	// The same disk is full a moment later.
	s.space.latch(syscall.ENOSPC)
	if err := b.Commit(true); !errors.Is(err, ErrDiskFull) || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("got %v", err)
	}
	none.Store(false)
}

// TestBatchesUnderWayTakeRoom: the watermark counts what was handed over until it is durable, since no file may have it yet.
func TestBatchesUnderWayTakeRoom(t *testing.T) {
	held := make(chan struct{})
	var hold atomic.Bool
	mem := vfs.NewMem()
	mem.TestingSetDiskUsage(vfs.DiskUsage{AvailBytes: 100<<20 + 96<<10, TotalBytes: 2 << 30})
	o := memOptions(withFaults(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileWrite && hold.Load() && strings.HasSuffix(op.Path, ".log") {
			<-held
		}
		return nil
	})))
	o.MinFreeBytes = 100 << 20
	s := mustOpen(t, o)
	defer mustClose(t, s)
	var batches [2]*Batch
	for i := range batches {
		batches[i] = s.NewBatch()
		// 64 KiB: Pebble's first memtable, of 256 KiB, takes both. Changing to the next one would wait for the log.
		batches[i].PutVersion("g", row(i), Timestamp(10*i+10), 0, Version{Value: bytes.Repeat([]byte("x"), InlineLenMax)})
	}
	look := func() { s.space.checkedAt.Store(-int64(time.Hour)) }
	hold.Store(true)
	look()
	if err := batches[0].CommitLater(); err != nil {
		t.Fatal(err)
	}
	look() // nothing is written: the disk has as much room as before
	refused := batches[1].CommitLater()
	hold.Store(false)
	close(held)
	if !errors.Is(refused, ErrDiskFull) {
		t.Fatalf("with a batch under way that leaves no room: %v", errors.Join(refused, batches[0].Wait(), batches[1].Wait()))
	}
	if err := batches[0].Wait(); err != nil {
		t.Fatal(err)
	}
	if n := s.space.queued.Load(); n != 0 {
		t.Errorf("%d bytes are counted with nothing under way", n)
	}
	look()
	if err := batches[1].Commit(true); err != nil {
		t.Errorf("after the batch was made durable: %v", err)
	}
	for _, b := range batches { // before the store closes, whatever went wrong
		b.Close()
	}
}

// TestSlowSync: while the disk does not answer, the store says so, reads go on, and the commit waits.
func TestSlowSync(t *testing.T) {
	held := make(chan struct{})
	var hold atomic.Bool
	reached := make(chan struct{}, 1)
	o := memOptions(withFaults(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if hold.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
			reached <- struct{}{}
			<-held
		}
		return nil
	})))
	o.SlowSync = time.Nanosecond
	s := mustOpen(t, o)
	defer mustClose(t, s)
	put(t, s, "g", ".a", 10, Version{Value: []byte("x")})
	hold.Store(true)
	done := make(chan struct{})
	go func() { // owner: the test waits on done
		defer close(done)
		put(t, s, "g", ".a", 20, Version{Value: []byte("y")})
	}()
	<-reached
	if m := s.Metrics(); !m.SlowDisk || m.SyncStall <= 0 || s.SyncStall() <= 0 {
		t.Errorf("%+v", m)
	}
	if v, ok, err := s.GetAt("g", []byte(".a"), 15); err != nil || !ok || v.Close() != nil {
		t.Error(ok, err)
	}
	select {
	case <-done:
		t.Error("acknowledged before the sync")
	default:
	}
	hold.Store(false)
	close(held)
	<-done
	if m := s.Metrics(); m.SlowDisk || m.Syncs == 0 || m.SyncMax == 0 {
		t.Errorf("%+v", m)
	}
}

// TestFailedSyncIsFinal: after a sync has failed nothing is acknowledged, read or written any more, though later syncs
// would succeed.
func TestFailedSyncIsFinal(t *testing.T) {
	fs := vfs.NewCrashableMem()
	var fail atomic.Bool
	var after atomic.Int64
	o := memOptions(withFaults(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && op.Kind != errorfs.OpFileClose && after.Load() > 0 {
			after.Add(1)
		}
		if fail.Load() && op.Kind == errorfs.OpFileSyncData && strings.HasSuffix(op.Path, ".log") {
			fail.Store(false)
			after.Store(1)
			return errorfs.ErrInjected
		}
		return nil
	})))
	s := mustOpen(t, o)
	put(t, s, "g", ".a", 10, Version{Value: []byte("x")})
	fail.Store(true)
	b := s.NewBatch()
	defer b.Close()
	b.PutVersion("g", []byte(".a"), 20, 0, Version{Value: []byte("y")})
	if err := b.Commit(true); !errors.Is(err, ErrFatal) {
		t.Fatal(err)
	}
	for range 2 {
		if err := b.Commit(true); !errors.Is(err, ErrFatal) {
			t.Fatal(err)
		}
		if _, _, err := s.Latest("g", []byte(".a")); !errors.Is(err, ErrFatal) {
			t.Fatal(err)
		}
	}
	if s.Metrics() != (Metrics{}) || s.Checkpoint("/elsewhere") == nil {
		t.Error("it goes on")
	}
	if err := s.Close(); !errors.Is(err, ErrFatal) {
		t.Fatal(err)
	}
	// The note of what was synced is closed with a sync; nothing else may have been written.
	if n := after.Load() - 1; n > 1 {
		t.Errorf("%d operations after the failure", n)
	}
	o.FS = fs.CrashClone(vfs.CrashCloneCfg{})
	s = mustOpen(t, o)
	defer mustClose(t, s)
	if v, ok, err := s.Latest("g", []byte(".a")); err != nil || !ok || v.Time != 10 {
		t.Fatal(v, ok, err)
	}
}

// TestConcurrentUse has readers, writers and a collector at work at once; the race detector looks on.
func TestConcurrentUse(t *testing.T) {
	s := openMem(t)
	var wg sync.WaitGroup
	var now atomic.Uint64
	now.Store(100)
	stop := make(chan struct{})
	running := func() bool {
		select {
		case <-stop:
			return false
		default:
			return true
		}
	}
	for w := range 3 {
		wg.Go(func() {
			k := &maker{rng: rand.New(rand.NewPCG(uint64(w), 1)), large: 50}
			for running() {
				b := s.NewBatch()
				b.PutVersion(testGroups[w], []byte(k.pick(testRests)), now.Add(1), 0, k.version())
				if err := b.Commit(k.rng.IntN(4) == 0); err != nil {
					t.Error(err)
				}
				b.Close()
			}
		})
	}
	for w := range 3 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 2))
			for running() {
				if _, err := dumpStore(s); err != nil {
					t.Error(err)
				}
				if _, err := s.Sample(ctxForTest, ScanOptions{Group: "a", At: newest}, 3, rng.Uint64()); err != nil {
					t.Error(err)
				}
				_ = s.Metrics()
			}
		})
	}
	wg.Go(func() {
		for running() {
			if _, _, err := s.CollectBefore(ctxForTest, now.Load()-50, 100); err != nil {
				t.Error(err)
			}
			if _, _, err := s.Expired(now.Load(), 10); err != nil {
				t.Error(err)
			}
		}
	})
	for now.Load() < 100+uint64(scaled(3000)) {
		runtime.Gosched()
	}
	close(stop)
	wg.Wait()
}

func TestLatencies(t *testing.T) {
	var l latencies
	for i := 1; i <= 1000; i++ {
		l.observe(time.Duration(i) * 10 * time.Microsecond)
	}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0.5, 5 * time.Millisecond}, {0.99, 9900 * time.Microsecond}, {1, 10 * time.Millisecond}} {
		if got := l.quantile(c.q); got < c.want || got > c.want*5/4 {
			t.Errorf("quantile %v is %v, want about %v", c.q, got, c.want)
		}
	}
	for i := range 4 * 30 {
		if d := bucketTop(i); bucketOf(d-time.Microsecond) > i && d > 4*time.Microsecond {
			t.Errorf("bucket %d ends at %v, which is in bucket %d", i, d, bucketOf(d-time.Microsecond))
		}
	}
}
