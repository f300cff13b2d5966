// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"bytes"
	"encoding/hex"
	"errors"
	"runtime"
	"testing"

	"pgregory.net/rapid"
)

func genGrants() *rapid.Generator[*Grants] {
	return rapid.Custom(func(t *rapid.T) *Grants {
		g := &Grants{}
		for range rapid.IntRange(0, 6).Draw(t, "entries") {
			name := rapid.StringMatching(`[a-c]{1,3}|ß{1,2}`).Draw(t, "name")
			g = g.with(name, Perm(rapid.IntRange(1, int(permAll)).Draw(t, "perms")))
		}
		return g
	})
}

func TestGrantsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := genGrants().Draw(t, "grants")
		b := g.AppendTo([]byte("before"))[len("before"):]
		got, err := DecodeGrants(b)
		if err != nil || !same(got, g) {
			t.Fatalf("%v became %v, %v", g.show(), got.show(), err)
		}
		for i := range b {
			if got, err := DecodeGrants(b[:i]); !errors.Is(err, ErrCodec) {
				t.Fatalf("%d bytes of %x: %v, %v", i, b, got.show(), err)
			}
		}
		if _, err := DecodeGrants(append(bytes.Clone(b), 0)); !errors.Is(err, ErrCodec) {
			t.Fatalf("a byte more: %v", err)
		}
	})
}

// TestGrantsIsImmutable: a list that a reader holds does not change under it.
func TestGrantsIsImmutable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := genGrants().Draw(t, "grants")
		before := g.show()
		name := rapid.StringMatching(`[a-c]{1,3}`).Draw(t, "name")
		perms := Perm(rapid.IntRange(0, int(permAll)).Draw(t, "perms"))
		next := g.with(name, perms)
		if g.show() != before {
			t.Fatalf("with changed %s to %s", before, g.show())
		}
		if next.Perms(name) != perms {
			t.Fatalf("with(%q, %v) holds %v", name, perms, next.Perms(name))
		}
		entries := g.Entries()
		for i := range entries {
			entries[i] = Entry{}
		}
		if g.show() != before {
			t.Fatalf("Entries is no copy")
		}
	})
}

func TestGrantsGolden(t *testing.T) {
	var none *Grants
	for _, c := range []struct {
		g    *Grants
		want string
	}{
		{&Grants{}, "0100"},
		{none.with("bob", PermRead).with("alice", PermOwner), "010205616c6963650403626f6201"},
	} {
		if got := hex.EncodeToString(c.g.AppendTo(nil)); got != c.want {
			t.Errorf("%v = %s, want %s", c.g.show(), got, c.want)
		}
	}
}

func TestDecodeGrantsRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"nothing":                         "",
		"a newer version":                 "0200",
		"no count":                        "01",
		"a count of more than there is":   "0105",
		"a huge count":                    "01ffffffffffffffff7f",
		"a count that overflows":          "01ffffffffffffffffff7f",
		"a count in a longer form":        "018000",
		"an entry cut short":              "01010561",
		"an entry without permissions":    "01010161",
		"no permission":                   "0101016100",
		"an unknown permission":           "0101016108",
		"an empty principal":              "01010001",
		"a principal not UTF-8":           "010101ff01",
		"a principal with a line break":   "0101010a01",
		"principals out of order":         "0102016201016101",
		"a principal twice":               "0102016101016102",
		"bytes after the end":             "010000",
		"a huge length of a principal":    "0101ffffffffffffffff7f01",
		"the largest length of principal": "0101ffffffffffffffffff0101",
	} {
		b, err := hex.DecodeString(in)
		if err != nil {
			t.Fatal(err)
		}
		if g, err := DecodeGrants(b); !errors.Is(err, ErrCodec) || g != nil {
			t.Errorf("%s: %v, %v", name, g.show(), err)
		}
	}
}

// TestDecodeGrantsAllocatesByBytes: a short list that claims the most entries costs about its own length.
func TestDecodeGrantsAllocatesByBytes(t *testing.T) {
	b := append([]byte{1, 0x80, 0x08}, make([]byte, 100)...) // claims 1,024
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		if _, err := DecodeGrants(b); err == nil {
			t.Fatal("read")
		}
	}
	runtime.ReadMemStats(&after)
	if spent := after.TotalAlloc - before.TotalAlloc; spent > 1<<20 {
		t.Errorf("100 refusals of %d bytes allocated %d bytes", len(b), spent)
	}
}

func FuzzDecodeGrants(f *testing.F) {
	var none *Grants
	f.Add((&Grants{}).AppendTo(nil))
	f.Add(none.with("bob", PermRead).with("alice", permAll).AppendTo(nil))
	f.Add([]byte{1, 0xff, 0xff, 0xff, 0x7f})
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := DecodeGrants(b)
		if err != nil {
			if !errors.Is(err, ErrCodec) {
				t.Fatalf("error %v", err)
			}
			return
		}
		if again := g.AppendTo(nil); !bytes.Equal(again, b) {
			t.Fatalf("%x decodes to %v, which encodes to %x", b, g.show(), again)
		}
	})
}
