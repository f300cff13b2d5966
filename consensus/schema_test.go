// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// This file says what the fields of the schema mean, a second time and by the generated code, and holds the hand-written
// codecs against it: same bytes one way, same values the other.

func pbBallot(b Ballot) *consensuspb.Ballot {
	if b.IsZero() {
		return nil
	}
	return &consensuspb.Ballot{Cfg: b.Cfg, Round: b.Round, Node: uint64(b.Node)}
}

func goBallot(b *consensuspb.Ballot) Ballot {
	return Ballot{Cfg: b.GetCfg(), Round: b.GetRound(), Node: NodeID(b.GetNode())}
}

func pbHome(h quorum.Home) []byte {
	var b []byte
	for i := range quorum.VotersMax {
		if h.Has(i) {
			for len(b) <= i/8 {
				b = append(b, 0)
			}
			b[i/8] |= 1 << (i % 8)
		}
	}
	return b
}

func goHome(b []byte) quorum.Home {
	var words [quorum.HomeWords]uint64
	for i := range 8 * len(b) {
		if b[i/8]>>(i%8)&1 == 1 {
			words[i/64] |= 1 << (i % 64)
		}
	}
	return quorum.HomeFromWords(words)
}

func pbEntry(e *Entry) *consensuspb.Entry {
	return &consensuspb.Entry{
		Slot: uint64(e.Slot), Ballot: pbBallot(e.Ballot), Time: e.Time, Chain: e.Chain, Kind: consensuspb.EntryKind(e.Kind),
		Session: e.Session, Seq: e.Seq, Next: e.Next, Payload: e.Payload,
	}
}

func goEntry(e *consensuspb.Entry) Entry {
	return Entry{
		Slot: Slot(e.GetSlot()), Ballot: goBallot(e.GetBallot()), Time: e.GetTime(), Chain: e.GetChain(), Kind: EntryKind(e.GetKind()),
		Session: e.GetSession(), Seq: e.GetSeq(), Next: e.GetNext(), Payload: e.GetPayload(),
	}
}

func pbMessage(m *Message) *consensuspb.Message {
	p := &consensuspb.Message{
		Type: consensuspb.MessageType(m.Type), From: uint64(m.From), To: uint64(m.To), Ballot: pbBallot(m.Ballot), Slot: uint64(m.Slot),
		Chain: m.Chain, Commit: uint64(m.Commit), Epoch: m.Epoch, FortEpoch: m.FortEpoch, Promised: pbBallot(m.Promised),
		Accepted: pbBallot(m.Accepted), Last: uint64(m.Last), First: uint64(m.First), Established: m.Established, Time: m.Time,
		Scope: consensuspb.Scope(m.Scope), Home: pbHome(m.Home), AcceptedHome: pbHome(m.AcceptedHome),
		GlobalPromised: pbBallot(m.GlobalPromised), Release: pbBallot(m.Release), Seq: m.Seq, StaleCfg: m.StaleCfg,
		LeasedOwner: uint64(m.LeasedOwner), LeasedFor: m.LeasedFor, StopSlot: uint64(m.StopSlot), StopNext: m.StopNext,
	}
	for i := range m.Entries {
		e := pbEntry(&m.Entries[i])
		if e.Slot == uint64(m.Slot)+uint64(i)+1 {
			e.Slot = 0
		}
		if m.Entries[i].Ballot == m.Ballot {
			e.Ballot = nil
		}
		p.Entries = append(p.Entries, e)
	}
	return p
}

func goMessage(p *consensuspb.Message) Message {
	m := Message{
		Type: MessageType(p.GetType()), From: NodeID(p.GetFrom()), To: NodeID(p.GetTo()), Ballot: goBallot(p.GetBallot()), Slot: Slot(p.GetSlot()),
		Chain: p.GetChain(), Commit: Slot(p.GetCommit()), Epoch: p.GetEpoch(), FortEpoch: p.GetFortEpoch(), Promised: goBallot(p.GetPromised()),
		Accepted: goBallot(p.GetAccepted()), Last: Slot(p.GetLast()), First: Slot(p.GetFirst()), Established: p.GetEstablished(), Time: p.GetTime(),
		Scope: Scope(p.GetScope()), Home: goHome(p.GetHome()), AcceptedHome: goHome(p.GetAcceptedHome()),
		GlobalPromised: goBallot(p.GetGlobalPromised()), Release: goBallot(p.GetRelease()), Seq: p.GetSeq(), StaleCfg: p.GetStaleCfg(),
		LeasedOwner: NodeID(p.GetLeasedOwner()), LeasedFor: p.GetLeasedFor(), StopSlot: Slot(p.GetStopSlot()), StopNext: p.GetStopNext(),
	}
	for i, pe := range p.GetEntries() {
		e := goEntry(pe)
		if pe.GetSlot() == 0 {
			e.Slot = m.Slot + Slot(i) + 1
		}
		if pe.GetBallot() == nil {
			e.Ballot = m.Ballot
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

func pbRecord(r *Record) *consensuspb.AcceptorRecord {
	p := &consensuspb.AcceptorRecord{
		Accepted: pbBallot(r.Accepted), Last: uint64(r.Last), Uncommitted: uint64(r.Last - r.Commit), Unapplied: uint64(r.Commit - r.Applied),
		First: uint64(r.First), LastTime: r.LastTime, LastChain: r.LastChain, Established: r.Established,
		AcceptedHome: pbHome(r.AcceptedHome), StopSlot: uint64(r.StopSlot), StopNext: r.StopNext,
	}
	if r.Promised != r.Accepted {
		p.Promised = pbBallot(r.Promised)
	}
	if r.Applied < r.Last {
		p.AppliedTime, p.AppliedChain = r.AppliedTime, r.AppliedChain
	}
	for _, g := range r.GlobalPromises {
		if !g.Ballot.IsZero() {
			p.GlobalPromises = append(p.GlobalPromises, &consensuspb.GlobalPromise{Ballot: pbBallot(g.Ballot), Sticky: g.Sticky})
		}
	}
	if r.Fort != (Fort{}) {
		p.Fort = &consensuspb.Fort{Owner: uint64(r.Fort.Owner), Epoch: r.Fort.Epoch}
	}
	return p
}

func goRecord(p *consensuspb.AcceptorRecord) Record {
	r := Record{
		Accepted: goBallot(p.GetAccepted()), Promised: goBallot(p.GetPromised()), Last: Slot(p.GetLast()), First: Slot(p.GetFirst()),
		LastTime: p.GetLastTime(), LastChain: p.GetLastChain(), AppliedTime: p.GetAppliedTime(), AppliedChain: p.GetAppliedChain(),
		Established: p.GetEstablished(), AcceptedHome: goHome(p.GetAcceptedHome()),
		Fort:     Fort{NodeID(p.GetFort().GetOwner()), p.GetFort().GetEpoch()},
		StopSlot: Slot(p.GetStopSlot()), StopNext: p.GetStopNext(),
	}
	r.Commit = r.Last - Slot(p.GetUncommitted())
	r.Applied = r.Commit - Slot(p.GetUnapplied())
	if p.GetPromised() == nil {
		r.Promised = r.Accepted
	}
	if r.Applied == r.Last {
		r.AppliedTime, r.AppliedChain = r.LastTime, r.LastChain
	}
	for i, g := range p.GetGlobalPromises() {
		r.GlobalPromises[i] = GlobalPromise{goBallot(g.GetBallot()), g.GetSticky()}
	}
	return r
}

// canonical is what the generated code writes, which is the canonical form.
func canonical(t interface{ Fatal(...any) }, m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// diskForm puts version and checksum around what the generated code wrote.
func diskForm(version byte, body []byte) []byte {
	b := append([]byte{version}, body...)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// The values that the properties draw: all that the limits allow, small and edge values more often.

func drawNumber(t *rapid.T, name string, least, most uint64) uint64 {
	return rapid.OneOf(rapid.Uint64Range(least, min(most, least+3)), rapid.Uint64Range(least, most), rapid.Just(most)).Draw(t, name)
}

func drawBallot(t *rapid.T, name string) Ballot {
	return Ballot{
		drawNumber(t, name+" cfg", 0, 1<<64-1), drawNumber(t, name+" round", 1, RoundMax), NodeID(drawNumber(t, name+" node", 1, 1<<64-1)),
	}
}

// drawMaybeBallot is often none.
func drawMaybeBallot(t *rapid.T, name string) Ballot {
	if rapid.Bool().Draw(t, name+" is none") {
		return Ballot{}
	}
	return drawBallot(t, name)
}

func drawHome(t *rapid.T, name string) quorum.Home {
	var words [quorum.HomeWords]uint64
	if rapid.Bool().Draw(t, name+" is of few regions") {
		words[0] = rapid.Uint64Range(0, 31).Draw(t, name)
	} else {
		words[rapid.IntRange(0, quorum.HomeWords-1).Draw(t, name+" word")] = rapid.Uint64().Draw(t, name)
	}
	return quorum.HomeFromWords(words)
}

func drawEntry(t *rapid.T) Entry {
	e := Entry{
		Slot: Slot(drawNumber(t, "slot", 1, uint64(SlotMax))), Ballot: drawBallot(t, "entry"), Time: drawNumber(t, "time", 1, TimeMax),
		Chain: drawNumber(t, "chain", 0, 1<<64-1),
	}
	if e.Ballot.Cfg < 1<<63 && rapid.IntRange(0, 9).Draw(t, "stop-sign") == 0 {
		e.Kind, e.Next = StopSign, drawNumber(t, "next", e.Ballot.Cfg+1, 1<<64-1)
		return e
	}
	e.Payload = rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "payload")
	if rapid.Bool().Draw(t, "in a session") {
		e.Session, e.Seq = drawNumber(t, "session", 1, 1<<64-1), drawNumber(t, "seq", 1, 1<<64-1)
	}
	return e
}

func drawMessage(t *rapid.T) Message {
	number := func(name string, most uint64) uint64 { return drawNumber(t, name, 0, most) }
	slot := func(name string) Slot { return Slot(number(name, uint64(SlotMax))) }
	const all = 1<<64 - 1
	m := Message{
		Type: MessageType(rapid.IntRange(1, len(messageNames)-1).Draw(t, "type")),
		From: NodeID(number("from", all)), To: NodeID(number("to", all)), Ballot: drawMaybeBallot(t, "ballot"), Slot: slot("slot"),
		Chain: number("chain", all), Commit: slot("commit"), Promised: drawMaybeBallot(t, "promised"), Accepted: drawMaybeBallot(t, "accepted"),
		Last: slot("last"), First: slot("first"), Established: number("established", all), Time: number("time", all),
		Scope: Scope(rapid.IntRange(0, 1).Draw(t, "scope")), Home: drawHome(t, "home"), AcceptedHome: drawHome(t, "accepted home"),
		GlobalPromised: drawMaybeBallot(t, "global promised"), Release: drawMaybeBallot(t, "release"), Epoch: number("epoch", all),
		FortEpoch: number("fort epoch", all), Seq: number("seq", all), StaleCfg: number("stale cfg", all),
		LeasedOwner: NodeID(number("leased owner", all)), LeasedFor: number("leased for", all), StopSlot: slot("stop slot"), StopNext: number("stop next", all),
	}
	for i := range rapid.IntRange(0, 4).Draw(t, "entries") {
		e := drawEntry(t)
		if rapid.IntRange(0, 9).Draw(t, "entry out of its place") > 0 {
			e.Slot = m.Slot + Slot(i) + 1
		}
		if !m.Ballot.IsZero() && rapid.Bool().Draw(t, "entry of the message's ballot") {
			e.Ballot = m.Ballot
		}
		m.Entries = append(m.Entries, e)
	}
	return m
}

// drawRecord draws records that pass check.
func drawRecord(t *rapid.T) Record {
	var r Record
	slots := func(name string, from, to Slot) Slot { return Slot(drawNumber(t, name, uint64(from), uint64(to))) }
	r.Last = slots("last", 0, SlotMax)
	r.Commit = slots("commit", 0, r.Last)
	r.Applied = slots("applied", 0, r.Commit)
	r.First = slots("first", 1, r.Applied+1)
	r.Established = drawNumber(t, "established", 0, 1<<64-1)
	if !rapid.Bool().Draw(t, "nothing accepted") {
		r.Accepted, r.AcceptedHome = drawBallot(t, "accepted"), drawHome(t, "accepted home")
	}
	r.Promised = r.Accepted
	for i := range rapid.IntRange(0, GlobalPromisesMax).Draw(t, "global promises") {
		b := drawBallot(t, "global promise")
		if b.Compare(r.Promised) <= 0 {
			break
		}
		r.GlobalPromises[i] = GlobalPromise{b, rapid.Bool().Draw(t, "sticky")}
		r.Promised = b
	}
	if b := drawMaybeBallot(t, "promised"); r.Promised.Less(b) {
		r.Promised = b
	}
	if r.Last > 0 {
		r.LastTime, r.LastChain = rapid.Uint64Range(2, TimeMax).Draw(t, "last time"), rapid.Uint64().Draw(t, "last chain")
	}
	if r.Applied == r.Last {
		r.AppliedTime, r.AppliedChain = r.LastTime, r.LastChain
	} else if r.Applied > 0 {
		r.AppliedTime, r.AppliedChain = rapid.Uint64Range(1, r.LastTime-1).Draw(t, "applied time"), rapid.Uint64().Draw(t, "applied chain")
	}
	if rapid.Bool().Draw(t, "tied") {
		r.Fort = Fort{NodeID(drawNumber(t, "fort owner", 1, 1<<64-1)), drawNumber(t, "fort epoch", 1, 1<<64-1)}
	}
	if r.Commit > 0 && rapid.Bool().Draw(t, "stopped") {
		r.StopSlot, r.StopNext = slots("stop slot", 1, r.Commit), drawNumber(t, "stop next", 1, 1<<64-1)
	}
	return r
}

// TestHandWrittenIsGenerated holds each hand-written codec against the generated code, both ways.
func TestHandWrittenIsGenerated(t *testing.T) {
	t.Run("entry", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			e := drawEntry(t)
			disk, p := e.AppendTo([]byte("before"))[len("before"):], pbEntry(&e)
			if want := diskForm(entryVersion, canonical(t, p)); !bytes.Equal(disk, want) {
				t.Fatalf("%+v:\n got %x\nwant %x", e, disk, want)
			}
			var read consensuspb.Entry
			unmarshal(t, disk[1:len(disk)-checksumLen], &read)
			if g := goEntry(&read); !equalEntries(g, e) {
				t.Fatalf("generated code reads %+v, want %+v", g, e)
			}
			if d, err := DecodeEntry(disk); err != nil || !equalEntries(d, e) {
				t.Fatalf("%+v decoded as %+v, %v", e, d, err)
			}
			w := newWriter(nil, entryOverheadMax+len(e.Payload))
			if e.appendFields(&w); w.n != e.fieldsLen() {
				t.Fatalf("%+v takes %d bytes, fieldsLen says %d", e, w.n, e.fieldsLen())
			}
		})
	})
	t.Run("record", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			r := drawRecord(t)
			disk := r.Append([]byte("before"))[len("before"):]
			if want := diskForm(recordVersion, canonical(t, pbRecord(&r))); !bytes.Equal(disk, want) {
				t.Fatalf("%+v:\n got %x\nwant %x", r, disk, want)
			}
			var read consensuspb.AcceptorRecord
			unmarshal(t, disk[1:len(disk)-checksumLen], &read)
			if g := goRecord(&read); g != r {
				t.Fatalf("generated code reads %+v, want %+v", g, r)
			}
			if d, err := DecodeRecord(disk); err != nil || d != r || len(disk) > RecordLenMax {
				t.Fatalf("%+v decoded from %d bytes as %+v, %v", r, len(disk), d, err)
			}
		})
	})
	t.Run("message", func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			m := drawMessage(t)
			wire := m.AppendTo([]byte("before"))[len("before"):]
			if want := canonical(t, pbMessage(&m)); !bytes.Equal(wire, want) {
				t.Fatalf("%+v:\n got %x\nwant %x", m, wire, want)
			}
			var read consensuspb.Message
			unmarshal(t, wire, &read)
			if g := goMessage(&read); !equalMessages(&g, &m) {
				t.Fatalf("generated code reads %+v, want %+v", g, m)
			}
			if d, err := DecodeMessage(wire); err != nil || !equalMessages(&d, &m) {
				t.Fatalf("%+v decoded as %+v, %v", m, d, err)
			}
		})
	})
}

func unmarshal(t interface{ Fatal(...any) }, src []byte, m proto.Message) {
	if err := proto.Unmarshal(src, m); err != nil {
		t.Fatal(err)
	}
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		t.Fatal("unknown fields")
	}
}

func equalEntries(a, b Entry) bool {
	payloads := bytes.Equal(a.Payload, b.Payload)
	a.Payload, b.Payload = nil, nil
	return payloads && reflect.DeepEqual(a, b)
}

// equalMessages compares all fields, whatever they are.
func equalMessages(a, b *Message) bool {
	x, y := *a, *b
	x.Entries, y.Entries = nil, nil
	return slices.EqualFunc(a.Entries, b.Entries, equalEntries) && reflect.DeepEqual(x, y)
}

// TestSchemaHasEveryField sets each field of the structs to something, one at a time, and expects it back: a field that is
// added to a struct must come into the schema and into the codec.
func TestSchemaHasEveryField(t *testing.T) {
	each := func(name string, fields int, roundTrip func(i int) error) {
		for i := range fields {
			if err := roundTrip(i); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	something := func(v reflect.Value) {
		switch v.Type() {
		case reflect.TypeFor[Ballot]():
			v.Set(reflect.ValueOf(Ballot{3, 1, 2}))
		case reflect.TypeFor[quorum.Home]():
			v.Set(reflect.ValueOf(quorum.HomeFromWords([quorum.HomeWords]uint64{5})))
		case reflect.TypeFor[[]byte]():
			v.SetBytes([]byte("x"))
		case reflect.TypeFor[[]Entry]():
			v.Set(reflect.ValueOf([]Entry{{Slot: 1, Time: 1}}))
		default:
			v.SetUint(1)
		}
	}
	message := reflect.TypeFor[Message]()
	each("message", message.NumField(), func(i int) error {
		m := Message{Type: Accept}
		something(reflect.ValueOf(&m).Elem().Field(i))
		if d, err := DecodeMessage(m.AppendTo(nil)); err != nil || !equalMessages(&d, &m) {
			return fmt.Errorf("%s: %+v comes back as %+v, %w", message.Field(i).Name, m, d, err)
		}
		return nil
	})
	entry := reflect.TypeFor[Entry]()
	each("entry", entry.NumField(), func(i int) error {
		e := Entry{}
		something(reflect.ValueOf(&e).Elem().Field(i))
		var d Entry
		w := newWriter(nil, entryOverheadMax+len(e.Payload))
		e.appendFields(&w)
		f := fields{src: w.written(), kind: ErrCorrupt}
		if d.decodeFields(&f); f.err != nil || !equalEntries(d, e) {
			return fmt.Errorf("%s: %+v comes back as %+v, %w", entry.Field(i).Name, e, d, f.err)
		}
		return nil
	})
	if n := reflect.TypeFor[Record]().NumField(); n != 16 {
		t.Errorf("record: %d fields, drawRecord and the schema know 16", n)
	}
}

// TestOverheadBounds fills every field to the brim: the room that writers ask for must be enough.
func TestOverheadBounds(t *testing.T) {
	fill := func(v reflect.Value) {
		for i := range v.NumField() {
			switch f := v.Field(i); f.Type() {
			case reflect.TypeFor[Ballot]():
				f.Set(reflect.ValueOf(Ballot{math.MaxUint64, math.MaxUint64, math.MaxUint64}))
			case reflect.TypeFor[quorum.Home]():
				f.Set(reflect.ValueOf(quorum.HomeFromWords([quorum.HomeWords]uint64{math.MaxUint64, math.MaxUint64, math.MaxUint64, math.MaxUint64})))
			default:
				if f.CanUint() {
					f.SetUint(math.MaxUint64 >> (64 - f.Type().Bits()))
				}
			}
		}
	}
	var m Message
	fill(reflect.ValueOf(&m).Elem())
	m.Type = Snapshot
	var e Entry
	fill(reflect.ValueOf(&e).Elem())
	e.Payload = make([]byte, 1000)
	if n := len(m.AppendTo(nil)); n > messageOverheadMax || n < messageOverheadMax*4/5 {
		t.Errorf("a message takes up to %d bytes, the bound is %d", n, messageOverheadMax)
	}
	if n := len(e.AppendTo(nil)) - len(e.Payload); n > entryOverheadMax || n < entryOverheadMax*4/5 {
		t.Errorf("an entry takes up to %d bytes, the bound is %d", n, entryOverheadMax)
	}
	all := Ballot{math.MaxUint64, RoundMax, math.MaxUint64}
	r := Record{
		Promised: all, Accepted: Ballot{math.MaxUint64, RoundMax, math.MaxUint64 - 5}, AcceptedHome: m.Home, Last: SlotMax, First: 1,
		LastTime: TimeMax, AppliedTime: 0, LastChain: math.MaxUint64, AppliedChain: 0, Established: math.MaxUint64,
		Fort: Fort{math.MaxUint64, math.MaxUint64}, StopNext: math.MaxUint64,
	}
	r.Applied, r.AppliedTime, r.AppliedChain = 1<<61, TimeMax-1, math.MaxUint64
	r.Commit = r.Applied + 1<<60
	r.StopSlot = r.Commit
	for i := range r.GlobalPromises {
		b := all
		b.Node -= NodeID(GlobalPromisesMax - 1 - i)
		r.GlobalPromises[i] = GlobalPromise{b, true}
	}
	disk := r.Append(nil)
	if d, err := DecodeRecord(disk); err != nil || d != r {
		t.Errorf("the largest record comes back as %+v, %v", d, err)
	}
	if n := len(disk); n > RecordLenMax || n < RecordLenMax-16 {
		t.Errorf("a record takes up to %d bytes, the bound is %d", n, RecordLenMax)
	}
	e.Slot, m.Entries = e.Slot-1, []Entry{e, e, e}
	want := canonical(t, pbMessage(&m))
	if got := m.AppendTo(nil); !bytes.Equal(got, want) {
		t.Errorf("%d bytes, want %d", len(got), len(want))
	}
	// A buffer with any room left gives the same.
	for room := range 3000 {
		if got := m.AppendTo(make([]byte, 7, 7+room)); !bytes.Equal(got[7:], want) {
			t.Fatalf("with room for %d: %d bytes, want %d", room, len(got)-7, len(want))
		}
	}
}

// TestSchemaNumbers holds the constants against the schema: field numbers by name, and the enumerations.
func TestSchemaNumbers(t *testing.T) {
	for _, tc := range []struct {
		of   proto.Message
		last int
	}{{&consensuspb.Message{}, fieldStopNext}, {&consensuspb.Entry{}, entryPayload}, {&consensuspb.AcceptorRecord{}, recordStopNext}} {
		d := tc.of.ProtoReflect().Descriptor()
		if n := d.Fields().Len(); n != tc.last {
			t.Errorf("%s has %d fields, the codec %d", d.FullName(), n, tc.last)
		}
		for i := range d.Fields().Len() {
			if got := int(d.Fields().Get(i).Number()); got != i+1 {
				t.Errorf("%s: field %d has number %d", d.FullName(), i+1, got)
			}
		}
	}
	squeeze := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	for v, name := range consensuspb.MessageType_name {
		if v > 0 && squeeze(name) != squeeze(MessageType(v).String()) {
			t.Errorf("message type %d is %s in the schema, %s here", v, name, MessageType(v))
		}
	}
	if n := len(consensuspb.MessageType_name); n != len(messageNames) {
		t.Errorf("%d message types in the schema, %d here", n, len(messageNames))
	}
	if consensuspb.EntryKind_STOP_SIGN != consensuspb.EntryKind(StopSign) || consensuspb.Scope_LOCAL != consensuspb.Scope(Local) {
		t.Error("enumerations differ")
	}
}
