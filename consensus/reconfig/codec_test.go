// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/atlas-edge/atlas/consensus/consensuspb"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

func entries() []Entry {
	c := grid(8, 1, 2, 2, 1)
	c.Learners = []NodeID{300, 301}
	return []Entry{
		{Kind: AddNode, Node: 300, Region: "eu-west"},
		{Kind: SetConfig, Config: c},
		{Kind: Retire, Version: 7, Sealed: []NodeID{10, 11, 20}},
	}
}

// The layouts are fixed: a change of these bytes is a new version.
func TestGolden(t *testing.T) {
	want := []string{
		"020a0c08ac02120765752d77657374",
		"0212230a2108081205080a1201611205080b12016112050814120162180120022a04ac02ad02",
		"021a07080712030a0b14",
	}
	for i, e := range entries() {
		raw, err := e.AppendTo(nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%x", raw[:len(raw)-checksumLen]); got != want[i] {
			t.Errorf("entry %d: %s", i, got)
		}
		back, err := DecodeEntry(raw)
		if err != nil || !reflect.DeepEqual(*back, e) {
			t.Errorf("entry %d: %+v, %v", i, back, err)
		}
		refused(t, raw, func(raw []byte) error { _, err := DecodeEntry(raw); return err })
	}
	r := registry(t, grid(7, 1, 0, 2, 1))
	for _, e := range []Entry{{Kind: AddNode, Node: 300, Region: "c"}, {Kind: SetConfig, Config: grid(8, 0, 0, 2)}} {
		if err := r.Apply(&e); err != nil {
			t.Fatal(err)
		}
	}
	raw := r.AppendTo(nil)
	const golden = "01040a01610001016100090162009802016300" + "0207010" + "0030a01610b016114016200" + "08000" + "0020a01610b016100"
	if got := fmt.Sprintf("%x", raw[:len(raw)-checksumLen]); got != golden {
		t.Errorf("registry: %s", got)
	}
	back, err := Decode(raw)
	if err != nil || !bytes.Equal(back.AppendTo(nil), raw) || !bytes.Equal(r.Clone().AppendTo(nil), raw) {
		t.Errorf("registry comes back other: %v", err)
	}
	refused(t, raw, func(raw []byte) error { _, err := Decode(raw); return err })
}

// What a node writes into the log can be read by every node: an entry that could not was written, and then stopped whoever applied it.
func TestAppendRefusesWhatDecodeRefuses(t *testing.T) {
	voters := func(n int) Entry {
		e := Entry{Kind: SetConfig, Config: Config{Version: 8}}
		for i := range n {
			e.Config.Voters = append(e.Config.Voters, quorum.Voter{Node: NodeID(i + 1), Region: "a"})
		}
		return e
	}
	nodes := func(n int) (ids []NodeID) {
		for i := range n {
			ids = append(ids, NodeID(i+1))
		}
		return ids
	}
	with := func(f func(*Config)) Entry {
		e := voters(2)
		f(&e.Config)
		return e
	}
	for _, tc := range []struct {
		name  string
		entry Entry
		good  bool
	}{
		{"no kind", Entry{}, false},
		{"region not UTF-8", Entry{Kind: AddNode, Node: 1, Region: "\xff"}, false},
		{"a region that fills the entry", Entry{Kind: AddNode, Node: 1, Region: Region(strings.Repeat("a", consensuspb.SystemEntryLenMax))}, false},
		{"Fn -1", with(func(c *Config) { c.Fn = -1 }), false},
		{"Fn at the limit", with(func(c *Config) { c.Fn = FaultsMax }), true},
		{"Fn beyond", with(func(c *Config) { c.Fn = FaultsMax + 1 }), false},
		{"Fz at the limit", with(func(c *Config) { c.Fz = FaultsMax }), true},
		{"Fz beyond", with(func(c *Config) { c.Fz = FaultsMax + 1 }), false},
		{"most voters", voters(quorum.VotersMax), true},
		{"a voter more", voters(quorum.VotersMax + 1), false},
		{"a voter twice", with(func(c *Config) { c.Voters[1] = c.Voters[0] }), false},
		{"most learners", with(func(c *Config) { c.Learners = nodes(LearnersMax) }), true},
		{"a learner more", with(func(c *Config) { c.Learners = nodes(LearnersMax + 1) }), false},
		{"an empty configuration", Entry{Kind: SetConfig}, true}, // for Apply to judge
		{"most that sealed", Entry{Kind: Retire, Version: 7, Sealed: nodes(quorum.VotersMax)}, true},
		{"one more", Entry{Kind: Retire, Version: 7, Sealed: nodes(quorum.VotersMax + 1)}, false},
	} {
		raw, err := tc.entry.AppendTo([]byte("x"))
		switch {
		case !tc.good && (!errors.Is(err, ErrInvalid) || string(raw) != "x"):
			t.Errorf("%s: %d bytes, %v", tc.name, len(raw), err)
		case tc.good && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.good:
			if back, err := DecodeEntry(raw[1:]); err != nil || !reflect.DeepEqual(*back, tc.entry) {
				t.Errorf("%s: comes back as %+v, %v", tc.name, back, err)
			}
		}
	}
}

// refused checks that no part of raw and nothing one bit away is taken.
func refused(t *testing.T, raw []byte, decode func([]byte) error) {
	t.Helper()
	for i := range raw {
		if err := decode(raw[:i]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("cut at %d: %v", i, err)
		}
		for bit := range 8 {
			bad := slices.Clone(raw)
			bad[i] ^= 1 << bit
			if err := decode(bad); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	voter := func(node uint64, region string) *consensuspb.Voter {
		return &consensuspb.Voter{Node: node, Region: region}
	}
	config := func(c *consensuspb.Configuration) *consensuspb.SystemEntry {
		return &consensuspb.SystemEntry{SetConfig: &consensuspb.SetConfig{Configuration: c}}
	}
	for name, m := range map[string]*consensuspb.SystemEntry{
		"no kind":                 {},
		"two kinds":               {AddNode: &consensuspb.AddNode{Node: 1}, Retire: &consensuspb.Retire{Version: 1}},
		"no configuration":        {SetConfig: &consensuspb.SetConfig{}}, // it had two layouts: the other is of an empty one
		"nodes that do not rise":  {Retire: &consensuspb.Retire{Version: 7, Sealed: []uint64{5, 5}}},
		"too many nodes":          {Retire: &consensuspb.Retire{Version: 7, Sealed: make([]uint64, quorum.VotersMax+1)}},
		"voters out of order":     config(&consensuspb.Configuration{Voters: []*consensuspb.Voter{voter(5, "b"), voter(5, "a")}}),
		"Fn above the limit":      config(&consensuspb.Configuration{Fn: FaultsMax + 1}),
		"Fz above the limit":      config(&consensuspb.Configuration{Fz: 1 << 63}),
		"learners out of order":   config(&consensuspb.Configuration{Learners: []uint64{2, 1}}),
		"a region that is no end": {AddNode: &consensuspb.AddNode{Node: 1, Region: strings.Repeat("a", consensuspb.SystemEntryLenMax)}},
	} {
		raw, err := consensuspb.AppendOnDisk(nil, m)
		if err != nil {
			t.Fatal(err)
		}
		if e, err := DecodeEntry(raw); !errors.Is(err, ErrCorrupt) {
			t.Errorf("entry, %s: %+v %v", name, e, err)
		}
	}
	for name, body := range map[string]string{
		"no version":                "\x01\x01\x05\x01a\x00\x00",
		"three versions":            "\x01\x01\x05\x01a\x00\x03",
		"a voter that is not known": "\x01\x01\x05\x01a\x00\x01\x07\x00\x00\x01\x06\x01a\x00",
		"a voter that was removed":  "\x01\x01\x05\x01a\x01\x01\x07\x00\x00\x01\x05\x01a\x00",
		"version 0":                 "\x01\x01\x05\x01a\x00\x01\x00\x00\x00\x01\x05\x01a\x00",
		"versions with a gap":       "\x01\x01\x05\x01a\x00\x02\x07\x00\x00\x01\x05\x01a\x00\x09\x00\x00\x01\x05\x01a\x00",
		"a node twice":              "\x01\x02\x05\x01a\x00\x00\x01a\x00\x01\x07\x00\x00\x01\x05\x01a\x00",
		"a region without a name":   "\x01\x02\x05\x01a\x00\x01\x00\x00\x01\x07\x00\x00\x01\x05\x01a\x00",
		"removed and a half":        "\x01\x01\x05\x01a\x02\x01\x07\x00\x00\x01\x05\x01a\x00",
	} {
		w := writer(body)
		if r, err := Decode(w.checksum()); !errors.Is(err, ErrCorrupt) {
			t.Errorf("registry, %s: %+v %v", name, r, err)
		}
	}
}

// FuzzDecode: whatever comes, it is refused or has exactly these bytes. A registry that is taken takes entries.
func FuzzDecode(f *testing.F) {
	for _, e := range entries() {
		raw, err := e.AppendTo(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw[:len(raw)-checksumLen])
	}
	r, err := NewRegistry(grid(7, 1, 0, 2, 1))
	if err != nil {
		f.Fatal(err)
	}
	raw := r.AppendTo(nil)
	f.Add(raw[:len(raw)-checksumLen])
	f.Add([]byte("\x02\x12\x00"))         // SetConfig without a configuration
	f.Add([]byte("\x02\x12\x02\x0a\x00")) // and with an empty one
	f.Fuzz(func(t *testing.T, body []byte) {
		raw := (*writer)(&body).checksum()
		if e, err := DecodeEntry(raw); err == nil {
			if again, err := e.AppendTo(nil); err != nil || !bytes.Equal(again, raw) {
				t.Fatalf("%x has two layouts: %v", raw, err)
			}
			_ = r.Clone().Apply(e) // any outcome
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
		if r, err := Decode(raw); err == nil {
			if !bytes.Equal(r.AppendTo(nil), raw) {
				t.Fatalf("%x has two layouts", raw)
			}
			c := r.Newest()
			c.Version++
			_ = r.Apply(&Entry{Kind: SetConfig, Config: c}) // any outcome
		} else if !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
