// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2"
)

func diskOptions(tb testing.TB) Options { return Options{Dir: tb.TempDir() + "/atlas"} }

// filled is a store on disk with n rows of 100 bytes in one group.
func filled(b *testing.B, n int) *Store {
	s := mustOpen(b, diskOptions(b))
	b.Cleanup(func() { mustClose(b, s) })
	val := bytes.Repeat([]byte("v"), 100)
	batch := s.NewBatch()
	defer batch.Close()
	for i := range n {
		batch.PutVersion("g", row(i), Timestamp(i+1), 0, Version{Value: val})
		if batch.Len() > 1<<20 {
			if err := batch.Commit(false); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	if err := batch.Commit(true); err != nil {
		b.Fatal(err)
	}
	return s
}

func BenchmarkPutVersion(b *testing.B) {
	s := openMem(b)
	batch := s.NewBatch()
	defer batch.Close()
	val := bytes.Repeat([]byte("v"), 100)
	rest := row(12345678)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		batch.PutVersion("users", rest, Timestamp(i+1), 0, Version{Value: val})
		if i%1000 == 0 {
			batch.Reset()
		}
	}
}

func BenchmarkReads(b *testing.B) {
	const n = 300_000
	s := filled(b, n)
	for _, state := range []string{"fresh", "flushed", "compacted"} {
		switch state {
		case "flushed":
			if err := s.db.Flush(); err != nil {
				b.Fatal(err)
			}
		case "compacted":
			if err := s.db.Compact(b.Context(), []byte{0, 0}, []byte{0xff, 0}, false); err != nil {
				b.Fatal(err)
			}
		}
		b.Run("GetAt/"+state, func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				v, ok, err := s.GetAt("g", row(rng.IntN(n)), newest)
				if err != nil || !ok {
					b.Fatal(ok, err)
				}
				_ = v.Close()
			}
		})
		b.Run("Latest/"+state, func(b *testing.B) {
			b.ReportAllocs()
			rng := rand.New(rand.NewPCG(1, 2))
			for b.Loop() {
				if _, ok, err := s.Latest("g", row(rng.IntN(n))); err != nil || !ok {
					b.Fatal(ok, err)
				}
			}
		})
		b.Run("LatestAbsent/"+state, func(b *testing.B) {
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, ok, err := s.Latest("g", row(n+i)); err != nil || ok {
					b.Fatal(ok, err)
				}
			}
		})
		for _, dir := range []string{"forward", "reverse"} {
			b.Run("Scan/"+state+"/"+dir, func(b *testing.B) {
				b.ReportAllocs()
				rows := 0
				for b.Loop() {
					sc, err := s.NewScan(ScanOptions{Group: "g", At: newest, Reverse: dir == "reverse"})
					if err != nil {
						b.Fatal(err)
					}
					for sc.Next() {
						rows += min(1, len(sc.Version().Value))
					}
					if sc.Err() != nil || sc.Close() != nil {
						b.Fatal(sc.Err())
					}
				}
				b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "rows/s")
			})
		}
	}
}

// BenchmarkCommit compares synced commits of one version with raw Pebble's of as many bytes.
func BenchmarkCommit(b *testing.B) {
	val := bytes.Repeat([]byte("v"), 100)
	for _, procs := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("raw/%d", procs), func(b *testing.B) {
			db, err := pebble.Open(b.TempDir(), &pebble.Options{MemTableSize: 16 << 20, MemTableStopWritesThreshold: 4, L0StopWritesThreshold: 24, Logger: &pebbleLogger{log: slog.New(slog.DiscardHandler)}})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = db.Close() }()
			var n atomic.Int64
			b.SetParallelism((procs + 1) / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if err := db.Set(row(int(n.Add(1))), val, pebble.Sync); err != nil {
						b.Error(err)
					}
				}
			})
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "commits/s")
		})
		b.Run(fmt.Sprintf("store/%d", procs), func(b *testing.B) {
			s := mustOpen(b, diskOptions(b))
			defer mustClose(b, s)
			var n atomic.Int64
			b.ReportAllocs()
			b.SetParallelism((procs + 1) / 2)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					i := int(n.Add(1))
					batch := s.NewBatch()
					batch.PutVersion("users", row(i), Timestamp(i), 0, Version{Value: val})
					if err := batch.Commit(true); err != nil {
						b.Error(err)
					}
					batch.Close()
				}
			})
			b.ReportMetric(float64(n.Load())/b.Elapsed().Seconds(), "commits/s")
		})
	}
}

// BenchmarkSmallGroups compares what a command that writes one value into a group of its own puts into a batch: a version that carries a
// stamp, or a version, its change and the group's record.
func BenchmarkSmallGroups(b *testing.B) {
	const groups = 100_000
	val, rec, stamp := bytes.Repeat([]byte("v"), 100), make([]byte, 60), make([]byte, 10)
	rest := row(12345678)
	for _, how := range []string{"carried", "alone"} {
		b.Run(how, func(b *testing.B) {
			s := mustOpen(b, diskOptions(b))
			defer mustClose(b, s)
			names := make([]string, groups)
			for i := range names {
				names[i] = fmt.Sprintf("group%07d", i)
			}
			batch := s.NewBatch()
			defer batch.Close()
			written := 0
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				group, at := names[i*7919%groups], Timestamp(i+1)
				if how == "carried" {
					batch.PutCarrying(group, rest, at, Version{Value: val}, stamp, 1)
				} else {
					batch.PutVersion(group, rest, at, 0, Version{Value: val})
					batch.SetRecord(group, rec)
				}
				if i%64 == 63 {
					written += batch.Len()
					if err := batch.Commit(false); err != nil {
						b.Fatal(err)
					}
					batch.Reset()
				}
			}
			b.ReportMetric(float64(written)/float64(b.N), "batchbytes/op")
		})
	}
}
