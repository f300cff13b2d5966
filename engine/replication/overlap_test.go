// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// holdFS holds up or fails the syncs of log files, and says how much room there is.
type holdFS struct {
	vfs.FS
	held    atomic.Bool
	release chan struct{}
	waiting atomic.Int32
	failing atomic.Bool
	failed  atomic.Int32
	free    atomic.Uint64
}

func newHoldFS() *holdFS {
	f := &holdFS{FS: vfs.NewMem(), release: make(chan struct{})}
	f.free.Store(1 << 40)
	return f
}

func (f *holdFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := f.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 41, UsedBytes: 1<<41 - free}, nil
}

func (f *holdFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.Create(name, c)
	return f.wrap(name, file, err)
}

func (f *holdFS) ReuseForWrite(old, name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	file, err := f.FS.ReuseForWrite(old, name, c)
	return f.wrap(name, file, err)
}

func (f *holdFS) wrap(name string, file vfs.File, err error) (vfs.File, error) {
	if err != nil || filepath.Ext(name) != ".log" {
		return file, err
	}
	return &holdFile{File: file, fs: f}, nil
}

type holdFile struct {
	vfs.File
	fs *holdFS
}

func (f *holdFile) sync() error {
	if f.fs.held.Load() {
		f.fs.waiting.Add(1)
		<-f.fs.release
	}
	if f.fs.failing.Load() {
		f.fs.failed.Add(1)
		return errors.New("injected: sync failed")
	}
	return f.File.Sync()
}

func (f *holdFile) Sync() error                { return f.sync() }
func (f *holdFile) SyncData() error            { return f.sync() }
func (f *holdFile) SyncTo(int64) (bool, error) { return true, f.sync() }

// outcome is what a proposal came to.
type outcome struct {
	result command.Result
	err    error
}

// overlap is a node with a sync held up and a round behind it.
type overlap struct {
	t     *testing.T
	n     *node
	fs    *holdFS
	first chan outcome
}

// startOverlap writes a value, then holds the sync of a second up.
func startOverlap(t *testing.T, depth int) *overlap {
	t.Helper()
	return startOverlapOf(t, depth, groupsMax)
}

// startOverlapOf is startOverlap with so many groups in memory at most.
func startOverlapOf(t *testing.T, depth, most int) *overlap {
	t.Helper()
	o := &overlap{t: t, fs: newHoldFS()}
	o.n = openNodeOn(t, o.fs, 1, depth, time.Hour)
	o.n.loops[0].most = most
	if _, err := o.n.Propose(t.Context(), "g", put(".k", "old")); err != nil {
		t.Fatal(err)
	}
	free := o.n.loops[0].free
	eventually(t, "the end of the first round", func() bool { return len(free) == cap(free) })
	o.fs.held.Store(true)
	t.Cleanup(func() { // a test that failed meanwhile: its node could not be closed
		if o.fs.held.Load() {
			o.letGo()
		}
	})
	o.first = o.propose("g", "first")
	eventually(t, "the sync", func() bool { return o.fs.waiting.Load() > 0 })
	return o
}

func (o *overlap) propose(group, value string) chan outcome {
	done := make(chan outcome, 1)
	go func() { // owner: the test, which waits for the answer
		result, err := o.n.Propose(o.t.Context(), group, put(".k", value))
		done <- outcome{result, err}
	}()
	return done
}

func (o *overlap) letGo() {
	o.fs.held.Store(false)
	close(o.fs.release)
}

func (o *overlap) applied(group string) int {
	rec, _, err := o.n.Record(group)
	if err != nil {
		o.t.Fatal(err)
	}
	return int(rec.Applied)
}

// visible is what a reader is given.
func (o *overlap) visible(group string) (value string, err error) {
	view, err := o.n.ReadView(group)
	if err != nil {
		return "", err
	}
	v, ok, err := o.n.store.GetAt(group, []byte(".k"), view.At)
	if err != nil || !ok {
		return "", err
	}
	b, err := v.Bytes()
	return string(b), errors.Join(err, v.Close())
}

// check finds what was told of rounds that are not durable.
func (o *overlap) check(answers ...chan outcome) error {
	for _, a := range answers {
		select {
		case got := <-a:
			return fmt.Errorf("answered before the sync: %v %v", got.result, got.err)
		default:
		}
	}
	if got, err := o.visible("g"); err != nil || got != "old" {
		return fmt.Errorf("before the sync it reads %q, %v", got, err)
	}
	if got, err := o.visible("cold"); err != nil || got != "" {
		return fmt.Errorf("before the sync a group that was not in memory reads %q, %w", got, err)
	}
	o.n.observed.mu.Lock()
	defer o.n.observed.mu.Unlock()
	if g, cold := o.n.observed.groups["g"], o.n.observed.groups["cold"]; g != 1 || cold != 0 {
		return fmt.Errorf("before the sync the observer heard of g %d times and of cold %d times, want 1 and 0", g, cold)
	}
	return nil
}

// TestRoundsOverlap: with two rounds under way the second is decided on what the first has applied while that is being synced, and
// nobody is told of either before the syncs. Every command is decided once, in order.
func TestRoundsOverlap(t *testing.T) {
	o := startOverlap(t, 2)
	second, cold := o.propose("g", "second"), o.propose("cold", "new")
	// The two may be one round or come one by one: then the latter waits for a flight.
	eventually(t, "a round applied behind the sync", func() bool { return o.applied("g") == 3 || o.applied("cold") == 1 })
	for range 100 {
		if err := o.check(o.first, second, cold); err != nil {
			t.Fatal(err)
		}
	}
	o.letGo()
	a, b, c := <-o.first, <-second, <-cold
	if err := errors.Join(a.err, b.err, c.err); err != nil || a.result.Version >= b.result.Version {
		t.Fatalf("after the syncs: %v %v %v", a, b, c)
	}
	for group, want := range map[string]string{"g": "second", "cold": "new"} {
		if got, err := o.visible(group); err != nil || got != want {
			t.Fatalf("after the syncs %s reads %q, %v", group, got, err)
		}
	}
	if got := o.applied("g"); got != 3 {
		t.Fatalf("%d slots applied, want 3", got)
	}
}

// TestNoGroupLeavesWithARoundUnderWay: where the rounds under way have more groups than may be in memory, the surplus leaves once they are told.
// A group that left sooner would be read as one of which all is durable, and be parked so.
func TestNoGroupLeavesWithARoundUnderWay(t *testing.T) {
	o := startOverlapOf(t, 2, 1)
	cold := o.propose("cold", "new")
	eventually(t, "a round applied behind the sync", func() bool { return o.applied("cold") == 1 })
	for range 100 {
		if err := o.check(o.first, cold); err != nil {
			t.Fatal(err)
		}
	}
	o.letGo()
	if a, b := <-o.first, <-cold; a.err != nil || b.err != nil {
		t.Fatalf("after the syncs: %v %v", a, b)
	}
	eventually(t, "one group in memory", func() bool { return o.n.GroupsInMemory() == 1 })
	for group, want := range map[string]string{"g": "first", "cold": "new"} {
		if got, err := o.visible(group); err != nil || got != want {
			t.Fatalf("after the syncs %s reads %q, %v", group, got, err)
		}
	}

	l := newLoop(o.n.Replicator, 1, 1, 1) // with no goroutines
	g, err := l.bring("idle")
	if err != nil {
		t.Fatal(err)
	}
	g.usedAt = 1 // long ago
	g.begin(o.n.opts.Clock)
	if l.evictIdle(); o.n.registry.find("idle") == nil {
		t.Fatal("an idle group left with a round under way")
	}
	g.inFlight.Add(-1)
	if l.evictIdle(); o.n.registry.find("idle") != nil {
		t.Fatal("an idle group stays")
	}
}

// TestTimeGoesOnBeforeTheAnswer: a round is over for readers before anyone is answered. A client that waited for its answer, and then for a value's
// time to pass, found the value still there: readers were judging by the time at which the round began. G11.
func TestTimeGoesOnBeforeTheAnswer(t *testing.T) {
	n := openNodeOn(t, vfs.NewMem(), 1, 2, time.Hour)
	for i := range 10 {
		rounds := int32(-1)
		// What owns the payload is called as the first thing in giving an answer.
		ticket, err := n.Submit(t.Context(), "g", put(".k", "v"), func() { rounds = n.registry.find("g").inFlight.Load() })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if rounds != 0 {
			t.Fatalf("answer %d comes with %d rounds under way", i, rounds)
		}
	}
}

// TestDepthOneWaits: with one round under way nothing is decided while it is being synced.
func TestDepthOneWaits(t *testing.T) {
	o := startOverlap(t, 1)
	second := o.propose("g", "second")
	eventually(t, "the second proposal in the queue", func() bool {
		q := o.n.loops[0].queue
		q.mu.Lock()
		defer q.mu.Unlock()
		return len(q.items) == 1
	})
	if got := o.applied("g"); got != 2 {
		t.Fatalf("%d slots applied, want 2", got)
	}
	if err := o.check(o.first, second); err != nil {
		t.Fatal(err)
	}
	o.letGo()
	if a, b := <-o.first, <-second; a.err != nil || b.err != nil {
		t.Fatalf("after the sync: %v %v", a.err, b.err)
	}
}

// TestFailedSyncFailsAllRounds: when a sync fails, every round under way is unknown and the node stops.
func TestFailedSyncFailsAllRounds(t *testing.T) {
	o := startOverlap(t, 2)
	second := o.propose("g", "second")
	eventually(t, "a round applied behind the sync", func() bool { return o.applied("g") == 3 })
	o.fs.failing.Store(true)
	o.letGo()
	for name, got := range map[string]outcome{"first": <-o.first, "second": <-second} {
		if !errors.Is(got.err, ErrUnknown) {
			t.Errorf("%s: %v %v, want unknown", name, got.result, got.err)
		}
	}
	if o.fs.failed.Load() == 0 {
		t.Fatal("no sync failed: nothing was tested")
	}
	if o.n.Err() == nil {
		t.Error("the node goes on")
	}
	if got, err := o.visible("g"); err == nil {
		t.Errorf("a stopped node reads %q", got)
	}
	if _, err := o.n.Propose(t.Context(), "g", put(".k", "later")); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a stopped node took a command: %v", err)
	}
	o.n.broken = true
}

// TestRefusedRoundBehindASync: a round that the disk has no room for is not applied, the one under way before it is, and the group goes
// on from there.
func TestRefusedRoundBehindASync(t *testing.T) {
	o := startOverlap(t, 2)
	o.fs.free.Store(0)
	eventually(t, "a refusal by the store", func() bool { // the figure is up to 100 ms old
		b := o.n.store.NewBatch()
		defer b.Close()
		b.SetState("other", "x", []byte("y"))
		return errors.Is(b.Commit(false), storage.ErrDiskFull)
	})
	second := o.propose("g", "second")
	eventually(t, "the refusal of a round", func() bool { return o.n.Metrics().Failed.Load() == 1 })
	if err := o.check(o.first); err != nil {
		t.Fatal(err)
	}
	o.letGo()
	if got := <-o.first; got.err != nil {
		t.Fatalf("the round before: %v", got.err)
	}
	if got := <-second; !errors.Is(got.err, ErrUnavailable) {
		t.Fatalf("the refused round: %v %v", got.result, got.err)
	}
	if got, err := o.visible("g"); err != nil || got != "first" {
		t.Fatalf("it reads %q, %v", got, err)
	}
	o.fs.free.Store(1 << 40)
	eventually(t, "room", func() bool {
		_, err := o.n.Propose(t.Context(), "g", put(".k", "third"))
		return err == nil
	})
	if got, err := o.visible("g"); err != nil || got != "third" || o.applied("g") != 3 {
		t.Fatalf("after room came back it reads %q, %v, with %d slots applied", got, err, o.applied("g"))
	}
}
