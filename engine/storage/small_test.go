// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/atlas-edge/atlas/consensus"
)

// write commits what fill puts into a batch.
func write(tb testing.TB, s *Store, fill func(b *Batch)) {
	tb.Helper()
	b := s.NewBatch()
	defer b.Close()
	fill(b)
	if err := b.Commit(true); err != nil {
		tb.Fatal(err)
	}
}

// storeSmall stores a group's record as that of a small group as of a time.
func storeSmall(tb testing.TB, s *Store, group string, after Timestamp) {
	tb.Helper()
	write(tb, s, func(b *Batch) { b.SetSmallRecord(group, []byte("record"), after, 1) })
}

// carry commits a version that carries a stamp.
func carry(tb testing.TB, s *Store, group, rest string, at Timestamp, nth int) {
	tb.Helper()
	write(tb, s, func(b *Batch) {
		b.PutCarrying(group, []byte(rest), at, Version{Value: fmt.Append(nil, at)}, fmt.Append(nil, "stamp ", at), nth)
	})
}

// TestIndexCarriedOfAGroupThatIsNotSmall: the index has all of it. Its versions, which carry nothing, were once taken for damage, which
// stops the store.
func TestIndexCarriedOfAGroupThatIsNotSmall(t *testing.T) {
	s := openMem(t)
	write(t, s, func(b *Batch) {
		b.PutVersion("g", []byte(".a"), 1, 0, Version{})
		b.PutVersion("g", []byte(".a"), 2, 0, Version{Deleted: true})
		b.PutVersion("g", []byte(".b"), 3, 0, Version{})
		b.SetRecord("g", []byte("record"))
		b.PutVersion("unrecorded", []byte(".a"), 3, 0, Version{})
	})
	b := s.NewBatch()
	defer b.Close()
	for group, want := range map[string]int{"g": 2, "unrecorded": 1, "absent": 0} {
		if keys, err := b.IndexCarried(group); err != nil || keys != want || !b.Empty() {
			t.Errorf("%s: %d keys, %v, empty %v", group, keys, err, b.Empty())
		}
	}
}

// TestIndexCarriedIsNotNothing: a batch of nothing but what the index lacks once said that it was empty.
func TestIndexCarriedIsNotNothing(t *testing.T) {
	s := openMem(t)
	storeSmall(t, s, "g", 1)
	carry(t, s, "g", ".a", 10, 1)
	b := s.NewBatch()
	defer b.Close()
	if _, err := b.IndexCarried("g"); err != nil || b.Empty() || b.Len() == 0 {
		t.Errorf("%v, empty %v, %d bytes", err, b.Empty(), b.Len())
	}
	if b.Reset(); !b.Empty() {
		t.Error("it is not empty after Reset")
	}
}

// TestSmallLimits takes each limit at its end and one past it. What is past it makes the whole batch fail, with nothing applied.
func TestSmallLimits(t *testing.T) {
	record := func(keys int) func(*Batch) {
		return func(b *Batch) { b.SetSmallRecord("g", []byte("record"), 1, keys) }
	}
	version := func(v Version, stampLen, nth int) func(*Batch) {
		return func(b *Batch) { b.PutCarrying("g", []byte(".a"), 10, v, make([]byte, stampLen), nth) }
	}
	value := func(n int) Version { return Version{Value: make([]byte, n)} }
	plain := func(rec ...byte) func(*Batch) { return func(b *Batch) { b.SetRecord("g", rec) } }
	newest := func(writer int) func(*Batch) { return func(b *Batch) { b.SetNewest(writer, 1) } }
	for _, c := range []struct {
		name string
		fill func(*Batch)
		ok   bool
	}{
		{"no keys", record(0), true},
		{"most keys", record(SmallKeysMax), true},
		{"too many keys", record(SmallKeysMax + 1), false},
		{"as many keys as a byte does not hold", record(256), false},
		{"fewer than no keys", record(-1), false},
		{"first stamp", version(value(1), 1, 1), true},
		{"last stamp", version(value(1), 1, CarriedMax), true},
		{"a stamp too many", version(value(1), 1, CarriedMax+1), false},
		{"stamp that a byte does not count", version(value(1), 1, 257), false},
		{"stamp before the first", version(value(1), 1, 0), false},
		{"stamp before that", version(value(1), 1, -1), false},
		{"no stamp and no value", version(value(0), 0, 1), true},
		{"longest value", version(value(CarriedValueLenMax), 1, 1), true},
		{"too long a value", version(value(CarriedValueLenMax+1), 1, 1), false},
		{"longest stamp", version(value(1), StampLenMax, 1), true},
		{"too long a stamp", version(value(1), StampLenMax+1, 1), false},
		{"tombstone", version(Version{Deleted: true}, 1, 1), false},
		{"expired tombstone", version(Version{Deleted: true, Expired: true}, 1, 1), false},
		{"version 0", func(b *Batch) { b.PutCarrying("g", nil, 0, value(1), nil, 1) }, false},
		{"longest key", func(b *Batch) { b.PutCarrying("g", make([]byte, RestLenMax), 1, value(1), nil, 1) }, true},
		{"too long a key", func(b *Batch) { b.PutCarrying("g", make([]byte, RestLenMax+1), 1, value(1), nil, 1) }, false},
		{"version of no group", func(b *Batch) { b.PutCarrying("", nil, 1, value(1), nil, 1) }, false},
		{"record of a group with a NUL", func(b *Batch) { b.SetSmallRecord("a\x00", nil, 1, 1) }, false},
		{"plain record", plain(smallMark + 1), true},
		{"empty record", plain(), true},
		{"record that begins with the mark", plain(smallMark, 0), false},
		{"record that is the mark", plain(smallMark), false},
		{"small record that begins with the mark", func(b *Batch) { b.SetSmallRecord("g", []byte{smallMark}, 1, 1) }, true},
		{"first writer", newest(0), true},
		{"last writer", newest(WriterMax), true},
		{"a writer too many", newest(WriterMax + 1), false},
		{"writer before the first", newest(-1), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := openMem(t)
			b := s.NewBatch()
			defer b.Close()
			b.SetState("g", "other", nil)
			c.fill(b)
			err := b.Commit(true)
			if c.ok != (err == nil) || !c.ok && !errors.Is(err, ErrTooLarge) {
				t.Fatal(err)
			}
			if _, there, err := s.State("g", "other"); err != nil || there != c.ok {
				t.Errorf("the rest of the batch is there: %v, %v", there, err)
			}
		})
	}
}

// TestSmallMarkIsNoVersion: the mark of a small group's record tells it from those that the consensus core writes, now and before.
func TestSmallMarkIsNoVersion(t *testing.T) {
	rec := consensus.Record{}
	b := rec.Append(nil)
	if b[0] == smallMark {
		t.Errorf("the core's records begin with %#x", b[0])
	}
	b[0] = smallMark
	sum := crc32.Checksum(b[:len(b)-4], castagnoli)
	binary.LittleEndian.PutUint32(b[len(b)-4:], sum)
	if _, err := consensus.DecodeRecord(b); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("version %d,", smallMark)) {
		t.Errorf("the core reads a record that begins with the mark: %v", err)
	}
}

// TestSmallDamageIsFound reads groups of which something that is stored cannot be what was written, in each of the ways that meet it.
func TestSmallDamageIsFound(t *testing.T) {
	version := func(flags byte, tail ...byte) []byte { return append([]byte{recordMark, flags}, tail...) }
	long := slices.Concat([]byte{1, StampLenMax + 1}, make([]byte, StampLenMax+1))
	chunked := slices.Concat([]byte{1, 0}, make([]byte, chunkedLen))
	head := func(mark, keys byte) []byte { return append([]byte{mark, keys}, make([]byte, 8)...) }
	data := appendDataKey(nil, "g", []byte(".b"), 20)
	record := appendRecordKey(nil, "g")
	damages := []struct {
		name       string
		key, value []byte
	}{
		{"version without a stamp", data, version(0, 'v')},
		{"tombstone", data, version(flagDeleted)},
		{"stamp without a head", data, version(flagCarries)},
		{"stamp cut short in its head", data, version(flagCarries, 1)},
		{"stamp cut short", data, version(flagCarries, 1, 3, 'a', 'b')},
		{"stamp cut short behind an expiry", data, version(flagCarries|flagExpires, 0, 0, 0, 0, 0, 0, 0, 9, 1, 1)},
		{"stamp 0", data, version(flagCarries, 0, 1, 'a')},
		{"stamp past the last", data, version(flagCarries, CarriedMax+1, 1, 'a')},
		{"stamp past its longest", data, version(flagCarries, long...)},
		{"tombstone with a stamp", data, version(flagCarries|flagDeleted, 1, 0)},
		{"large value with a stamp", data, version(flagCarries|flagChunked, chunked...)},
		{"unknown flag", data, version(flagCarries<<1, 1, 0)},
		{"unknown mark of a version", data, []byte{recordMark + 1, flagCarries, 1, 0}},
		{"empty version", data, nil},
		{"data key without a version", appendDataPrefix(nil, "g", []byte(".b")), nil},
		{"record cut short", record, head(smallMark, 1)[:smallHeadLen-1]},
		{"record that is its mark", record, head(smallMark, 1)[:1]},
		{"record of too many keys", record, head(smallMark, SmallKeysMax+1)},
	}
	for name, read := range map[string]func(s *Store) error{
		"Record": func(s *Store) error {
			_, _, err := s.Record("g")
			return err
		},
		"Acceptor": func(s *Store) error {
			gs, err := s.Groups("")
			if err != nil || !gs.Next() {
				t.Fatal(err)
			}
			if _, err = gs.Acceptor(); err != nil && (gs.Next() || gs.Err() == nil) {
				t.Error("the walk goes on")
			}
			return errors.Join(err, gs.Close())
		},
		"Changes": func(s *Store) error {
			cs, err := s.Changes("g", 0)
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for ; cs.Next(); n++ {
			}
			if cs.Err() != nil && n > 1 {
				t.Errorf("%d changes before the damage", n) // that of the index alone
			}
			return errors.Join(cs.Err(), cs.Close())
		},
		"IndexCarried": func(s *Store) error {
			b := s.NewBatch()
			defer b.Close()
			_, err := b.IndexCarried("g")
			return err
		},
	} {
		for _, d := range append(damages, damages[0]) {
			t.Run(name+"/"+d.name, func(t *testing.T) {
				s := mustOpen(t, memOptions(vfs.NewMem()))
				write(t, s, func(b *Batch) {
					b.PutVersion("g", []byte(".a"), 5, 0, Version{})
					b.SetSmallRecord("g", []byte("record"), 10, 1)
				})
				carry(t, s, "g", ".a", 15, 1)
				if err := read(s); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(s.db.Set(d.key, d.value, nil), s.cache.committed()); err != nil {
					t.Fatal(err)
				}
				if err := read(s); !errors.Is(err, ErrCorrupt) || !errors.Is(s.Err(), ErrFatal) {
					t.Errorf("read with %v; the store has %v", err, s.Err())
				}
				if err := s.Close(); !errors.Is(err, ErrCorrupt) {
					t.Errorf("closed with %v", err)
				}
			})
		}
	}
}

// TestNewest: the newest time is the latest of all writers, is as durable as the batch that brought it, and damage to it is found.
func TestNewest(t *testing.T) {
	fs := vfs.NewMem()
	s := mustOpen(t, memOptions(fs))
	want := func(t0 Timestamp) {
		t.Helper()
		if got, err := s.Newest(); err != nil || got != t0 {
			t.Fatalf("newest %d, %v, want %d", got, err, t0)
		}
	}
	want(0)
	for _, step := range []struct {
		writer   int
		at, want Timestamp
	}{{7, 100, 100}, {0, 50, 100}, {WriterMax, 300, 300}, {7, 200, 300}, {0, newest, newest}} {
		write(t, s, func(b *Batch) { b.SetNewest(step.writer, step.at) })
		want(step.want)
	}
	b := s.NewBatch()
	b.SetNewest(1, 500)
	b.SetNewest(-1, 500)
	if err := b.Commit(true); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	b.Close()
	write(t, s, func(b *Batch) { b.SetNewest(0, 60) })
	want(300)
	mustClose(t, s)
	s = mustOpen(t, memOptions(fs))
	want(300)
	for _, value := range [][]byte{nil, make([]byte, 12), sealNode(nodeNewest+"1", make([]byte, 8)), sealNode(nodeNewest+"2", make([]byte, 7))} {
		if err := s.db.Set(appendNodeKey(nil, nodeNewest+"2"), value, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Newest(); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%x is read: %v", value, err)
		}
		_ = s.Close() // it has failed
		s = mustOpen(t, memOptions(fs))
	}
	write(t, s, func(b *Batch) { b.SetNewest(2, 400) })
	want(400)
	mustClose(t, s)
}

// changesOf lists the times of a group's changes.
func changesOf(tb testing.TB, r Reader, group string, after Timestamp) (times []Timestamp) {
	tb.Helper()
	cs, err := r.Changes(group, after)
	if err != nil {
		tb.Fatal(err)
	}
	for cs.Next() {
		times = append(times, cs.Change().Time)
	}
	if cs.Next() {
		tb.Error("a change after the last")
	}
	if err := errors.Join(cs.Err(), cs.Close()); err != nil {
		tb.Fatal(err)
	}
	if cs.Next() {
		tb.Error("a change after Close")
	}
	return times
}

// TestChangesOfSmallGroups reads changes across the index, of records of one and of several changes, and the versions with stamps, after
// each time that there is; then when all are in the index, when some are swept, and in a view of before.
func TestChangesOfSmallGroups(t *testing.T) {
	s := openMem(t)
	put(t, s, "g", ".a", 10, Version{})
	write(t, s, func(b *Batch) {
		b.PutVersion("g", []byte(".a"), 20, 0, Version{Deleted: true})
		b.PutVersion("g", []byte(".b"), 30, 0, Version{})
		b.SetSmallRecord("g", []byte("record"), 30, 2)
	})
	carry(t, s, "g", ".b", 40, 1) // in the order of times, which is not that of the keys
	carry(t, s, "g", "", 50, 2)
	carry(t, s, "g", ".b", 60, 3)
	carry(t, s, "g", ".a\x00", 70, 4)
	for _, other := range []string{"f", "g!", "g-", "gg"} {
		storeSmall(t, s, other, 1)
		carry(t, s, other, ".b", 45, 1)
	}
	all := []Timestamp{10, 20, 30, 40, 50, 60, 70}
	check := func(what string, r Reader, swept Timestamp, all []Timestamp) {
		t.Helper()
		for after := range Timestamp(72) {
			want := slices.DeleteFunc(slices.Clone(all), func(t Timestamp) bool { return t <= max(after, swept) })
			if got := changesOf(t, r, "g", after); !slices.Equal(got, want) {
				t.Fatalf("%s: after %d come %d, want %d", what, after, got, want)
			}
		}
	}
	check("with stamps", s, 0, all)
	if got := changesOf(t, s, "g", newest); got != nil {
		t.Errorf("after the newest time come %d", got)
	}
	cs, err := s.Changes("g", 35)
	if err != nil {
		t.Fatal(err)
	}
	if !cs.Next() || fmt.Sprintf("%+v", cs.Change()) != fmt.Sprintf("%+v", Change{Time: 40, Kind: ChangePut, Rest: []byte(".b")}) {
		t.Errorf("change %+v", cs.Change())
	}
	if err := cs.Close(); err != nil || cs.Next() {
		t.Errorf("closed among stamps: %v, or it goes on", err)
	}

	view := s.NewSnapshot()
	write(t, s, func(b *Batch) {
		if _, err := b.IndexCarried("g"); err != nil {
			t.Fatal(err)
		}
		b.PutVersion("g", []byte(".c"), 71, 5, Version{})
		b.SetSmallRecord("g", []byte("record"), 71, 4)
	})
	check("in the index", s, 0, append(slices.Clone(all), 71))
	check("in the view of before", view, 0, all)
	for _, floor := range []Timestamp{35, 50, 71} {
		if err := s.SetSweptTo(floor); err != nil {
			t.Fatal(err)
		}
		check("swept", s, floor, append(slices.Clone(all), 71))
		check("swept, in the view of before", view, floor, all)
	}
	if err := view.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIndexCarried enters, in the order of their times, the changes of versions with stamps, but for those that are swept and made nothing
// old, and counts the keys. What the batch changes comes after them.
func TestIndexCarried(t *testing.T) {
	s := openMem(t)
	write(t, s, func(b *Batch) {
		b.PutVersion("g", []byte(".dead"), 5, 0, Version{Deleted: true})
		b.SetSmallRecord("g", []byte("record"), 5, 1)
	})
	for i, rest := range []string{".b", ".a", ".a", "", ".b"} {
		carry(t, s, "g", rest, Timestamp(10*(i+1)), i+1)
	}
	if err := s.SetSweptTo(30); err != nil {
		t.Fatal(err)
	}
	write(t, s, func(b *Batch) {
		b.PutVersion("f", []byte(".x"), 60, 0, Version{})
		if keys, err := b.IndexCarried("g"); err != nil || keys != 4 {
			t.Errorf("%d keys, %v", keys, err)
		}
		b.PutVersion("g", []byte(".c"), 61, 2, Version{Deleted: true})
		b.SetSmallRecord("g", []byte("record"), 61, 5)
	})
	var got []string
	w, err := s.newWalk(appendGroup(nil, kindChange, "g"), appendGroupEnd(nil, kindChange, "g"))
	if err != nil {
		t.Fatal(err)
	}
	for k, v, ok := w.next(); ok; k, v, ok = w.next() {
		_, at, seq, err := splitTimedKey(k, kindChange)
		var r changeRecord
		if err = errors.Join(err, r.open(at, seq, v)); err != nil {
			t.Fatal(err)
		}
		for c, ok, _ := r.change(); ok; c, ok, _ = r.change() {
			got = append(got, fmt.Sprintf("%d: %d.%d %d %q", at, c.Time, c.Seq, c.Kind, c.Rest))
		}
	}
	if err := errors.Join(w.Err(), w.Close()); err != nil {
		t.Fatal(err)
	}
	want := []string{`5: 5.0 2 ".dead"`, `50: 30.0 1 ".a"`, `50: 40.0 1 ""`, `50: 50.0 1 ".b"`, `61: 61.2 2 ".c"`}
	if !slices.Equal(got, want) {
		t.Errorf("the index holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if a, found, err := s.Record("g"); err != nil || !found || a.Carried != 0 || a.Stamp != nil || a.At != 0 || a.Keys != 5 {
		t.Errorf("%+v, %v, %v", a, found, err)
	}
}

// TestCountKeys counts up to its limit, tombstones and keys of several versions once.
func TestCountKeys(t *testing.T) {
	s := openMem(t)
	const keys = 5
	for i, rest := range []string{"", "\x00", ".a", ".a\x00", ".b"} {
		for at := range Timestamp(3) {
			put(t, s, "g", rest, 10*Timestamp(i)+at+1, Version{Deleted: at == 2 && i == 1})
		}
	}
	put(t, s, "g!", ".a", 1, Version{})
	put(t, s, "f", ".a", 1, Version{})
	for limit := 1; limit < keys+2; limit++ {
		if n, err := s.CountKeys("g", limit); err != nil || n != min(keys, limit) {
			t.Errorf("limit %d: %d keys, %v", limit, n, err)
		}
	}
	if n, err := s.CountKeys("absent", 1); err != nil || n != 0 {
		t.Errorf("%d keys, %v", n, err)
	}
}

// TestReadsOfWhatCarries reads a version with a stamp and every optional field, in each of the ways that there are, and lets it expire.
func TestReadsOfWhatCarries(t *testing.T) {
	s := openMem(t)
	storeSmall(t, s, "g", 1)
	want := Version{Time: 10, Value: []byte("value"), WormUntil: 1 << 60, Expires: 50}
	write(t, s, func(b *Batch) {
		b.PutCarrying("g", []byte(".a"), 10, want, bytes.Repeat([]byte{0xff}, StampLenMax), 1)
	})
	check := func(how string, v Version, value []byte) {
		t.Helper()
		if v.Time != want.Time || v.WormUntil != want.WormUntil || v.Expires != want.Expires || v.Size != 5 || v.Deleted || v.Large() || string(value) != "value" {
			t.Errorf("%s: %+v %q", how, v, value)
		}
	}
	h, live, err := s.GetAt("g", []byte(".a"), 10)
	if err != nil || !live {
		t.Fatal(live, err)
	}
	value, err := h.Bytes()
	check("GetAt", h.Version(), value)
	if err := errors.Join(err, h.Close()); err != nil {
		t.Fatal(err)
	}
	v, found, err := s.Latest("g", []byte(".a"))
	if err != nil || !found {
		t.Fatal(found, err)
	}
	check("Latest", v, []byte("value"))
	for _, reverse := range []bool{false, true} {
		sc, err := s.NewScan(ScanOptions{Group: "g", At: 10, Now: 49, Reverse: reverse})
		if err != nil || !sc.Next() {
			t.Fatal(err)
		}
		check("scan", sc.Version(), sc.Version().Value)
		if sc.Next() {
			t.Error("the scan goes on")
		}
		if err := errors.Join(sc.Err(), sc.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.Count(ctxForTest, ScanOptions{Group: "g", At: 10, Now: 50}); err != nil || n != 0 {
		t.Errorf("%d keys that have not expired, %v", n, err)
	}
	due := func(want int) {
		t.Helper()
		list, more, err := s.Expired(50, 10)
		if err != nil || more || len(list) != want || want > 0 && (list[0].Time != 10 || string(list[0].Rest) != ".a") {
			t.Errorf("due %+v, %v, %v", list, more, err)
		}
	}
	due(1)
	carry(t, s, "g", ".a", 60, 2)
	collectAll(t, s, 60) // takes the entry of the TTL index with the version
	w, err := s.newWalk([]byte{kindExpiry, 0}, []byte{kindExpiry + 1, 0})
	if err != nil {
		t.Fatal(err)
	}
	if k, _, ok := w.next(); ok {
		t.Errorf("the TTL index keeps %x", k)
	}
	if err := errors.Join(w.Err(), w.Close()); err != nil {
		t.Fatal(err)
	}
	due(0)
}

// TestSmallGroupsSideBySide: of groups whose names are prefixes of one another, each with keys that are empty or hold NULs, each has the
// newest of its own stamps, whichever of its keys carries it.
func TestSmallGroupsSideBySide(t *testing.T) {
	s := openMem(t)
	groups := []string{"a", "a\x01", "a-b", "aa", "ab", "b"}
	rests := []string{"", "\x00", "\x00\x00", ".a", ".a\x00", "\xff"}
	at, newestOf := Timestamp(1), map[string]Timestamp{}
	for _, g := range groups {
		storeSmall(t, s, g, 1)
	}
	check := func() {
		t.Helper()
		gs, err := s.Groups("")
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			a, found, err := s.Record(g)
			if !gs.Next() || gs.Group() != g {
				t.Fatalf("the walk has group %q, want %q: %v", gs.Group(), g, gs.Err())
			}
			same, werr := gs.Acceptor()
			if err := errors.Join(err, werr); err != nil || !found {
				t.Fatal(found, err)
			}
			stamp := ""
			if newestOf[g] != 0 {
				stamp = fmt.Sprint("stamp ", newestOf[g])
			}
			if string(a.Stamp) != stamp || a.At != newestOf[g] || string(a.Record) != "record" || !a.Small || a.Keys != 1 {
				t.Fatalf("group %q: %+v, want the stamp of %d", g, a, newestOf[g])
			}
			if fmt.Sprintf("%+v", a) != fmt.Sprintf("%+v", same) || (a.Stamp == nil) != (same.Stamp == nil) {
				t.Fatalf("group %q: %+v, in the walk %+v", g, a, same)
			}
		}
		if gs.Next() {
			t.Error("the walk goes on")
		}
		if err := errors.Join(gs.Err(), gs.Close()); err != nil {
			t.Fatal(err)
		}
	}
	check()
	for n := 1; n <= 5; n++ {
		for i, g := range groups {
			at++
			carry(t, s, g, rests[(n*(i+1))%len(rests)], at, n)
			newestOf[g] = at
			check()
		}
	}
	if collectAll(t, s, at); at != 31 {
		t.Fatal(at)
	}
	check()
}

// TestCheckpointLetsNoCommitIn: a copy waits for the batches that are not durable yet, and none begins while it is made.
func TestCheckpointLetsNoCommitIn(t *testing.T) {
	var s *Store
	var copied, met atomic.Int64
	o := memOptions(withFaults(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if strings.HasPrefix(op.Path, "/copy/"+pebbleDirName) && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			copied.Add(1)
			if s.copying.TryRLock() {
				s.copying.RUnlock()
				met.Add(1)
			}
		}
		return nil
	})))
	s = mustOpen(t, o)
	defer func() { mustClose(t, s) }()
	free := func() bool {
		if !s.copying.TryLock() {
			return false
		}
		s.copying.Unlock()
		return true
	}
	b := s.NewBatch()
	defer b.Close()
	if err := b.CommitLater(); err != nil || !free() {
		t.Errorf("an empty batch holds a copy up: %v", err)
	}
	b.SetState("g", "s", nil)
	if err := b.CommitLater(); err != nil || free() {
		t.Errorf("a copy does not wait for what is not durable: %v", err)
	}
	if err := b.Wait(); err != nil || !free() {
		t.Errorf("a copy waits for what is durable: %v", err)
	}
	b.Reset()
	b.SetState("g", "s", nil)
	b.SetNewest(-1, 1)
	if err := errors.Join(b.CommitLater(), b.Commit(true)); err == nil || !free() {
		t.Errorf("a refused batch holds a copy up: %v", err)
	}
	if err := s.Checkpoint("/copy"); err != nil || !free() {
		t.Errorf("no copy, or commits wait for ever: %v", err)
	}
	if copied.Load() == 0 || met.Load() > 0 {
		t.Errorf("%d operations of a copy, a commit could fall into %d", copied.Load(), met.Load())
	}
}

// TestLimitCache: the block cache stays small until it is given back.
func TestLimitCache(t *testing.T) {
	s := openMem(t)
	rng := rand.New(rand.NewPCG(1, 2))
	k := maker{rng: rng}
	write(t, s, func(b *Batch) {
		for i := range 300 {
			b.PutVersion("g", row(i), Timestamp(i+1), 0, Version{Value: k.blob(30_000)})
		}
	})
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	read := func() int64 {
		if n, err := s.Count(ctxForTest, ScanOptions{Group: "g", At: newest}); err != nil || n != 300 {
			t.Fatal(n, err)
		}
		return s.db.Metrics().BlockCache.Size
	}
	whole := s.opts.CacheBytes + 2*s.opts.MemTableBytes
	most := whole - s.opts.CacheBytes + cacheLimited(s.opts.CacheBytes)
	restore := s.LimitCache()
	if size := read(); size > most {
		t.Errorf("%d bytes are cached, %d at most", size, most)
	}
	restore()
	if size := read(); size <= most || size > whole {
		t.Errorf("%d bytes are cached, want more than %d, and %d at most", size, most, whole)
	}
}
