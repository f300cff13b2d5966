// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/internal/invariants"
)

const base = Timestamp(1_700_000_000_000_000_000)

func mustApply(t testing.TB, m *model, at Timestamp, c *Command) Result {
	t.Helper()
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	r, err := Apply(m, m, at, c)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestLookups: what a group never had is not looked for.
func TestLookups(t *testing.T) {
	key1, key2 := []byte(".a"), []byte(".b")
	for _, c := range []struct {
		name    string
		prepare *Command
		command *Command
		want    int
	}{
		{"a put", nil, &Command{Mutations: []Mutation{{Kind: Put, Rest: key1}}}, 0},
		{"a conditional put", nil, &Command{Conditions: []Condition{{Kind: Absent, Rest: key1}}, Mutations: []Mutation{{Kind: Put, Rest: key1}}}, 1},
		{"a conditional delete", nil, &Command{Conditions: []Condition{{Kind: Absent, Rest: key1}}, Mutations: []Mutation{{Kind: Delete, Rest: key1}}}, 1},
		{"a put among write-once keys", &Command{Mutations: []Mutation{{Kind: Put, Rest: key2, WormTTL: time.Hour}}}, &Command{Mutations: []Mutation{{Kind: Put, Rest: key1}}}, 1},
		{"a put after write-once keys", &Command{Mutations: []Mutation{{Kind: Put, Rest: key2, WormTTL: 1}}}, &Command{Mutations: []Mutation{{Kind: Put, Rest: key1}}}, 0},
	} {
		m := newModel("g")
		at := base &^ (wormStep - 1) // so that a short write-once key's horizon is the next step
		if c.prepare != nil {
			mustApply(t, m, at, c.prepare)
		}
		m.lookups = 0
		if c.name == "a put after write-once keys" {
			at += wormStep
		}
		mustApply(t, m, at+1, c.command)
		if m.lookups != c.want {
			t.Errorf("%s: %d lookups, want %d", c.name, m.lookups, c.want)
		}
	}
}

// TestReadSetCost: a read set costs by the smaller of what was read and what has changed.
func TestReadSetCost(t *testing.T) {
	many := rests(1000)
	busy := newModel("g")
	for i := range 10_000 {
		mustApply(t, busy, base+Timestamp(i), &Command{Mutations: []Mutation{{Kind: Put, Rest: fmt.Appendf(nil, ".other%d", i)}}})
	}
	end := base + 10_000
	for _, c := range []struct {
		name                  string
		m                     *model
		reads                 ReadSet
		lookupsMax, changsMax int
	}{
		{"few keys, busy group", busy, ReadSet{Snapshot: base, Keys: many[:3]}, 3, 0},
		{"some keys, busy group", busy, ReadSet{Snapshot: base, Keys: many[:10]}, 10, 10*changesPerKey + 1},
		{"many keys, idle group", busy, ReadSet{Snapshot: end - 1, Keys: many}, 0, 0},
		{"many keys, few changes", busy, ReadSet{Snapshot: end - 100, Keys: many}, 0, 100},
		{"a range", busy, ReadSet{Snapshot: base, Ranges: []Range{{Lower: []byte(".p"), Upper: []byte(".q")}}}, 0, 10_000},
	} {
		m := c.m.clone()
		m.lookups, m.scanned = 0, 0
		r := mustApply(t, m, end+1, &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".z")}}, Reads: &c.reads})
		if r.Outcome != Applied || m.lookups > c.lookupsMax || m.scanned > c.changsMax {
			t.Errorf("%s: %+v after %d lookups and %d changes, want at most %d and %d", c.name, r, m.lookups, m.scanned, c.lookupsMax, c.changsMax)
		}
	}
}

// failing lets the n-th read of a view fail.
type failing struct {
	*Overlay
	left int
}

var errDisk = errors.New("disk on fire")

func (f *failing) read() error {
	f.left--
	if f.left == 0 {
		return errDisk
	}
	return nil
}

func (f *failing) State() (GroupState, error) {
	if err := f.read(); err != nil {
		return GroupState{}, err
	}
	return f.Overlay.State()
}

func (f *failing) Latest(rest []byte) (Meta, error) {
	if err := f.read(); err != nil {
		return Meta{}, err
	}
	return f.Overlay.Latest(rest)
}

func (f *failing) EachChange(after Timestamp, fn func(Change) bool) error {
	if err := f.read(); err != nil {
		return err
	}
	return f.Overlay.EachChange(after, fn)
}

func (f *failing) Grants(o authz.Object) (*authz.Grants, error) {
	if err := f.read(); err != nil {
		return nil, err
	}
	return f.Overlay.Grants(o)
}

func (f *failing) EachKeyList(tableRest []byte, fn func([]byte) bool) error {
	if err := f.read(); err != nil {
		return err
	}
	return f.Overlay.EachKeyList(tableRest, fn)
}

// TestFailedReadDecidesNothing fails the i-th read of deciding a command, for every i: it is an error, and never a result
// or a write.
func TestFailedReadDecidesNothing(t *testing.T) {
	prepared := newModel("g")
	mustApply(t, prepared, base, &Command{Principal: "alice", Mutations: []Mutation{
		{Kind: Put, Rest: []byte(".a"), WormTTL: time.Second},
		{Kind: Put, Rest: []byte(".b"), TTL: time.Minute},
		{Kind: Put, Rest: []byte("/t.c")},
		{Kind: Grant, Object: authz.KindKey, Rest: []byte(".b"), Principal: "alice", Perms: authz.PermOwner},
		{Kind: Grant, Object: authz.KindTable, Rest: []byte("/t"), Principal: "alice", Perms: authz.PermOwner},
	}})
	mustApply(t, prepared, base+1, &Command{Principal: "alice", Mutations: []Mutation{{Kind: Delete, Rest: []byte("/t.c")}}})
	at := base + Timestamp(10*time.Second)
	injected := 0
	for name, c := range map[string]*Command{
		"all": {
			Principal:  "alice",
			Conditions: []Condition{{Kind: VersionIs, Rest: []byte(".b"), Version: base}},
			Mutations: []Mutation{
				{Kind: Put, Rest: []byte(".a")},
				{Kind: Delete, Rest: []byte(".b")},
				{Kind: Put, Rest: []byte("/t.c"), WormTTL: time.Hour},
				{Kind: Grant, Object: authz.KindTable, Rest: []byte("/u"), Principal: "bob", Perms: authz.PermRead},
			},
			Reads: &ReadSet{Snapshot: base + 2, Keys: rests(3), Ranges: []Range{{Lower: []byte(".x")}}},
		},
		"a few keys": {
			Principal: "alice", Mutations: []Mutation{{Kind: Put, Rest: []byte(".a")}},
			Reads: &ReadSet{Snapshot: base, Keys: [][]byte{[]byte("/t.c")}},
		},
		"the sweeper": {System: true, Mutations: []Mutation{{Kind: Expire, Rest: []byte(".b"), Version: base}}},
	} {
		for i := 1; ; i++ {
			m := prepared.clone()
			before := m.hash()
			f := &failing{Overlay: NewOverlay(m, m), left: i}
			r, err := Apply(f, f, at, c)
			if f.left > 0 {
				if err != nil {
					t.Fatalf("%s without a fault: %v", name, err)
				}
				break // no read failed any more
			}
			injected++
			if !errors.Is(err, errDisk) || r != (Result{}) || m.hash() != before || f.Len() != 0 {
				t.Errorf("%s, read %d failed: %+v, %v", name, i, r, err)
			}
		}
	}
	if injected < 15 {
		t.Errorf("only %d faults injected", injected)
	}
	t.Logf("%d faults injected, each surfaced", injected)
}

// TestTimeNotAfter: a view that is ahead of the log stops the node instead of bending history.
func TestTimeNotAfter(t *testing.T) {
	m := newModel("g")
	c := &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".a")}}}
	mustApply(t, m, base, c)
	for _, at := range []Timestamp{base, base - 1} {
		c := &Command{Mutations: []Mutation{{Kind: Delete, Rest: []byte(".a")}}}
		if r, err := Apply(m, m, at, c); !errors.Is(err, ErrTimeNotAfter) {
			t.Errorf("at %d: %+v, %v", at, r, err)
		}
	}
}

// TestApplyEncodedRefuses: bytes that are no command are refused with a result, as every node will find.
func TestApplyEncodedRefuses(t *testing.T) {
	m := newModel("g")
	r, err := ApplyEncoded(m, m, base, new(Command), []byte("\x01\xff\r\nOK"))
	if err != nil || r.Outcome != Invalid || r.Version != base || r.Text != "bad command encoding: unknown flags" {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestManyIdle: more than 64 mutations with nothing to do, among others.
func TestManyIdle(t *testing.T) {
	m := newModel("g")
	all := rests(300)
	put := &Command{}
	for i, rest := range all {
		if i%3 == 0 {
			put.Mutations = append(put.Mutations, Mutation{Kind: Put, Rest: rest})
		}
	}
	mustApply(t, m, base, put)
	del := &Command{}
	for _, rest := range all {
		del.Mutations = append(del.Mutations, Mutation{Kind: Delete, Rest: rest})
	}
	if r := mustApply(t, m, base+1, del); r.Changes != 100 {
		t.Errorf("%d changes", r.Changes)
	}
	for i, rest := range all {
		if vs := m.versions[string(rest)]; (len(vs) == 2) != (i%3 == 0) || (len(vs) == 0) != (i%3 != 0) {
			t.Errorf("%s has %d versions", rest, len(vs))
		}
	}
}

// TestGrantsMatrix sends each verb of a command through Apply, for each principal against each pair of lists, and
// compares what became of it with authz.
func TestGrantsMatrix(t *testing.T) {
	subjects := []authz.Subject{{}, {Principal: "alice"}, {Principal: "bob"}, {Principal: "root", Admin: true}, {System: true}}
	perms := []authz.Perm{0, authz.PermRead, authz.PermWrite, authz.PermOwner, authz.PermRead | authz.PermWrite} // 0 = no list
	cells := 0
	for _, group := range []string{"g", "atlas"} {
		for _, keyPerms := range perms {
			for _, tablePerms := range perms {
				m := newModel(group)
				setUp(t, m, keyPerms, tablePerms)
				for _, s := range subjects {
					cells += checkCell(t, m, s)
				}
			}
		}
	}
	if want := 2 * 5 * 5 * 5 * 6; cells != want {
		t.Errorf("%d cells, want %d", cells, want)
	}
}

// setUp writes a key and gives alice permissions on it and on its table, as an admin would.
func setUp(t *testing.T, m *model, keyPerms, tablePerms authz.Perm) {
	t.Helper()
	mustApply(t, m, base, &Command{System: true, Mutations: []Mutation{{Kind: Put, Rest: []byte("/t.k")}}})
	for kind, p := range map[authz.Kind]authz.Perm{authz.KindKey: keyPerms, authz.KindTable: tablePerms} {
		if p == 0 || m.group == "atlas" { // no lists stand there
			continue
		}
		rest := []byte("/t.k")
		if kind == authz.KindTable {
			rest = rest[:2]
		}
		r := mustApply(t, m, base+Timestamp(kind), &Command{Admin: true, Mutations: []Mutation{{Kind: Grant, Object: kind, Rest: rest, Principal: "alice", Perms: p}}})
		if r.Outcome != Applied {
			t.Fatalf("%+v", r)
		}
	}
}

func checkCell(t *testing.T, m *model, s authz.Subject) int {
	t.Helper()
	key := authz.Object{Group: m.group, Kind: authz.KindKey, Rest: []byte("/t.k")}
	lists := authz.Lists{Key: m.lists[key.StateName()], Table: m.lists[key.Table().StateName()]}
	for i, c := range []struct {
		what    string
		command Command
		verb    authz.Verb
		object  authz.Object
	}{
		{"put", Command{Mutations: []Mutation{{Kind: Put, Rest: key.Rest}}}, authz.VerbWrite, key},
		{"delete", Command{Mutations: []Mutation{{Kind: Delete, Rest: key.Rest}}}, authz.VerbWrite, key},
		{"put many", Command{Mutations: []Mutation{{Kind: Put, Rest: []byte("/u.x")}, {Kind: Put, Rest: key.Rest}}}, authz.VerbWrite, key},
		{"condition", Command{Conditions: []Condition{{Kind: VersionIs, Rest: key.Rest, Version: base}}}, authz.VerbRead, key},
		{"grant on key", Command{Mutations: []Mutation{{Kind: Grant, Object: authz.KindKey, Rest: key.Rest, Principal: "carol", Perms: authz.PermOwner}}}, authz.VerbGrant, key},
		{"grant on table", Command{Mutations: []Mutation{{Kind: Grant, Object: authz.KindTable, Rest: key.Table().Rest, Principal: "carol", Perms: authz.PermOwner}}}, authz.VerbGrant, key.Table()},
	} {
		want := authz.Allowed(s, c.verb, c.object, lists)
		switch {
		case c.verb == authz.VerbGrant && m.group == "atlas":
			want = false
		case c.what == "grant on table" && lists.Table == nil && lists.Key != nil && !s.Admin && !s.System:
			want = false // taking a table over the head of a key's owner
		case c.what == "put many" && m.group == "atlas":
			want = s.System
		}
		now := m.clone()
		before := now.hash()
		c.command.Principal, c.command.Admin, c.command.System = s.Principal, s.Admin, s.System
		r := mustApply(t, now, base+100+Timestamp(i), &c.command)
		if (r.Outcome == Applied) != want {
			t.Errorf("%s by %v in %s, lists %v: %+v, want allowed = %v", c.what, s, m.group, m.lists, r, want)
		}
		if r.Outcome != Applied && now.hash() != before {
			t.Errorf("%s by %v in %s was refused and wrote", c.what, s, m.group)
		}
	}
	return 6
}

// TestOverlayTwin: whatever was written through an overlay, it shows what its base shows once it has it.
func TestOverlayTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newModel("g")
		b := &batchedModel{base: m}
		b.overlay = NewOverlay(m, b)
		at := base
		for range rapid.IntRange(1, 60).Draw(t, "writes") {
			at++
			rest := fmt.Appendf(nil, "%s.%d", rapid.SampledFrom([]string{"", "/t", "/tt"}).Draw(t, "table"), rapid.IntRange(0, 30).Draw(t, "row"))
			switch rapid.IntRange(0, 7).Draw(t, "write") {
			case 0:
				b.overlay.Delete(rest, at, 0, rapid.SampledFrom([]ChangeKind{ChangeDelete, ChangeExpire}).Draw(t, "kind"))
			case 1:
				b.overlay.SetGrants(authz.Object{Group: "g", Kind: authz.KindKey, Rest: rest}, &authz.Grants{})
			case 2:
				b.overlay.SetGrants(authz.Object{Group: "g", Kind: authz.KindKey, Rest: rest}, nil)
			case 3:
				b.overlay.SetState(GroupState{KeyLists: at})
			case 4:
				if rapid.IntRange(0, 3).Draw(t, "commit") == 0 {
					b.commit()
				}
			default:
				b.overlay.Put(rest, at, 0, Version{Expires: at + 5, WormUntil: at + 3})
			}
		}
		after := base + Timestamp(rapid.IntRange(0, 60).Draw(t, "after"))
		before := showView(t, b.overlay, after)
		b.commit()
		if direct, again := showView(t, m, after), showView(t, b.overlay, after); direct != before || again != before {
			t.Fatalf("overlay before its commit\n%s\nthe base after it\n%s\noverlay\n%s", before, direct, again)
		}
	})
}

func showView(t *rapid.T, v View, after Timestamp) string {
	text := v.Group()
	state, err := v.State()
	text += fmt.Sprintf(" %+v %v\n", state, err)
	for _, table := range []string{"", "/t", "/tt"} {
		listed := map[string]bool{}
		err := v.EachKeyList([]byte(table), func(rest []byte) bool {
			if listed[string(rest)] {
				t.Fatalf("%s is listed twice", rest)
			}
			listed[string(rest)] = true
			return true
		})
		text += fmt.Sprintf("%q %v %v\n", table, listed, err)
		for row := range 31 {
			rest := fmt.Appendf(nil, "%s.%d", table, row)
			meta, err := v.Latest(rest)
			g, err2 := v.Grants(authz.Object{Group: "g", Kind: authz.KindKey, Rest: rest})
			text += fmt.Sprintf("%s %+v %v %v %v\n", rest, meta, err, g != nil, err2)
		}
	}
	for _, limit := range []int{1, 5, 1000} {
		n := 0
		err = v.EachChange(after, func(c Change) bool {
			text += fmt.Sprintf("%d %v %s\n", c.Time-base, c.Kind, c.Rest)
			n++
			return n < limit
		})
		text += fmt.Sprint(limit, n, err, "\n")
	}
	return text
}

// TestOverlayReset: nothing of a batch that was dropped is seen, or kept alive.
func TestOverlayReset(t *testing.T) {
	m := newModel("g")
	b := &batchedModel{base: m}
	o := NewOverlay(m, b)
	for i, rest := range rests(100) {
		o.Put(rest, base+Timestamp(i), 0, Version{})
	}
	o.SetGrants(authz.Object{Group: "g", Kind: authz.KindKey, Rest: []byte(".1")}, &authz.Grants{})
	o.SetState(GroupState{KeyLists: 1})
	if meta, err := o.Latest([]byte(".7")); err != nil || meta.Version != base+7 || o.Len() != 100 {
		t.Fatalf("%+v, %v", meta, err)
	}
	o.Reset(m, b)
	meta, err1 := o.Latest([]byte(".7"))
	state, err2 := o.State()
	g, err3 := o.Grants(authz.Object{Group: "g", Kind: authz.KindKey, Rest: []byte(".1")})
	if meta != (Meta{}) || state != (GroupState{}) || g != nil || o.Len() != 0 || err1 != nil || err2 != nil || err3 != nil {
		t.Errorf("after Reset: %+v %+v %v, %v %v %v", meta, state, g, err1, err2, err3)
	}
	for _, w := range o.written[:cap(o.written)] {
		if w.rest != nil {
			t.Fatal("a rest of the batch is still reachable")
		}
	}
}

// void takes writes and forgets them; as a view it is an empty group.
type void struct{ puts int }

func (*void) Group() string                                           { return "bench" }
func (*void) State() (GroupState, error)                              { return GroupState{}, nil }
func (*void) Latest([]byte) (Meta, error)                             { return Meta{}, nil }
func (*void) EachChange(Timestamp, func(Change) bool) error           { return nil }
func (*void) Grants(authz.Object) (*authz.Grants, error)              { return nil, nil }
func (*void) EachKeyList([]byte, func([]byte) bool) error             { return nil }
func (v *void) Put([]byte, Timestamp, uint32, Version)                { v.puts++ }
func (*void) Delete(_ []byte, _ Timestamp, _ uint32, kind ChangeKind) {}
func (*void) SetGrants(authz.Object, *authz.Grants)                   {}
func (*void) SetState(GroupState)                                     {}

func onePut() *Command {
	return &Command{Principal: "alice", Mutations: []Mutation{{Kind: Put, Rest: []byte(".row-4711"), Value: make([]byte, 100)}}}
}

// TestHotPathAllocations: a plain put is encoded into a buffer that is there, decoded and applied without allocating.
func TestHotPathAllocations(t *testing.T) {
	if invariants.Enabled {
		t.Skip("the race detector allocates")
	}
	v := &void{}
	o := NewOverlay(v, v)
	c, scratch := onePut(), new(Command)
	buffer := make([]byte, 0, c.EncodedSize())
	at := base
	n := testing.AllocsPerRun(1000, func() {
		encoded := c.AppendTo(buffer)
		at++
		if r, err := ApplyEncoded(o, o, at, scratch, encoded); err != nil || r.Outcome != Applied {
			t.Fatal(r, err)
		}
		if o.Len() == 64 {
			o.Reset(v, v)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkEncodePut(b *testing.B) {
	c := onePut()
	buffer := make([]byte, 0, c.EncodedSize())
	b.ReportAllocs()
	for b.Loop() {
		buffer = c.AppendTo(buffer[:0])
	}
}

func BenchmarkDecodePut(b *testing.B) {
	encoded, scratch := onePut().AppendTo(nil), new(Command)
	b.ReportAllocs()
	for b.Loop() {
		if err := scratch.DecodeFrom(encoded); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkApplyPut is a put through an overlay, in batches of 64.
func BenchmarkApplyPut(b *testing.B) {
	v := &void{}
	o := NewOverlay(v, v)
	c := onePut()
	at := base
	b.ReportAllocs()
	for b.Loop() {
		at++
		if r, err := Apply(o, o, at, c); err != nil || r.Outcome != Applied {
			b.Fatal(r, err)
		}
		if o.Len() == 64 {
			o.Reset(v, v)
		}
	}
}

// BenchmarkApplyBatch is a command of 1,000 puts, checks of form included.
func BenchmarkApplyBatch(b *testing.B) {
	v := &void{}
	encoded, scratch := puts(1000).AppendTo(nil), new(Command)
	b.ReportAllocs()
	for b.Loop() {
		if r, err := ApplyEncoded(v, v, base, scratch, encoded); err != nil || r.Changes != 1000 {
			b.Fatal(r, err)
		}
	}
}
