// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine"
)

// slowText is isText, the obvious way.
func slowText(p []byte) bool {
	if !utf8.Valid(p) {
		return false
	}
	for _, r := range string(p) {
		if unicode.IsControl(r) && r != '\t' {
			return false
		}
	}
	return true
}

// someBytes draws bytes near the edges that matter: plain text with now and then something else.
func someBytes() *rapid.Generator[[]byte] {
	odd := []string{"\x00", "\t", "\n", "\r", "\x1f", " ", "~", "\x7f", "\x80", "\u0080", "\u0085", "\u009f", "\u00a0", "é", "\u2028", "€", "\U0001f600", "\xff", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", `"`, `\`, ".", `."`}
	return rapid.Custom(func(t *rapid.T) []byte {
		var b []byte
		for range rapid.IntRange(0, 6).Draw(t, "parts") {
			if rapid.Bool().Draw(t, "plain") {
				b = append(b, rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "text")...)
			} else {
				b = append(b, rapid.SampledFrom(odd).Draw(t, "odd")...)
			}
		}
		return b
	})
}

func TestIsTextAgainstSlowTwin(t *testing.T) {
	for i := range 256 {
		for at := range 17 {
			p := bytes.Repeat([]byte{'x'}, 17)
			p[at] = byte(i)
			if got, want := isText(p), slowText(p); got != want {
				t.Fatalf("byte %#x at %d: %v, want %v", i, at, got, want)
			}
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		p := someBytes().Draw(t, "p")
		if got, want := isText(p), slowText(p); got != want {
			t.Fatalf("%q is text: %v, want %v", p, got, want)
		}
		var look textScan
		for rest := p; len(rest) > 0; {
			n := rapid.IntRange(1, len(rest)).Draw(t, "piece")
			if _, err := look.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if got, want := look.text(), slowText(p); got != want {
			t.Fatalf("%q in pieces is text: %v, want %v", p, got, want)
		}
	})
}

// Every key is shown as one printable word, from which it comes back; what is shown plain is the key itself.
func TestKeyWords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := someBytes().Draw(t, "key")
		word := appendKey(nil, key)
		if len(key) > 0 && !isPrintable(word) || bytes.ContainsAny(word, " \t\r\n") {
			t.Fatalf("key %q is shown as %q", key, word)
		}
		back, ok := parseKeyWord(word)
		if !ok || !bytes.Equal(back, key) {
			t.Fatalf("key %q is shown as %q, which reads as %q, %v", key, word, back, ok)
		}
		if !bytes.HasPrefix(word, quoteOpen) && !bytes.Equal(word, key) {
			t.Fatalf("key %q is shown as %q", key, word)
		}
	})
}

func TestParseUint(t *testing.T) {
	for word, want := range map[string]uint64{
		"0": 0, "1": 1, "10": 10, "18446744073709551615": math.MaxUint64, "18446744073709551614": math.MaxUint64 - 1,
	} {
		if got, ok := parseUint([]byte(word)); !ok || got != want {
			t.Errorf("%q is %d, %v", word, got, ok)
		}
	}
	for _, word := range []string{
		"", "-1", "+1", "01", "00", "1 ", " 1", "1_0", "0x1", "1e1", "1.0", "１", "18446744073709551616", "99999999999999999999",
		"111111111111111111111", strings.Repeat("9", 300),
	} {
		if got, ok := parseUint([]byte(word)); ok {
			t.Errorf("%q is %d", word, got)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Uint64().Draw(t, "n")
		if got, ok := parseUint(strconv.AppendUint(nil, n, 10)); !ok || got != n {
			t.Fatalf("%d is %d, %v", n, got, ok)
		}
	})
}

// Error texts cannot break a line, whatever stands in them, and have a bound.
func TestErrorLines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := string(someBytes().Draw(t, "text"))
		if rapid.Bool().Draw(t, "long") {
			text = strings.Repeat(text, 500)
		}
		for _, err := range []error{
			engine.Errorf(engine.ClassConflict, "%s", text), &fatalError{text}, fmt.Errorf("other: %s", text),
			fmt.Errorf("wrapped: %w", engine.Errorf(engine.ClassDenied, "%s", text)),
		} {
			line := appendError(nil, []byte("[ID:x] "), err)
			body, found := bytes.CutSuffix(line, crlf)
			if !found || !utf8.Valid(body) || bytes.ContainsFunc(body, unicode.IsControl) || len(body) > ErrorTextMax+64 {
				t.Fatalf("error line %q", line)
			}
			if bytes.ContainsRune(body, '\u2028') || bytes.ContainsRune(body, '\u0085') {
				t.Fatalf("error line %q", line)
			}
		}
	})
}

// Verbs have a name each, for metrics.
func TestVerbNames(t *testing.T) {
	seen := map[string]bool{}
	for v, name := range verbNames {
		if name == "" || seen[name] {
			t.Errorf("verb %d is named %q", v, name)
		}
		seen[name] = true
	}
}

// Parsing does not allocate on the ways that matter.
func TestParseAllocations(t *testing.T) {
	for _, line := range []string{
		"KEY GET users.alice", "[ID:12] KEY GET users.alice", "KEY PUT users.alice some value", "KEY DEL users.alice",
		"KEY WRITE users.alice IF VERSION 12345 VALUE some value", "SCAN users VALUES LIMIT 10", "KEY BLOB GET users.alice VERSION",
		"COUNT users", "PRINCIPAL WHOAMI", "BEGIN", "COMMIT",
	} {
		var c command
		if n := testing.AllocsPerRun(100, func() {
			_, rest, err := splitID([]byte(line)[:len(line):len(line)])
			if err == nil {
				err = parse(rest, &c)
			}
			if err != nil {
				t.Fatal(err)
			}
		}); n > 1 { // the conversion above
			t.Errorf("%s: %v allocations", line, n)
		}
	}
}
