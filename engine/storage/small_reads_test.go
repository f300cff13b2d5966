// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestReadersBesideTheWriter reads a small group while its one writer and the collection go on: each read sees the acceptor record and the
// changes as some commit left them, never those of two, and never of an earlier one than the read before.
func TestReadersBesideTheWriter(t *testing.T) {
	seed := testSeed(t)
	s := openMem(t)
	commits := Timestamp(scaled(2000))
	var started, done atomic.Uint64
	base := func(n Timestamp) []byte { return binary.BigEndian.AppendUint64(nil, n) }
	write(t, s, func(b *Batch) { b.SetSmallRecord("g", base(0), 0, 0) })
	var wg sync.WaitGroup
	wg.Go(func() {
		rng, nth := rand.New(rand.NewPCG(seed, 8)), 0
		defer done.Store(commits)
		for n := Timestamp(1); n <= commits; n++ {
			started.Store(n)
			b := s.NewBatch()
			rest, v := row(rng.IntN(5)), Version{Value: base(n)}
			if nth++; nth > CarriedMax || rng.IntN(8) == 0 {
				nth = 0
				keys, err := b.IndexCarried("g")
				if err != nil {
					t.Error(err)
				}
				b.PutVersion("g", rest, n, 0, v)
				b.SetSmallRecord("g", base(n), n, keys+1)
			} else {
				b.PutCarrying("g", rest, n, v, base(n), nth)
			}
			if err := b.Commit(false); err != nil {
				t.Error(err)
			}
			b.Close()
		}
	})
	wg.Go(func() {
		for more := true; more || done.Load() == 0; {
			var err error
			n := started.Load()
			if _, more, err = s.CollectBefore(ctxForTest, n-min(n, 30), 20); err != nil {
				t.Error(err)
				return
			}
		}
	})
	// commitOf is the number of the commit that left a record.
	commitOf := func(a *Acceptor) Timestamp {
		n := binary.BigEndian.Uint64(a.Record) + Timestamp(a.Carried)
		if a.Carried > 0 && (a.At != n || !bytes.Equal(a.Stamp, base(n))) || a.Carried == 0 && (a.At != 0 || a.Stamp != nil) {
			t.Errorf("%+v is of no one commit", a)
		}
		return n
	}
	reads := []func() (Timestamp, error){
		func() (Timestamp, error) {
			a, _, err := s.Record("g")
			return commitOf(&a), err
		},
		func() (n Timestamp, err error) {
			gs, err := s.Groups("")
			if err != nil {
				return 0, err
			}
			for gs.Next() {
				a, err := gs.Acceptor()
				if err != nil {
					break // Err says so
				}
				n = commitOf(&a)
			}
			return n, errors.Join(gs.Err(), gs.Close())
		},
		func() (Timestamp, error) {
			after, err := s.SweptTo()
			if err != nil {
				return 0, err
			}
			cs, err := s.Changes("g", after)
			if err != nil {
				return 0, err
			}
			n := after
			var gap Timestamp
			for ; cs.Next(); n++ {
				if cs.Change().Time != n+1 && gap == 0 {
					gap = n + 1
				}
			}
			swept, err := s.SweptTo()
			if gap != 0 && swept == after {
				t.Errorf("change %d is missing", gap)
			}
			if gap != 0 || swept != after {
				n = 0 // the collection was faster
			}
			return n, errors.Join(err, cs.Err(), cs.Close())
		},
	}
	for _, read := range reads {
		wg.Go(func() {
			for last, ended := Timestamp(0), false; !ended; {
				ended = done.Load() != 0
				n, err := read()
				if most := started.Load(); err != nil || n > most || n < last && n != 0 {
					t.Errorf("read commit %d of %d, and %d before: %v", n, most, last, err)
					return
				}
				last = max(last, n)
			}
		})
	}
	wg.Wait()
}

// TestRecordsAreTheCallers keeps the acceptor records that it reads while the memory that they were read from is used for something else.
func TestRecordsAreTheCallers(t *testing.T) {
	s := openMem(t)
	k := maker{rng: rand.New(rand.NewPCG(1, 3))}
	const groups = 500
	name := func(i int) string { return fmt.Sprintf("group%04d", i) }
	write(t, s, func(b *Batch) {
		for i := range groups {
			b.SetSmallRecord(name(i), []byte(name(i)), 1, 1)
			b.PutCarrying(name(i), row(i), 10, Version{Value: k.blob(1000)}, fmt.Append(nil, "stamp of ", name(i)), 1)
		}
		for i := range 300 {
			b.PutVersion("large", row(i), Timestamp(i+1), 0, Version{Value: k.blob(30_000)})
		}
	})
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	kept := make([]Acceptor, groups)
	for i := range kept {
		var err error
		if kept[i], _, err = s.Record(name(i)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		if n, err := s.Count(ctxForTest, ScanOptions{Group: "large", At: newest}); err != nil || n != 300 {
			t.Fatal(n, err)
		}
	}
	for i, a := range kept {
		if string(a.Record) != name(i) || string(a.Stamp) != "stamp of "+name(i) {
			t.Fatalf("group %s now has record %q, stamp %q", name(i), a.Record, a.Stamp)
		}
	}
}

// TestReadsOfSmallGroupsThatFail fails the i-th read of a table, for each i, in each way of walking a group's versions. None may pass for
// the end of them: the acceptor record would go back.
func TestReadsOfSmallGroupsThatFail(t *testing.T) {
	var left atomic.Int64 // reads before the one that fails
	o := memOptions(withFaults(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpFileReadAt && left.Add(-1) == 0 {
			return errorfs.ErrInjected
		}
		return nil
	})))
	s := mustOpen(t, o)
	const keys = CarriedMax
	k := maker{rng: rand.New(rand.NewPCG(1, 4))}
	write(t, s, func(b *Batch) {
		b.SetSmallRecord("g", []byte("record"), 50, SmallKeysMax)
		b.AppendEntry("g", 1, k.blob(100_000)) // in a block of its own
		for i := range keys {
			b.PutVersion("g", row(i), Timestamp(i+1), 0, Version{Value: k.blob(1000)})
		}
		for i := range keys {
			b.PutCarrying("g", row(i), Timestamp(i+51), Version{Value: k.blob(CarriedValueLenMax)}, []byte("stamp"), i+1)
		}
	})
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	for _, c := range []struct {
		name string
		read func(s *Store) (int, error)
	}{
		{"Record", func(s *Store) (int, error) {
			a, _, err := s.Record("g")
			return a.Carried, err
		}},
		{"Acceptor", func(s *Store) (n int, err error) {
			gs, err := s.Groups("")
			if err != nil {
				return 0, err
			}
			for gs.Next() {
				if a, err := gs.Acceptor(); err == nil {
					n = a.Carried
				}
			}
			return n, errOf(t, gs.Err(), gs.Close())
		}},
		{"Changes", func(s *Store) (n int, err error) {
			cs, err := s.Changes("g", 50)
			if err != nil {
				return 0, err
			}
			for ; cs.Next(); n++ {
			}
			return n, errOf(t, cs.Err(), cs.Close())
		}},
		{"IndexCarried", func(s *Store) (int, error) {
			b := s.NewBatch()
			defer b.Close()
			return b.IndexCarried("g")
		}},
		{"CountKeys", func(s *Store) (int, error) { return s.CountKeys("g", 100) }},
		{"collection", func(s *Store) (int, error) {
			stats, _, err := s.CollectBefore(ctxForTest, 100, 1<<30)
			return stats.Versions, err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			failed := 0
			for i := int64(1); ; i++ {
				s := mustOpen(t, o) // with nothing in the cache; the collection, which removes, comes last
				left.Store(i)
				n, err := c.read(s)
				hit := left.Swap(0) <= 0
				if err == nil && n != keys || err != nil && !errors.Is(err, errorfs.ErrInjected) {
					t.Errorf("read %d of a table failed: %d, %v", i, n, err)
				}
				if !hit && err != nil {
					t.Errorf("nothing failed: %v", err)
				}
				if err != nil {
					failed++
				}
				if mustClose(t, s); !hit {
					break
				}
			}
			if failed < 4 {
				t.Errorf("%d reads failed", failed)
			}
		})
	}
}

// errOf is the error of a walk, which Err must give before Close does.
func errOf(tb testing.TB, err, closing error) error {
	tb.Helper()
	if closing != nil {
		tb.Errorf("Err gives %v, and then Close %v", err, closing)
	}
	return err
}
