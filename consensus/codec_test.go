// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// samples are values that the tests of bad bytes begin from. Their bytes are fixed by TestGolden.
var (
	sampleEntries = []Entry{
		{Slot: 1, Ballot: Ballot{0, 1, 1}, Time: 1},
		{Slot: 300, Ballot: Ballot{4, 7, 0x1122334455}, Time: 1_700_000_000_000_000_123, Chain: 1, Session: 7, Seq: 1, Payload: []byte("hello")},
		{Slot: 301, Ballot: Ballot{4, 7, 0x1122334455}, Time: 1_700_000_000_000_000_124, Chain: 2, Kind: StopSign, Next: 5},
	}
	sampleRecords = []Record{
		{},
		{
			Promised: Ballot{4, 2, 7}, Accepted: Ballot{4, 2, 7}, Last: 9, Commit: 9, Applied: 9, First: 10,
			LastTime: 1_700_000_000_000_000_123, AppliedTime: 1_700_000_000_000_000_123, LastChain: 0x0102030405060708, AppliedChain: 0x0102030405060708, Established: 4,
		},
		{
			Promised: Ballot{4, 300, 7}, Accepted: Ballot{4, 2, 8}, Last: 900, Commit: 890, Applied: 700, First: 1,
			LastTime: 2000, AppliedTime: 1000, LastChain: 1, AppliedChain: 2, Established: 3, AcceptedHome: homeOf(0, 2),
			GlobalPromises: [GlobalPromisesMax]GlobalPromise{{Ballot{4, 3, 9}, true}, {Ballot{4, 300, 7}, false}}, Fort: Fort{8, 12},
			StopSlot: 800, StopNext: 4,
		},
	}
	sampleMessages = []Message{
		{Type: Cancel, From: 1, To: 2, Ballot: Ballot{4, 9, 1}},
		{Type: PrePrepare, From: 1, To: 2, Ballot: Ballot{4, 9, 1}, Home: homeOf(1), Accepted: Ballot{4, 8, 2}, Release: Ballot{4, 7, 3}},
		{
			Type: AcceptSync, From: 1, To: 2, Ballot: Ballot{4, 9, 1}, Slot: 899, Chain: 7, Commit: 890, Epoch: 12, Home: homeOf(0, 255),
			Entries: []Entry{
				{Slot: 900, Ballot: Ballot{4, 8, 2}, Time: 1_700_000_000_000_000_124, Chain: 8, Session: 7, Seq: 1, Payload: []byte("a")},
				{Slot: 901, Ballot: Ballot{4, 9, 1}, Time: 1_700_000_000_000_000_125, Chain: 9, Kind: StopSign, Next: 5},
			},
		},
		{
			Type: Promise, From: 2, To: 1, Ballot: Ballot{4, 9, 1}, Chain: 3, Commit: 890, Accepted: Ballot{4, 8, 2}, Last: 900, First: 800, Established: 4,
			AcceptedHome: homeOf(3), GlobalPromised: Ballot{4, 9, 1}, StopSlot: 700, StopNext: 4,
		},
	}
)

func homeOf(regions ...int) quorum.Home {
	var words [quorum.HomeWords]uint64
	for _, z := range regions {
		words[z/64] |= 1 << (z % 64)
	}
	return quorum.HomeFromWords(words)
}

// TestEveryFlippedBitIsFound flips each bit of what lies on disk, and cuts and extends it at each length.
func TestEveryFlippedBitIsFound(t *testing.T) {
	tried, found := 0, 0
	check := func(name string, good []byte, decode func([]byte) error) {
		try := func(what string, n int, bad []byte) {
			tried++
			if err := decode(bad); errors.Is(err, ErrCorrupt) {
				found++
			} else {
				t.Errorf("%s %x: %s %d: %v", name, good, what, n, err)
			}
		}
		for bit := range 8 * len(good) {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			try("flipped bit", bit, bad)
		}
		for n := range good {
			try("cut to", n, good[:n])
		}
		try("with one byte more than", len(good), append(bytes.Clone(good), 0))
	}
	for i := range sampleEntries {
		check("entry", sampleEntries[i].AppendTo(nil), func(b []byte) error { _, err := DecodeEntry(b); return err })
	}
	for i := range sampleRecords {
		check("record", sampleRecords[i].Append(nil), func(b []byte) error { _, err := DecodeRecord(b); return err })
	}
	t.Logf("bad layouts tried=%d found=%d", tried, found)
}

// TestCutMessageIsRefused cuts messages at each length: what is left is refused, or is a shorter message in canonical form.
func TestCutMessageIsRefused(t *testing.T) {
	for i := range sampleMessages {
		whole := sampleMessages[i].AppendTo(nil)
		for n := range whole {
			m, err := DecodeMessage(whole[:n])
			if err == nil && !bytes.Equal(m.AppendTo(nil), whole[:n]) {
				t.Errorf("%s cut to %d bytes: %v", sampleMessages[i].Type, n, m)
			}
			if err != nil && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s cut to %d bytes: %v", sampleMessages[i].Type, n, err)
			}
		}
	}
}

// sealed puts a version and the right checksum around fields that are wrong.
func sealed(version byte, body ...byte) []byte { return diskForm(version, body) }

// TestDecodersRefuse gives the decoders of the disk layouts with a right checksum that nothing could have written.
func TestDecodersRefuse(t *testing.T) {
	entry := func(f func(*Entry)) []byte {
		e := sampleEntries[1]
		f(&e)
		return e.AppendTo(nil)
	}
	record := func(f func(*Record)) []byte {
		r := sampleRecords[2]
		f(&r)
		return r.Append(nil)
	}
	const ballotField = "\x12\x04\x10\x01\x18\x01" // field 2: round 1, node 1
	small := func(rest string) []byte {
		return sealed(2, []byte("\x08\x01"+ballotField+"\x19\x01\x00\x00\x00\x00\x00\x00\x00"+rest)...)
	}
	for _, tc := range []struct {
		name   string
		src    []byte
		record bool
		want   string
	}{
		{"entry of version 1", sealed(1), false, "version 1, this program reads 2"},
		{"entry of version 3", sealed(3), false, "version 3"},
		{"no field at all", sealed(2), false, "slot 0 is not between"},
		{"slot too high", entry(func(e *Entry) { e.Slot = SlotMax + 1 }), false, "slot 4611686018427387905 is not"},
		{"no time", entry(func(e *Entry) { e.Time = 0 }), false, "time 0 is not"},
		{"time too high", entry(func(e *Entry) { e.Time = TimeMax + 1 }), false, "time 9223372036854775808"},
		{"round 0", entry(func(e *Entry) { e.Ballot.Round = 0 }), false, "ballot 4.0.73588229205"},
		{"round too high", entry(func(e *Entry) { e.Ballot.Round = math.MaxUint64 }), false, "ballot 4.18446744073709551615."},
		{"node 0", entry(func(e *Entry) { e.Ballot.Node = 0 }), false, "ballot 4.7.0"},
		{"no ballot", entry(func(e *Entry) { e.Ballot = Ballot{} }), false, "ballot -"},
		{"session without seq", entry(func(e *Entry) { e.Seq = 0 }), false, "only one of them is 0"},
		{"command with a next", entry(func(e *Entry) { e.Next = 9 }), false, "leads to configuration 9"},
		{"kind 2", entry(func(e *Entry) { e.Kind = 2 }), false, "field 5 is 2, which is none of its 2 values"},
		{"smallest", small(""), false, ""},
		{"payload longer than there is", small("\x4a\x01"), false, "length 1 exceeds the 0 bytes left"},
		{"payload of 2^64-1", small("\x4a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"), false, "length 18446744073709551615 exceeds limit 268435456"},
		{"payload above the limit", small("\x4a\x81\x80\x80\x80\x01"), false, "length 268435457 exceeds limit 268435456"},
		{"payload of no bytes", small("\x4a\x00"), false, "field 9 is written though it is empty"},
		{"unknown field", small("\x50\x01"), false, "unknown field 10: a newer program wrote this"},
		{"field twice", small("\x19\x01\x00\x00\x00\x00\x00\x00\x00"), false, "field 3 comes twice"},
		{"field out of order", small("\x08\x01"), false, "field 1 after field 3"},
		{"field number 0", small("\x00\x01"), false, "field number 0"},
		{"tag of 2^64", small("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x01"), false, "field number 2305843009213693951"},
		{"wrong wire type", small("\x31\x01\x00\x00\x00\x00\x00\x00\x00"), false, "field 6 has wire type 1, want 0"},
		{"long varint", small("\x30\x81\x00"), false, "bad varint"},
		{"zero varint", small("\x30\x00"), false, "field 6 is written though it is zero"},
		{"endless varint", small("\x30" + strings.Repeat("\x80", 20)), false, "bad varint"},
		{"ends in a tag", small("\x80"), false, "bad varint"},
		{"ends in a field", small("\x21\x00\x00"), false, "length 8 exceeds the 2 bytes left"},
		{"empty ballot", sealed(2, 0x08, 1, 0x12, 0), false, "field 2 is an empty ballot"},
		{"ballot with more", sealed(2, 0x08, 1, 0x12, 6, 0x10, 1, 0x18, 1, 0x20, 1), false, "unknown field 4"},
		{"empty", nil, false, "0 bytes"},

		{"record of version 3", sealed(3), true, "version 3, this program reads 1 and 2"},
		{"record of version 0", sealed(0), true, "version 0"},
		{"commit above last", record(func(r *Record) { r.Commit = r.Last + 1 }), true, "do not rise"},
		{"applied above commit", record(func(r *Record) { r.Applied = r.Commit + 1 }), true, "do not rise"},
		{"last too high", record(func(r *Record) { r.Last = SlotMax + 1 }), true, "do not rise"},
		{"first 0", record(func(r *Record) { r.First = 0 }), true, "first 0"},
		{"first above applied", record(func(r *Record) { r.First = r.Applied + 2 }), true, "first 702"},
		{"accepted above promised", record(func(r *Record) { r.Accepted.Round = 301 }), true, "accepted 4.301.8 is above"},
		{"promised round too high", record(func(r *Record) { r.Promised.Round = RoundMax + 1 }), true, "want a node and a round"},
		{"promised spelled out", sealed(2, 0x0a, 4, 0x10, 1, 0x18, 1, 0x12, 4, 0x10, 1, 0x18, 1), true, "promised is written though it is accepted"},
		{"applied after last", record(func(r *Record) { r.AppliedTime = r.LastTime }), true, "does not rise"},
		{"no time of last", record(func(r *Record) { r.LastTime, r.AppliedTime = 0, 0 }), true, "does not rise"},
		{"time before the first slot", record(func(r *Record) { *r = Record{First: 1, LastTime: 1, AppliedTime: 1} }), true, "before the first slot"},
		{"applied spelled out", sealed(2, 0x18, 1, 0x30, 1, 0x39, 1, 0, 0, 0, 0, 0, 0, 0, 0x49, 1, 0, 0, 0, 0, 0, 0, 0), true, "applied is written though it is last"},
		{"home with a zero at its end", sealed(2, 0x62, 2, 1, 0), true, "a home ends in regions that are not in it"},
		{"home of no bytes", sealed(2, 0x62, 0), true, "a home ends"},
		{"home of 33 bytes", sealed(2, append([]byte{0x62, 33}, bytes.Repeat([]byte{1}, 33)...)...), true, "length 33 exceeds limit 32"},
		{"home of no ballot", record(func(r *Record) { r.Accepted = Ballot{} }), true, "home of no accepted ballot"},
		{"five global promises", sealed(2, bytes.Repeat([]byte{0x6a, 6, 0x0a, 4, 0x10, 1, 0x18, 1}, 5)...), true, "more than 4 global promises"},
		{"global promises that fall", record(func(r *Record) { r.GlobalPromises[1].Ballot.Round = 2 }), true, "global promise 4.2.7 does not rise from 4.3.9"},
		{"global promise at accepted", record(func(r *Record) { r.GlobalPromises[0].Ballot = r.Accepted }), true, "does not rise"},
		{"global promise above promised", record(func(r *Record) { r.GlobalPromises[1].Ballot.Round = 301 }), true, "does not rise"},
		{"global promise of no ballot", sealed(2, 0x6a, 2, 0x10, 1), true, "field 13 has no ballot"},
		{"empty fort", sealed(2, 0x72, 0), true, "field 14 is empty"},
		{"fort without epoch", record(func(r *Record) { r.Fort.Epoch = 0 }), true, "only one of them is 0"},
		{"stop-sign above commit", record(func(r *Record) { r.StopSlot = r.Commit + 1 }), true, "stop-sign to configuration 4 in slot 891"},
		{"stop-sign to nowhere", record(func(r *Record) { r.StopNext = 0 }), true, "stop-sign to configuration 0"},

		{"v1 without flags", sealed(1), true, "ends in a field"},
		{"v1 with an unknown flag", unhexSealed(t, "01 07 04 02 07 09 0a 00 04 7b002a36fe9c9717 0807060504030201"), true, "unknown flags 0x7"},
		{"v1 flag not set", unhexSealed(t, "01 02 010101 010101 00 01 00 00 0000000000000000 0000000000000000"), true, "a flag is not set"},
		{"v1 with a gap", unhexSealed(t, "01 03 04 02 07 09 0a 01 04 7b002a36fe9c9717 0807060504030201"), true, "a gap of 1 slots"},
		{"v1 with bytes behind", unhexSealed(t, "01 03 04 02 07 09 0a 00 04 7b002a36fe9c9717 0807060504030201 00"), true, "1 bytes too many"},
		{"v1 with a long varint", unhexSealed(t, "01 03 8400 02 07 09 0a 00 04 7b002a36fe9c9717 0807060504030201"), true, "bad varint"},
	} {
		var err error
		if tc.record {
			_, err = DecodeRecord(tc.src)
		} else {
			_, err = DecodeEntry(tc.src)
		}
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (!errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

func unhexSealed(t testing.TB, s string) []byte {
	b := unhex(t, s)
	return sealed(b[0], b[1:]...)
}

// TestDecodeMessageRefuses gives what no correct peer sends.
func TestDecodeMessageRefuses(t *testing.T) {
	const head = "\x08\x06\x22\x04\x10\x01\x18\x01" // an Accept at ballot 0.1.1
	const entry = "\x3a\x09\x19\x01\x00\x00\x00\x00\x00\x00\x00"
	for _, tc := range []struct {
		name, src, want string
	}{
		{"smallest", head + entry, ""},
		{"unknown fields of each kind, one twice", head + entry + "\xe0\x07\x00\xe0\x07\x01\xe9\x07\x01\x02\x03\x04\x05\x06\x07\x08\xf2\x07\x02xx\xfd\x07\x01\x02\x03\x04", ""},
		{"unknown field in an entry", head + "\x3a\x0b\x19\x01\x00\x00\x00\x00\x00\x00\x00\x50\x01", "unknown field 10: a newer program wrote this"},
		{"unknown field in a ballot", "\x08\x06\x22\x06\x10\x01\x18\x01\x20\x01", "unknown field 4: a newer program wrote this"},
		{"unknown field that ends", head + "\xf2\x07\x02x", "field 126: length 2 exceeds the 1 bytes left"},
		{"group", head + "\xe3\x07\xe4\x07", "field 124 has wire type 3"},
		{"empty", "", "no type"},
		{"type 0", "\x08\x00", "written though it is zero"},
		{"type 20", "\x08\x14", "field 1 is 20, which is none of its 20 values"},
		{"type 2^32", "\x08\x80\x80\x80\x80\x10", "which is none"},
		{"scope 2", head + "\x88\x01\x02", "field 17 is 2"},
		{"kind 2", head + "\x3a\x0b\x19\x01\x00\x00\x00\x00\x00\x00\x00\x28\x02", "field 5 is 2"},
		{"ballot twice", head + "\x22\x04\x10\x01\x18\x01", "field 4 comes twice"},
		{"type twice", "\x08\x06\x08\x06", "field 1 comes twice"},
		{"out of order", "\x10\x01\x08\x06", "field 1 after field 2"},
		{"entry with two times", head + "\x3a\x12\x19\x01\x00\x00\x00\x00\x00\x00\x00\x19\x01\x00\x00\x00\x00\x00\x00\x00", "field 3 comes twice"},
		{"entry that ends", head + "\x3a\x0a\x19\x01\x00\x00\x00\x00\x00\x00\x00", "length 10 exceeds the 9 bytes left"},
		{"empty entry", head + "\x3a\x00", "entry 1 of 0 bytes, want at least 9"},
		{"entry of 4 GiB", head + "\x3a\xff\xff\xff\xff\x0f", "length 4294967295 exceeds limit 268435584"},
		{"payload of 4 GiB", head + "\x3a\x0f\x19\x01\x00\x00\x00\x00\x00\x00\x00\x4a\xff\xff\xff\xff\x0f", "length 4294967295 exceeds limit 268435456"},
		{"home of 4 GiB", head + "\x92\x01\xff\xff\xff\xff\x0f", "length 4294967295 exceeds limit 32"},
		{"ballot of 4 GiB", "\x08\x06\x22\xff\xff\xff\xff\x0f", "length 4294967295 exceeds limit 64"},
		{"empty ballot", "\x08\x06\x22\x00", "field 4 is an empty ballot"},
		{"slot spelled out", head + "\x3a\x0b\x08\x01\x19\x01\x00\x00\x00\x00\x00\x00\x00", "entry 1 says what follows from the message"},
		{"ballot spelled out", head + "\x3a\x0f\x12\x04\x10\x01\x18\x01\x19\x01\x00\x00\x00\x00\x00\x00\x00", "entry 1 says what follows"},
	} {
		m, err := DecodeMessage([]byte(tc.src))
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want == "" && (m.Entries[0].Slot != 1 || m.Entries[0].Ballot != m.Ballot):
			t.Errorf("%s: %+v", tc.name, m)
		case tc.want != "" && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestHugeMessagesAreRefusedCheaply gives messages that claim much: nothing is allocated for what they claim.
func TestHugeMessagesAreRefusedCheaply(t *testing.T) {
	million := append([]byte("\x08\x06"), bytes.Repeat([]byte("\x3a\x09\x19\x01\x00\x00\x00\x00\x00\x00\x00"), 1e6)...)
	hollow := append([]byte("\x08\x06"), bytes.Repeat([]byte("\x3a\x00"), 1e6)...)
	type huge struct {
		src  []byte
		want string
	}
	cases := map[string]huge{"10^6 entries": {million, "more than 131072 entries"}, "10^6 empty entries": {hollow, "entry 1 of 0 bytes"}}
	if os.Getenv("ATLAS_LONG") != "" { // the race detector touches all of it
		cases["longer than a GiB"] = huge{make([]byte, MessageLenMax+1), "length 1073741825 exceeds limit 1073741824"}
	}
	for name, tc := range cases {
		var err error
		if allocs := testing.AllocsPerRun(1, func() { _, err = DecodeMessage(tc.src) }); allocs > 20 {
			t.Errorf("%s: %v allocations", name, allocs)
		}
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want %q", name, err, tc.want)
		}
	}
	most := append([]byte("\x08\x06"), million[2:2+11*EntriesPerMessageMax]...)
	if m, err := DecodeMessage(most); err != nil || len(m.Entries) != EntriesPerMessageMax {
		t.Errorf("the most entries: %d, %v", len(m.Entries), err)
	}
}

// TestChainSeesEveryField changes each field of an entry, and its predecessor, and expects another chain.
func TestChainSeesEveryField(t *testing.T) {
	e := sampleEntries[1]
	seen := map[uint64]string{chain(1, &e): "itself"}
	see := func(what string, before uint64, e Entry) {
		h := chain(before, &e)
		if was, ok := seen[h]; ok {
			t.Errorf("%s has the chain of %s", what, was)
		}
		seen[h] = what
	}
	see("another predecessor", 2, e)
	for what, f := range map[string]func(*Entry){
		"slot": func(e *Entry) { e.Slot++ }, "cfg": func(e *Entry) { e.Ballot.Cfg++ }, "round": func(e *Entry) { e.Ballot.Round++ },
		"node": func(e *Entry) { e.Ballot.Node++ }, "time": func(e *Entry) { e.Time++ }, "shorter": func(e *Entry) { e.Payload = e.Payload[1:] },
		"longer": func(e *Entry) { e.Payload = []byte("hello\x00") }, "payload": func(e *Entry) { e.Payload = []byte("hellp") }, "none": func(e *Entry) { e.Payload = nil },
		"round and node": func(e *Entry) { e.Ballot.Round, e.Ballot.Node = uint64(e.Ballot.Node), NodeID(e.Ballot.Round) },
		"kind":           func(e *Entry) { e.Kind = StopSign }, "session": func(e *Entry) { e.Session++ }, "seq": func(e *Entry) { e.Seq++ }, "next": func(e *Entry) { e.Next++ },
		"session and seq": func(e *Entry) { e.Session, e.Seq = e.Seq, e.Session },
	} {
		other := e
		f(&other)
		see(what, 1, other)
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for i := range sampleEntries {
		f.Add(sampleEntries[i].AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzDisk(t, src, func(b []byte) ([]byte, error) {
			e, err := DecodeEntry(b)
			return e.AppendTo(nil), err
		})
	})
}

func FuzzDecodeRecord(f *testing.F) {
	for i := range sampleRecords {
		f.Add(sampleRecords[i].Append(nil))
	}
	f.Add(unhexSealed(f, "01 03 04 02 07 09 0a 00 04 7b002a36fe9c9717 0807060504030201"))
	f.Fuzz(func(t *testing.T, src []byte) {
		fuzzDisk(t, src, func(b []byte) ([]byte, error) {
			r, err := DecodeRecord(b)
			if err != nil {
				return nil, err
			}
			again := r.Append(nil)
			if len(again) > RecordLenMax {
				t.Fatalf("%d bytes", len(again))
			}
			if d, err := DecodeRecord(again); err != nil || d != r {
				t.Fatalf("%+v comes back as %+v, %v", r, d, err)
			}
			if b[0] == recordVersion1 {
				return b, nil // is not written any more
			}
			return again, nil
		})
	})
}

// fuzzDisk decodes the bytes as they are, and again with a right checksum, since no mutation finds that. What decodes must
// encode to the same bytes: there is one layout for each value.
func fuzzDisk(t *testing.T, src []byte, decode func([]byte) ([]byte, error)) {
	tries := [][]byte{src}
	if n := len(src) - checksumLen; n > 0 {
		tries = append(tries, sealed(src[0], src[1:n]...))
	}
	for _, b := range tries {
		again, err := decode(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v is not ErrCorrupt", err)
			}
			continue
		}
		if !bytes.Equal(again, b) {
			t.Fatalf("%x decodes, and encodes to %x", b, again)
		}
	}
}

// FuzzDecodeMessage: what decodes is the same when it is encoded and decoded again, and without unknown fields it encodes to
// the same bytes. The generated code reads it alike.
func FuzzDecodeMessage(f *testing.F) {
	for i := range sampleMessages {
		f.Add(sampleMessages[i].AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := DecodeMessage(src)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("error %v is not ErrInvalid", err)
			}
			return
		}
		again := m.AppendTo(nil)
		if d, err := DecodeMessage(again); err != nil || !equalMessages(&d, &m) {
			t.Fatalf("%+v comes back as %+v, %v", m, d, err)
		}
		var p consensuspb.Message
		if err := proto.Unmarshal(src, &p); err != nil {
			t.Fatalf("%x: the generated code says %v", src, err)
		}
		if g := goMessage(&p); !equalMessages(&g, &m) {
			t.Fatalf("%x: the generated code reads %+v, want %+v", src, g, m)
		}
		if len(again) > len(src) {
			t.Fatalf("%x encodes to more: %x", src, again)
		}
		if len(again) == len(src) && !bytes.Equal(again, src) {
			t.Fatalf("%x encodes to %x", src, again)
		}
	})
}

func BenchmarkChain(b *testing.B) {
	for _, size := range []int{100, 1 << 20} {
		b.Run(map[int]string{100: "100B", 1 << 20: "1MiB"}[size], func(b *testing.B) {
			e := Entry{Slot: 1, Payload: make([]byte, size)}
			b.SetBytes(int64(size))
			for b.Loop() {
				e.Chain = chain(e.Chain, &e)
			}
		})
	}
}

// TestChecksumIsCRC32C checks the checksum against its published check value.
func TestChecksumIsCRC32C(t *testing.T) {
	if got := crc32.Checksum([]byte("123456789"), castagnoli); got != 0xe3069283 {
		t.Errorf("CRC of 123456789 is %08x", got)
	}
}
