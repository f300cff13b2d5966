// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/format1 anew")

const fixtureDir = "testdata/format1"

// fixtureModel is what the fixture holds, whatever its format.
func fixtureModel() *model {
	m := newModel()
	k := &maker{rng: rand.New(rand.NewPCG(1, 1)), now: 1000}
	for range 40 {
		m.apply(k.commit())
	}
	c := &commit{n: k.n + 1, muts: []mutation{{op: "put", group: "ab", name: ".x", at: k.now + 10, v: Version{Value: make([]byte, 2*InlineLenMax+5), Expires: 99}}}}
	m.apply(c)
	return m
}

// encodeFormat1 is the record of format 1, as it was.
func encodeFormat1(v *Version) []byte {
	flags := byte(0)
	if v.Deleted {
		flags |= 1
	}
	if v.Expired {
		flags |= 2
	}
	if v.chunked {
		flags |= 4
	}
	b := binary.BigEndian.AppendUint64([]byte{flags}, v.WormUntil)
	b = binary.BigEndian.AppendUint64(b, v.Expires)
	if v.chunked {
		b = binary.BigEndian.AppendUint32(b, v.Seq)
		b = binary.BigEndian.AppendUint64(b, uint64(v.Size))
		return binary.BigEndian.AppendUint32(b, v.checksum)
	}
	return append(b, v.Value...)
}

// makeFormat1 turns a store of the current format into one of format 1.
func makeFormat1(tb testing.TB, fs vfs.FS, dir string, m *model) {
	tb.Helper()
	o := memOptions(fs)
	o.Dir = dir
	o.ClusterID = "fixture"
	s := mustOpen(tb, o)
	b := s.NewBatch()
	for g, rec := range m.records {
		b.SetRecord(g, []byte(rec))
	}
	for g, entries := range m.entries {
		for slot, e := range entries {
			b.AppendEntry(g, slot, []byte(e))
		}
	}
	for g, state := range m.state {
		for n, v := range state {
			b.SetState(g, n, []byte(v))
		}
	}
	for g, rests := range m.data {
		for rest, vs := range rests {
			for _, v := range vs {
				i := slices.IndexFunc(m.changes[g], func(c modelChange) bool { return c.time == v.Time && c.rest == rest })
				b.PutVersion(g, []byte(rest), v.Time, m.changes[g][i].seq, v)
			}
		}
	}
	b.SetState(counterGroup, "n", binary.BigEndian.AppendUint64(nil, m.commits))
	if err := b.Commit(true); err != nil {
		tb.Fatal(err)
	}
	b.Close()
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: []byte{kindData, 0}, UpperBound: []byte{kindData + 1, 0}})
	if err != nil {
		tb.Fatal(err)
	}
	old := s.db.NewBatch()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := decodeVersion(it.Value(), 1)
		if err != nil {
			tb.Fatal(err)
		}
		err = old.Set(it.Key(), encodeFormat1(&v), nil)
		if err != nil {
			tb.Fatal(err)
		}
	}
	err = errors.Join(it.Close(),
		old.DeleteRange([]byte{kindExpiry, 0}, []byte{kindExpiry + 1, 0}, nil),
		old.Set(appendNodeKey(nil, nodeFormat), sealNode(nodeFormat, binary.BigEndian.AppendUint32(nil, 1)), nil),
		s.db.Apply(old, pebble.Sync), s.db.Flush(), s.db.Compact(ctxForTest, []byte{0}, []byte{0xff, 0}, false),
		writeMarker(fs, dir, marker{format: 1, ready: true, cluster: "fixture"}), s.Close())
	if err != nil {
		tb.Fatal(err)
	}
}

// checkMigrated compares an upgraded store with the model, its TTL index included.
func checkMigrated(fs vfs.FS, m *model) error {
	s, err := Open(memOptions(fs))
	if err != nil {
		return err
	}
	got, err := dumpStore(s)
	if err != nil {
		return errors.Join(err, s.Close())
	}
	ttl, err := dumpExpiry(s)
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	if d := diff(got, m.dump()); d != "" {
		return fmt.Errorf("migrated store: %s", d)
	}
	var want []string
	for g, rests := range m.data {
		for rest, vs := range rests {
			for _, v := range vs {
				if v.Expires != 0 {
					want = append(want, fmt.Sprintf("%d %s%q %d", v.Expires, g, rest, v.Time))
				}
			}
		}
	}
	slices.Sort(want)
	slices.Sort(ttl)
	if !slices.Equal(ttl, want) {
		return fmt.Errorf("TTL index holds %q, want %q", ttl, want)
	}
	mark, _, err := readMarker(fs, memOptions(fs).Dir)
	if err != nil || mark.format != Format {
		return fmt.Errorf("marker %+v, %w", mark, err)
	}
	return nil
}

func dumpExpiry(s *Store) (list []string, err error) {
	err = s.each([]byte{kindExpiry, 0}, []byte{kindExpiry + 1, 0}, func(k, _ []byte) error {
		e, g, rest, at, err := splitExpiryKey(k)
		list = append(list, fmt.Sprintf("%d %s%q %d", e, g, rest, at))
		return err
	})
	return list, err
}

// fixture copies the checked-in directory of format 1 into memory.
func fixture(tb testing.TB) *vfs.MemFS {
	tb.Helper()
	mem := vfs.NewCrashableMem()
	if err := mem.MkdirAll("/data", 0o755); err != nil {
		tb.Fatal(err)
	}
	if ok, err := vfs.Clone(vfs.Default, mem, fixtureDir, "/data/atlas", vfs.CloneSync); err != nil || !ok {
		tb.Fatal(ok, err)
	}
	return mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))}) // all of it synced
}

// TestOldFormatIsMigrated opens a directory that format 1 has left; -rewrite makes it anew.
func TestOldFormatIsMigrated(t *testing.T) {
	m := fixtureModel()
	if *rewrite {
		if err := os.RemoveAll(fixtureDir); err != nil {
			t.Fatal(err)
		}
		mem := vfs.NewMem()
		makeFormat1(t, mem, "/data/atlas", m)
		if err := mem.Remove("/data/atlas/pebble/000002.log"); err != nil { // flushed, and kept to be used again
			t.Fatal(err)
		}
		if _, err := vfs.Clone(mem, vfs.Default, "/data/atlas", fixtureDir); err != nil {
			t.Fatal(err)
		}
	}
	mem := fixture(t)
	rec := &recorder{}
	if err := checkMigrated(mem, m); err != nil {
		t.Fatal(err)
	}
	if err := checkMigrated(mem, m); err != nil { // and once more, now that there is nothing to do
		t.Fatal(err)
	}
	if rec.warned() {
		t.Error(rec.lines)
	}
}

func TestOldFormatIsNotMigratedByReading(t *testing.T) {
	mem := fixture(t)
	o := memOptions(mem)
	o.ReadOnly = true
	if _, err := Open(o); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "upgraded") {
		t.Fatal(err)
	}
}

// TestMigrationSurvivesCrashes takes a power failure before each write of the migration.
func TestMigrationSurvivesCrashes(t *testing.T) {
	seed := testSeed(t)
	m := fixtureModel()
	mem := fixture(t)
	rng := rand.New(rand.NewPCG(seed, 9))
	var mu sync.Mutex
	var shots []*vfs.MemFS
	writes := 0
	o := memOptions(withFaults(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			mu.Lock()
			defer mu.Unlock()
			writes++
			percent := []int{0, 100, rng.IntN(101)}[writes%3]
			shots = append(shots, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rng}))
		}
		return nil
	})))
	mustClose(t, mustOpen(t, o))
	for i, fs := range shots {
		if err := checkMigrated(fs, m); err != nil {
			t.Fatalf("crash before write %d of %d: %v", i, writes, err)
		}
	}
	t.Logf("%d crashes, all migrated in the end", len(shots))
	if len(shots) < 30 {
		t.Fatal("too few crashes to mean anything")
	}
}

// TestHalfMigratedIsRefusedByOlder: the marker rises before the first record is written.
func TestHalfMigratedIsRefusedByOlder(t *testing.T) {
	mem := fixture(t)
	s := &Store{opts: memOptions(mem), base: mem}
	m, _, err := readMarker(mem, s.opts.Dir)
	if err != nil || m.format != 1 {
		t.Fatal(m, err)
	}
	target := &migrationTarget{s: s, m: &m}
	if err := target.Begin(2); err != nil {
		t.Fatal(err)
	}
	after, _, err := readMarker(mem, s.opts.Dir)
	if err != nil || after.format != 2 || after.cluster != m.cluster || !after.ready {
		t.Fatal(after, err)
	}
}

func TestDamagedOldRecordStopsMigration(t *testing.T) {
	mem := vfs.NewMem()
	makeFormat1(t, mem, "/data/atlas", fixtureModel())
	db, err := pebble.Open("/data/atlas/pebble", pebbleOptionsForTest(mem))
	if err != nil {
		t.Fatal(err)
	}
	key := appendDataKey(nil, "a", []byte(".zz"), 7)
	if err := errors.Join(db.Set(key, bytes.Repeat([]byte{9}, 30), pebble.Sync), db.Close()); err != nil {
		t.Fatal(err)
	}
	if err := mem.Remove("/data/atlas/" + proofName); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(memOptions(mem)); err == nil || !strings.Contains(err.Error(), "not of format 1") {
		t.Fatal(err)
	}
}

func pebbleOptionsForTest(fs vfs.FS) *pebble.Options {
	o := memOptions(fs)
	o.EnsureDefaults()
	return pebbleOptions(&o, fs, newHealth(o.Logger), &stallClock{})
}
