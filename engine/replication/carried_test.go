// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/maphash"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
)

// hand drives a loop without goroutines.
type hand struct {
	*node
	t  *testing.T
	fs *holdFS
	l  *loop
}

func newHand(t *testing.T) *hand {
	t.Helper()
	fs := newHoldFS()
	n := openNodeOn(t, fs, 1, 1, time.Hour)
	if err := n.Close(); err != nil { // its loop ends, and this one takes over
		t.Fatal(err)
	}
	return &hand{n, t, fs, newLoop(n.Replicator, 0, groupsMax, groupsMax)}
}

// round has the loop decide the payloads in one round, and gives what became of them.
func (h *hand) round(group string, payloads ...[]byte) []outcome {
	var ps []*proposal
	for _, payload := range payloads {
		ps = append(ps, h.proposal(group, payload))
	}
	return h.decide(ps)
}

func (h *hand) proposal(group string, payload []byte) *proposal {
	p := newProposal(group, payload, nil)
	p.shard, p.hash = h.registry.shard(group)
	return p
}

// decide is round for proposals of any groups.
func (h *hand) decide(ps []*proposal) []outcome {
	f := <-h.l.free
	if h.l.round(f, ps) {
		f = <-h.l.flights
		if err := f.batch.Wait(); err != nil {
			h.t.Fatal(err)
		}
		h.l.tell(f)
		f.batch.Close()
		f.batch = nil
	}
	h.l.free <- f
	var all []outcome
	for _, p := range ps {
		<-p.done
		all = append(all, outcome{p.result, p.err})
		p.release()
	}
	return all
}

// must is round of commands that are decided.
func (h *hand) must(group string, payloads ...[]byte) []outcome {
	h.t.Helper()
	all := h.round(group, payloads...)
	for _, o := range all {
		if o.err != nil {
			h.t.Fatal(o.err)
		}
	}
	return all
}

// leave takes the group out of memory; what is parked of it stays if known is true.
func (h *hand) leave(group string, known bool) {
	h.l.leave(h.registry.find(group))
	if !known {
		h.forget(group)
	}
}

// forget has the disk asked about a group.
func (h *hand) forget(group string) {
	s, hash := h.registry.shard(group)
	s.parked.forget(group, hash)
}

// small is what storage says of the group.
func (h *hand) small(group string) storage.Smallness {
	h.t.Helper()
	a, _, err := h.store.Record(group)
	if err != nil {
		h.t.Fatal(err)
	}
	if g := h.registry.find(group); g != nil && g.small != a.Smallness {
		h.t.Fatalf("in memory the group is %+v, on the disk %+v", g.small, a.Smallness)
	}
	return a.Smallness
}

func encoded(mutations ...command.Mutation) []byte {
	c := command.Command{System: true, Mutations: mutations}
	return c.AppendTo(nil)
}

func putMutation(rest string, size int) command.Mutation {
	return command.Mutation{Kind: command.Put, Rest: []byte(rest), Value: make([]byte, size)}
}

// TestWhatIsCarried: a round writes a stamp, and no record, if all that it did in a small group is one put of a small value, by the only command that it had.
func TestWhatIsCarried(t *testing.T) {
	first := encoded(putMutation(".a", 1))
	remove := func(rest string) command.Mutation { return command.Mutation{Kind: command.Delete, Rest: []byte(rest)} }
	worm := func(rest string) []byte {
		m := putMutation(rest, 1)
		m.WormUntil = 1 << 62
		return encoded(m)
	}
	on := func(condition command.ConditionKind) []byte {
		c := command.Command{
			System: true, Mutations: []command.Mutation{putMutation(".a", 1)}, Conditions: []command.Condition{{Kind: condition, Rest: []byte(".a")}},
		}
		if condition == command.Absent {
			c.Conditions[0].Rest = []byte(".b")
		}
		return c.AppendTo(nil)
	}
	ttl := putMutation(".a", 1)
	ttl.TTL = time.Hour
	grant := encoded(command.Mutation{Kind: command.Grant, Object: authz.KindTable, Perms: authz.PermOwner, Principal: "p"})
	type rounds [][][]byte
	for name, c := range map[string]struct {
		rounds rounds // behind that of a put
		stamps string // of each of them
		keys   int    // as counted when the record was last stored
		crowd  string // instead, where the group stays in memory behind a round of several effects: see crowdRounds
	}{
		"the first of the group":     {nil, "", 1, ""},
		"a put":                      {rounds{{first}}, "1", 1, ""},
		"of another key":             {rounds{{encoded(putMutation(".b", 1))}}, "1", 1, ""},
		"of nothing":                 {rounds{{encoded(putMutation(".a", 0))}}, "1", 1, ""},
		"that ends":                  {rounds{{encoded(ttl)}}, "1", 1, ""},
		"of the longest":             {rounds{{encoded(putMutation(".a", storage.CarriedValueLenMax))}}, "1", 1, ""},
		"of one longer":              {rounds{{encoded(putMutation(".a", storage.CarriedValueLenMax+1))}}, "0", 2, ""},
		"of a large value":           {rounds{{encoded(putMutation(".a", storage.InlineLenMax+1))}}, "0", 2, ""},
		"write-once, with its state": {rounds{{worm(".b")}}, "0", 2, ""},
		"write-once, with no more":   {rounds{{worm(".b")}, {worm(".c")}}, "01", 2, "00"},
		"if what holds":              {rounds{{on(command.Absent)}}, "1", 1, ""},
		"if what does not hold":      {rounds{{on(command.VersionIs)}}, "0", 1, ""},
		"of two keys":                {rounds{{encoded(putMutation(".a", 1), putMutation(".b", 1))}}, "0", 3, ""},
		"with a delete of nothing":   {rounds{{encoded(putMutation(".a", 1), remove(".b"))}}, "1", 1, ""},
		"behind one":                 {rounds{{encoded(remove(".b"), putMutation(".a", 1))}}, "1", 1, ""},
		"with a delete":              {rounds{{encoded(remove(".a"), putMutation(".b", 1))}}, "0", 3, ""},
		"two":                        {rounds{{first, first}}, "0", 2, ""},
		"with one refused":           {rounds{{first, on(command.VersionIs)}}, "0", 2, ""},
		"behind one refused":         {rounds{{on(command.VersionIs), first}}, "0", 2, ""},
		"with no command":            {rounds{{first, []byte("none")}}, "0", 2, ""},
		"no command":                 {rounds{{[]byte("none")}}, "0", 1, ""},
		"a delete":                   {rounds{{encoded(remove(".a"))}}, "0", 2, ""},
		"a delete of nothing":        {rounds{{encoded(remove(".b"))}}, "0", 1, ""},
		"a grant":                    {rounds{{grant}}, "0", 1, ""},
		"behind a grant":             {rounds{{grant}, {first}}, "01", 1, "00"},
		"two, then a delete":         {rounds{{first}, {first}, {encoded(remove(".a"))}}, "110", 2, ""},
		"two, then no command":       {rounds{{first}, {first}, {[]byte("none")}}, "110", 1, ""},
		"two, then a grant":          {rounds{{first}, {first}, {grant}}, "110", 1, ""},
		"a delete, then two":         {rounds{{encoded(remove(".a"))}, {first}, {first}}, "011", 2, ""},
	} {
		for _, how := range []string{"in memory", "parked", "on the disk"} {
			t.Run(name+"/"+how, func(t *testing.T) {
				h := newHand(t)
				stamps, keys := c.stamps, c.keys
				if c.crowd != "" && how == "in memory" {
					stamps, keys = c.crowd, c.keys+1 // and the last key is counted with the record
				}
				results := h.must("g", first)
				for i, payloads := range c.rounds {
					if how != "in memory" {
						h.leave("g", how == "parked")
					}
					before := h.Metrics().Carried.Load()
					results = append(results, h.must("g", payloads...)...)
					if got := fmt.Sprint(h.Metrics().Carried.Load() - before); got != stamps[i:i+1] {
						t.Errorf("round %d wrote %s stamps, want %s", i+1, got, stamps[i:i+1])
					}
				}
				carried := len(stamps) - len(strings.TrimRight(stamps, "1"))
				if got, want := h.small("g"), (storage.Smallness{Small: true, Keys: keys, Carried: carried}); got != want {
					t.Errorf("the group is %+v, want %+v", got, want)
				}
				rec, _, err := h.Record("g")
				if last := results[len(results)-1].result; err != nil || rec.Last != consensus.Slot(len(results)) || rec.LastTime != last.Version || rec.Applied != rec.Last {
					t.Errorf("the record is %+v, %v, of %d commands, the last of which came to %+v", rec, err, len(results), last)
				}
			})
		}
	}
}

// changes counts those of the group, which are in the order of their times.
func (h *hand) changes(group string) (n int) {
	h.t.Helper()
	scan, err := h.store.Changes(group, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	for last := Timestamp(0); scan.Next(); n++ {
		if scan.Change().Time <= last {
			h.t.Fatalf("a change at %d follows one at %d", scan.Change().Time, last)
		}
		last = scan.Change().Time
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		h.t.Fatal(err)
	}
	return n
}

// TestSmallGroupGrows: after so many stamps the record is stored again, with how many keys there are by then. A group with too many writes stamps no
// more; it is counted every so many commands, and writes them again once there are few.
func TestSmallGroupGrows(t *testing.T) {
	h := newHand(t)
	puts := 0
	write := func(group string, key, want int) {
		t.Helper()
		before := h.Metrics().Carried.Load()
		h.must(group, put(fmt.Sprintf(".%d", key), "v"))
		puts++
		if got := h.Metrics().Carried.Load() - before; got != uint64(want) {
			t.Fatalf("group %s, key %d: %d stamps, want %d", group, key, got, want)
		}
	}
	for group, keys := range map[string]int{"few": storage.SmallKeysMax - 1, "many": storage.SmallKeysMax} {
		puts = 0
		write(group, 0, 0)
		for i := range storage.CarriedMax {
			write(group, i%keys, 1)
		}
		if got, want := h.small(group), (storage.Smallness{Small: true, Keys: 1, Carried: storage.CarriedMax}); got != want {
			t.Fatalf("%s: %+v, want %+v", group, got, want)
		}
		write(group, 0, 0)
		want := storage.Smallness{}
		if group == "few" { // the one that was written is counted twice
			want = storage.Smallness{Small: true, Keys: storage.SmallKeysMax}
		}
		if got := h.small(group); got != want {
			t.Fatalf("%s: %+v, want %+v", group, got, want)
		}
		if got := h.changes(group); got != puts {
			t.Fatalf("%s: %d changes of %d puts", group, got, puts)
		}
	}
	write("few", 0, 1) // with as many keys as may be
	for rec, _, _ := h.Record("many"); rec.Last < recountEvery-1; rec, _, _ = h.Record("many") {
		write("many", int(rec.Last)%storage.SmallKeysMax, 0)
	}
	write("many", storage.SmallKeysMax, 0) // the 17th, in the command that counts
	if got := h.small("many"); got.Small {
		t.Fatalf("with too many keys: %+v", got)
	}
	for i := range 9 {
		h.must("many", encoded(command.Mutation{Kind: command.Delete, Rest: fmt.Appendf(nil, ".%d", i)}))
	}
	rec, _, err := h.Record("many")
	if err != nil {
		t.Fatal(err)
	}
	if _, more, err := h.store.CollectBefore(t.Context(), rec.LastTime, math.MaxInt); more || err != nil {
		t.Fatal(more, err)
	}
	for ; rec.Last < 2*recountEvery-1; rec.Last++ {
		write("many", 12, 0)
	}
	h.must("many", put(".12", "v"), put(".12", "v")) // two commands, the first of which is the one that counts
	if got, want := h.small("many"), (storage.Smallness{Small: true, Keys: storage.SmallKeysMax + 1 - 9 + 1}); got != want {
		t.Fatalf("with few keys again: %+v, want %+v", got, want)
	}
	h.leave("many", true)
	write("many", 12, 1)
}

// TestCrowdedGroup: behind a round of several effects a group gets no stamps for so many rounds, unless it leaves memory meanwhile, and then it does.
func TestCrowdedGroup(t *testing.T) {
	h := newHand(t)
	stamps := func(payloads ...[]byte) uint64 {
		t.Helper()
		before := h.Metrics().Carried.Load()
		h.must("g", payloads...)
		return h.Metrics().Carried.Load() - before
	}
	one := put(".k", "v")
	stamps(one)
	for _, again := range []bool{false, true} {
		if stamps(one) != 1 || stamps(one, one) != 0 {
			t.Fatal("it is not written as a small group: nothing is tested")
		}
		for i := range crowdRounds {
			if got := stamps(one); got != 0 {
				t.Fatalf("%v: round %d behind two effects wrote %d stamps", again, i+1, got)
			}
		}
		if got := stamps(one); got != 1 {
			t.Fatalf("%v: behind them %d stamps were written", again, got)
		}
	}
	stamps(one, one)
	h.leave("g", true)
	if got := stamps(one); got != 1 {
		t.Fatalf("when it has come back %d stamps were written", got)
	}
	if got := h.changes("g"); got != 1+2*(1+2+crowdRounds+1)+2+1 {
		t.Fatalf("%d changes", got)
	}
}

// TestCarriedShape: what a stamp does not say must be as it was when the record was stored: after a change of the configuration, and in a record of before
// there were homes, the record is stored again.
func TestCarriedShape(t *testing.T) {
	h := newHand(t)
	old := soleRecord(5, 1)
	b := h.store.NewBatch()
	defer b.Close()
	b.SetSmallRecord("old", old.Append(nil), old.LastTime, 0)
	if err := b.Commit(true); err != nil {
		t.Fatal(err)
	}
	carried := func(group string) uint64 {
		t.Helper()
		before := h.Metrics().Carried.Load()
		h.must(group, put(".k", "v"))
		return h.Metrics().Carried.Load() - before
	}
	for i, want := range []uint64{0, 1, 1} {
		if got := carried("old"); got != want {
			t.Errorf("old form, put %d: %d stamps, want %d", i+1, got, want)
		}
	}
	if carried("g") != 0 || carried("g") != 1 {
		t.Fatal("a small group is not written as such: nothing is tested")
	}
	h.configurations = []consensus.Configuration{{Version: 2, Quorums: h.opts.Quorums}}
	for _, how := range []bool{true, false} {
		h.leave("g", how)
		for i, want := range []uint64{0, 1} {
			if got := carried("g"); got != want {
				t.Errorf("configuration %d, put %d: %d stamps, want %d", h.configurations[0].Version, i+1, got, want)
			}
		}
		if rec, _, err := h.Record("g"); err != nil || rec.Accepted.Cfg != h.configurations[0].Version || rec.Established != rec.Accepted.Cfg {
			t.Errorf("configuration %d: %+v, %v", h.configurations[0].Version, rec, err)
		}
		h.configurations = []consensus.Configuration{{Version: 3, Quorums: h.opts.Quorums}}
	}
	if got := h.changes("g"); got != 6 {
		t.Errorf("%d changes, want 6", got)
	}
}

// TestStamps: a stamp leads from the stored record to the one that it was made of, and nothing else is taken for one.
func TestStamps(t *testing.T) {
	base := soleRecord(5, 1_000)
	for _, round := range []uint64{1_000, 1_001, 1 << 20, math.MaxUint32} {
		for _, nth := range []int{1, 2, storage.CarriedMax} {
			want := soleRecord(5+consensus.Slot(nth), round)
			want.LastChain *= 1 << 40
			want.AppliedChain = want.LastChain
			stamp := appendStamp(nil, &want)
			if len(stamp) > storage.StampLenMax {
				t.Errorf("round %d: a stamp of %d bytes", round, len(stamp))
			}
			a := storage.Acceptor{Record: base.Append(nil), Stamp: stamp, At: want.LastTime, Smallness: storage.Smallness{Small: true, Carried: nth}}
			if got, err := openStored("g", &a); err != nil || got != (stored{record: want, small: a.Smallness}) {
				t.Errorf("round %d, stamp %d: %+v, %v, want %+v", round, nth, got, err, want)
			}
		}
	}
	type damaged struct {
		base  consensus.Record
		stamp []byte
		at    Timestamp
	}
	next := soleRecord(6, 1_001)
	for name, change := range map[string]func(d *damaged){
		"none":               func(d *damaged) { d.stamp = nil },
		"short":              func(d *damaged) { d.stamp = d.stamp[:len(d.stamp)-1] },
		"long":               func(d *damaged) { d.stamp = append(d.stamp, 0) },
		"a round only":       func(d *damaged) { d.stamp = d.stamp[:2] },
		"a round cut off":    func(d *damaged) { d.stamp = d.stamp[:1] },
		"a round of 65 bits": func(d *damaged) { d.stamp = append(bytes.Repeat([]byte{0xff}, 10), d.stamp...) },
		"a round of 33 bits": func(d *damaged) { next := soleRecord(6, 1<<32); d.stamp = appendStamp(nil, &next) },
		"an earlier round":   func(d *damaged) { next := soleRecord(6, 999); d.stamp = appendStamp(nil, &next) },
		"no round":           func(d *damaged) { next := soleRecord(6, 0); d.stamp = appendStamp(nil, &next) },
		"the record's time":  func(d *damaged) { d.at = d.base.LastTime },
		"an earlier time":    func(d *damaged) { d.at = d.base.LastTime - 1 },
		"of a log":           func(d *damaged) { d.base.First = 3 },
		"of what is not applied": func(d *damaged) {
			d.base.Applied, d.base.AppliedTime, d.base.First = 4, 7, 4
		},
		"of another promise": func(d *damaged) { d.base.Promised.Round++ },
		"of nothing":         func(d *damaged) { d.base = consensus.Record{} },
	} {
		d := damaged{base, appendStamp(nil, &next), next.LastTime}
		change(&d)
		a := storage.Acceptor{Record: d.base.Append(nil), Stamp: d.stamp, At: d.at, Smallness: storage.Smallness{Small: true, Carried: 1}}
		if got, err := openStored("g", &a); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestDamagedStampStopsTheNode: by whoever reads it. G28.
func TestDamagedStampStopsTheNode(t *testing.T) {
	for name, use := range map[string]func(h *hand) error{
		"a command": func(h *hand) error { return h.round("g", put(".k", "w"))[0].err },
		"read ahead": func(h *hand) error {
			h.closing.Store(false)
			h.parkAll()
			h.closing.Store(true)
			return h.Err()
		},
		"the newest time": func(h *hand) error {
			_, err := NewestTime(h.store)
			h.FailIfDamaged(err)
			return err
		},
		"the record": func(h *hand) error {
			_, _, err := h.Record("g")
			h.FailIfDamaged(err)
			return err
		},
	} {
		h := newHand(t)
		rec := soleRecord(5, 7)
		b := h.store.NewBatch()
		b.SetSmallRecord("g", rec.Append(nil), rec.LastTime, 1)
		b.PutCarrying("g", []byte(".k"), rec.LastTime+1, storage.Version{Value: []byte("v")}, []byte("damaged"), 1)
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if err := use(h); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
		if err := h.Err(); !errors.Is(err, storage.ErrCorrupt) {
			t.Errorf("%s: the node goes on: %v", name, err)
		}
		h.broken = true
	}
}

// TestSmallMarkIsNoVersion: storage tells the record of a small group by a first byte that no record of consensus has, of any version that is read.
func TestSmallMarkIsNoVersion(t *testing.T) {
	h := newHand(t)
	marks := 0
	rec := soleRecord(5, 1)
	sound := rec.Append(nil)
	for first := range 256 {
		raw := append([]byte{byte(first)}, sound[1:]...)
		binary.LittleEndian.PutUint32(raw[len(raw)-4:], crc32.Checksum(raw[:len(raw)-4], crc32.MakeTable(crc32.Castagnoli)))
		_, err := consensus.DecodeRecord(raw)
		unknown := err != nil && strings.Contains(err.Error(), "this program reads")
		if known := first == 1 || first == 2; unknown == known {
			t.Errorf("a record that begins with %#x: %v", first, err)
		}
		b := h.store.NewBatch()
		b.SetRecord("g", raw)
		if err := b.Commit(false); err != nil {
			marks++
			if first != 0xC5 || !errors.Is(err, storage.ErrTooLarge) {
				t.Errorf("%#x is refused: %v", first, err)
			}
		}
		b.Close()
	}
	if sound[0] != 2 || marks != 1 {
		t.Errorf("a record begins with %#x, and %d first bytes are refused, want 2 and 1", sound[0], marks)
	}
}

// TestShapesKept: a shape is kept once, and so many are; past them each group has its own.
func TestShapesKept(t *testing.T) {
	var s shapes
	of := func(i int) *consensus.Record { return &consensus.Record{Established: uint64(i)} }
	var first []*consensus.Record
	for i := range shapesMax {
		first = append(first, s.keep(of(i)))
	}
	for i, want := range first {
		if got := s.keep(of(i)); got != want || *got != *of(i) {
			t.Errorf("shape %d is kept twice, or as another", i)
		}
	}
	shape := of(shapesMax)
	a, b := s.keep(shape), s.keep(shape)
	if shape.Established = 7; len(s) != shapesMax || a == b || *a != *of(shapesMax) || *b != *a {
		t.Errorf("%d shapes are kept, want %d; one past them is %+v and %+v", len(s), shapesMax, a, b)
	}
}

// TestParkedEntryOfAnotherTurn: where a group was found is of use until the younger generation has become the older, and once it is forgotten the same
// bytes are no entry any more.
func TestParkedEntryOfAnotherTurn(t *testing.T) {
	for turns := range 4 {
		p := newParked(maphash.MakeSeed(), 2*parkedBlockLen, nil)
		hash := func(name string) uint64 { return parkedHash(maphash.String(p.young.seed, name)) }
		at := stored{record: soleRecord(5, 1), small: storage.Smallness{Small: true, Keys: 3, Carried: 1}}
		p.put("g", hash("g"), &at, parkedEntry{})
		_, entry, ok := p.find("g", hash("g"))
		if !ok || entry.bytes == nil {
			t.Fatal("it was not found")
		}
		for i := 0; p.turns < turns; i++ {
			name := fmt.Sprintf("other %d", i)
			p.put(name, hash(name), &at, parkedEntry{})
		}
		if _, again, ok := p.find("g", hash("g")); ok != (turns < 2) || (again.bytes != nil) != (turns == 0) {
			t.Errorf("after %d turns: found is %v, in the younger generation %v", turns, ok, again.bytes != nil)
		}
		before, known := string(entry.bytes[:parkedHead]), p.known()
		next := stored{record: soleRecord(6, 2), small: storage.Smallness{Small: true, Keys: 3, Carried: 2}}
		p.put("g", hash("g"), &next, entry)
		if got, _, ok := p.find("g", hash("g")); !ok || got != next {
			t.Errorf("after %d turns: %+v %v, want %+v", turns, got, ok, next)
		}
		if turns < 2 {
			known-- // it was one of them
		}
		if got := p.known(); got != known+1 {
			t.Errorf("after %d turns: %d are known, want %d", turns, got, known+1)
		}
		if turns > 1 && string(entry.bytes[:parkedHead]) != before {
			t.Errorf("after %d turns: what was forgotten was written", turns)
		}
		var inOld stored
		if e := p.old.entry("g", hash("g")); e != nil {
			if inOld, ok = p.old.record(e); ok {
				t.Errorf("after %d turns: the older generation still says %+v", turns, inOld)
			}
		}
	}
}

// TestCarries: the collection may pass over a group only if it is known to have no stamps behind its record.
func TestCarries(t *testing.T) {
	h := newHand(t)
	check := func(when string, want bool) {
		t.Helper()
		if got := h.Carries("g"); got != want {
			t.Errorf("%s: %v, want %v", when, got, want)
		}
	}
	check("nothing is known", true)
	h.must("g", put(".k", "v"))
	check("in memory, with no stamp: one may be written at any time", true)
	h.leave("g", true)
	check("parked with no stamp", false)
	h.must("g", put(".k", "v"))
	check("in memory", true)
	h.leave("g", true)
	check("parked with a stamp", true)
	h.forget("g")
	check("not parked", true)
	h.must("g", put(".k", "v"), put(".k", "v"))
	h.leave("g", true)
	check("parked, its record stored again", false)
}

// TestNewestTime: it is that of the newest command, whatever loop decided it and however many there are at the next start, and also of a directory
// where nothing but the groups says so.
func TestNewestTime(t *testing.T) {
	fs := vfs.NewMem()
	var newest Timestamp
	check := func(when string, n *node) {
		t.Helper()
		if got, err := NewestTime(n.store); err != nil || got != newest {
			t.Errorf("%s: %d, %v, want %d", when, got, err, newest)
		}
	}
	for i, loops := range []int{64, 3, 5, 1} {
		n := openNodeOn(t, fs, loops, 2, time.Hour)
		check(fmt.Sprintf("start %d", i+1), n)
		for j := range 40 {
			group := fmt.Sprintf("g%d", (7*i+j)%50)
			payload := put(".k", "v")
			if j%3 == 0 {
				payload = []byte("no command")
			}
			result, err := n.Propose(t.Context(), group, payload)
			if err != nil || result.Version <= newest {
				t.Fatalf("%+v %v, after %d", result, err, newest)
			}
			newest = result.Version
			check(fmt.Sprintf("start %d, command %d", i+1, j+1), n)
		}
		if err := errors.Join(n.Close(), n.store.Close()); err != nil {
			t.Fatal(err)
		}
	}

	h := newHand(t)
	newest = 0
	check("nothing", h.node)
	for i, group := range []string{"a", "b", "c"} { // as by a program that did not write it
		rec := soleRecord(consensus.Slot(10*(3-i)), 7)
		b := h.store.NewBatch()
		b.SetSmallRecord(group, rec.Append(nil), rec.LastTime, 1)
		if newest = max(newest, rec.LastTime); group == "c" {
			next := soleRecord(100, 8)
			b.PutCarrying(group, []byte(".k"), next.LastTime, storage.Version{Value: []byte("v")}, appendStamp(nil, &next), 1)
			newest = next.LastTime
		}
		if err := b.Commit(true); err != nil {
			t.Fatal(err)
		}
		b.Close()
		check("by the groups", h.node)
	}
}

// TestCoresOfARefusedRoundAreNotKept: they hold what was proposed, which may be large. They were kept to be renewed for other groups, and a
// value that the disk had no room for stayed in memory until as many groups had come in.
func TestCoresOfARefusedRoundAreNotKept(t *testing.T) {
	h := newHand(t)
	for _, group := range []string{"a", "b", "c"} {
		h.must(group, put(".k", "v"))
	}
	h.leave("a", true)
	if len(h.l.spare) != 1 {
		t.Fatalf("%d cores are kept of one group that left memory", len(h.l.spare))
	}
	h.fs.free.Store(0)
	eventually(t, "a refused round", func() bool { // the figure is up to 100 ms old
		all := h.decide([]*proposal{h.proposal("b", put(".k", "w")), h.proposal("c", put(".k", "w"))})
		return errors.Is(all[0].err, ErrUnavailable) && errors.Is(all[1].err, ErrUnavailable)
	})
	h.fs.free.Store(1 << 40)
	for _, core := range h.l.spare {
		if _, known := core.Stored(); !known {
			t.Error("a core is kept with what it was given")
		}
	}
}
