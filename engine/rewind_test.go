// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// A scan that is begun again gives the same rows, whatever was written meanwhile, in either direction, to its limit, and
// inside a transaction with its own writes.
func TestScanRewind(t *testing.T) {
	for _, inTxn := range []bool{false, true} {
		for _, reverse := range []bool{false, true} {
			for _, limit := range []int{0, 3} {
				t.Run(fmt.Sprintf("txn=%v reverse=%v limit=%d", inTxn, reverse, limit), func(t *testing.T) {
					e := open(t, vfs.NewMem())
					s, other := trusted(e), trusted(e)
					for _, key := range []string{"t.a", "t.b", "t.c", "t.e"} {
						put(t, s, key, "1")
					}
					if inTxn {
						must(t, s.Begin(t.Context()))
						put(t, s, "t.d", "own")
						del(t, s, "t.b")
					}
					scan, err := s.Scan(t.Context(), engine.ScanRequest{Prefix: []byte("t"), Reverse: reverse, Limit: limit, Values: true})
					must(t, err)
					walk := func() (rows []string) {
						for scan.Next() {
							v, err := scan.Item().Bytes()
							must(t, err)
							rows = append(rows, string(scan.Key())+"="+string(v))
						}
						must(t, scan.Err())
						return rows
					}
					first := walk()
					if len(first) < 3 {
						t.Fatalf("first walk gave %q", first)
					}
					put(t, other, "t.aa", "new")
					put(t, other, "t.c", "2")
					del(t, other, "t.e")
					must(t, scan.Rewind())
					wantRows(t, walk(), first...)
					must(t, scan.Rewind())
					if !scan.Next() {
						t.Fatal("nothing after the second rewind")
					}
					must(t, scan.Close())
					if inTxn {
						if _, err := s.Commit(t.Context()); err == nil {
							t.Fatal("commit after the range changed")
						}
					}
				})
			}
		}
	}
}
