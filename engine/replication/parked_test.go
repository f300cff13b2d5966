// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// soleRecord is the record of a sole voter after so many slots.
func soleRecord(slot consensus.Slot, round uint64) consensus.Record {
	b := consensus.Ballot{Cfg: 1, Round: round, Node: 1}
	return consensus.Record{
		Promised: b, Accepted: b, Last: slot, Commit: slot, Applied: slot, First: slot + 1,
		LastTime: 1_000 + uint64(slot), AppliedTime: 1_000 + uint64(slot), LastChain: 7 * uint64(slot), AppliedChain: 7 * uint64(slot), Established: 1,
	}
}

// TestParkedAgainstMap puts, changes and forgets records of names of all lengths at random, and compares with a map.
func TestParkedAgainstMap(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	p := newParked(maphash.MakeSeed(), math.MaxInt, nil)
	want := map[string]*stored{}
	names := make([]string, 3_000)
	for i := range names {
		names[i] = fmt.Sprintf("%d%s", i, strings.Repeat("n", rng.IntN(storage.GroupLenMax-4)))
	}
	hash := func(name string) uint64 { return parkedHash(maphash.String(p.young.seed, name)) }
	for range 30_000 {
		name := names[rng.IntN(len(names))]
		switch rng.IntN(8) {
		case 0:
			p.forget(name, hash(name))
			want[name] = nil
		case 1: // not like the others: it has a log
			rec := soleRecord(9, 1)
			rec.First = 5
			p.put(name, hash(name), &stored{record: rec}, parkedEntry{})
			want[name] = nil
		default:
			rec := soleRecord(consensus.Slot(1+rng.Uint64N(uint64(consensus.SlotMax))), rng.Uint64N(1<<32))
			rec.Established = rng.Uint64N(4)
			at := stored{record: rec}
			if rng.IntN(2) == 0 {
				at.small = storage.Smallness{Small: true, Keys: rng.IntN(storage.SmallKeysMax + 1), Carried: rng.IntN(storage.CarriedMax + 1)}
			}
			_, entry, _ := p.find(name, hash(name))
			p.put(name, hash(name), &at, entry)
			want[name] = &at
		}
	}
	known := 0
	for _, name := range names {
		rec, noted := want[name]
		if rec != nil {
			known++
		}
		got, _, ok := p.find(name, hash(name))
		if ok != (rec != nil) || ok && got != *rec {
			t.Fatalf("%.9s: got %+v %v, want %+v", name, got, ok, rec)
		}
		if p.has(name, hash(name)) != noted {
			t.Fatalf("%.9s: has is not %v", name, noted)
		}
	}
	if len(p.young.shapes) != 4 || p.known() != known || p.young.count != len(want) {
		t.Errorf("%d shapes, %d of %d entries known, want 4, %d of %d", len(p.young.shapes), p.known(), p.young.count, known, len(want))
	}
}

// TestParkedOdd: what a compact entry cannot say is not remembered, and the 33rd shape is not either.
func TestParkedOdd(t *testing.T) {
	p := newParked(maphash.MakeSeed(), math.MaxInt, nil)
	for name, change := range map[string]func(r *consensus.Record){
		"untouched":         func(r *consensus.Record) { *r = consensus.Record{} },
		"not applied":       func(r *consensus.Record) { r.Applied-- },
		"keeps a log":       func(r *consensus.Record) { r.First-- },
		"promised another":  func(r *consensus.Record) { r.Promised.Round++ },
		"round of 33 bits":  func(r *consensus.Record) { r.Promised.Round, r.Accepted.Round = 1<<32, 1<<32 },
		"as if of 32 bits":  nil,
		"promised globally": func(r *consensus.Record) { r.GlobalPromises[0].Ballot = r.Promised; r.Promised.Round++ },
	} {
		rec := soleRecord(4, math.MaxUint32)
		if change != nil {
			change(&rec)
		}
		p.put(name, 5, &stored{record: rec}, parkedEntry{})
		if got, _, ok := p.find(name, 5); ok != (change == nil) || ok && got != (stored{record: rec}) {
			t.Errorf("%s: got %+v %v", name, got, ok)
		}
	}
	for i := range shapesMax {
		rec := soleRecord(4, 1)
		rec.Established = uint64(1 + i) // 1 is known
		p.put(fmt.Sprint(i), 6, &stored{record: rec}, parkedEntry{})
		if _, _, ok := p.find(fmt.Sprint(i), 6); !ok {
			t.Errorf("shape %d of %d was not remembered", i+1, shapesMax)
		}
	}
	rec := soleRecord(4, 1)
	rec.Established = shapesMax + 1
	p.put("one past", 6, &stored{record: rec}, parkedEntry{})
	if _, _, ok := p.find("one past", 6); ok || len(p.young.shapes) != shapesMax {
		t.Errorf("%d shapes are remembered, want %d", len(p.young.shapes), shapesMax)
	}
}

// TestParkedLimit: at the limit all is remembered; one entry past it the half of which nothing was noted for longest is forgotten, but what
// was noted again stays.
func TestParkedLimit(t *testing.T) {
	const half = 2 * (parkedBlockLen / (parkedHead + 4)) // entries in a generation
	p := newParked(maphash.MakeSeed(), 2*2*parkedBlockLen, nil)
	hash := func(i int) (string, uint64) {
		name := fmt.Sprintf("%04d", i)
		return name, parkedHash(maphash.String(p.young.seed, name))
	}
	want := map[int]consensus.Record{}
	put := func(i, slot int) {
		name, h := hash(i)
		rec := soleRecord(consensus.Slot(slot), 1)
		p.put(name, h, &stored{record: rec}, parkedEntry{})
		want[i] = rec
	}
	check := func(when string, lost bool) {
		t.Helper()
		for i := range 2*half + 1 {
			name, h := hash(i)
			rec, _, ok := p.find(name, h)
			if w, expected := want[i]; ok != expected || ok && rec.record != w {
				t.Fatalf("%s: %d is remembered as %+v %v, want %+v %v", when, i, rec, ok, w, expected)
			}
		}
		if p.known() != len(want) || p.lost != lost {
			t.Fatalf("%s: %d are known, want %d; something was lost: %v", when, p.known(), len(want), p.lost)
		}
	}
	for i := range half {
		put(i, 1)
	}
	check("with the younger generation full", false)
	if name, _ := hash(half); !p.room(name) {
		t.Fatal("there is no room with the older generation empty")
	}
	for i := half; i < 2*half-1; i++ {
		put(i, 1)
	}
	put(7, 2)
	check("at the limit", false)
	if name, _ := hash(2 * half); p.room(name) {
		t.Fatal("there is room at the limit")
	}
	for i := range half {
		if i != 7 {
			delete(want, i)
		}
	}
	put(2*half, 1)
	check("one past the limit", true)
	name, h := hash(half)
	p.forget(name, h)
	delete(want, half)
	check("with one of the older generation forgotten", true)
	if !p.has(name, h) {
		t.Fatal("that the disk must be asked is not noted")
	}
}

// TestParkedToTheEndOfABlock: an entry may end with its block, and one that does not fit in goes whole into the next.
func TestParkedToTheEndOfABlock(t *testing.T) {
	const size = 128
	for left := -2; left <= 2; left++ { // bytes in the first block behind its last entry, or behind the one that should have been
		p := parkedTable{seed: maphash.MakeSeed(), bytesMax: parkedBlockLen}
		var names []string
		put := func(size int) {
			name := fmt.Sprintf("%0*d", size-parkedHead, len(names))
			if room := left >= 0 || len(names) < parkedBlockLen/size-1; p.room(name) != room {
				t.Errorf("with %d bytes left: entry %d: room is not %v", left, len(names), room)
			}
			p.bytesMax = 2 * parkedBlockLen
			names = append(names, name)
			rec := soleRecord(consensus.Slot(len(names)), 1)
			p.note(p.add(name, parkedHash(maphash.String(p.seed, name))), &stored{record: rec})
			p.bytesMax = parkedBlockLen
		}
		for range parkedBlockLen/size - 1 {
			put(size)
		}
		put(size - left)
		want := 1
		if left < 0 {
			want = 2
		}
		if len(p.blocks) != want {
			t.Errorf("with %d bytes left: %d blocks, want %d", left, len(p.blocks), want)
		}
		for i, name := range names {
			if at, ok := p.record(p.entry(name, parkedHash(maphash.String(p.seed, name)))); !ok || at.record.Last != consensus.Slot(i+1) {
				t.Errorf("with %d bytes left: entry %d is %+v %v", left, i, at, ok)
			}
		}
	}
}

// TestParkedSpreads: the names of one shard of the registry have places all over its table, and those of one place many tags.
func TestParkedSpreads(t *testing.T) {
	r := newRegistry(nil)
	const places, names = 16, 4_000
	var at [places]int
	tags := make(map[uint32]bool)
	for i, n := 0, 0; n < names; i++ {
		s, hash := r.shard(fmt.Sprint(i))
		if s != &r.shards[0] {
			continue
		}
		n++
		if at[hash%places]++; hash%places == 0 {
			tags[tagOf(hash)] = true
		}
	}
	for i, n := range at {
		if n < names/places/2 || n > names/places*2 {
			t.Errorf("%d of %d names have place %d of %d", n, names, i, places)
		}
	}
	if len(tags) < 100 { // of 250 names, 160 expected
		t.Errorf("the names of one place have %d tags", len(tags))
	}
}

// checkParked holds all that is parked against the disk. Requires: nothing is under way.
func checkParked(r *Replicator, names []string) (known int, err error) {
	for _, name := range names {
		rec, ok := r.registry.recordOf(name)
		if !ok || r.registry.find(name) != nil {
			continue
		}
		known++
		onDisk, err := loadRecord(r.opts.Store, name)
		if err != nil {
			return known, err
		}
		state, err := loadState(r.opts.Store, name)
		if err != nil {
			return known, err
		}
		if rec != onDisk || state != (command.GroupState{}) {
			return known, fmt.Errorf("group %q is parked as %+v, the disk has %+v, state %+v", name, rec, onDisk, state)
		}
	}
	return known, nil
}

// TestParkedAhead starts a node on a directory with many groups, some with state, and writes to them while they are read ahead, more than there is
// room for. What is parked is what the disk holds, by whichever way it came to be there, and it is all that has no state.
func TestParkedAhead(t *testing.T) {
	const groups, odd = 2_000, 10
	fs := vfs.NewMem()
	names := make([]string, groups)
	write := func(n *node, step, offset int) {
		t.Helper()
		var all sync.WaitGroup
		for i := offset; i < groups; i += step {
			c := command.Command{Mutations: []command.Mutation{{Kind: command.Put, Rest: []byte(".k"), Value: []byte("v")}}}
			if i%odd == 0 {
				c.Mutations[0].Rest, c.Mutations[0].WormTTL = fmt.Appendf(nil, ".w%d", offset), time.Hour
			}
			all.Go(func() {
				if r, err := n.Propose(context.Background(), names[i], c.AppendTo(nil)); err != nil || r.Outcome != command.Applied {
					t.Error(r, err)
				}
			})
		}
		all.Wait()
	}
	for i := range names {
		names[i] = fmt.Sprintf("g%d", i)
	}
	func() {
		n := openNodeOn(t, fs, 2, 1, time.Hour)
		write(n, 1, 0)
		if err := errors.Join(n.Close(), n.store.Close()); err != nil {
			t.Fatal(err)
		}
	}()
	n := openNodeOn(t, fs, 2, 1, time.Hour)
	for _, l := range n.loops {
		l.most = 50
	}
	for offset := range 2 { // the others are read ahead only
		write(n, 3, offset+1)
	}
	eventually(t, "all without state are in memory or parked", func() bool {
		for i, name := range names {
			_, parked := n.registry.recordOf(name)
			if i%odd != 0 && !parked && n.registry.find(name) == nil {
				return false
			}
		}
		return true
	})
	// The last surplus leaves after the answers.
	eventually(t, "100 groups in memory", func() bool { return n.GroupsInMemory() <= 100 })
	known, err := checkParked(n.Replicator, names)
	if err != nil {
		t.Fatal(err)
	}
	if least := groups - groups/odd - 100; known < least {
		t.Fatalf("%d groups are parked, want at least %d", known, least)
	}
	for i := 0; i < groups; i += odd {
		if _, ok := n.registry.recordOf(names[i]); ok {
			t.Fatalf("group %s has state and is parked", names[i])
		}
	}
	// Those that are brought in from there go on where they were.
	before := n.Metrics().GroupReads.Load()
	for _, i := range []int{1, 2, 3, 1_001, 1_999} {
		rec, _, err := n.Record(names[i])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Propose(t.Context(), names[i], put(".k", "w")); err != nil {
			t.Fatal(err)
		}
		if now, _, err := n.Record(names[i]); err != nil || now.Last != rec.Last+1 {
			t.Fatalf("slot %d follows %d, %v", now.Last, rec.Last, err)
		}
	}
	if got := n.Metrics().GroupReads.Load(); got != before {
		t.Fatalf("%d parked groups were read from the disk", got-before)
	}
}

// TestOfferedLate: what was read of a group before it was written again does not count, neither while it is in memory nor after.
func TestOfferedLate(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	n.loops[0].most = 1
	propose := func(group string) stored {
		t.Helper()
		if _, err := n.Propose(t.Context(), group, put(".k", "v")); err != nil {
			t.Fatal(err)
		}
		at, err := loadRecord(n.store, group)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	early := propose("g")
	want := propose("g")
	n.registry.offer("g", &early)
	if rec, ok := n.registry.recordOf("g"); ok {
		t.Fatalf("while in memory it is parked as %+v", rec)
	}
	propose("other")
	eventually(t, "g is not in memory", func() bool { return n.registry.find("g") == nil })
	n.registry.offer("g", &early)
	if rec, ok := n.registry.recordOf("g"); !ok || rec != want {
		t.Fatalf("parked is %+v %v, want %+v", rec, ok, want)
	}
	untouched := stored{record: soleRecord(5, 1)}
	n.registry.offer("untouched", &untouched)
	if rec, ok := n.registry.recordOf("untouched"); !ok || rec != untouched {
		t.Fatalf("what was offered in time is %+v %v", rec, ok)
	}

	// Where there is no room, nothing that is known goes for what is offered. What is forgotten for want of room does not come back.
	s, hash := n.registry.shard("g")
	s.parked.young.bytesMax = parkedBlockLen
	inShard := func(i int) string {
		for ; ; i += 1_000_000 {
			name := fmt.Sprintf("x%d", i)
			if other, _ := n.registry.shard(name); other == s {
				return name
			}
		}
	}
	for i := 0; n.registry.offer(inShard(i), &untouched); i++ {
		n.registry.offer("g", &early) // of which the younger generation knows nothing, in the end
		if i == parkedBlockLen {
			t.Fatal("there is room for ever")
		}
	}
	if s.parked.young.entry("g", hash) != nil {
		t.Fatal("g is not in the older generation: nothing was tested")
	}
	if rec, ok := n.registry.recordOf("g"); !ok || rec != want {
		t.Fatalf("when there is no more room, parked is %+v %v, want %+v", rec, ok, want)
	}
	for i := range parkedBlockLen { // as by groups that leave memory
		name := inShard(parkedBlockLen + i)
		s.parked.put(name, parkedHash(maphash.String(n.registry.seed, name)), &untouched, parkedEntry{})
	}
	if s.parked.has("g", hash) || n.registry.offer("g", &early) || s.parked.has("g", hash) {
		t.Fatal("an old record counts again once the newer is forgotten")
	}
}

// TestNothingParkedOfARefusedRound: a group whose round was refused has a core that is ahead of the disk. It is read anew.
func TestNothingParkedOfARefusedRound(t *testing.T) {
	fs := newHoldFS()
	n := openNodeOn(t, fs, 1, 1, time.Hour)
	n.loops[0].most = 1
	for _, g := range []string{"a", "b"} { // a leaves for b, and is parked
		if _, err := n.Propose(t.Context(), g, put(".k", "v")); err != nil {
			t.Fatal(err)
		}
	}
	parked := func() bool { _, ok := n.registry.recordOf("a"); return ok && n.registry.find("a") == nil }
	eventually(t, "a is parked", parked)
	propose := func() error { _, err := n.Propose(t.Context(), "a", put(".k", "w")); return err }
	fs.free.Store(0)
	eventually(t, "a refused round", func() bool { return errors.Is(propose(), ErrUnavailable) }) // the figure is up to 100 ms old
	if parked() {
		t.Fatal("a is parked, from a core that went further than the disk, or as it was before that")
	}
	before, _, err := n.Record("a")
	if err != nil {
		t.Fatal(err)
	}
	fs.free.Store(1 << 40)
	eventually(t, "room", func() bool { return propose() == nil })
	if rec, _, err := n.Record("a"); err != nil || rec.Last != before.Last+1 {
		t.Fatalf("record %+v, %v, want slot %d", rec, err, before.Last+1)
	}
}

// TestParkedOfOldForm: a record of before there were homes is filled in when its group comes into memory, and not written again if nothing is
// proposed. What is then parked is another way to say what the disk holds: builds that compare the two once took it for damage.
func TestParkedOfOldForm(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	old := soleRecord(5, 1)
	if !old.AcceptedHome.IsZero() {
		t.Fatal("the record has a home: nothing is tested")
	}
	if err := n.Close(); err != nil { // so that nothing is read ahead
		t.Fatal(err)
	}
	b := n.store.NewBatch()
	defer b.Close()
	b.SetRecord("g", old.Append(nil))
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	l := newLoop(n.Replicator, 1, 1, 1) // with no goroutines
	for range 2 {
		g, err := l.bring("g")
		if err != nil {
			t.Fatal(err)
		}
		l.leave(g)
		if rec, ok := n.registry.recordOf("g"); !ok || rec.record.Last != 5 || rec.record.AcceptedHome.IsZero() {
			t.Fatalf("parked is %+v %v", rec, ok)
		}
	}
	if got := n.Metrics().GroupReads.Load(); got != 1 {
		t.Fatalf("the disk was asked %d times, want 1", got)
	}
}

// TestReadAhead: it ends where the registry has no room, when the Replicator is closed, at damage, which stops the node as it does wherever it
// is found, and at another error, after which the node goes on.
func TestReadAhead(t *testing.T) {
	const groups = 20
	n := openNode(t, 1, time.Hour)
	rec := soleRecord(5, 1)
	write := func(group string, raw []byte) {
		t.Helper()
		b := n.store.NewBatch()
		defer b.Close()
		b.SetRecord(group, raw)
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
	}
	for i := range groups {
		write(fmt.Sprintf("g%02d", i), rec.Append(nil))
	}
	if err := n.Close(); err != nil { // from here on nothing else uses it
		t.Fatal(err)
	}
	var log strings.Builder
	n.opts.Logger = slog.New(slog.NewTextHandler(&log, nil))
	ahead := func() int {
		n.registry = newRegistry(n.store)
		n.parkAll()
		return n.GroupsParked()
	}
	if got := ahead(); got != 0 {
		t.Errorf("closed: %d groups were read ahead", got)
	}
	n.closing.Store(false)
	if got := ahead(); got != groups {
		t.Errorf("%d groups were read ahead, want %d", got, groups)
	}
	write("g10", []byte("damaged"))
	if got := ahead(); got != 10 || !errors.Is(n.Err(), storage.ErrCorrupt) {
		t.Errorf("%d groups were read ahead until damage, want 10, and the node says %v", got, n.Err())
	}
	n.failure.Store(nil)
	log.Reset()
	if err := n.store.Close(); err != nil {
		t.Fatal(err)
	}
	// A reader of a group that is parked needs nothing of the disk, and one of another does.
	if v, err := n.registry.view("g09", 8, 7); err != nil || v != (ReadView{At: 7, Now: 8}) {
		t.Errorf("a parked group is read as %+v, %v", v, err)
	}
	if v, err := n.registry.view("g11", 8, 7); err == nil {
		t.Errorf("of a closed store, a group that is not parked is read as %+v", v)
	}
	if got := ahead(); got != 0 || n.failure.Load() != nil || !strings.Contains(log.String(), "not all read ahead") {
		t.Errorf("of a closed store %d groups were read ahead, the log says %q", got, log.String())
	}
	n.closing.Store(true)
}

// TestListsOfAGroupThatComesIn: readers are told of a group's lists before it came into memory, as soon as it is there and when it has left. It
// is not parked: its lists are not.
func TestListsOfAGroupThatComesIn(t *testing.T) {
	n := openNode(t, 1, time.Hour)
	rec := soleRecord(5, 1)
	b := n.store.NewBatch()
	defer b.Close()
	b.SetRecord("g", rec.Append(nil))
	b.SetState("g", command.StateName, command.GroupState{TableLists: 1, ListsChanged: 9}.AppendTo(nil))
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	l := newLoop(n.Replicator, 1, 1, 1) // with no goroutines
	check := func(when string) {
		t.Helper()
		for range 2 { // what is read once is remembered
			if v, err := n.ReadView("g"); err != nil || !v.TableLists || v.KeyLists {
				t.Errorf("%s: read as %+v, %v", when, v, err)
			}
		}
	}
	check("before")
	g, err := l.bring("g")
	if err != nil {
		t.Fatal(err)
	}
	check("in memory")
	l.leave(g)
	check("after")
	if rec, ok := n.registry.recordOf("g"); ok {
		t.Errorf("it is parked as %+v", rec)
	}
}
