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
	for _, e := range []Entry{{}, {Kind: AddNode, Node: 1, Region: "\xff"}, {Kind: SetConfig, Config: Config{Fn: -1}}} {
		if raw, err := e.AppendTo([]byte("x")); !errors.Is(err, ErrInvalid) || string(raw) != "x" {
			t.Errorf("%+v: %q %v", e, raw, err)
		}
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
