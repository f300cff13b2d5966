// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// decided is a command that has a slot, and what was told of it.
type decided struct {
	payload []byte
	c       *command.Command // nil for what is no command
	result  command.Result
}

// smallGroup is a group of a smallRun, and what those who wrote to it were told.
type smallGroup struct {
	name string
	keys int

	mu    sync.Mutex
	log   []decided // by version once nothing is under way
	seen  []point   // of its record, since the last check
	since Timestamp // the newest version that was acknowledged
	path  []point   // of its record after each command, as far as was checked
}

// smallVersion is a version of a key as the model has it.
type smallVersion struct {
	time, expires, worm Timestamp
	deleted             bool
	value               []byte
}

// smallModel is what a log comes to.
type smallModel struct {
	granted  bool
	changes  []storage.Change
	versions map[string][]smallVersion
}

// latest is the newest version of a key; the zero one if there is none.
func (m *smallModel) latest(rest []byte) smallVersion {
	if vs := m.versions[string(rest)]; len(vs) > 0 {
		return vs[len(vs)-1]
	}
	return smallVersion{deleted: true}
}

func (v *smallVersion) liveAt(at Timestamp) bool {
	return !v.deleted && (v.expires == 0 || v.expires > at)
}

// decide says what a command comes to: see the package comment of command. All are of the system.
func (m *smallModel) decide(at Timestamp, c *command.Command) command.Outcome {
	if c == nil {
		return command.Invalid
	}
	for i := range c.Mutations {
		u := &c.Mutations[i]
		if v := m.latest(u.Rest); (u.Kind == command.Put || u.Kind == command.Delete) && !v.deleted && v.worm > at {
			return command.Denied
		}
	}
	for i := range c.Conditions {
		found := Timestamp(0)
		if v := m.latest(c.Conditions[i].Rest); v.liveAt(at) {
			found = v.time
		}
		if found != c.Conditions[i].Version {
			return command.Conflict
		}
	}
	if c.Reads != nil {
		if at-c.Reads.Snapshot > Timestamp(command.SnapshotAgeMax) {
			return command.Conflict
		}
		for i := range m.changes {
			change := &m.changes[i]
			if change.Time <= c.Reads.Snapshot || change.Kind == storage.ChangeExpire {
				continue
			}
			for _, r := range c.Reads.Ranges {
				if bytes.Compare(change.Rest, r.Lower) >= 0 && (len(r.Upper) == 0 || bytes.Compare(change.Rest, r.Upper) < 0) {
					return command.Conflict
				}
			}
		}
	}
	return command.Applied
}

// apply decides a command and writes it.
func (m *smallModel) apply(d *decided) error {
	at := d.result.Version
	if want := m.decide(at, d.c); d.result.Outcome != want {
		return fmt.Errorf("the command at %d came to %+v, want outcome %d", at, d.result, want)
	}
	if d.result.Outcome != command.Applied {
		return nil
	}
	var seq uint32
	lists := 0
	write := func(rest []byte, kind storage.ChangeKind, v smallVersion) {
		v.time, v.deleted = at, kind != storage.ChangePut
		m.changes = append(m.changes, storage.Change{Time: at, Seq: seq, Kind: kind, Rest: rest})
		m.versions[string(rest)] = append(m.versions[string(rest)], v)
		seq++
	}
	for i := range d.c.Mutations {
		u := &d.c.Mutations[i]
		last := m.latest(u.Rest)
		switch u.Kind {
		case command.Put:
			v := smallVersion{value: u.Value, worm: u.WormUntil}
			if u.TTL != 0 {
				v.expires = at + Timestamp(u.TTL)
			}
			write(u.Rest, storage.ChangePut, v)
		case command.Delete:
			if last.liveAt(at) {
				write(u.Rest, storage.ChangeDelete, smallVersion{})
			}
		case command.Expire:
			if last.time == u.Version && u.Version != 0 && !last.deleted && !last.liveAt(at) {
				write(u.Rest, storage.ChangeExpire, smallVersion{})
			}
		default:
			if grants := u.Kind == command.Grant; m.granted != grants {
				m.granted = grants
				lists++
			}
		}
	}
	if got, want := d.result.Changes, int(seq)+lists; got != want {
		return fmt.Errorf("the command at %d made %d changes, want %d", at, got, want)
	}
	return nil
}

// smallRun drives groups with few keys, of which few are in memory, from several goroutines at a time. It is what TestSmallGroups says.
type smallRun struct {
	t      *testing.T
	rng    *rand.Rand
	groups []*smallGroup
	mem    *vfs.MemFS
	fs     *holdFS
	n      *node
	floor  Timestamp // old versions up to it are collected

	turning bool // what is parked is forgotten, now and then
	turns   atomic.Uint64

	carried, reads, evictions, refused, crashes, cut, collected uint64
}

func newSmallRun(t *testing.T, seed uint64) *smallRun {
	x := &smallRun{t: t, rng: rand.New(rand.NewPCG(seed, 1)), mem: vfs.NewCrashableMem()}
	for i := range 40 {
		x.groups = append(x.groups, &smallGroup{name: fmt.Sprintf("g%d", i), keys: []int{1, 4, 14, 17, 40}[i%5]})
	}
	return x
}

// open starts a node on the directory.
func (x *smallRun) open() {
	x.fs = newHoldFS()
	x.fs.FS = x.mem
	x.n = openNodeOn(x.t, x.fs, 1+x.rng.IntN(3), 1+x.rng.IntN(3), time.Hour)
	x.n.broken = true // closing says so where a full disk has cut off what was not synced
	x.n.store.CollectKnowing(x.n.Carries)
	for _, l := range x.n.loops {
		l.most, l.mostLight = 1+x.rng.IntN(12), 1+x.rng.IntN(12)
	}
	x.n.registry.bound()
	x.turning = x.rng.IntN(2) == 0
}

func (x *smallRun) close() error {
	m := x.n.Metrics()
	x.carried += m.Carried.Load()
	x.reads += m.GroupReads.Load()
	x.evictions += m.GroupEvictions.Load()
	x.refused += m.Failed.Load()
	err := x.n.Close()
	if serr := x.n.store.Close(); !errors.Is(serr, storage.ErrDiskFull) {
		err = errors.Join(err, serr)
	}
	return err
}

// pick draws a group: some are written often, most seldom.
func (x *smallRun) pick(rng *rand.Rand) *smallGroup {
	return x.groups[min(rng.IntN(len(x.groups)), rng.IntN(len(x.groups)), rng.IntN(len(x.groups)))]
}

func (g *smallGroup) rest(rng *rand.Rand) []byte { return fmt.Appendf(nil, ".%d", rng.IntN(g.keys)) }

func (g *smallGroup) put(rng *rand.Rand) command.Mutation {
	size := rng.IntN(40)
	switch rng.IntN(60) {
	case 0:
		size = storage.InlineLenMax + 1 + rng.IntN(1<<10)
	case 1, 2:
		size = storage.CarriedValueLenMax + rng.IntN(3) - 1
	}
	return command.Mutation{Kind: command.Put, Rest: g.rest(rng), Value: bytes.Repeat([]byte{byte('a' + rng.IntN(26))}, size)}
}

// draw makes a command. snapshot is a time that no collection has gone past.
func (g *smallGroup) draw(rng *rand.Rand, snapshot Timestamp) *command.Command {
	c := &command.Command{System: true, Mutations: []command.Mutation{g.put(rng)}}
	m := &c.Mutations[0]
	g.mu.Lock()
	known := g.since
	g.mu.Unlock()
	switch rng.IntN(30) {
	case 0:
		*m = command.Mutation{Kind: command.Delete, Rest: m.Rest}
	case 1:
		c.Conditions = []command.Condition{{Kind: command.Absent, Rest: m.Rest}}
	case 2:
		c.Conditions = []command.Condition{{Kind: command.VersionIs, Rest: g.rest(rng), Version: known}}
	case 3:
		m.Rest, m.WormUntil = append(m.Rest, 'w'), 1<<62
	case 4:
		m.TTL = time.Nanosecond
	case 5:
		m.TTL = time.Hour
	case 6:
		*m = command.Mutation{Kind: command.Expire, Rest: m.Rest, Version: known}
	case 7:
		*m = command.Mutation{Kind: command.Grant, Object: authz.KindTable, Perms: authz.PermOwner, Principal: "p"}
	case 8:
		*m = command.Mutation{Kind: command.ResetGrants, Object: authz.KindTable}
	case 9:
		c.Mutations = append(c.Mutations, command.Mutation{Kind: command.Put, Rest: []byte(".second"), Value: []byte("v")})
	case 10: // where there is nothing to delete, this is one put
		c.Mutations = append(c.Mutations, command.Mutation{Kind: command.Delete, Rest: []byte(".second")})
	case 11:
		c.Mutations = []command.Mutation{{Kind: command.Delete, Rest: []byte(".second")}, *m}
	case 12, 13:
		c.Reads = &command.ReadSet{Snapshot: max(snapshot, known), Ranges: []command.Range{{Lower: g.rest(rng)}}}
	}
	return c
}

// write hands a few commands over and notes the answers.
func (x *smallRun) write(rng *rand.Rand) error {
	type handed struct {
		g *smallGroup
		decided
		ticket Ticket
	}
	var all []handed
	var errs []error
	if x.turning && rng.IntN(8) == 0 {
		x.n.registry.turn(x.pick(rng).name, rng)
		x.turns.Add(1)
	}
	g := x.pick(rng)
	for range 1 + rng.IntN(10) {
		if rng.IntN(3) > 0 {
			g = x.pick(rng)
		}
		h := handed{g: g, decided: decided{payload: []byte("no command")}}
		if rng.IntN(40) > 0 {
			h.c = g.draw(rng, x.floor)
			h.payload = h.c.AppendTo(nil)
		}
		var err error
		if h.ticket, err = x.n.Submit(context.Background(), g.name, bytes.Clone(h.payload), nil); err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, h)
	}
	for _, h := range all {
		var err error
		if h.result, err = h.ticket.Wait(context.Background()); errors.Is(err, ErrUnavailable) && x.n.Err() == nil {
			time.Sleep(time.Millisecond) // sleep: so that the disk is still full for others
			continue                     // it has no slot
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		at, err := loadRecord(x.n.store, h.g.name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		h.g.mu.Lock()
		h.g.log = append(h.g.log, h.decided)
		h.g.since = max(h.g.since, h.result.Version)
		h.g.seen = append(h.g.seen, pointOf(&at.record))
		h.g.mu.Unlock()
	}
	return errors.Join(errs...)
}

func pointOf(rec *consensus.Record) point {
	return point{round: rec.Accepted.Round, slot: rec.Last, time: rec.LastTime, chain: rec.LastChain}
}

// load writes from several goroutines while old versions are collected. It says what there would be if the power failed at some moment of it,
// and what was acknowledged before.
func (x *smallRun) load(full bool) (crashed *vfs.MemFS, acked map[string]Timestamp, err error) {
	const writers, writes = 3, 30
	var all, collecting sync.WaitGroup
	var left, done atomic.Int32
	var on atomic.Bool // writing, whatever was written
	errs := make([]error, writers+1)
	left.Store(writers)
	on.Store(full)
	for i := range writers {
		rng := rand.New(rand.NewPCG(x.rng.Uint64(), 2))
		all.Go(func() {
			defer left.Add(-1)
			for n := 0; n < writes || on.Load(); n++ {
				if errs[i] = x.write(rng); errs[i] != nil {
					return
				}
				done.Add(1)
			}
		})
	}
	stop, cancel := context.WithCancel(context.Background())
	defer cancel()
	if floor := x.floor; x.rng.IntN(2) == 0 {
		rng := rand.New(rand.NewPCG(x.rng.Uint64(), 3))
		collecting.Go(func() {
			for stop.Err() == nil && errs[writers] == nil {
				_, _, err := x.n.store.CollectBefore(stop, floor, 1+rng.IntN(100))
				if stop.Err() == nil && !errors.Is(err, storage.ErrDiskFull) {
					errs[writers] = err
				}
			}
		})
	}
	until := int32(x.rng.IntN(writers * writes))
	percent := x.rng.IntN(3) * 50
	seed := x.rng.Uint64()
	eventually(x.t, "a part of the writes", func() bool { return done.Load() >= until || left.Load() == 0 })
	acked = map[string]Timestamp{}
	for _, g := range x.groups {
		g.mu.Lock()
		acked[g.name] = g.since
		g.mu.Unlock()
	}
	crashed = x.mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 4))})
	if full { // the store looks at it every 100 ms
		x.fs.free.Store(0)
		before := x.n.Metrics().Failed.Load()
		eventually(x.t, "a full disk", func() bool { return x.n.Metrics().Failed.Load() > before+5 || left.Load() == 0 })
		x.fs.free.Store(1 << 40)
		before = x.n.Metrics().Commands.Load()
		eventually(x.t, "room", func() bool { return x.n.Metrics().Commands.Load() > before+20 || left.Load() == 0 })
		on.Store(false)
	}
	all.Wait()
	cancel()
	collecting.Wait()
	return crashed, acked, errors.Join(errs...)
}

// check holds the node against what its groups were told. Requires: nothing is under way.
func (x *smallRun) check() error {
	swept, err := x.n.store.SweptTo()
	if err != nil {
		return err
	}
	var newest Timestamp
	var names []string
	for _, g := range x.groups {
		names = append(names, g.name)
		if err := g.check(x.n, swept); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
		if len(g.log) > 0 {
			newest = max(newest, g.log[len(g.log)-1].result.Version)
		}
	}
	if got, err := NewestTime(x.n.store); err != nil || got != newest {
		return errors.Join(fmt.Errorf("the newest time is %d, want %d", got, newest), err)
	}
	x.floor = newest
	_, err = checkParked(x.n.Replicator, names)
	return err
}

func (g *smallGroup) check(n *node, swept Timestamp) error {
	slices.SortFunc(g.log, func(a, b decided) int { return int(int64(a.result.Version - b.result.Version)) })
	at, err := loadRecord(n.store, g.name)
	if err != nil {
		return err
	}
	rec := &at.record
	if rec.Last != consensus.Slot(len(g.log)) {
		return fmt.Errorf("the disk holds slot %d, %d were decided", rec.Last, len(g.log))
	}
	if len(g.log) == 0 {
		return nil
	}
	if _, ok := shapeOf(rec); !ok || rec.Established != 1 || rec.LastTime != g.log[len(g.log)-1].result.Version {
		return fmt.Errorf("the disk holds %+v", rec)
	}
	g.seen = append(g.seen, pointOf(rec))
	if err := g.checkChain(n); err != nil {
		return err
	}
	m, err := g.model()
	if err != nil {
		return err
	}
	state, err := loadState(n.store, g.name)
	if err != nil {
		return err
	}
	if (state.TableLists > 0) != m.granted {
		return fmt.Errorf("state %+v, granted %v", state, m.granted)
	}
	return errors.Join(m.checkChanges(n, g.name, swept), m.checkVersions(n, g.name, swept))
}

// checkChain holds every record that was seen against cores that are given the same commands and were never written anywhere.
func (g *smallGroup) checkChain(n *node) error {
	slices.SortFunc(g.seen, func(a, b point) int { return int(a.slot) - int(b.slot) })
	for _, to := range slices.Compact(g.seen) {
		var from point
		done := len(g.path)
		if done > 0 {
			from = g.path[done-1]
		}
		if to.slot < from.slot || to.slot > consensus.Slot(len(g.log)) || to.time != g.log[to.slot-1].result.Version {
			return fmt.Errorf("of %d slots %+v was seen, after %+v", len(g.log), to, from)
		}
		if found, err := g.leads(n, from, to); err != nil || !found {
			return errors.Join(fmt.Errorf("no rounds of %d commands lead from %+v to %+v", to.slot-from.slot, from, to), err)
		}
	}
	g.seen = nil
	return nil
}

// leads says whether the commands between two records lead from one to the other, the last in the round of that, and each of the others in any since the
// one, and notes the way.
func (g *smallGroup) leads(n *node, from, to point) (bool, error) {
	if from.slot == to.slot {
		return from == to, nil
	}
	least := max(from.round, 1)
	if from.slot+1 == to.slot {
		least = to.round
	}
	for round := least; round <= to.round; round++ {
		next, err := follow(n, from, round, &g.log[from.slot])
		if err != nil {
			return false, err
		}
		g.path = append(g.path[:from.slot], next)
		if found, err := g.leads(n, next, to); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// follow is what a core comes to that is given a command in a round.
func follow(n *node, from point, round uint64, d *decided) (point, error) {
	rec := consensus.Record{}
	if from.slot > 0 {
		rec = reshape(&consensus.Record{Established: 1}, from)
		rec.Promised, rec.Accepted = consensus.Ballot{}, consensus.Ballot{}
	}
	if rec.First = from.slot + 1; round > 1 {
		rec.Promised = consensus.Ballot{Cfg: 1, Round: round - 1, Node: 1}
		rec.Accepted = rec.Promised
	}
	core, err := consensus.New(n.coreOptions(rec))
	if err != nil {
		return point{}, err
	}
	if err := core.Campaign(consensus.Global); err != nil {
		return point{}, err
	}
	if _, _, err := core.Propose(d.result.Version, consensus.Proposal{Payload: d.payload}); err != nil {
		return point{}, err
	}
	return pointOf(core.Ready().Record), nil
}

func (m *smallModel) checkChanges(n *node, group string, swept Timestamp) error {
	want := slices.DeleteFunc(slices.Clone(m.changes), func(c storage.Change) bool { return c.Time <= swept })
	scan, err := n.store.Changes(group, 0)
	if err != nil {
		return err
	}
	i := 0
	for ; scan.Next(); i++ {
		c := scan.Change()
		if i == len(want) {
			err = fmt.Errorf("a change too many: %+v", c)
			break
		}
		if w := &want[i]; c.Time != w.Time || c.Seq != w.Seq || c.Kind != w.Kind || !bytes.Equal(c.Rest, w.Rest) {
			err = fmt.Errorf("change %d is %+v, want %+v", i, c, *w)
			break
		}
	}
	if err == nil && scan.Err() == nil && i < len(want) {
		err = fmt.Errorf("%d of %d changes are there", i, len(want))
	}
	return errors.Join(err, scan.Err(), scan.Close())
}

func (m *smallModel) checkVersions(n *node, group string, swept Timestamp) error {
	for rest, versions := range m.versions {
		for i, want := range versions {
			at := max(want.time, swept)
			if i+1 < len(versions) && versions[i+1].time <= at {
				continue // no read at or after swept sees it
			}
			v, ok, err := n.store.GetAt(group, []byte(rest), at)
			if err != nil {
				return err
			}
			if ok == want.deleted {
				return fmt.Errorf("key %s at %d: found is %v", rest, at, ok)
			}
			if !ok {
				if err := v.Close(); err != nil {
					return err
				}
				continue
			}
			got := v.Version()
			value, err := v.Bytes()
			if err := errors.Join(err, v.Close()); err != nil {
				return err
			}
			if got.Time != want.time || got.Expires != want.expires || got.WormUntil != want.worm || !bytes.Equal(value, want.value) {
				return fmt.Errorf("key %s at %d: %+v with %d bytes, want %+v", rest, at, got, len(value), want)
			}
		}
	}
	return nil
}

// collect has all old versions collected, and says what is left of them.
func (x *smallRun) collect() error {
	eventually(x.t, "the end of reading ahead", x.n.IsAhead) // as the sweeper waits
	for range 2 {                                            // the first may be the end of a round that was begun before
		for more := true; more; {
			var err error
			if _, more, err = x.n.store.CollectBefore(context.Background(), x.floor, 100); err != nil {
				return err
			}
		}
	}
	if err := x.check(); err != nil {
		return err
	}
	for _, g := range x.groups {
		m, err := g.model()
		if err != nil {
			return err
		}
		for rest, versions := range m.versions {
			for _, old := range versions[:len(versions)-1] {
				v, _, err := x.n.store.GetAt(g.name, []byte(rest), old.time)
				if err == nil && v != nil {
					err = errors.Join(fmt.Errorf("group %s: key %s: version %d is left", g.name, rest, v.Version().Time), v.Close())
				}
				if err != nil {
					return err
				}
				x.collected++
			}
		}
	}
	return nil
}

// model is what the log comes to.
func (g *smallGroup) model() (*smallModel, error) {
	m := smallModel{versions: map[string][]smallVersion{}}
	for i := range g.log {
		if err := m.apply(&g.log[i]); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// crash goes on with what there would be if the power had failed: of each group a beginning of its log, with all that was acknowledged.
func (x *smallRun) crash(crashed *vfs.MemFS, acked map[string]Timestamp) error {
	x.mem = crashed
	x.open()
	x.crashes++
	for _, g := range x.groups {
		at, err := loadRecord(x.n.store, g.name)
		if err != nil {
			return err
		}
		left := int(at.record.Last)
		if left > len(g.log) || at.record.LastTime < acked[g.name] {
			return fmt.Errorf("group %s: of %d slots the disk holds %+v, and %d was acknowledged", g.name, len(g.log), at.record, acked[g.name])
		}
		x.cut += uint64(len(g.log) - left)
		g.log, g.path, g.since = g.log[:left], g.path[:left], 0
		if left > 0 {
			g.since = g.log[left-1].result.Version
		}
	}
	return x.check()
}

// run goes through so many starts and says what was wrong.
func (x *smallRun) run(starts int) error {
	x.open()
	for start := range starts {
		if err := x.check(); err != nil {
			return fmt.Errorf("start %d: %w", start, err)
		}
		crashed, acked, err := x.load(start%4 == 2)
		if err != nil {
			return fmt.Errorf("start %d: writing: %w", start, err)
		}
		if err := x.n.Close(); err != nil { // the loops end; what they know stays
			return err
		}
		if err := x.check(); err != nil {
			return fmt.Errorf("start %d, at its end: %w", start, err)
		}
		if x.rng.IntN(3) == 0 { // with groups in memory
			if err := x.collect(); err != nil {
				return fmt.Errorf("start %d, with all collected: %w", start, err)
			}
		}
		if err := x.close(); err != nil {
			return err
		}
		if x.rng.IntN(3) > 0 {
			x.open()
		} else if err := x.crash(crashed, acked); err != nil {
			return fmt.Errorf("start %d, after a crash: %w", start, err)
		}
	}
	if err := x.collect(); err != nil {
		return fmt.Errorf("with all collected: %w", err)
	}
	return x.close()
}

// TestSmallGroups writes to groups of one to forty keys, from several goroutines: values of all sizes, with and without conditions, read sets, ends
// of life, write-once ends and grants, deletes, and what is no command. Few groups are in memory, the disk is full now and then, old versions
// are collected meanwhile, and the node is stopped, or its power fails, and it is started again with another number of loops. Each command
// comes to what a model says; all records are those of cores that were never written down; and after each start the disk holds of each
// group, as far as it can be read, the changes and the versions that the model has.
func TestSmallGroups(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d, of which all is drawn but the order of the goroutines", seed)
	x := newSmallRun(t, seed)
	if err := x.run(12); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d stamps, %d groups read, %d evicted, %d shards filled, %d batches refused, %d crashes that cost %d commands, %d versions collected",
		x.carried, x.reads, x.evictions, x.turns.Load(), x.refused, x.crashes, x.cut, x.collected)
	if x.carried == 0 || x.reads == 0 || x.evictions == 0 || x.turns.Load() == 0 || x.refused == 0 || x.collected == 0 {
		t.Fatal("something never happened: nothing was tested")
	}
}
