// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine/authz"
)

func fullCommand() *Command {
	return &Command{
		Principal:  "alice",
		Admin:      true,
		System:     true,
		Conditions: []Condition{{Kind: Absent, Rest: []byte(".a")}, {Kind: VersionIs, Rest: []byte(".b"), Version: 300}},
		Mutations: []Mutation{
			{Kind: Put, Rest: []byte(".a"), Value: []byte("hello")},
			{Kind: Put, Rest: []byte("/t.b"), Value: []byte{}, TTL: time.Second, WormTTL: time.Microsecond},
			{Kind: Put, Rest: []byte(".c"), Value: []byte{0}, Expires: 1 << 40, WormUntil: 127},
			{Kind: Delete, Rest: []byte(".d")},
			{Kind: Expire, Rest: []byte(".e"), Version: 128},
			{Kind: Grant, Object: authz.KindKey, Rest: []byte(".a"), Principal: "bob", Perms: authz.PermRead | authz.PermWrite},
			{Kind: Revoke, Object: authz.KindTable, Rest: []byte{}, Principal: "carol", Perms: authz.PermOwner},
			{Kind: ResetGrants, Object: authz.KindTable, Rest: []byte("/t")},
		},
		Reads: &ReadSet{
			Snapshot: 1, ValidUntil: 2, Keys: [][]byte{[]byte(".a"), []byte(".b")},
			Ranges: []Range{{Lower: []byte{}, Upper: []byte{}}, {Lower: []byte(".x"), Upper: []byte(".y")}},
		},
	}
}

// TestGolden holds the bytes of version 1, which a stored log may consist of: a change here needs a new version.
func TestGolden(t *testing.T) {
	for name, c := range map[string]struct {
		command *Command
		want    string
	}{
		"nothing":    {&Command{}, "0100000000"},
		"a put":      {&Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: []byte("v")}}}, "01000000010100022e6b0176"},
		"everything": {fullCommand(), "010705616c6963650201022e6102022e62ac02080100022e610568656c6c6f0105042f742e628094ebdc03e80700010a022e638080808080207f010002022e6403022e6580010402" + "03022e6103626f620501040005636172" + "6f6c0601022f7401" + "0202022e61022e6202" + "0000022e78022e79"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.command.Validate(); err != nil {
				t.Fatal(err)
			}
			got := c.command.AppendTo(nil)
			if hex.EncodeToString(got) != c.want {
				t.Errorf("encoded\n%x, want\n%s", got, c.want)
			}
			back, err := Decode(got)
			if err != nil {
				t.Fatal(err)
			}
			if again := back.AppendTo(nil); !bytes.Equal(again, got) {
				t.Errorf("encoded again\n%x, want\n%x", again, got)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                         "",
		"a newer version":                 "0200000000",
		"version 0":                       "0000000000",
		"the version alone":               "01",
		"unknown flags":                   "0108000000",
		"a principal cut short":           "010005616c",
		"a huge length":                   "0100ffffffffffffffff7f",
		"a length that overflows":         "0100ffffffffffffffffff02",
		"a number in a longer form":       "01008000" + "0000",
		"no counts":                       "010000",
		"bytes after the end":             "010000000000",
		"more conditions than bytes":      "0100000500",
		"too many mutations":              "01000000818004",
		"an unknown condition":            "0100000103022e6100",
		"condition 0":                     "0100000100022e6100",
		"an unknown mutation":             "0100000001" + "07022e61",
		"mutation 0":                      "0100000001" + "00022e61",
		"unknown fields of a put":         "0100000001" + "0110022e6100",
		"a TTL of zero":                   "0100000001" + "0101022e610000",
		"a TTL out of range":              "0100000001" + "0101022e61ffffffffffffffffff0100",
		"TTL and expiry":                  "0100000001" + "0103022e61010100",
		"WORM TTL and end":                "0100000001" + "010c022e61010100",
		"a rest without a row":            "0100000001" + "02012e",
		"a rest without a dot":            "0100000001" + "02022f61",
		"a rest that is none":             "0100000001" + "0203612e62",
		"an empty rest":                   "0100000001" + "0200",
		"a key twice":                     "0100000002" + "02022e61" + "02022e61",
		"a value cut short":               "0100000001" + "0100022e610576",
		"a grant on nothing":              "0100000001" + "0400" + "01022e6103626f62",
		"a grant of nothing":              "0100000001" + "0402" + "00022e6103626f62",
		"a grant of more than there is":   "0100000001" + "0402" + "08022e6103626f62",
		"a grant to nobody":               "0100000001" + "0402" + "01022e6100",
		"a grant on a table with a dot":   "0100000001" + "0401" + "01022e6103626f62",
		"a principal with a line break":   "0100030d0a610000",
		"a read set announced and absent": "0104000000",
		"more keys than bytes":            "0104000000" + "0000" + "05",
		"more ranges than bytes":          "0104000000" + "000000" + "05",
		"a range backwards":               "0104000000" + "000000" + "01" + "022e62022e61",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if c, err := Decode(b); !errors.Is(err, ErrCodec) || c != nil {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
}

// TestDecodeRefusesEveryPrefix cuts an encoding at every byte, and adds one.
func TestDecodeRefusesEveryPrefix(t *testing.T) {
	b := fullCommand().AppendTo(nil)
	for i := range b {
		if _, err := Decode(b[:i]); !errors.Is(err, ErrCodec) {
			t.Errorf("%d of %d bytes: %v", i, len(b), err)
		}
	}
	if _, err := Decode(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCodec) {
		t.Errorf("a byte more: %v", err)
	}
}

// TestDecodeAllocatesByBytes: what an encoding claims costs nothing until the bytes are there.
func TestDecodeAllocatesByBytes(t *testing.T) {
	for name, head := range map[string][]byte{
		"conditions": {1, 0, 0, 0x80, 0x80, 4}, // claims 65,536
		"mutations":  {1, 0, 0, 0, 0x80, 0x80, 4},
		"keys":       {1, flagReads, 0, 0, 0, 0, 0, 0x80, 0x80, 4},
		"ranges":     {1, flagReads, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 1},
	} {
		b := append(bytes.Clone(head), make([]byte, 64)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 100 {
			if _, err := Decode(b); err == nil {
				t.Fatalf("%s: read", name)
			}
		}
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20 {
			t.Errorf("%s: 100 refusals of %d bytes allocated %d bytes", name, len(b), spent)
		}
	}
}

// TestDecodeAliases: a value is not copied, and one cannot be appended over what follows it.
func TestDecodeAliases(t *testing.T) {
	c := &Command{Mutations: []Mutation{{Kind: Put, Rest: []byte(".k"), Value: bytes.Repeat([]byte("v"), 1000)}, {Kind: Delete, Rest: []byte(".z")}}}
	b := c.AppendTo(nil)
	got, err := Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	value := got.Mutations[0].Value
	if cap(value) != len(value) {
		t.Errorf("value has room for %d bytes more", cap(value)-len(value))
	}
	value[0] = 'x'
	if !bytes.Contains(b, []byte("xvvv")) {
		t.Error("the value is a copy")
	}
}

// TestDecodeFromReuses: nothing of one command is left in the next, and nothing of its bytes is kept alive.
func TestDecodeFromReuses(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scratch := new(Command)
		for range 4 {
			c := genCommand().Draw(t, "command")
			b := c.AppendTo(nil)
			if rapid.Bool().Draw(t, "damaged") {
				b = b[:rapid.IntRange(0, len(b)-1).Draw(t, "kept")]
			}
			fresh, err1 := Decode(b)
			err2 := scratch.DecodeFrom(b)
			if (err1 == nil) != (err2 == nil) {
				t.Fatalf("fresh: %v, reused: %v", err1, err2)
			}
			if err1 == nil && !reflect.DeepEqual(normal(fresh), normal(scratch)) {
				t.Fatalf("fresh %+v, reused %+v", fresh, scratch)
			}
			for _, m := range scratch.Mutations[len(scratch.Mutations):cap(scratch.Mutations)] {
				if m.Rest != nil || m.Value != nil {
					t.Fatalf("a mutation of an earlier command is still reachable: %+v", m)
				}
			}
		}
	})
}

// normal has nil for every empty slice, which an encoding does not tell apart.
func normal(c *Command) Command {
	n := Command{Principal: c.Principal, Admin: c.Admin, System: c.System}
	n.Conditions = append(n.Conditions, c.Conditions...)
	for _, m := range c.Mutations {
		m.Rest, m.Value = none(m.Rest), none(m.Value)
		n.Mutations = append(n.Mutations, m)
	}
	if c.Reads != nil {
		r := ReadSet{Snapshot: c.Reads.Snapshot, ValidUntil: c.Reads.ValidUntil}
		r.Keys = append(r.Keys, c.Reads.Keys...)
		for _, x := range c.Reads.Ranges {
			r.Ranges = append(r.Ranges, Range{none(x.Lower), none(x.Upper)})
		}
		n.Reads = &r
	}
	return n
}

func none(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := genCommand().Draw(t, "command")
		if err := c.Validate(); err != nil {
			t.Fatalf("generated %v", err)
		}
		b := c.AppendTo([]byte("before"))
		if !bytes.HasPrefix(b, []byte("before")) {
			t.Fatal("AppendTo overwrote what was there")
		}
		b = b[len("before"):]
		if len(b) != c.EncodedSize() {
			t.Fatalf("encoded to %d bytes, EncodedSize is %d", len(b), c.EncodedSize())
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(normal(got), normal(c)) {
			t.Fatalf("%+v\nbecame\n%+v", c, got)
		}
	})
}

// genCommand makes commands that pass Validate.
func genCommand() *rapid.Generator[*Command] {
	number := rapid.OneOf(rapid.Uint64Range(0, 300), rapid.Uint64Range(0, uint64(TimestampMax)))
	rest := rapid.Custom(func(t *rapid.T) []byte {
		return []byte(rapid.StringMatching(`(/[ab]{1,2})?`).Draw(t, "table") + "." + string(rapid.SliceOfN(rapid.Byte(), 1, 4).Draw(t, "row")))
	})
	return rapid.Custom(func(t *rapid.T) *Command {
		c := &Command{
			Principal: rapid.SampledFrom([]string{"", "alice", "ß"}).Draw(t, "principal"),
			Admin:     rapid.Bool().Draw(t, "admin"), System: rapid.Bool().Draw(t, "system"),
		}
		for range rapid.IntRange(0, 3).Draw(t, "conditions") {
			cond := Condition{Kind: Absent, Rest: rest.Draw(t, "rest")}
			if rapid.Bool().Draw(t, "version is") {
				cond.Kind, cond.Version = VersionIs, number.Draw(t, "version")
			}
			c.Conditions = append(c.Conditions, cond)
		}
		for range rapid.IntRange(0, 20).Draw(t, "mutations") {
			m := Mutation{Kind: MutationKind(rapid.IntRange(int(Put), int(ResetGrants)).Draw(t, "kind")), Rest: rest.Draw(t, "rest")}
			switch m.Kind {
			case Put:
				m.Value = rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "value")
				if rapid.Bool().Draw(t, "absolute") {
					m.Expires, m.WormUntil = number.Draw(t, "expires"), number.Draw(t, "worm")
				} else {
					m.TTL, m.WormTTL = time.Duration(number.Draw(t, "ttl")), time.Duration(number.Draw(t, "worm ttl"))
				}
			case Expire:
				m.Version = number.Draw(t, "version")
			case Grant, Revoke, ResetGrants:
				m.Object = authz.KindKey
				if rapid.Bool().Draw(t, "table") {
					m.Object, m.Rest = authz.KindTable, authz.Object{Kind: authz.KindKey, Rest: m.Rest}.Table().Rest
				}
				if m.Kind != ResetGrants {
					m.Principal, m.Perms = "bob", authz.Perm(rapid.IntRange(1, 7).Draw(t, "perms"))
				}
			}
			distinct := true
			for i := range c.Mutations {
				distinct = distinct && !c.Mutations[i].sameTarget(&m)
			}
			if distinct {
				c.Mutations = append(c.Mutations, m)
			}
		}
		if rapid.Bool().Draw(t, "transaction") {
			c.Reads = &ReadSet{Snapshot: number.Draw(t, "snapshot"), ValidUntil: number.Draw(t, "valid until")}
			for range rapid.IntRange(0, 3).Draw(t, "keys") {
				c.Reads.Keys = append(c.Reads.Keys, rest.Draw(t, "key"))
			}
			for range rapid.IntRange(0, 3).Draw(t, "ranges") {
				r := Range{Lower: rest.Draw(t, "lower"), Upper: rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "upper")}
				if len(r.Upper) > 0 && bytes.Compare(r.Lower, r.Upper) > 0 {
					r.Lower, r.Upper = r.Upper, r.Lower
				}
				c.Reads.Ranges = append(c.Reads.Ranges, r)
			}
		}
		return c
	})
}

// FuzzDecode: whatever the bytes are, there is no panic, and what is read encodes to the very same bytes.
func FuzzDecode(f *testing.F) {
	f.Add(fullCommand().AppendTo(nil))
	f.Add((&Command{}).AppendTo(nil))
	f.Add([]byte{1, 0, 0, 0, 0x80, 0x80, 4})
	f.Add([]byte{1, 4, 0, 0, 0, 0, 0, 0, 0x80, 0x80, 1})
	scratch := new(Command)
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Decode(b)
		if (scratch.DecodeFrom(b) == nil) != (err == nil) {
			t.Fatalf("fresh: %v, and reused otherwise", err)
		}
		if err != nil {
			if !errors.Is(err, ErrCodec) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' || r == 0x7f }) {
				t.Fatalf("error %q", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("decoded what Validate refuses: %v", err)
		}
		if again := c.AppendTo(nil); !bytes.Equal(again, b) || c.EncodedSize() != len(b) {
			t.Fatalf("%x\nencodes to\n%x, EncodedSize %d", b, again, c.EncodedSize())
		}
		m := newModel("g")
		if _, err := Apply(m, m, 1<<60, c); err != nil {
			t.Fatalf("Apply: %v", err)
		}
	})
}

// TestAppendAroundValue encodes around a value that is in place, wherever the encoding begins, and never takes another for it.
func TestAppendAroundValue(t *testing.T) {
	for _, n := range []int{0, 1, 100, 1 << 20} {
		c := &Command{Principal: "alice", Mutations: []Mutation{{Kind: Put, Rest: []byte(".a"), Value: bytes.Repeat([]byte("v"), n)}}}
		want := c.AppendTo(nil)
		head := len(want) - n
		for room := head; room < head+20; room++ {
			mem := make([]byte, room+n+5)
			value := mem[room : room+n]
			copy(value, c.Mutations[0].Value)
			inPlace := &Command{Principal: "alice", Mutations: []Mutation{{Kind: Put, Rest: []byte(".a"), Value: value}}}
			for begin := range room + 1 {
				if begin != room-head && begin+len(want) > room {
					continue // it would write into the value that it reads
				}
				got := inPlace.AppendTo(mem[begin:begin:len(mem)])
				if !bytes.Equal(got, want) {
					t.Fatalf("value of %d bytes at %d, encoded from %d: %x", n, room, begin, got[:min(len(got), 100)])
				}
				if begin == room-head && n > 0 && &got[head] != &value[0] {
					t.Fatalf("value of %d bytes was copied", n)
				}
			}
		}
	}
}

func TestGroupStateCodec(t *testing.T) {
	for _, c := range []struct {
		state GroupState
		want  string
	}{
		{GroupState{}, "0100000000"},
		{GroupState{TableLists: 1, KeyLists: 200, ListsChanged: 3, WormUntilMax: 1 << 42}, "0101c80103808080808080" + "01"},
	} {
		b := c.state.AppendTo(nil)
		if hex.EncodeToString(b) != c.want {
			t.Errorf("%+v = %x, want %s", c.state, b, c.want)
		}
		if got, err := DecodeGroupState(b); err != nil || got != c.state {
			t.Errorf("%+v became %+v, %v", c.state, got, err)
		}
		for i := 1; i < len(b); i++ {
			if _, err := DecodeGroupState(b[:i]); !errors.Is(err, ErrCodec) {
				t.Errorf("%d bytes of %x: %v", i, b, err)
			}
		}
	}
	if s, err := DecodeGroupState(nil); err != nil || s != (GroupState{}) {
		t.Errorf("nothing stored: %+v, %v", s, err)
	}
	for _, bad := range [][]byte{{0}, {2, 0, 0, 0, 0}, {1, 0, 0, 0, 0, 0}, {1, 0x80, 0, 0, 0, 0}} {
		if _, err := DecodeGroupState(bad); !errors.Is(err, ErrCodec) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := GroupState{rapid.Uint64().Draw(t, "tables"), rapid.Uint64().Draw(t, "keys"), rapid.Uint64().Draw(t, "changed"), rapid.Uint64().Draw(t, "worm")}
		if got, err := DecodeGroupState(s.AppendTo(nil)); err != nil || got != s {
			t.Fatalf("%+v became %+v, %v", s, got, err)
		}
	})
}

func FuzzDecodeGroupState(f *testing.F) {
	f.Add(GroupState{1, 2, 3, 4}.AppendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := DecodeGroupState(b)
		if err == nil && len(b) > 0 && !bytes.Equal(s.AppendTo(nil), b) {
			t.Fatalf("%x decodes to %+v", b, s)
		}
	})
}

func TestWormHorizonRounds(t *testing.T) {
	for _, c := range []struct{ until, want Timestamp }{
		{1, wormStep}, {wormStep, wormStep}, {wormStep + 1, 2 * wormStep}, {TimestampMax, 1 << 63}, {0, 0},
	} {
		var s GroupState
		s.coverWorm(c.until)
		if s.WormUntilMax != c.want {
			t.Errorf("over %d the horizon is %d, want %d", c.until, s.WormUntilMax, c.want)
		}
		s.coverWorm(0)
		if s.WormUntilMax != c.want {
			t.Errorf("an end of 0 moved the horizon to %d", s.WormUntilMax)
		}
	}
}

func TestUvarintSize(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 16383, 16384, math.MaxUint32, math.MaxInt64, math.MaxUint64} {
		if got, want := uvarintSize(v), len(appendBytes(nil, make([]byte, min(v, 1<<15)))); v <= 1<<15 && got != want-int(v) {
			t.Errorf("uvarintSize(%d) = %d, want %d", v, got, want-int(v))
		}
	}
	if uvarintSize(math.MaxUint64) != 10 || uvarintSize(1<<63) != 10 || uvarintSize(1<<63-1) != 9 {
		t.Error("uvarintSize is wrong at the end")
	}
}
