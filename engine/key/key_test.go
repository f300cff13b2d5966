// SPDX-License-Identifier: AGPL-3.0-only

package key_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine/key"
)

func TestParse(t *testing.T) {
	table128 := strings.Repeat("t", key.TableLenMax)
	for _, c := range []struct {
		raw, table, group, row, rest, tableRest string
		bad                                     string // what the error says
	}{
		{raw: "users.alice", table: "users", group: "users", row: "alice", rest: ".alice"},
		{raw: "users.a.b.c", table: "users", group: "users", row: "a.b.c", rest: ".a.b.c"},
		{raw: "users..", table: "users", group: "users", row: ".", rest: ".."},
		{raw: "shop/users.42", table: "shop/users", group: "shop", row: "42", rest: "/users.42", tableRest: "/users"},
		{raw: "shop/a/b.42", table: "shop/a/b", group: "shop", row: "42", rest: "/a/b.42", tableRest: "/a/b"},
		{raw: "shop//b.42", table: "shop//b", group: "shop", row: "42", rest: "//b.42", tableRest: "//b"},
		{raw: "users.a/b", table: "users", group: "users", row: "a/b", rest: ".a/b"},
		{raw: "users.\x00\xff\r\n", table: "users", group: "users", row: "\x00\xff\r\n", rest: ".\x00\xff\r\n"},
		{raw: "Straße.ß", table: "Straße", group: "Straße", row: "ß", rest: ".ß"},
		{raw: "Users.Alice", table: "Users", group: "Users", row: "Alice", rest: ".Alice"},
		{raw: table128 + ".r", table: table128, group: table128, row: "r", rest: ".r"},
		{raw: "t." + strings.Repeat("r", key.LenMax-2), table: "t", group: "t", row: strings.Repeat("r", key.LenMax-2), rest: "." + strings.Repeat("r", key.LenMax-2)},

		{raw: "", bad: "table name is empty"},
		{raw: ".alice", bad: "table name is empty"},
		{raw: "users", bad: `"users" has no row: want table.row`},
		{raw: "users.", bad: `"users." has an empty row`},
		{raw: "/users.1", bad: "has an empty group"},
		{raw: "shop/.1", bad: "is empty after its group"},
		{raw: "us ers.1", bad: "blank or control"},
		{raw: "us\ters.1", bad: "blank or control"},
		{raw: "us\r\nOK.1", bad: `"us\r\nOK" holds a blank or control`},
		{raw: "us\x00ers.1", bad: "blank or control"},
		{raw: "us\x7fers.1", bad: "blank or control"},
		{raw: "us\u0085ers.1", bad: "blank or control"},
		{raw: "us\u00a0ers.1", bad: "blank or control"},
		{raw: "us\u2028ers.1", bad: "blank or control"},
		{raw: "us\u2029ers.1", bad: "blank or control"},
		{raw: "us\xffers.1", bad: "not UTF-8"},
		{raw: "us\xc0\xaeers.1", bad: "not UTF-8"},
		{raw: table128 + "t.r", bad: "table name length 129 exceeds limit 128"},
		{raw: "t." + strings.Repeat("r", key.LenMax-1), bad: "length 4097 exceeds limit 4096"},
	} {
		k, err := key.Parse([]byte(c.raw))
		if c.bad != "" {
			if !errors.Is(err, key.ErrInvalid) || !strings.Contains(err.Error(), c.bad) {
				t.Errorf("Parse(%q) = %v, want %q", c.raw, err, c.bad)
			}
			continue
		}
		if err != nil {
			t.Errorf("Parse(%q): %v", c.raw, err)
			continue
		}
		got := [...]string{k.Table(), k.Group(), string(k.Row()), string(k.Rest()), string(k.TableRest()), k.String()}
		want := [...]string{c.table, c.group, c.row, c.rest, c.tableRest, c.raw}
		if got != want {
			t.Errorf("Parse(%q) = %q, want %q", c.raw, got, want)
		}
		if string(k.GroupBytes()) != c.group || string(k.Bytes()) != c.raw || string(key.TableOfRest(k.Rest())) != c.tableRest {
			t.Errorf("Parse(%q): the byte forms differ from the strings", c.raw)
		}
	}
}

func TestParsePrefixAndTable(t *testing.T) {
	for _, c := range []struct{ raw, group, rest, row string }{
		{"users", "users", ".", ""},
		{"users.", "users", ".", ""},
		{"users.al", "users", ".al", "al"},
		{"shop/users", "shop", "/users.", ""},
		{"shop/users.4", "shop", "/users.4", "4"},
	} {
		raw := []byte(c.raw)
		k, err := key.ParsePrefix(raw)
		if err != nil || k.Group() != c.group || string(k.Rest()) != c.rest || string(k.Row()) != c.row {
			t.Errorf("ParsePrefix(%q) = %q %q %q, %v", c.raw, k.Group(), k.Rest(), k.Row(), err)
		}
		if string(raw) != c.raw {
			t.Errorf("ParsePrefix(%q) changed its input", c.raw)
		}
	}
	for _, raw := range []string{"", ".", "a b", "/", "a/", "\xff"} {
		if _, err := key.ParsePrefix([]byte(raw)); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("ParsePrefix(%q) = %v", raw, err)
		}
	}
	k, err := key.ParseTable([]byte("shop/users"))
	if err != nil || k.Table() != "shop/users" || k.Row() != nil || string(k.Rest()) != "/users" {
		t.Errorf("ParseTable = %q %q %q, %v", k.Table(), k.Row(), k.Rest(), err)
	}
	for _, raw := range []string{"", "users.alice", "users.", "/x"} {
		if _, err := key.ParseTable([]byte(raw)); !errors.Is(err, key.ErrInvalid) {
			t.Errorf("ParseTable(%q) = %v", raw, err)
		}
	}
}

// TestPrefixNeverCoversAnotherTable: `user` must not show the rows of `users`, nor `shop` those of `shop/users`.
func TestPrefixNeverCoversAnotherTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := genTable().Draw(t, "a"), genTable().Draw(t, "b")
		prefix, err := key.ParsePrefix([]byte(a))
		if err != nil {
			t.Fatal(err)
		}
		k, err := key.Parse([]byte(b + "." + genRow().Draw(t, "row")))
		if err != nil {
			t.Fatal(err)
		}
		covered := prefix.Group() == k.Group() && bytes.HasPrefix(k.Rest(), prefix.Rest())
		if covered != (a == b) {
			t.Fatalf("prefix of table %q covers key %q: %v", a, k.String(), covered)
		}
	})
}

// TestParseTwin compares Parse with a slow, obvious one, and the parts with what they must make together.
func TestParseTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := []byte(rapid.OneOf(rapid.StringMatching(`[a./ ]{0,8}`), genKey(), rapid.String()).Draw(t, "raw"))
		checkTwin(t, raw)
	})
}

type fataler interface{ Fatalf(string, ...any) }

func checkTwin(t fataler, raw []byte) {
	k, err := key.Parse(raw)
	table, row, found := strings.Cut(string(raw), ".")
	group, inner, grouped := strings.Cut(table, "/")
	ok := found && table != "" && row != "" && len(raw) <= key.LenMax && len(table) <= key.TableLenMax &&
		utf8.ValidString(table) && group != "" && !strings.HasSuffix(table, "/") && slowVisible(table)
	if (err == nil) != ok {
		t.Fatalf("Parse(%q) = %v, the twin says %v", raw, err, ok)
	}
	if err != nil {
		if !errors.Is(err, key.ErrInvalid) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' }) {
			t.Fatalf("Parse(%q): error %q", raw, err)
		}
		return
	}
	tableRest := ""
	if grouped {
		tableRest = "/" + inner
	}
	if k.Table() != table || k.Group() != group || string(k.Row()) != row || string(k.TableRest()) != tableRest {
		t.Fatalf("Parse(%q) = %q %q %q %q", raw, k.Table(), k.Group(), k.Row(), k.TableRest())
	}
	if got := key.FromParts(k.Group(), k.Rest()); !bytes.Equal(got, raw) {
		t.Fatalf("FromParts of %q = %q", raw, got)
	}
	if err := key.CheckRest(k.Rest()); err != nil {
		t.Fatalf("CheckRest(%q) of %q: %v", k.Rest(), raw, err)
	}
	if err := key.CheckTableRest(k.TableRest()); err != nil {
		t.Fatalf("CheckTableRest(%q) of %q: %v", k.TableRest(), raw, err)
	}
}

func slowVisible(table string) bool {
	for _, r := range table {
		if strings.ContainsRune("\u0085\u00a0\u2028\u2029\u007f", r) || r <= ' ' || (r >= 0x80 && r < 0xa0) {
			return false
		}
	}
	return true
}

// TestCheckRest: a rest is good if a one-byte group makes a key of it, whose group is that byte.
func TestCheckRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rest := []byte(rapid.OneOf(rapid.StringMatching(`[a./ ]{0,6}`), genKey(), rapid.String()).Draw(t, "rest"))
		k, err := key.Parse(append([]byte("g"), rest...))
		want := err == nil && k.Group() == "g"
		if got := key.CheckRest(rest) == nil; got != want {
			t.Fatalf("CheckRest(%q) = %v, Parse: %v", rest, key.CheckRest(rest), err)
		}
		k, err = key.ParseTable(append([]byte("g"), rest...))
		want = err == nil && k.Group() == "g"
		if got := key.CheckTableRest(rest) == nil; got != want {
			t.Fatalf("CheckTableRest(%q) = %v, ParseTable: %v", rest, key.CheckTableRest(rest), err)
		}
	})
	long := bytes.Repeat([]byte("r"), key.LenMax)
	long[0] = '.'
	if key.CheckRest(long) == nil || key.CheckRest(long[:key.LenMax-1]) != nil {
		t.Error("CheckRest does not stop at the limit")
	}
	name := bytes.Repeat([]byte("t"), key.TableLenMax)
	name[0] = '/'
	if key.CheckTableRest(name) == nil || key.CheckTableRest(name[:key.TableLenMax-1]) != nil {
		t.Error("CheckTableRest does not stop at the limit")
	}
}

// TestOrder: within a group the rests sort as the keys do.
func TestOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, err1 := key.Parse([]byte(genKey().Draw(t, "a")))
		b, err2 := key.Parse([]byte(genKey().Draw(t, "b")))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		if a.Group() != b.Group() {
			t.Skip("different groups")
		}
		if bytes.Compare(a.Bytes(), b.Bytes()) != bytes.Compare(a.Rest(), b.Rest()) {
			t.Fatalf("%q and %q sort differently from %q and %q", a.Bytes(), b.Bytes(), a.Rest(), b.Rest())
		}
	})
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"a", "b"}, {"a.", "a/"}, {"a\xff", "b"}, {"a\xff\xff", "b"}, {"\xff", ""}, {"", ""}, {"\x00", "\x01"},
	} {
		if got := key.PrefixEnd([]byte(c.in)); string(got) != c.out || (got == nil) != (c.out == "") {
			t.Errorf("PrefixEnd(%q) = %q, want %q", c.in, got, c.out)
		}
	}
	bytesOf := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 'a', 0xfe, 0xff}), 0, 4)
	rapid.Check(t, func(t *rapid.T) {
		p, s := bytesOf.Draw(t, "p"), bytesOf.Draw(t, "s")
		before := bytes.Clone(p)
		end := key.PrefixEnd(p)
		if !bytes.Equal(p, before) {
			t.Fatalf("PrefixEnd changed its input")
		}
		within := bytes.Compare(s, p) >= 0 && (end == nil || bytes.Compare(s, end) < 0)
		if within != bytes.HasPrefix(s, p) {
			t.Fatalf("%q in [%q, %q) = %v", s, p, end, within)
		}
	})
}

// TestText: whatever a name holds, no control character, line break or forged quote reaches a message.
func TestText(t *testing.T) {
	for _, c := range []struct{ in, out string }{
		{"users.alice", "users.alice"},
		{"Straße.ß", "Straße.ß"},
		{`users."a"`, `users."a"`},
		{`"users.a"`, `"\"users.a\""`},
		{"", `""`},
		{"users.a b", `"users.a b"`},
		{"users.a\r\nOK", `"users.a\r\nOK"`},
		{"users.\x1b[31m", `"users.\x1b[31m"`},
		{"users.\u2028", `"users.\u2028"`},
		{"users.\u202e", `"users.\u202e"`},
		{"users.\xff", `"users.\xff"`},
		{strings.Repeat("x", 257), `"` + strings.Repeat("x", 64) + `"...`},
	} {
		if got := key.Text([]byte(c.in)); got != c.out {
			t.Errorf("Text(%q) = %s, want %s", c.in, got, c.out)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.Byte()).Draw(t, "raw")
		got := key.Text(raw)
		for _, r := range got {
			if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) || r == '\u2028' || r == '\u2029' {
				t.Fatalf("Text(%q) = %q", raw, got)
			}
		}
		if strings.Contains(got, " ") && got[0] != '"' {
			t.Fatalf("Text(%q) = %q: a blank without quotes", raw, got)
		}
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"users.alice", "shop/users.42", "", ".", "a/.b", "a.\x00", "\xff.x", "a\u2028.b"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) { checkTwin(t, raw) })
}

func genTable() *rapid.Generator[string] { return rapid.StringMatching(`[ab]{1,2}(/[ab]{1,2}){0,2}`) }

func genRow() *rapid.Generator[string] { return rapid.StringMatching(`[ab./]{1,3}`) }

func genKey() *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string { return genTable().Draw(t, "table") + "." + genRow().Draw(t, "row") })
}

func BenchmarkParse(b *testing.B) {
	raw := []byte("shop/users.4711")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := key.Parse(raw); err != nil {
			b.Fatal(err)
		}
	}
}
