// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/key"
)

// scripted is a connection in memory: it gives its input in pieces and keeps what is written.
type scripted struct {
	net.Conn
	in     []byte
	pieces []byte // sizes of the reads, in turn
	turn   int
	out    bytes.Buffer
}

func (m *scripted) Read(p []byte) (int, error) {
	if len(m.in) == 0 {
		return 0, io.EOF
	}
	n := len(m.in)
	if len(m.pieces) > 0 {
		n = 1 + int(m.pieces[m.turn%len(m.pieces)])
		m.turn++
	}
	n = copy(p, m.in[:min(n, len(m.in))])
	m.in = m.in[n:]
	return n, nil
}

func (m *scripted) Write(p []byte) (int, error)     { return m.out.Write(p) }
func (m *scripted) Close() error                    { return nil }
func (m *scripted) SetReadDeadline(time.Time) error { return nil }
func (m *scripted) RemoteAddr() net.Addr            { return &net.UnixAddr{Net: "unix"} }

// FuzzFrameReader takes a stream apart by a list of wishes (a line, a payload, bytes to skip) and compares with slicing.
func FuzzFrameReader(f *testing.F) {
	f.Add([]byte("one\r\ntwo\nthree"), []byte{0, 0, 0}, []byte{3})
	f.Add([]byte("KEY\r\n12345KEY\r\n"), []byte{0, 5, 0}, []byte{0})
	f.Add(bytes.Repeat([]byte("x"), 20_000), []byte{250, 1, 251, 0}, []byte{255})
	f.Add(append(bytes.Repeat([]byte("l"), 17_000), '\n'), []byte{0, 0}, []byte{255, 0, 7})
	metrics, err := newMetrics(nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, stream, wishes, pieces []byte) {
		const limit = 50_000
		m := budget{max: 300_000}
		var r frameReader
		r.init(&scripted{in: stream, pieces: pieces}, &buffers{size: bufferSize}, &m, metrics, func() {}, nil)
		rest := stream
		for _, wish := range wishes {
			switch {
			case wish == 0:
				want, after, wantErr := slowLine(rest, limit)
				got, err := r.line(limit)
				if !errors.Is(err, wantErr) || !bytes.Equal(got, want) {
					t.Fatalf("line of %d bytes, %v; want %d, %v", len(got), err, len(want), wantErr)
				}
				if err != nil {
					r.release()
					return
				}
				if mem, ok := r.detach(); ok {
					if !bytes.Equal(got, want) {
						t.Fatal("a detached line changed")
					}
					mem.free()
				}
				rest = after
			case wish < 250:
				n := int(wish) * int(wish) // up to 62,001
				got, mem, err := r.payload(n)
				if n > len(rest) {
					if !errors.Is(err, io.EOF) {
						t.Fatalf("payload of %d of %d bytes: %v", n, len(rest), err)
					}
					r.release()
					return
				}
				if err != nil || !bytes.Equal(got, rest[:n]) {
					t.Fatalf("payload of %d bytes: %v", n, err)
				}
				mem.free()
				rest = rest[n:]
			default:
				n := min(len(rest), int(wish)*100)
				if err := r.skip(int64(n), 0); err != nil {
					t.Fatal(err)
				}
				rest = rest[n:]
			}
		}
		r.release()
		if used := m.used.Load(); used != 0 {
			t.Fatalf("%d bytes of the budget are lost", used)
		}
	})
}

// slowLine is the obvious way to take a line off a stream.
func slowLine(stream []byte, limit int) (line, rest []byte, err error) {
	line, rest, found := bytes.Cut(stream, []byte("\n"))
	if !found {
		if len(line) > limit+1 {
			return nil, nil, errLineTooLong
		}
		return nil, nil, io.EOF
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) > limit {
		return nil, nil, errLineTooLong
	}
	return line, rest, nil
}

// FuzzParse parses any line: it must not panic, the outcome must be of the documented kinds, and what is not an error must
// lie inside the line and the limits.
func FuzzParse(f *testing.F) {
	for _, usage := range usages {
		f.Add([]byte(usage.form))
	}
	for _, line := range []string{
		"KEY GET a.b VERSION", "[ID:1] KEY PUT a.b PRINCIPAL x WORM TTL 1h  v", `KEY GET ."a.\x00\"\\"`, "KEY BLOB SET a.b 5 IF ABSENT",
		"KEY WRITE a.b IF VERSION 1 TTL 1h WORM EXPIRES 2030-01-01T00:00:00Z PRINCIPAL x VALUE  v", "SCAN a VALUES LIMIT 5 AFTER a.b REVERSE",
		"CONSISTENCY BOUNDED 5s", "ACL GRANT a b PERMS OWNER", "[ID:w] WATCH a FROM 5", "PRINCIPAL AUTH a b c",
	} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		given := bytes.Clone(line)
		id, rest, err := splitID(line)
		var c command
		if err == nil {
			err = parse(rest, &c)
		}
		if !bytes.Equal(line, given) {
			t.Fatal("parsing changed the line")
		}
		if id != nil && (len(id) > RequestIDMax || !isPrintable(id) || bytes.IndexByte(id, ']') >= 0) {
			t.Fatalf("id %q", id)
		}
		if err != nil {
			var fatal *fatalError
			var e *engine.Error
			if !errors.As(err, &fatal) && (!errors.As(err, &e) || (e.Class != engine.ClassInvalid && e.Class != engine.ClassTooLarge)) {
				t.Fatalf("error %T: %v", err, err)
			}
			return
		}
		switch {
		case c.verb == verbInvalid || c.verb >= verbCount_:
			t.Fatalf("verb %d", c.verb)
		case c.length < 0 || c.length > BlobSkipMax, c.length > ValueMax && c.refused == nil:
			t.Fatalf("length %d, refused: %v", c.length, c.refused)
		case c.ttl < 0 || c.ttl > DurationMax || c.wormTTL < 0 || c.wormTTL > DurationMax:
			t.Fatalf("durations %v, %v", c.ttl, c.wormTTL)
		case c.verb == verbSample && c.number > SampleMax:
			t.Fatalf("sample of %d", c.number)
		case len(c.value) > len(line) || len(c.name) > len(line) || len(c.key) > len(line) || len(c.after) > len(line):
			t.Fatal("more than the line had")
		}
		// Said again in another case and with other blanks, it means the same, unless blanks matter in it.
		if c.value == nil && c.verb != verbHelp && c.verb != verbElsewhere {
			var again command
			if err := parse(append([]byte(" \t"), append(bytes.Clone(rest), " \t"...)...), &again); err != nil || again.verb != c.verb || !bytes.Equal(again.key, c.key) {
				t.Fatalf("%q with blanks around: verb %d, %v", line, again.verb, err)
			}
		}
	})
}

// serveScript runs a whole connection over input, and gives what the server wrote.
func serveScript(t testing.TB, f *fake, input, pieces []byte) string {
	s, err := newServer(f, Options{Path: "/unused", MemoryMax: 1 << 20, AuthDelay: AuthDelayMin})
	if err != nil {
		t.Fatal(err)
	}
	nc := &scripted{in: append([]byte("HELLO 1.0 fuzz\r\n"), input...), pieces: pieces}
	c := s.admit(context.Background(), nc)
	c.serve()
	s.forget(c)
	s.workers.stop()
	if used := s.budget.used.Load(); used != 0 {
		t.Fatalf("%d bytes of the budget are lost", used)
	}
	if n := f.sessions(); n != 0 {
		t.Fatalf("%d sessions are open", n)
	}
	out, found := strings.CutPrefix(nc.out.String(), "WELCOME 1.0 Chronalys/1.0\r\nREADY\r\n")
	if !found {
		t.Fatalf("greeting: %q", nc.out.String())
	}
	return out
}

// FuzzConnection sends any bytes without request ids, and compares the answers with a slow model of the protocol.
func FuzzConnection(f *testing.F) {
	for _, session := range []string{
		"KEY PUT a.b hello  world \r\nKEY GET a.b\r\nKEY DEL a.b\nKEY GET a.b\n",
		"KEY BLOB SET a.b 5\r\n\r\nOK\nKEY BLOB GET a.b\r\nKEY GET a.b\r\n",
		"SCAN a\r\nKEY PUT a.x 1\r\nKEY PUT a.\xc3\xa9 2\r\nSCAN a\r\nCOUNT a\r\nCOUNT a.x\r\n",
		"KEY BLOB SET a 3\r\nabcKEY BLOB SET a.b -3\r\nKEY GET a.b\r\n",
		"\r\n \t\r\nNOSUCH\r\nKEY GET\r\nQUIT\r\nKEY GET a.b\r\n",
		"KEY PUT a.b\r\nKEY PUT a.b \r\nKEY SET a.c \t\r\r\nKEY BLOB GET a.c\r\n",
		"BEGIN\r\nKEY PUT a.b x\r\nCOMMIT\r\nKEY WRITE a.b IF ABSENT VALUE x\r\nHELP\r\n",
		"KEY BLOB SET a.b 40000\r\n" + strings.Repeat("z", 40_000) + "KEY BLOB GET a.b\r\n",
	} {
		f.Add([]byte(session), []byte{0})
		f.Add([]byte(session), []byte{255, 3})
	}
	f.Fuzz(func(t *testing.T, input, pieces []byte) {
		input = bytes.ReplaceAll(input, []byte("[ID:"), []byte("{ID:"))
		if bytes.Contains(bytes.ToUpper(input), []byte("AUTH")) {
			t.Skip("wrong secrets take time")
		}
		m := model{rest: string(input), rows: map[string]string{}}
		got := serveScript(t, newFake(), input, pieces)
		for _, step := range m.run() {
			rest, ok := step(got)
			if !ok {
				t.Fatalf("input %q\nanswers differ from the model's at %.300q", input, got)
			}
			got = rest
		}
		if got != "" {
			t.Fatalf("input %q\nunexpected %.300q", input, got)
		}
	})
}

// model is a slow and simple reading of the protocol. It knows the oldest commands exactly, and of the others only that they
// have one answer; after one that may change what is stored it claims nothing about values any more.
type model struct {
	rest  string
	rows  map[string]string
	vague bool
	steps []func(string) (string, bool)
}

func (m *model) run() []func(string) (string, bool) {
	for {
		line, rest, found := strings.Cut(m.rest, "\n")
		if !found {
			return m.steps
		}
		m.rest = rest
		line = strings.TrimSuffix(line, "\r")
		words := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
		if len(words) == 0 {
			continue
		}
		if end := m.command(line, words); end {
			return m.steps
		}
	}
}

func upper(s string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			return r - 'a' + 'A'
		}
		return r
	}, s)
}

func (m *model) command(line string, words []string) (end bool) {
	verb := upper(words[0])
	if verb == "KEY" && len(words) > 1 {
		verb += " " + upper(words[1])
		if verb == "KEY BLOB" && len(words) > 2 {
			verb += " " + upper(words[2])
			words = words[1:]
		}
		words = words[1:]
	}
	args := words[1:]
	switch {
	case verb == "QUIT" && len(args) == 0:
		m.lines("OK")
		return true
	case verb == "KEY BLOB SET":
		return m.upload(args)
	case m.vague || !slices.Contains([]string{"KEY GET", "KEY PUT", "KEY SET", "KEY DEL", "KEY BLOB GET", "SCAN", "COUNT"}, verb):
		m.vague = m.vague || !strings.HasPrefix(verb, "HELP")
		m.steps = append(m.steps, anyAnswer)
		return false
	case len(args) == 0:
		m.error()
		return false
	}
	name := args[0]
	if strings.HasPrefix(name, ".\"") {
		m.vague = true
		m.steps = append(m.steps, anyAnswer)
		return false
	}
	printable := utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || r == '\u00a0' || r == '\u2028' || r == '\u2029'
	})
	if verb == "SCAN" || verb == "COUNT" {
		m.scan(verb, name, args, printable)
		return false
	}
	if _, err := key.Parse([]byte(name)); !printable || err != nil {
		m.error()
		return false
	}
	m.row(verb, name, line, args)
	return false
}

func (m *model) scan(verb, name string, args []string, printable bool) {
	k, err := key.ParsePrefix([]byte(name))
	switch {
	case len(args) > 1:
		m.steps = append(m.steps, anyAnswer)
		return
	case !printable || err != nil:
		m.error()
		return
	}
	var keys []string
	for row := range m.rows {
		if strings.HasPrefix(row, k.String()) {
			keys = append(keys, row)
		}
	}
	slices.Sort(keys)
	if verb == "COUNT" {
		m.lines(fmt.Sprintf("COUNT:%d", len(keys)), "OK")
		return
	}
	m.lines(fmt.Sprintf("KEYS:%d", len(keys)))
	m.lines(keys...)
	m.lines("OK")
}

func (m *model) row(verb, name, line string, args []string) {
	value, exists := m.rows[name]
	switch {
	case verb == "KEY GET" && len(args) == 1 && !exists:
		m.lines("NOT_FOUND", "OK")
	case verb == "KEY GET" && len(args) == 1 && slowText([]byte(value)):
		m.lines("VALUE:"+value, "OK")
	case verb == "KEY GET" && len(args) == 1:
		m.lines("ERROR WARN invalid: value is binary, use KEY BLOB GET")
	case verb == "KEY BLOB GET" && len(args) == 1 && !exists:
		m.lines("EMPTY", "OK")
	case verb == "KEY BLOB GET" && len(args) == 1:
		m.lines(fmt.Sprintf("BLOB %d", len(value)))
		m.steps = append(m.steps, exactly(value))
		m.lines("OK")
	case verb == "KEY DEL" && len(args) == 1:
		delete(m.rows, name)
		m.lines("OK")
	case verb == "KEY PUT", verb == "KEY SET":
		m.put(name, line, args)
	default:
		m.vague = true
		m.steps = append(m.steps, anyAnswer)
	}
}

func (m *model) put(name, line string, args []string) {
	if len(args) > 1 && (upper(args[1]) == "PRINCIPAL" || upper(args[1]) == "WORM") {
		m.vague = true
		m.steps = append(m.steps, anyAnswer)
		return
	}
	// The value is what follows the third word and one blank.
	rest := line
	for range 3 {
		rest = strings.TrimLeft(rest, " \t")
		rest = rest[strings.IndexAny(rest+" ", " \t"):]
	}
	if rest == "" {
		m.error()
		return
	}
	m.rows[name] = rest[1:]
	m.lines("OK")
}

func (m *model) upload(args []string) (end bool) {
	if len(args) < 2 {
		m.fatal()
		return true
	}
	n, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != args[1] || n > BlobSkipMax {
		m.fatal()
		return true
	}
	if n > uint64(len(m.rest)) {
		// The client stopped in the middle: a refusal may be told, nothing else.
		m.steps = append(m.steps, maybeError)
		m.rest = ""
		return true
	}
	payload := m.rest[:n]
	m.rest = m.rest[n:]
	m.steps = append(m.steps, anyAnswer)
	if _, err := key.Parse([]byte(args[0])); err != nil || m.vague || len(args) > 2 {
		m.vague = m.vague || len(args) > 2 || strings.HasPrefix(args[0], ".\"")
		return false
	}
	if !isPrintable([]byte(args[0])) || strings.HasPrefix(args[0], ".\"") || n > 1<<19 {
		m.vague = true
		return false
	}
	m.rows[args[0]] = payload
	return false
}

func (m *model) lines(lines ...string) {
	for _, line := range lines {
		m.steps = append(m.steps, exactly(line+"\r\n"))
	}
}

func exactly(want string) func(string) (string, bool) {
	return func(got string) (string, bool) { return strings.CutPrefix(got, want) }
}

func (m *model) error() {
	m.steps = append(m.steps, func(got string) (string, bool) {
		line, rest, found := strings.Cut(got, "\r\n")
		return rest, found && (strings.HasPrefix(line, "ERROR WARN invalid: ") || strings.HasPrefix(line, "ERROR WARN too_large: "))
	})
}

func (m *model) fatal() {
	m.steps = append(m.steps, func(got string) (string, bool) {
		line, rest, found := strings.Cut(got, "\r\n")
		return rest, found && strings.HasPrefix(line, "ERROR FATAL ")
	})
}

func maybeError(got string) (string, bool) {
	if got == "" {
		return "", true
	}
	return anyAnswer(got)
}

// anyAnswer reads one answer, whatever it says; its lines must be printable.
func anyAnswer(got string) (string, bool) {
	for {
		line, rest, found := strings.Cut(got, "\r\n")
		if !found || !isText([]byte(line)) {
			return "", false
		}
		got = rest
		_, body := cutTag(line)
		if body == "OK" || strings.HasPrefix(body, "ERROR ") {
			return got, true
		}
		if length, blob := strings.CutPrefix(body, "BLOB "); blob {
			n, err := strconv.Atoi(length)
			if err != nil || n > len(got) {
				return "", false
			}
			got = got[n:]
		}
	}
}

// FuzzTagged sends any bytes, request ids included. Every line must belong to a whole answer, in whatever order: none torn,
// none that input forged.
func FuzzTagged(f *testing.F) {
	f.Add([]byte("[ID:1] KEY PUT a.b x\r\n[ID:2] SCAN a VALUES\r\n[ID:3] WATCH a\r\nKEY PUT a.c y\r\nUNWATCH 3\r\n"))
	f.Add([]byte("[ID:1] KEY BLOB SET a.b 5\r\nab\r\nc[ID:2] KEY BLOB GET a.b\r\n[ID:w] WATCH a FROM 0\r\n[ID:w] UNWATCH\r\n"))
	f.Add([]byte("[ID:1] BEGIN\r\nBEGIN\r\n[ID:2] COUNT a\r\nCOMMIT\r\n[ID:] x\r\n"))
	f.Fuzz(func(t *testing.T, input []byte) {
		if bytes.Contains(bytes.ToUpper(input), []byte("AUTH")) {
			t.Skip("wrong secrets take time")
		}
		got := serveScript(t, newFake(), input, nil)
		for got != "" {
			line, rest, found := strings.Cut(got, "\r\n")
			if !found || !isText([]byte(line)) {
				t.Fatalf("input %q\nline %.200q", input, line)
			}
			got = rest
			if length, blob := strings.CutPrefix(lastWords(line), "BLOB "); blob && !strings.Contains(line, ":BLOB") {
				n, err := strconv.Atoi(length)
				if err == nil && n <= len(got) {
					got = got[n:]
				}
			}
		}
	})
}

// lastWords is a line without its tag.
func lastWords(line string) string {
	_, body := cutTag(line)
	return body
}
