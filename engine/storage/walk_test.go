// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"math/rand/v2"
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
