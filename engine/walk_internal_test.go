// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// walkChange is a change of a key, and the version that it made.
type walkChange struct {
	at            uint64
	kind          storage.ChangeKind
	rest          string
	value         string
	expires, worm uint64
}

func (c *walkChange) live(now uint64) bool {
	return c.kind == storage.ChangePut && (c.expires == 0 || c.expires > now)
}

// walkRead is what a transaction saw of a group.
type walkRead struct {
	at, now uint64
	prefix  string // of rests
	rows    []string
	hidden  map[string]bool // rests that it had written
	commit  uint64          // 0 if it wrote nothing, or was refused
}

// walkGroup is a group and what is known of it.
type walkGroup struct {
	name   string
	tables []string // their parts of rests
	keys   int      // of each table

	history []walkChange // in order, also what was collected

	mu      sync.Mutex
	acked   map[uint64][]walkChange // of the phase at hand, by version
	newest  uint64                  // among acked
	reads   []walkRead
	granted bool   // in the phase at hand
	slots   uint64 // of its log, before the phase and then at least
}

// key is the whole key of a rest.
func (g *walkGroup) key(rest string) []byte { return []byte(g.name + rest) }

// decided counts a command that changed nothing.
func (g *walkGroup) decided() {
	g.mu.Lock()
	g.slots++
	g.mu.Unlock()
}

// state is the newest change of each key not later than at.
func (g *walkGroup) state(at uint64) map[string]*walkChange {
	m := make(map[string]*walkChange)
	for i := range g.history {
		if c := &g.history[i]; c.at <= at {
			m[c.rest] = c
		}
	}
	return m
}

// rows are those that a scan finds.
func (g *walkGroup) rows(at, now uint64, prefix string) (rows []string) {
	for rest, c := range g.state(at) {
		if strings.HasPrefix(rest, prefix) && c.live(now) {
			rows = append(rows, row(rest, c.at, c.value))
		}
	}
	slices.Sort(rows)
	return rows
}

func row(rest string, at uint64, value string) string {
	return fmt.Sprintf("%s@%d %d %.20q", rest, at, len(value), value)
}

// walk is what TestWalk does.
type walk struct {
	t      *testing.T
	rng    *rand.Rand
	mem    *vfs.MemFS
	nanos  atomic.Int64
	e      *Engine
	groups []*walkGroup
	began  uint64 // the clock when the phase at hand began

	n walkCounts
}

type walkCounts struct {
	writes, refused, txns, conflicts, expired, events, resumed, carried, collected, copies, crashes, cut, starts, evicted uint64
}

// add adds what walkers and followers count.
func (n *walkCounts) add(m *walkCounts) {
	n.writes += m.writes
	n.refused += m.refused
	n.txns += m.txns
	n.conflicts += m.conflicts
	n.events += m.events
	n.resumed += m.resumed
}

func (x *walk) seeded() *rand.Rand { return rand.New(rand.NewPCG(x.rng.Uint64(), 2)) }

// pick draws a group: some are drawn often.
func (x *walk) pick(rng *rand.Rand) *walkGroup {
	n := len(x.groups)
	if rng.IntN(4) == 0 {
		return x.groups[rng.IntN(n)]
	}
	return x.groups[min(rng.IntN(n), rng.IntN(n))]
}

const (
	walkersMax = 3
	// keepTime is for how long history is kept, and phaseTime how much of it a phase takes: what one writes is not collected before the next.
	keepTime  = uint64(command.SnapshotAgeMax + collectSlack)
	phaseTime = 4 * time.Minute
	latest    = ^uint64(0)
)

func newWalk(t *testing.T, seed uint64) *walk {
	x := &walk{t: t, rng: rand.New(rand.NewPCG(seed, 1)), mem: vfs.NewCrashableMem()}
	x.nanos.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	for i, keys := range []int{1, 3, 15, 16, 17, 18, 33, 49, 4, 4, 4, 4, 8, 8, 8, 2, 2, 2, 1, 1} {
		g := &walkGroup{name: fmt.Sprintf("g%d", i), tables: []string{""}, keys: keys}
		if i%4 == 3 {
			g.tables = []string{"/a", "/b"}
		}
		x.groups = append(x.groups, g)
	}
	return x
}

func (x *walk) open() {
	o := Options{
		Dir: "data", FS: x.mem, MinFreeBytes: -1, SweepInterval: time.Hour, TxnIdle: TxnIdleMax, Retention: time.Second, Loops: []int{1, 2, 3, 64}[x.rng.IntN(4)],
		Now: func() time.Time { return time.Unix(0, x.nanos.Add(1)) },
	}
	e, err := Open(x.t.Context(), o)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { _ = e.Close() }) // where the walk has ended early; else it is closed
	x.e = e
	x.n.starts++
}

func (x *walk) session() *Session {
	s := x.e.NewSession(SessionOptions{Trusted: true})
	if err := s.Assume(x.t.Context(), "admin"); err != nil {
		x.t.Error(err)
	}
	return s
}

func (x *walk) close() error {
	m := x.e.replicator.Metrics()
	x.n.carried += m.Carried.Load()
	x.n.evicted += m.GroupEvictions.Load()
	x.n.collected += x.e.metrics.collectedVersions.Load()
	return x.e.Close()
}

// keep does what the sweeper does beside the walkers, while time goes on.
func (x *walk) keep(ctx context.Context, rng *rand.Rand, stop func() bool) error {
	for gone := int64(0); !stop(); time.Sleep(time.Duration(rng.IntN(int(time.Millisecond)))) { // sleep: leaves the processor to the walkers
		if d := rng.Int64N(int64(20 * time.Second)); gone+d < int64(phaseTime) {
			gone += d
			x.nanos.Add(d)
		}
		if rng.IntN(8) == 0 {
			x.nanos.Add(-rng.Int64N(int64(10 * time.Second)))
		}
		switch rng.IntN(4) {
		case 0:
			if _, err := x.e.expire(ctx); err != nil {
				return fmt.Errorf("expire: %w", err)
			}
		case 1:
			if err := x.e.collect(ctx); err != nil {
				return fmt.Errorf("collect: %w", err)
			}
		default:
			if now := x.e.clock.Read(); x.e.replicator.IsAhead() {
				stats, _, err := x.e.store.CollectBefore(ctx, now-keepTime, 1+rng.IntN(60))
				if err != nil {
					return fmt.Errorf("collect: %w", err)
				}
				x.n.collected += uint64(stats.Versions)
			}
		}
	}
	return nil
}

// fill writes to so many groups that the others leave memory.
func (x *walk) fill(ctx context.Context) error {
	var all []Write
	s := x.session()
	for i := range 1200 {
		w, err := s.PutLater(ctx, PutRequest{Key: fmt.Appendf(nil, "filler%d.x", i)})
		if err != nil {
			return err
		}
		all = append(all, w)
	}
	for _, w := range all {
		if _, err := w.Wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// copied is what a directory holds at least: of each group, versions up to one.
type copied struct {
	fs    *vfs.MemFS
	dir   string
	acked map[*walkGroup]uint64
}

func (x *walk) acked() map[*walkGroup]uint64 {
	m := make(map[*walkGroup]uint64)
	for _, g := range x.groups {
		g.mu.Lock()
		m[g] = g.newest
		g.mu.Unlock()
	}
	return m
}

// phase lets walkers, followers and the sweeper loose on the groups. It says what there would be if the power had failed at some moment of it,
// unless that is nil.
func (x *walk) phase() (crash *copied, err error) {
	ctx := x.t.Context()
	if x.rng.IntN(2) == 0 {
		if err := x.fill(ctx); err != nil {
			return nil, err
		}
	}
	x.began = x.e.clock.Wall()
	walkers, err := x.walkers()
	if err != nil {
		return nil, err
	}
	followers, err := x.followers()
	if err != nil {
		return nil, err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	var writing, others sync.WaitGroup
	var left, ops atomic.Int32
	errs := make(chan error, len(walkers)+len(followers)+1)
	for _, f := range followers {
		others.Go(func() { errs <- f.run(watching) })
	}
	left.Store(int32(len(walkers)))
	const opsEach = 40
	for _, w := range walkers {
		writing.Go(func() {
			defer left.Add(-1)
			var err error
			for n := 0; n < opsEach && err == nil; n++ {
				err = w.walk(ctx)
				ops.Add(1)
			}
			errs <- err
		})
	}
	keeper := x.seeded()
	others.Go(func() { errs <- x.keep(ctx, keeper, func() bool { return left.Load() == 0 }) })
	if x.rng.IntN(4) == 0 {
		if err := x.fill(ctx); err != nil {
			return nil, err
		}
	}
	at, what := int32(x.rng.IntN(len(walkers)*opsEach)), x.rng.IntN(4)
	for ops.Load() < at && left.Load() > 0 {
		time.Sleep(100 * time.Microsecond) // sleep: polls a condition that the walkers bring about
	}
	var checkpoint *copied
	switch what {
	case 0, 1:
		crash = &copied{acked: x.acked(), dir: "data"}
		crash.fs = x.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: x.rng.IntN(3) * 50, RNG: x.seeded()})
	case 2:
		x.n.copies++
		checkpoint = &copied{fs: x.mem, acked: x.acked(), dir: fmt.Sprint("copy", x.n.copies)}
		if err := x.e.store.Checkpoint(checkpoint.dir); err != nil {
			return nil, err
		}
		if x.rng.IntN(2) == 0 { // it is durable
			checkpoint.fs = x.mem.CrashClone(vfs.CrashCloneCfg{})
		}
	}
	writing.Wait()
	stop()
	others.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return nil, err
		}
	}
	return crash, x.settlePhase(walkers, followers, checkpoint)
}

// settlePhase holds what walkers and followers were told against each other, and against what was copied meanwhile.
func (x *walk) settlePhase(walkers []*walker, followers []*follower, checkpoint *copied) error {
	for _, g := range x.groups {
		if err := errors.Join(x.settle(g), x.learn(g)); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	for _, f := range followers {
		if err := f.check(); err != nil {
			return fmt.Errorf("watch of %s: %w", f.g.key(f.prefix), err)
		}
		x.n.add(&f.n)
	}
	for _, w := range walkers {
		x.n.add(&w.n)
	}
	if checkpoint != nil {
		if err := x.checkCopy(checkpoint); err != nil {
			return fmt.Errorf("checkpoint: %w", err)
		}
	}
	return nil
}

// walkers gives those of a phase. Each knows its own keys.
func (x *walk) walkers() ([]*walker, error) {
	var all []*walker
	for i := range walkersMax {
		all = append(all, &walker{x: x, s: x.session(), index: i, rng: x.seeded(), own: make(map[string]*walkChange)})
	}
	for _, g := range x.groups {
		g.acked, g.reads, g.granted, g.newest = make(map[uint64][]walkChange), nil, false, 0
		var err error
		if g.slots, err = x.slots(g); err != nil {
			return nil, err
		}
		for rest, c := range g.state(latest) {
			n, err := strconv.Atoi(rest[strings.IndexByte(rest, '.')+1:])
			if err != nil {
				return nil, err
			}
			all[n%walkersMax].own[g.name+rest] = c
		}
	}
	return all, nil
}

// followers gives those of a phase: some begin in history.
func (x *walk) followers() ([]*follower, error) {
	swept, err := x.e.store.SweptTo()
	if err != nil {
		return nil, err
	}
	var all []*follower
	for range 4 {
		g := x.pick(x.rng)
		f := &follower{g: g, s: x.session(), rng: x.seeded(), prefix: g.tables[x.rng.IntN(len(g.tables))] + ".", from: swept}
		if n := len(g.history); n > 0 {
			f.from = max(f.from, g.history[x.rng.IntN(n)].at)
		}
		f.from = max(f.from, x.began-(keepTime-uint64(phaseTime))) // what the collection can take meanwhile
		if err := f.open(f.from); err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// restart stops the node and starts it again, on what a crash has left unless that is nil.
func (x *walk) restart(crash *copied) error {
	slots := make(map[*walkGroup]uint64)
	for _, g := range x.groups {
		var err error
		if slots[g], err = x.slots(g); err != nil {
			return err
		}
	}
	if err := x.close(); err != nil {
		return err
	}
	if x.rng.IntN(4) == 0 {
		x.nanos.Add(-x.rng.Int64N(int64(30 * time.Second)))
	}
	if crash != nil {
		x.mem = crash.fs
		x.n.crashes++
	}
	x.open()
	if crash != nil {
		if err := x.cut(crash.acked); err != nil {
			return err
		}
	}
	for _, g := range x.groups {
		if n, err := x.slots(g); err != nil || n > slots[g] || crash == nil && n < slots[g] {
			return errors.Join(fmt.Errorf("the log of group %s has %d slots, and had %d", g.name, n, slots[g]), err)
		}
	}
	return x.check()
}

// run goes through so many phases and says what was wrong.
func (x *walk) run(phases int) error {
	x.open()
	for phase := range phases {
		crash, err := x.phase()
		if err == nil {
			err = x.check()
		}
		if err != nil {
			return fmt.Errorf("phase %d: %w", phase, err)
		}
		if x.rng.IntN(4) == 0 && crash == nil {
			if err := x.collect(); err != nil {
				return fmt.Errorf("phase %d, with all collected: %w", phase, err)
			}
		}
		if x.rng.IntN(3) > 0 {
			x.nanos.Add(x.rng.Int64N(int64(8 * time.Minute)))
		}
		if crash == nil && phase+1 < phases && x.rng.IntN(3) > 0 {
			continue
		}
		if err := x.restart(crash); err != nil {
			return fmt.Errorf("phase %d, after a start: %w", phase, err)
		}
	}
	if err := x.collect(); err != nil {
		return fmt.Errorf("with all collected: %w", err)
	}
	return x.close()
}

// TestWalk lets three writers loose on groups of one to ninety-eight keys, of which each owns some, so that it knows what becomes of each of its
// commands: values of all sizes, conditions, ends of life and write-once ends, deletes, grants, puts that share rounds, and transactions, with
// writes of what they read beside them. Watches follow, and begin again in the middle of history; the sweeper expires and collects, a little at a
// time, while the clock runs; the directory is copied; groups leave memory; and the node is stopped, or its power fails, and it is
// started again with another number of loops. The change index must tell what the writers were told, each change once, and nothing else; watches the
// same; and what can be read must be what the index says, at every time that is kept. When all is old only the newest values are left.
func TestWalk(t *testing.T) {
	seeds, phases := uint64(1), 8
	switch {
	case os.Getenv("ATLAS_LONG") != "":
		seeds, phases = 50, 14
	case invariants.Enabled:
		phases = 2
	}
	seed := rand.Uint64()
	if s := os.Getenv("ATLAS_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("seed=%d, of which all is drawn but the order of the goroutines; again with ATLAS_SEED=%d go test ./engine -run '^TestWalk$'", seed, seed)
	for i := range seeds {
		x := newWalk(t, seed+i)
		if err := x.run(phases); err != nil {
			t.Fatalf("seed %d: %v", seed+i, err)
		}
		t.Logf("seed %d: %+v", seed+i, x.n)
		if x.n.carried == 0 || x.n.events == 0 || x.n.collected == 0 || x.n.starts < 2 {
			t.Fatal("something never happened: nothing was tested")
		}
	}
}
