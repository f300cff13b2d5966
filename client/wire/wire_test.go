// SPDX-License-Identifier: AGPL-3.0-only

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// show reads everything and writes down what was read, a frame a line.
func show(r *Reader) string {
	var b strings.Builder
	for {
		f, err := r.Next()
		if err != nil {
			switch {
			case errors.Is(err, ErrProtocol):
				err = ErrProtocol
			}
			fmt.Fprintf(&b, "end: %v\n", err)
			return b.String()
		}
		fmt.Fprintf(&b, "%s tag=%q text=%q", map[Kind]string{KindData: "data", KindBlob: "blob", KindOK: "ok", KindError: "error"}[f.Kind], f.Tag, f.Text)
		if f.Kind == KindBlob {
			body, err := io.ReadAll(r)
			fmt.Fprintf(&b, " body=%q", body)
			if err != nil {
				fmt.Fprintf(&b, " %v", err)
			}
		}
		b.WriteByte('\n')
	}
}

func TestReaderFrames(t *testing.T) {
	tests := []struct {
		name, in, want string
		tags           bool
	}{
		{name: "value", in: "VALUE:hello world\r\nOK\r\n", want: "data tag=\"\" text=\"VALUE:hello world\"\nok tag=\"\" text=\"OK\"\nend: EOF\n"},
		{name: "bare LF", in: "NOT_FOUND\nOK\n", want: "data tag=\"\" text=\"NOT_FOUND\"\nok tag=\"\" text=\"OK\"\nend: EOF\n"},
		{name: "blob then OK at once", in: "BLOB 5\r\na\r\nbcOK\r\n", want: "blob tag=\"\" text=\"BLOB 5\" body=\"a\\r\\nbc\"\nok tag=\"\" text=\"OK\"\nend: EOF\n"},
		{name: "empty blob", in: "BLOB 0\r\nOK\r\n", want: "blob tag=\"\" text=\"BLOB 0\" body=\"\"\nok tag=\"\" text=\"OK\"\nend: EOF\n"},
		{name: "blob line that is text", in: "BLOB 5 x\r\nBLOB -1\r\nBLOB 0x10\r\nBLOB \r\n", want: "data tag=\"\" text=\"BLOB 5 x\"\ndata tag=\"\" text=\"BLOB -1\"\ndata tag=\"\" text=\"BLOB 0x10\"\ndata tag=\"\" text=\"BLOB \"\nend: EOF\n"},
		{name: "error", in: "ERROR WARN denied: no\r\n", want: "error tag=\"\" text=\"ERROR WARN denied: no\"\nend: EOF\n"},
		{name: "tagged", tags: true, in: "[ID:a] BLOB 2\r\nxy[ID:a] OK\r\n[ID:b] ERROR WARN x\r\nOK\r\n", want: "blob tag=\"a\" text=\"BLOB 2\" body=\"xy\"\nok tag=\"a\" text=\"OK\"\nerror tag=\"b\" text=\"ERROR WARN x\"\nok tag=\"\" text=\"OK\"\nend: EOF\n"},
		{name: "tags off", in: "[ID:a] OK\r\n", want: "data tag=\"\" text=\"[ID:a] OK\"\nend: EOF\n"},
		{name: "tag without end", tags: true, in: "[ID:a OK\r\n", want: "data tag=\"\" text=\"[ID:a OK\"\nend: EOF\n"},
		{name: "tag at line end", tags: true, in: "[ID:a]\r\n", want: "data tag=\"\" text=\"[ID:a]\"\nend: EOF\n"},
		{name: "tag too long", tags: true, in: "[ID:" + strings.Repeat("x", TagLenMax+1) + "] OK\r\n", want: "data tag=\"\" text=\"[ID:" + strings.Repeat("x", TagLenMax+1) + "] OK\"\nend: EOF\n"},
		{name: "blob too long", in: "BLOB 134217729\r\n", want: "end: protocol violation\n"},
		{name: "blob of nineteen digits", in: "BLOB 1000000000000000000\r\n", want: "data tag=\"\" text=\"BLOB 1000000000000000000\"\nend: EOF\n"},
		{name: "cut in a line", in: "VALUE:hel", want: "end: unexpected EOF\n"},
		{name: "cut in a blob", in: "BLOB 5\r\nab", want: "blob tag=\"\" text=\"BLOB 5\" body=\"ab\" unexpected EOF\nend: unexpected EOF\n"},
		{name: "nothing", in: "", want: "end: EOF\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := show(NewReader(strings.NewReader(tt.in), tt.tags)); got != tt.want {
				t.Errorf("whole:\n%swant:\n%s", got, tt.want)
			}
			if got := show(NewReader(iotest.OneByteReader(strings.NewReader(tt.in)), tt.tags)); got != tt.want {
				t.Errorf("byte by byte:\n%swant:\n%s", got, tt.want)
			}
		})
	}
}

func TestReaderPassesOverUnreadBlob(t *testing.T) {
	in := "BLOB 100000\r\n" + strings.Repeat("x", 100000) + "OK\r\n"
	r := NewReader(strings.NewReader(in), false)
	if f, err := r.Next(); err != nil || f.Kind != KindBlob {
		t.Fatalf("got %v, %v", f, err)
	}
	if f, err := r.Next(); err != nil || f.Kind != KindOK {
		t.Fatalf("got %v, %v", f, err)
	}
}

// A line of the longest is read; one byte more is refused; and the buffer goes back to a small one afterwards.
func TestReaderLineLimit(t *testing.T) {
	r := NewReader(strings.NewReader(strings.Repeat("v", 5000)+"\r\nOK\r\n"), false)
	r.lineMax = 4999
	if _, err := r.Next(); !errors.Is(err, ErrProtocol) {
		t.Fatalf("got %v", err)
	}
	long := bytes.Repeat([]byte("v"), 3<<20)
	r = NewReader(io.MultiReader(bytes.NewReader(long), strings.NewReader("\r\n"), strings.NewReader("OK\r\n")), false)
	f, err := r.Next()
	if err != nil || len(f.Text) != len(long) {
		t.Fatalf("got %d bytes, %v", len(f.Text), err)
	}
	if _, err := r.Next(); err != nil {
		t.Fatal(err)
	}
	if len(r.buf) > bufLenKeep {
		t.Errorf("buffer stays at %d bytes", len(r.buf))
	}
	r = NewReader(endless{}, false)
	r.lineMax = 1 << 20
	if _, err := r.Next(); !errors.Is(err, ErrProtocol) {
		t.Fatalf("line without end: got %v", err)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// A claimed length costs nothing until the bytes come.
func TestReaderClaimCostsNothing(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r := NewReader(strings.NewReader("BLOB 134217728\r\nabc"), false)
		if f, err := r.Next(); err != nil || f.Size != 128<<20 {
			t.Fatalf("got %v, %v", f, err)
		}
		if _, err := io.Copy(io.Discard, r); err != io.ErrUnexpectedEOF {
			t.Fatalf("got %v", err)
		}
	}
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 100*200<<10 {
		t.Errorf("allocated %d bytes", grown)
	}
}

// A read that timed out can be tried again and nothing is lost.
func TestReaderResumesAfterTimeout(t *testing.T) {
	r := NewReader(iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader("VALUE:x\r\nOK\r\n"))), false)
	var got []string
	for {
		f, err := r.Next()
		if errors.Is(err, iotest.ErrTimeout) {
			continue
		}
		if err != nil {
			break
		}
		got = append(got, string(f.Text))
	}
	if strings.Join(got, "|") != "VALUE:x|OK" {
		t.Errorf("got %q", got)
	}
}

func TestReaderAllocatesNothing(t *testing.T) {
	in := bytes.Repeat([]byte("[ID:17] VALUE:hello\r\n[ID:17] OK\r\n"), 2000)
	r := NewReader(bytes.NewReader(in), true)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := r.Next(); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a frame", n)
	}
}

func TestParseError(t *testing.T) {
	tests := []struct {
		line, want string
		class      Class
		fatal      bool
	}{
		{`ERROR WARN denied: principal "bob" may not write users.alice`, `denied: principal "bob" may not write users.alice`, Denied, false},
		{"ERROR FATAL invalid handshake", "invalid handshake", "", true},
		{"ERROR WARN conflict: version 12 found", "conflict: version 12 found", Conflict, false},
		{"ERROR WARN weird: thing", "weird: thing", "", false},
		{"ERROR WARN unknown", "unknown", Unknown, false},
		{"ERROR WARN invalid: \x1b[2J\u202e", `invalid: \x1b[2J\u202e`, Invalid, false},
		{"ERROR ", "", "", false},
	}
	for _, tt := range tests {
		e := ParseError([]byte(tt.line))
		if e.Error() != tt.want || e.Class != tt.class || e.Fatal != tt.fatal {
			t.Errorf("%q: got %q class=%q fatal=%v", tt.line, e, e.Class, e.Fatal)
		}
		if tt.class != "" && !errors.Is(fmt.Errorf("wrapped: %w", e), tt.class) {
			t.Errorf("%q: errors.Is finds no %s", tt.line, tt.class)
		}
	}
}

func TestVisible(t *testing.T) {
	for in, want := range map[string]string{
		"plain ä 漢\t.":     "plain ä 漢\t.",
		"\x1b[31mred\x7f":  `\x1b[31mred\x7f`,
		"a\r\nb":           `a\x0d\x0ab`,
		"\xff\xc0\x80":     `\xff\xc0\x80`,
		"\u0085\u2028x":    `\x85\u2028x`,
		"\u200bzero\u2066": `\u200bzero\u2066`,
		"\U000e0001":       `\U000e0001`,
		"\ufffd":           "\ufffd",
	} {
		if got := Visible(in); got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

func TestText(t *testing.T) {
	for _, s := range []string{"", "hello", " lead and trail ", "tab\t", "漢字", `{"a":1}`} {
		if !Text([]byte(s)) {
			t.Errorf("%q is text", s)
		}
	}
	for _, s := range []string{"a\nb", "\r", "\x00", "\xff", "\x1b", "\u0085", "\u2028", "\ufeff", "\x7f"} {
		if Text([]byte(s)) {
			t.Errorf("%q is not text", s)
		}
	}
}

func TestHandshake(t *testing.T) {
	tests := []struct{ name, server, want, err string }{
		{"historic", "WELCOME 1.0 Chronalys/1.0\r\nREADY\r\n", "Chronalys/1.0", ""},
		{"refused", "WELCOME 1.0 Chronalys/1.0\r\nERROR FATAL invalid handshake\r\n", "", "invalid handshake"},
		{"other protocol", "SSH-2.0-OpenSSH\r\n", "", "not a server of protocol 1.x"},
		{"next version", "WELCOME 2.0 Atlas\r\n", "", "not a server of protocol 1.x"},
		{"long", "WELCOME 1.0 " + strings.Repeat("x", 5000) + "\r\nREADY\r\n", "", "exceeds limit"},
		{"odd answer", "WELCOME 1.0 A\r\nHI\r\n", "", `answered with "HI"`},
		{"gone", "", "", "unexpected EOF"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var sent bytes.Buffer
			got, err := Handshake(&sent, NewReader(strings.NewReader(tt.server), false), "test")
			if tt.err == "" && (err != nil || got != tt.want || sent.String() != "HELLO 1.0 clientId=test\r\n") {
				t.Errorf("got %q, %v, sent %q", got, err, sent.String())
			}
			if tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v, want %s", err, tt.err)
			}
		})
	}
	if _, err := Handshake(io.Discard, NewReader(strings.NewReader(""), false), "a b\r\nKEY"); !errors.Is(err, Invalid) {
		t.Errorf("client id: got %v", err)
	}
}

func TestIdle(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	srv, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if !Idle(c) {
		t.Error("open and silent: not idle")
	}
	_ = srv.Close()
	if Idle(c) {
		t.Error("closed by the server: idle")
	}
}

func FuzzReader(f *testing.F) {
	for _, s := range []string{
		"VALUE:hello\r\nOK\r\n", "BLOB 3\r\nabcOK\r\n", "[ID:7] KEYS:1\r\n[ID:7] a.b\r\n[ID:7] OK\r\n",
		"BLOB 99999999999999999999\r\n", "[ID:] OK\n", "ERROR WARN conflict: x\r\n", "\n\r\n\r", "BLOB 5\r\nab",
	} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, in []byte, tags bool) {
		whole := show(NewReader(bytes.NewReader(in), tags))
		if single := show(NewReader(iotest.OneByteReader(bytes.NewReader(in)), tags)); single != whole {
			t.Errorf("byte by byte:\n%swhole:\n%s", single, whole)
		}
		for line := range bytes.Lines(in) {
			if s := ParseError(line).Error(); hidden(s) >= 0 {
				t.Errorf("error text %q", s)
			}
		}
	})
}

func FuzzKey(f *testing.F) {
	for _, s := range []string{"users.alice", "a.b c", ".x", `a."q\"`, "t.\xff\r\nOK", "t.\u2028", "", "t.漢"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		word := AppendKey(nil, key)
		if bytes.ContainsAny(word, " \r\n\t\x00") || !utf8.Valid(word) {
			t.Errorf("%q is written %q", key, word)
		}
		if got, ok := ParseKey(word); got != key || !ok {
			t.Errorf("%q is written %q and read %q, %v", key, word, got, ok)
		}
		_, _ = ParseKey([]byte(key))
		_, _ = ParseKey([]byte(`."` + key + `"`))
	})
}
