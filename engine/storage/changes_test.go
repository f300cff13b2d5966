// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// changesAfter are the changes of a group as text.
func changesAfter(tb testing.TB, s *Store, group string, after Timestamp) (list []string) {
	tb.Helper()
	scan, err := s.Changes(group, after)
	if err != nil {
		tb.Fatal(err)
	}
	for scan.Next() {
		c := scan.Change()
		list = append(list, fmt.Sprintf("%d/%d %d %s", c.Time, c.Seq, c.Kind, c.Rest))
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		tb.Fatal(err)
	}
	return list
}

// changeRecords counts the records of the change index.
func changeRecords(tb testing.TB, s *Store) (n int) {
	tb.Helper()
	if err := s.each([]byte{kindChange, 0}, []byte{kindChange + 1, 0}, func(_, _ []byte) error { n++; return nil }); err != nil {
		tb.Fatal(err)
	}
	return n
}

// TestChangesOfBatchesAreReadFromAnyTime (G18): however changes fell into batches and records, a reader gets those after its time, each once
// and in order.
func TestChangesOfBatchesAreReadFromAnyTime(t *testing.T) {
	s := openMem(t)
	rng := rand.New(rand.NewPCG(1, 1))
	groups := []string{"g", "h", "gh"}
	want := map[string][]string{}
	times := map[string][]Timestamp{}
	at := Timestamp(1)
	for range 60 {
		b := s.NewBatch()
		for range 1 + rng.IntN(4) {
			g := groups[rng.IntN(len(groups))]
			for range rng.IntN(5) {
				at += Timestamp(1 + rng.IntN(3))
				for seq := range uint32(1 + rng.IntN(3)) {
					rest := fmt.Sprintf(".%d%s", seq, strings.Repeat("x", rng.IntN(900)))
					v := Version{Value: []byte("v")}
					if rng.IntN(3) == 0 {
						v = Version{Deleted: true, Expired: rng.IntN(2) == 0}
					}
					b.PutVersion(g, []byte(rest), at, seq, v)
					want[g] = append(want[g], fmt.Sprintf("%d/%d %d %s", at, seq, changeKind(&v), rest))
					times[g] = append(times[g], at)
				}
			}
		}
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		b.Close()
	}
	for _, g := range groups {
		for after := range at + 2 {
			from := slices.IndexFunc(times[g], func(t Timestamp) bool { return t > after })
			if from < 0 {
				from = len(times[g])
			}
			if got := changesAfter(t, s, g, after); !slices.Equal(got, want[g][from:]) {
				t.Fatalf("%s after %d:\n%q\nwant\n%q", g, after, got, want[g][from:])
			}
		}
	}
	if records, changes := changeRecords(t, s), len(want["g"])+len(want["h"])+len(want["gh"]); records*3 > changes {
		t.Errorf("%d changes take %d records", changes, records)
	}
}

// TestChangeRecordLen: a record takes changes up to its length, and the next begins another.
func TestChangeRecordLen(t *testing.T) {
	const fields = 1 + 1 + 2 + 1 // time and seq of a byte, a length of two, the kind
	for _, c := range []struct{ more, records int }{{0, 1}, {1, 2}} {
		s := openMem(t)
		b := s.NewBatch()
		at := Timestamp(0)
		add := func(n int) {
			at++
			b.PutVersion("g", make([]byte, n), at, 0, Version{Value: []byte("v")})
		}
		length := 0
		for changeRecordLenMax-1000-length > 3000 {
			add(1000)
			length += fields + 1000
		}
		add(changeRecordLenMax - 1000 - length - fields)
		add(1000 + c.more) // the limit is of what is there with the key of the next
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if got := changeRecords(t, s); got != c.records || len(changesAfter(t, s, "g", 0)) != int(at) {
			t.Errorf("%d past the limit: %d records, want %d", c.more, got, c.records)
		}
	}
}

// TestCollectLeavesRecordsThatReachBeyond: a record of which one change is later than the floor stays whole, and is reported, until
// it can go.
func TestCollectLeavesRecordsThatReachBeyond(t *testing.T) {
	s := openMem(t)
	b := s.NewBatch()
	for at := Timestamp(10); at < 14; at++ {
		b.PutVersion("g", []byte(".a"), at, 0, Version{Value: []byte("v")})
	}
	if err := b.Commit(false); err != nil {
		t.Fatal(err)
	}
	b.Close()
	stats, more, err := s.CollectBefore(context.Background(), 12, 100)
	if err != nil || more || stats.Earliest != 13 || stats.Changes != 0 || len(changesAfter(t, s, "g", 9)) != 4 {
		t.Fatalf("%+v, %v, %v", stats, more, err)
	}
	stats, more, err = s.CollectBefore(context.Background(), 13, 100)
	if err != nil || more || stats.Looked != 4 || stats.Changes != 4 || stats.Versions != 3 || changeRecords(t, s) != 0 {
		t.Fatalf("%+v, %v, %v", stats, more, err)
	}
}

// TestDamagedChangeRecords: what no writer can have written is told, not read.
func TestDamagedChangeRecords(t *testing.T) {
	long := strings.Repeat("r", RestLenMax+1)
	for _, c := range []struct{ name, value string }{
		{"empty", ""},
		{"unknown kind", "\x05.a"},
		{"kind 0", "\x00.a"},
		{"long key", "\x01" + long},
		{"several, no span", "\x04"},
		{"several of none", "\x04\x00"},
		{"begins before time 0", "\x04\x0b\x00\x00\x02\x01.a"},
		{"cut in a field", "\x04\x00\x00"},
		{"cut in a key", "\x04\x00\x00\x00\x03\x01.a"},
		{"no kind", "\x04\x00\x00\x00\x00"},
		{"later than its end", "\x04\x01\x02\x00\x02\x01.a"},
		{"ends early", "\x04\x01\x00\x00\x02\x01.a"},
		{"other seq at the end", "\x04\x00\x00\x01\x02\x01.a"},
		{"seq does not rise", "\x04\x00\x00\x00\x02\x01.a\x00\x00\x02\x01.b"},
		{"list in a list", "\x04\x00\x00\x00\x02\x04.a"},
		{"endless varint", "\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"},
	} {
		s := mustOpen(t, memOptions(vfs.NewMem()))
		b := s.NewBatch()
		b.note(b.b.Set(appendChangeKey(nil, "g", 10, 0), []byte(c.value), nil))
		if err := b.Commit(false); err != nil {
			t.Fatal(err)
		}
		b.Close()
		scan, err := s.Changes("g", 0)
		if err != nil {
			t.Fatal(err)
		}
		for scan.Next() {
			if c.name != "seq does not rise" {
				t.Errorf("%s: read as %+v", c.name, scan.Change())
			}
		}
		if err := scan.Err(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", c.name, err)
		}
		_ = scan.Close() // it repeats no error
		if _, _, err := s.CollectBefore(context.Background(), 20, 100); !errors.Is(err, ErrCorrupt) {
			t.Errorf("collect, %s: %v", c.name, err)
		}
		_ = s.Close() // the store has failed
	}
}
