// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// The benchmarks run on the disk that holds the temporary directory, unless they say otherwise.

func benchOpen(b *testing.B, fs vfs.FS) *engine.Engine {
	return open(b, fs, func(o *engine.Options) {
		if fs == nil {
			o.Dir = b.TempDir()
		}
	})
}

func value100() []byte {
	v := make([]byte, 100)
	for i := range v {
		v[i] = 'a' + byte(i%26)
	}
	return v
}

// BenchmarkPut writes durably from as many goroutines as the name says.
func BenchmarkPut(b *testing.B) {
	for _, clients := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			e := benchOpen(b, nil)
			var next atomic.Uint64
			b.SetParallelism(clients / 2)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				s := e.NewSession(engine.SessionOptions{Trusted: true})
				value := value100()
				for pb.Next() {
					k := fmt.Appendf(nil, "bench.%08d", next.Add(1)*2654435761%100_000)
					if _, err := s.Put(b.Context(), engine.PutRequest{Key: k, Value: value}); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkPutTables writes each row to a table of its own: every command loads a group that is not in memory.
func BenchmarkPutTables(b *testing.B) {
	e := benchOpen(b, nil)
	var next atomic.Uint64
	b.SetParallelism(32)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := e.NewSession(engine.SessionOptions{Trusted: true})
		value := value100()
		for pb.Next() {
			if _, err := s.Put(b.Context(), engine.PutRequest{Key: fmt.Appendf(nil, "t%d.row", next.Add(1)), Value: value}); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func fill(b *testing.B, e *engine.Engine, n int) {
	b.Helper()
	s := e.NewSession(engine.SessionOptions{Trusted: true})
	value := value100()
	for i := 0; i < n; {
		if err := s.Begin(b.Context()); err != nil {
			b.Fatal(err)
		}
		for range 1000 {
			if _, err := s.Put(b.Context(), engine.PutRequest{Key: fmt.Appendf(nil, "bench.%08d", i), Value: value}); err != nil {
				b.Fatal(err)
			}
			i++
		}
		if _, err := s.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	e := benchOpen(b, nil)
	fill(b, e, 100_000)
	var next atomic.Uint64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		s := e.NewSession(engine.SessionOptions{Trusted: true})
		for pb.Next() {
			item, err := s.Get(b.Context(), fmt.Appendf(nil, "bench.%08d", next.Add(1)*2654435761%100_000))
			if err != nil {
				b.Error(err)
				return
			}
			if v, err := item.Bytes(); err != nil || len(v) != 100 {
				b.Error(len(v), err)
			}
			if err := item.Close(); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkScan reads 100,000 rows with their values; one operation is one row.
func BenchmarkScan(b *testing.B) {
	e := benchOpen(b, nil)
	fill(b, e, 100_000)
	s := e.NewSession(engine.SessionOptions{Trusted: true})
	b.ReportAllocs()
	for n := 0; n < b.N; {
		scan, err := s.Scan(b.Context(), engine.ScanRequest{Prefix: []byte("bench"), Values: true})
		if err != nil {
			b.Fatal(err)
		}
		for scan.Next() && n < b.N {
			if v, err := scan.Item().Bytes(); err != nil || len(v) != 100 {
				b.Fatal(len(v), err)
			}
			n++
		}
		if err := scan.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
