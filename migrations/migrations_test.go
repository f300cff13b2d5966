// SPDX-License-Identifier: AGPL-3.0-only

package migrations

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
)

// memStore is a Store that fails, as a crash does, after so many calls that write.
type memStore struct {
	records  map[string]Record // by key and version, so that the order is the store's
	format   uint32
	marker   uint32
	position []byte
	writes   int
	failAt   int
}

var errCrash = errors.New("crash")

func id(key []byte, version uint64) string {
	return string(key) + "\x00" + string(binary.BigEndian.AppendUint64(nil, ^version))
}

func (m *memStore) put(key string, version uint64, value []byte) {
	m.records[id([]byte(key), version)] = Record{Key: []byte(key), Version: version, Value: value}
}

func (m *memStore) fail() error {
	if m.writes++; m.writes == m.failAt {
		return errCrash
	}
	return nil
}

func (m *memStore) Each(lower, upper []byte, fn func(Record) (bool, error)) error {
	for _, k := range slices.Sorted(maps.Keys(m.records)) {
		r := m.records[k]
		if bytes.Compare(r.Key, lower) < 0 || bytes.Compare(r.Key, upper) >= 0 {
			continue
		}
		if more, err := fn(r); err != nil || !more {
			return err
		}
	}
	return nil
}

func (m *memStore) Write(records []Write, position []byte) error {
	if err := m.fail(); err != nil {
		return err
	}
	if m.marker <= m.format {
		return errors.New("written before the marker was raised")
	}
	for _, w := range records {
		if w.Delete {
			delete(m.records, id(w.Key, w.Version))
		} else {
			m.records[id(w.Key, w.Version)] = w.Record
		}
	}
	m.position = bytes.Clone(position)
	return nil
}

func (m *memStore) Position(uint32) ([]byte, error) { return m.position, nil }

func (m *memStore) Begin(format uint32) error {
	if err := m.fail(); err != nil {
		return err
	}
	m.marker = format
	return nil
}

func (m *memStore) Finish(format uint32) error {
	if err := m.fail(); err != nil {
		return err
	}
	m.format, m.position = format, nil
	return nil
}

func record1(flags byte, worm, expires uint64, tail string) []byte {
	b := binary.BigEndian.AppendUint64([]byte{flags}, worm)
	return append(binary.BigEndian.AppendUint64(b, expires), tail...)
}

// format1 is a store of the old format, large enough for several writes.
func format1() *memStore {
	m := &memStore{records: map[string]Record{}, format: 1, marker: 1}
	m.put("\x01identity", 0, []byte("untouched"))
	for i := range 3 * batchRecords {
		key := fmt.Sprintf("\x04g\x00.row%05d", i/2) // two versions each
		at := uint64(100 + i)
		switch i % 4 {
		case 0:
			m.put(key, at, record1(0, 0, 0, "value"))
		case 1:
			m.put(key, at, record1(0, 7, at+50, "value"))
		case 2:
			m.put(key, at, record1(1, 0, 0, ""))
		case 3:
			m.put(key, at, record1(4, 0, at, strings.Repeat("c", chunkedLen1)))
		}
	}
	return m
}

func (m *memStore) String() string {
	var w strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m.records)) {
		fmt.Fprintf(&w, "%x %x\n", k, m.records[k].Value)
	}
	return w.String()
}

func TestMigratesOnceAndTheSameAfterEveryCrash(t *testing.T) {
	log := slog.New(slog.DiscardHandler)
	whole := format1()
	if err := Run(context.Background(), whole, 1, log); err != nil {
		t.Fatal(err)
	}
	if whole.format != Newest || whole.marker != Newest {
		t.Fatalf("format %d, marker %d", whole.format, whole.marker)
	}
	index := 0
	for _, r := range whole.records {
		if r.Key[0] == kindExpiry2 {
			index++
		}
		if r.Key[0] == kindData2 && r.Value[0] != mark2 {
			t.Fatalf("record %x was left", r.Value)
		}
	}
	if want := 3 * batchRecords / 2; index != want {
		t.Fatalf("TTL index of %d entries, want %d", index, want)
	}
	crashes := 0
	for at := 1; ; at++ {
		m := format1()
		m.failAt = at
		err := Run(context.Background(), m, m.format, log)
		if err == nil {
			break
		}
		if !errors.Is(err, errCrash) {
			t.Fatal(err)
		}
		crashes++
		if m.format == Newest {
			t.Fatal("finished although it crashed")
		}
		if err := Run(context.Background(), m, m.format, log); err != nil {
			t.Fatal(err)
		}
		if m.String() != whole.String() {
			t.Fatalf("after a crash at write %d the result differs", at)
		}
	}
	t.Logf("%d crashes", crashes)
	if crashes < 4 {
		t.Fatal("too few crashes to mean anything")
	}
	// Idempotent, also without its position.
	again := whole.String()
	whole.format, whole.position = 1, nil
	if err := Run(context.Background(), whole, 1, log); err != nil || whole.String() != again {
		t.Fatal("a second run changed something", err)
	}
}

func TestStepsLeadFromOldestToNewest(t *testing.T) {
	want := uint32(Oldest + 1)
	for _, s := range Steps() {
		if s.To != want || s.Name == "" || s.Run == nil {
			t.Fatalf("%+v, want step to %d", s, want)
		}
		want++
	}
	if want != Newest+1 {
		t.Fatalf("steps end at %d, newest is %d", want-1, Newest)
	}
	log := slog.New(slog.DiscardHandler)
	for _, from := range []uint32{0, Newest + 1} {
		if err := Run(context.Background(), format1(), from, log); err == nil {
			t.Errorf("format %d was taken", from)
		}
	}
	if err := run(context.Background(), format1(), 1, Newest+1, Steps(), log); err == nil || !strings.Contains(err.Error(), "no migration leads from format 5") {
		t.Error(err)
	}
}

func FuzzMarkVersion(f *testing.F) {
	f.Add(record1(0, 1, 2, "v"), uint64(3))
	f.Add(record1(4, 0, 0, strings.Repeat("c", chunkedLen1)), uint64(3))
	f.Add([]byte{mark2, 0}, uint64(3))
	f.Fuzz(func(t *testing.T, b []byte, version uint64) {
		writes, err := markVersion(Record{Key: []byte("\x04g\x00.a"), Version: version, Value: b})
		if err != nil || len(writes) == 0 {
			return
		}
		more, err := markVersion(writes[0].Record)
		if err != nil || len(more) != 0 {
			t.Fatal("not idempotent", more, err)
		}
	})
}
