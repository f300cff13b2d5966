// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// TestModelWalk lets random commits, reads, scans, snapshots, collections, flushes, restarts and crashes loose on a store
// and on a map, over random options, and compares.
func TestModelWalk(t *testing.T) {
	seed := testSeed(t)
	var total walkCounts
	for i := range scaled(12) {
		total.add(modelWalk(t, seed+uint64(i)))
	}
	t.Logf("%+v", total)
	if total.Crashes == 0 || total.Compared == 0 || total.Carried == 0 || total.Indexed == 0 {
		t.Fatal("the walk did not do what it is for")
	}
}

type walkCounts struct {
	Commits, Carried, Indexed, Compared, Scans, Snapshots, Collections, Flushes, Restarts, Crashes, Lost int
}

func (a *walkCounts) add(b walkCounts) {
	a.Commits += b.Commits
	a.Carried += b.Carried
	a.Indexed += b.Indexed
	a.Compared += b.Compared
	a.Scans += b.Scans
	a.Snapshots += b.Snapshots
	a.Collections += b.Collections
	a.Flushes += b.Flushes
	a.Restarts += b.Restarts
	a.Crashes += b.Crashes
	a.Lost += b.Lost
}

// walker is one walk.
type walker struct {
	t     *testing.T
	rng   *rand.Rand
	fs    *vfs.MemFS
	o     Options
	s     *Store
	m     *model
	k     *maker
	done  []*commit
	floor Timestamp

	synced uint64 // the number of the last commit that must survive

	n walkCounts
}

func modelWalk(t *testing.T, seed uint64) walkCounts {
	w := &walker{t: t, rng: rand.New(rand.NewPCG(seed, 1)), fs: vfs.NewCrashableMem(), m: newModel()}
	w.k = &maker{rng: w.rng, large: 30, now: 100, small: map[string]int{}}
	w.o = memOptions(w.fs)
	w.o.MemTableBytes = int64(256<<10) << w.rng.IntN(4)
	w.o.CacheBytes = int64(1<<20) << w.rng.IntN(4)
	w.o.CompactionWorkers = 1 + w.rng.IntN(3)
	w.s = mustOpen(t, w.o)
	for step := range 150 {
		if err := w.step(); err != nil {
			t.Fatalf("seed %d step %d: %v", seed, step, err)
		}
	}
	mustClose(t, w.s)
	return w.n
}

func (w *walker) step() error {
	switch x := w.rng.IntN(100); {
	case x < 60:
		return w.commit(w.rng.IntN(2) == 0)
	case x < 75:
		return w.compare()
	case x < 85:
		w.n.Scans++
		at := w.floor + w.rng.Uint64N(w.k.now-w.floor+2)
		return checkScans(w.s, w.m, w.rng, at)
	case x < 88:
		return w.snapshot()
	case x < 91:
		return w.collect()
	case x < 94:
		w.n.Flushes++
		return w.s.db.Flush()
	case x < 96:
		w.n.Restarts++
		mustClose(w.t, w.s)
		w.synced = w.m.commits
		w.s = mustOpen(w.t, w.o)
		return w.compare()
	default:
		return w.crash()
	}
}

func (w *walker) commit(sync bool) error {
	w.n.Commits++
	c := w.k.commit()
	b := w.s.NewBatch()
	defer b.Close()
	c.fill(b)
	if err := b.Commit(sync); err != nil {
		return err
	}
	for _, m := range c.muts {
		if m.op == "carry" {
			w.n.Carried++
		} else if m.op == "index" && w.m.small[m.group].Carried > 0 {
			w.n.Indexed++
		}
	}
	w.m.apply(c)
	if w.done = append(w.done, c); sync {
		w.synced = c.n
	}
	return nil
}

func (w *walker) compare() error {
	w.n.Compared++
	got, err := dumpStore(w.s)
	if err != nil {
		return err
	}
	if d := diff(got, w.m.dump()); d != "" {
		return fmt.Errorf("store and model differ: %s", d)
	}
	return nil
}

func (w *walker) snapshot() error {
	w.n.Snapshots++
	snap := w.s.NewSnapshot()
	want := w.m.dump()
	for range 3 {
		if err := w.commit(false); err != nil {
			return err
		}
	}
	got, err := dumpStore(snap)
	if err != nil {
		return err
	}
	if d := diff(got, want); d != "" {
		return fmt.Errorf("snapshot and model differ: %s", d)
	}
	return snap.Close()
}

// collect removes old versions in small steps, then syncs, so that a crash has only whole collections to lose.
func (w *walker) collect() error {
	w.n.Collections++
	w.floor += w.rng.Uint64N(w.k.now - w.floor + 1)
	before, err := w.s.SweptTo()
	if err != nil {
		return err
	}
	for more := true; more; {
		if _, more, err = w.s.CollectBefore(ctxForTest, w.floor, 1+w.rng.IntN(50)); err != nil {
			return err
		}
	}
	w.m.sweep(w.floor)
	want := max(before, w.m.swept)
	w.done = append(w.done, &commit{n: w.m.commits, floor: w.floor})
	if err := w.commit(true); err != nil {
		return err
	}
	if got, err := w.s.SweptTo(); err != nil || got != want {
		return fmt.Errorf("swept to %d, %w, want %d", got, err, want)
	}
	return w.compare()
}

// crash restarts on what a power failure leaves. What comes back must be the state after one of the commits since the
// last sync.
func (w *walker) crash() error {
	w.n.Crashes++
	percent := []int{0, 100, w.rng.IntN(101)}[w.rng.IntN(3)]
	fs := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: w.rng})
	mustClose(w.t, w.s)
	w.fs, w.o.FS = fs, fs
	w.s = mustOpen(w.t, w.o)
	got, err := dumpStore(w.s)
	if err != nil {
		return err
	}
	// Replay: the model has all of them; go back to the one that the counter names.
	var n uint64
	if _, err := fmt.Sscanf(got, "commits %d", &n); err != nil {
		return err
	}
	if n < w.synced || n > w.m.commits {
		return fmt.Errorf("crash with %d %% came back at commit %d, %d was synced", percent, n, w.synced)
	}
	for _, c := range w.done {
		if c.n > n {
			w.n.Lost++
		}
	}
	w.m = w.replay(n)
	w.k.follow(w.m)
	w.synced = n
	if d := diff(got, w.m.dump()); d != "" {
		return fmt.Errorf("after a crash at commit %d: %s", n, d)
	}
	return nil
}

// replay rebuilds the model up to a commit.
func (w *walker) replay(n uint64) *model {
	m := newModel()
	for i, c := range w.done {
		if c.n > n {
			w.done = w.done[:i]
			break
		}
		if c.floor != 0 {
			m.sweep(c.floor)
		} else {
			m.apply(c)
		}
	}
	return m
}

// TestTornCollections lets rounds of the collection end early, lets commits fall into each of their calls, raises the floor between these,
// and crashes while what they removed is not durable. Nothing that may be asked for is ever missing; and in the end one whole round
// leaves of every key its newest version, if that is live, and nothing else.
func TestTornCollections(t *testing.T) {
	seed := testSeed(t)
	var total tornCounts
	for i := range scaled(12) {
		w := tornWalk(t, seed+uint64(i))
		total.Torn += w.n.Torn
		total.Meddled += w.n.Meddled
		total.Crashes += w.n.Crashes
	}
	t.Logf("%+v", total)
	if total.Torn == 0 || total.Meddled == 0 || total.Crashes == 0 {
		t.Fatal("the walk did not do what it is for")
	}
}

type tornCounts struct{ Torn, Meddled, Crashes int }

// tornWalker is the context of its collections, too.
type tornWalker struct {
	context.Context
	walker
	n tornCounts
}

func tornWalk(t *testing.T, seed uint64) *tornWalker {
	w := &tornWalker{Context: ctxForTest, walker: walker{t: t, rng: rand.New(rand.NewPCG(seed, 6)), fs: vfs.NewCrashableMem(), m: newModel()}}
	w.k = &maker{rng: w.rng, large: 30, now: 100, small: map[string]int{}}
	w.o = memOptions(w.fs)
	w.open()
	for step := range 200 {
		if err := w.step(); err != nil {
			t.Fatalf("seed %d step %d: %v", seed, step, err)
		}
	}
	if err := w.end(); err != nil {
		t.Fatalf("seed %d, in the end: %v", seed, err)
	}
	mustClose(t, w.s)
	return w
}

// open opens the store, of which the collection knows exactly, or nothing, which groups have stamps.
func (w *tornWalker) open() {
	w.s = mustOpen(w.t, w.o)
	if w.rng.IntN(3) > 0 {
		w.s.CollectKnowing(func(group string) bool { return w.m.small[group] != nil && w.m.small[group].Carried > 0 })
	}
}

// Err is asked before each record that a collection looks at.
func (w *tornWalker) Err() error {
	if w.rng.IntN(20) > 0 {
		return nil
	}
	w.n.Meddled++
	return w.commit(false)
}

func (w *tornWalker) step() error {
	switch x := w.rng.IntN(100); {
	case x < 60:
		return w.commit(w.rng.IntN(4) == 0)
	case x < 75:
		return w.compare()
	case x < 95:
		if w.rng.IntN(2) == 0 {
			w.floor += w.rng.Uint64N(w.k.now - w.floor + 1)
		}
		_, more, err := w.s.CollectBefore(w, w.floor, 1+w.rng.IntN(20))
		if more {
			w.n.Torn++
		}
		return err
	default:
		return w.crash()
	}
}

// compare reads what may be asked for.
func (w *tornWalker) compare() error {
	at := w.floor + w.rng.Uint64N(w.k.now-w.floor+2)
	if err := checkScans(w.s, w.m, w.rng, at); err != nil {
		return err
	}
	swept, err := w.s.SweptTo()
	if err != nil {
		return err
	}
	for _, g := range testGroups {
		a, found, err := w.s.Record(g)
		rec, want := w.m.records[g]
		small := w.m.small[g]
		if small == nil {
			small = &modelSmall{}
		}
		if err != nil || found != want || string(a.Record) != rec || string(a.Stamp) != small.stamp || a.At != small.at || a.Smallness != small.Smallness {
			return fmt.Errorf("group %s: %v, %w, %+v, want %v, %+v", g, found, err, a, want, small)
		}
		var times []Timestamp
		for _, c := range w.m.changes[g] {
			if c.time > swept {
				times = append(times, c.time)
			}
		}
		if got := changesOf(w.t, w.s, g, swept); !slices.Equal(got, times) {
			return fmt.Errorf("group %s: changes %d after %d, want %d", g, got, swept, times)
		}
	}
	return nil
}

func (w *tornWalker) crash() error {
	w.n.Crashes++
	fs := w.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rng.IntN(101), RNG: w.rng})
	mustClose(w.t, w.s)
	w.fs, w.o.FS = fs, fs
	w.open()
	n, _, err := w.s.State(counterGroup, "n")
	if err != nil {
		return err
	}
	w.m = w.replay(uint64OrZero(n))
	w.k.follow(w.m)
	return w.compare()
}

// end collects all that is old, and looks for what is left of it.
func (w *tornWalker) end() error {
	for range 2 { // that at hand, and one of the new floor
		w.floor = w.k.now
		for more := true; more; {
			var err error
			if _, more, err = w.s.CollectBefore(ctxForTest, w.floor, 1+w.rng.IntN(50)); err != nil {
				return err
			}
		}
	}
	if err := w.compare(); err != nil {
		return err
	}
	want := map[byte]int{}
	for _, g := range testGroups {
		for _, rest := range testRests {
			var times []Timestamp
			if v, ok := w.m.at(g, rest, newest); ok && !v.Deleted {
				times = append(times, v.Time)
				want[kindData]++
				want[kindExpiry] += int(min(1, v.Expires))
				if len(v.Value) > InlineLenMax {
					want[kindChunk] += (len(v.Value) + ChunkLen - 1) / ChunkLen
				}
			}
			if got := timesOf(w.t, w.s, g, rest); !slices.Equal(got, times) {
				return fmt.Errorf("versions %d of %s%q are kept, want %d", got, g, rest, times)
			}
		}
	}
	for _, kind := range []byte{kindData, kindChunk, kindChange, kindExpiry, kindPending} {
		n := 0
		err := w.s.each([]byte{kind, 0}, []byte{kind + 1, 0}, func(_, _ []byte) error {
			n++
			return nil
		})
		if err != nil || n != want[kind] {
			return fmt.Errorf("%d records of kind %d are kept, %w, want %d", n, kind, err, want[kind])
		}
	}
	return nil
}
