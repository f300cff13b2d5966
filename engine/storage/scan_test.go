// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

func TestTablesBySeeking(t *testing.T) {
	s := openMem(t)
	for i, rest := range []string{".a", ".b", "/a.x", "/a-b.x", "/a/b.x", "/gone.x", "/z.1", "/z.2"} {
		put(t, s, "shop", rest, Timestamp(10+i), Version{})
	}
	put(t, s, "shop", "/gone.x", 50, Version{Deleted: true})
	put(t, s, "shop2", ".x", 51, Version{})
	put(t, s, "brief", ".x", 60, Version{Expires: 70})
	for now, want := range map[Timestamp][]string{0: {"brief"}, 69: {"brief"}, 70: nil} {
		if got, err := s.Tables("brief", newest, now, "", 9); err != nil || !slices.Equal(got, want) {
			t.Errorf("at %d: %q %v", now, got, err)
		}
	}
	for _, c := range []struct {
		at    Timestamp
		after string
		limit int
		want  []string
	}{
		{newest, "", 9, []string{"shop", "shop/a-b", "shop/a", "shop/a/b", "shop/z"}},
		{15, "", 9, []string{"shop", "shop/a-b", "shop/a", "shop/a/b", "shop/gone"}},
		{newest, "", 2, []string{"shop", "shop/a-b"}},
		{newest, "shop/a-b", 9, []string{"shop/a", "shop/a/b", "shop/z"}},
		{newest, "shop", 1, []string{"shop/a-b"}},
		{newest, "shop/z", 9, nil},
		{5, "", 9, nil},
	} {
		got, err := s.Tables("shop", c.at, 0, c.after, c.limit)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%+v: %q %v", c, got, err)
		}
	}
}

// TestTablesDoNotReadTheirRows: a great table costs what a small one does.
func TestTablesDoNotReadTheirRows(t *testing.T) {
	s := openMem(t)
	b := s.NewBatch()
	defer b.Close()
	for i := range 20_000 {
		b.PutVersion("g", fmt.Appendf(nil, "/t%d.%06d", i%2, i), 1, uint32(i), Version{})
	}
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	sc, err := s.NewScan(ScanOptions{Group: "g", At: newest})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sc.Close() }()
	steps := 0
	for ok := sc.Next(); ok; ok = sc.Next() {
		steps++
		sc.seek(append(bytes.Clone(sc.Rest()[:3]), '.'+1))
	}
	if steps != 2 || sc.Err() != nil {
		t.Fatal(steps, sc.Err())
	}
}

// TestCheckpointIsAPrefix takes copies under load. Each opens and holds what some number of the commits leave.
func TestCheckpointIsAPrefix(t *testing.T) {
	seed := testSeed(t)
	mem := vfs.NewMem()
	s := mustOpen(t, memOptions(mem))
	k := &maker{rng: rand.New(rand.NewPCG(seed, 4)), large: 20, now: 100, small: map[string]int{}}
	var commits []*commit
	for range 300 {
		commits = append(commits, k.commit())
	}
	var wg sync.WaitGroup
	var done atomic.Uint64
	wg.Go(func() {
		for _, c := range commits {
			b := s.NewBatch()
			c.fill(b)
			if err := b.Commit(c.sync); err != nil {
				t.Error(err)
			}
			b.Close()
			done.Store(c.n)
		}
	})
	var copies []string
	for i := 0; i < 5 || done.Load() < 300 && i < 20; i++ {
		dir := fmt.Sprintf("/copies/%d", i)
		before := done.Load()
		if err := s.Checkpoint(dir); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, fmt.Sprint(dir, " ", before))
	}
	wg.Wait()
	if err := s.Checkpoint("/copies/0"); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Error(err)
	}
	if err := s.Checkpoint("/data/atlas/copy"); err == nil {
		t.Error("a copy inside the directory was made")
	}
	mustClose(t, s)
	for _, c := range copies {
		var dir string
		var before, n uint64
		if _, err := fmt.Sscan(c, &dir, &before); err != nil {
			t.Fatal(err)
		}
		o := memOptions(mem)
		o.Dir = dir
		s := mustOpen(t, o)
		got, err := dumpStore(s)
		if err != nil {
			t.Fatal(err)
		}
		mustClose(t, s)
		if _, err := fmt.Sscanf(got, "commits %d", &n); err != nil || n < before {
			t.Fatalf("copy holds %d commits, %d were done before: %v", n, before, err)
		}
		m := newModel()
		for _, c := range commits[:n] {
			m.apply(c)
		}
		if d := diff(got, m.dump()); d != "" {
			t.Fatalf("copy at commit %d: %s", n, d)
		}
	}
	t.Logf("%d copies under load", len(copies))
}

func TestSample(t *testing.T) {
	seed := testSeed(t)
	s := openMem(t)
	const n = 40_000
	b := s.NewBatch()
	defer b.Close()
	fill := func(from, to int, value func(i int) []byte) {
		for i := from; i < to; i++ {
			b.PutVersion("g", row(i), Timestamp(i+1), 0, Version{Value: value(i)})
			if b.Len() > 256<<10 || i == to-1 {
				if err := b.Commit(false); err != nil {
					t.Fatal(err)
				}
				b.Reset()
			}
		}
	}
	rng := rand.New(rand.NewPCG(seed, 2))
	k := &maker{rng: rng}
	// The first half has values ten times as long, and some keys have older versions and some are gone.
	fill(0, n/2, func(int) []byte { return k.blob(500) })
	fill(n/2, n, func(int) []byte { return k.blob(50) })
	if err := errors.Join(s.db.Flush(), s.db.Compact(t.Context(), []byte{0}, []byte{0xff, 0}, false)); err != nil {
		t.Fatal(err) // so that a seed fixes the sample
	}
	o := ScanOptions{Group: "g", At: newest}
	low := 0
	drawn := map[string]int{}
	const rounds, each = 8, 200
	for i := range uint64(rounds) {
		keys, err := s.Sample(t.Context(), o, each, seed+i)
		if err != nil || len(keys) != each || !slices.IsSortedFunc(keys, bytes.Compare) {
			t.Fatal(len(keys), err)
		}
		again, err := s.Sample(t.Context(), o, each, seed+i)
		if err != nil || !slices.EqualFunc(keys, again, bytes.Equal) {
			t.Fatal("a seed does not fix the sample", err)
		}
		for j, key := range keys {
			if j > 0 && bytes.Equal(key, keys[j-1]) {
				t.Fatalf("%q twice in one sample", key)
			}
			if drawn[string(key)]++; bytes.Compare(key, row(n/2)) < 0 {
				low++
			}
		}
	}
	share := float64(low) / (rounds * each)
	t.Logf("%.3f of the draws fall into the half with values ten times as long; %d different keys of %d draws", share, len(drawn), rounds*each)
	if share < 0.40 || share > 0.60 {
		t.Error("the sample follows the bytes, not the keys")
	}
	if len(drawn) < rounds*each*8/10 {
		t.Error("the sample clings to few keys")
	}
	// A small range is exact.
	o.Lower, o.Upper = row(100), row(110)
	counts := map[string]int{}
	for i := range uint64(1000) {
		keys, err := s.Sample(t.Context(), o, 3, i)
		if err != nil || len(keys) != 3 {
			t.Fatal(len(keys), err)
		}
		for _, key := range keys {
			counts[string(key)]++
		}
	}
	for key, c := range counts {
		if c < 220 || c > 380 {
			t.Errorf("%q drawn %d times of 300 expected", key, c)
		}
	}
	if keys, err := s.Sample(t.Context(), o, 100, 1); err != nil || len(keys) != 10 {
		t.Error(len(keys), err)
	}
	if _, err := s.Sample(t.Context(), o, SampleMax+1, 1); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if keys, err := s.Sample(t.Context(), o, 0, 1); err != nil || len(keys) != 0 {
		t.Error(keys, err)
	}
	if got, err := s.ApproxCount("g", nil, nil); err != nil || got < n/2 || got > 2*n {
		t.Error(got, err)
	}
	if got, err := s.ApproxCount("g", row(100), row(110)); err != nil || got != 10 {
		t.Error(got, err)
	}
	if got, err := s.DiskUsage("g"); err != nil || got < n*100 {
		t.Error(got, err)
	}
}

// TestReverseScanWithAFailingDisk fails the i-th read of a table while a key of many versions is scanned backwards: what is given is the
// newest version that is old enough, or an error that is not one of damage. It once was an older version, with the error after it, which
// a scan with a limit never saw; and a read that failed in the middle of a key was called damage, which stops the node.
func TestReverseScanWithAFailingDisk(t *testing.T) {
	base := vfs.NewMem()
	var countdown atomic.Int64 // reads of tables until one fails, and those after it; below 0: none does
	countdown.Store(-1)
	var failed atomic.Int64
	fs := errorfs.Wrap(base, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind != errorfs.OpFileReadAt || !strings.HasSuffix(op.Path, ".sst") || countdown.Load() < 0 || countdown.Add(-1) >= 0 {
			return nil
		}
		countdown.Store(0) // the next one fails, too
		failed.Add(1)
		return errorfs.ErrInjected
	}))
	// Rows and versions of many sizes, so that a block ends at every place within a key.
	const rows = 300
	last := make(map[string]Timestamp, rows)
	s := mustOpen(t, memOptions(fs))
	for i := range rows {
		for n := range 1 + i%11 {
			size := 10
			if n == i%11 { // the newest, which stands in the row's block, others elsewhere
				size = 900 + 137*(i%40)
			}
			last[string(row(i))] = Timestamp(10 + n)
			put(t, s, "g", string(row(i)), Timestamp(10+n), Version{Value: make([]byte, size)})
		}
	}
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	// read scans with a read that fails, and gives the number of rows.
	read := func(at Timestamp, reads int64) (n int, err error) {
		s := mustOpen(t, memOptions(fs)) // with an empty cache
		defer mustClose(t, s)
		sc, err := s.NewScan(ScanOptions{Group: "g", At: at, Reverse: true})
		if err != nil {
			t.Fatal(err)
		}
		countdown.Store(reads)
		defer countdown.Store(-1)
		for ; sc.Next(); n++ {
			if got, want := sc.Version().Time, min(at, last[string(sc.Rest())]); got != want {
				t.Errorf("read %d at %d fails: %s has version %d, want %d", reads, at, sc.Rest(), got, want)
			}
		}
		return n, errors.Join(sc.Err(), sc.Close(), s.Err())
	}
	for _, at := range []Timestamp{14, newest} {
		for reads := int64(0); ; reads++ {
			before := failed.Load()
			n, err := read(at, reads)
			if failed.Load() == before {
				if n != rows || err != nil {
					t.Fatalf("without a failure: %d rows, want %d: %v", n, rows, err)
				}
				break
			}
			if n == rows || !errors.Is(err, errorfs.ErrInjected) || errors.Is(err, ErrCorrupt) {
				t.Fatalf("read %d at %d failed: %d rows: %v", reads, at, n, err)
			}
		}
	}
	if failed.Load() < 20 {
		t.Fatalf("%d reads failed: too few to mean anything", failed.Load())
	}
}
