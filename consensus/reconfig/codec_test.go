// SPDX-License-Identifier: AGPL-3.0-only

package reconfig

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"testing"
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
		"0101ac020765752d77657374",
		"01020801020" + "30a01610b016114016202ac0201",
		"010307030a0109",
	}
	for i, e := range entries() {
		raw := e.AppendTo(nil)
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
	for name, body := range map[string]string{
		"no kind":                "\x01\x00",
		"bytes after the end":    "\x01\x01\x05\x01a\x00",
		"a long varint":          "\x01\x01\x85\x00\x01a",
		"nodes that do not rise": "\x01\x03\x07\x02\x05\x00",
		"more nodes than bytes":  "\x01\x03\x07\xff\x01\x01",
		"a long region":          "\x01\x01\x05\xff\xff\xff\xff\x0fa",
		"voters out of order":    "\x01\x02\x08\x00\x00\x02\x05\x01b\x05\x01a\x00",
		"Fn above the limit":     "\x01\x02\x08\xff\xff\x03\x00\x01\x05\x01a\x00",
	} {
		w := writer(body)
		if e, err := DecodeEntry(w.checksum()); !errors.Is(err, ErrCorrupt) {
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
		raw := e.AppendTo(nil)
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
			if !bytes.Equal(e.AppendTo(nil), raw) {
				t.Fatalf("%x has two layouts", raw)
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
