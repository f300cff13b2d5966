// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// A transcript is a file of lines:
//
//	# a comment
//	@requires WORD     fresh: the endpoint has no data yet; trusted: the client may assume any principal;
//	                   local: the node describes itself as the readme's does
//	@conn NAME [raw]   go on with the connection of that name; opened, and hands shaken unless raw, when it is new
//	@half              close our half of the connection
//	> TEXT             send TEXT and CRLF
//	>= TEXT            send TEXT and nothing else
//	< TEXT             the next line is TEXT, ended by CRLF
//	<= TEXT            the next bytes are TEXT, and nothing is said of what follows
//	<.                 the server closes, and says nothing more
//
// In TEXT: \r \n \t \\ \xNN \uNNNN; {T} is a prefix of table names that no other case uses; {N*S} is S, N times. In what
// is expected: {name:int}, {name:word} and {name:text} take digits, a word, or the rest, and {name} later gives it back;
// {*} takes anything within the line. At the end each connection is closed by halves, and the server must say nothing more.

// step is one line of a transcript.
type step struct {
	line int    // in the file, from 1
	op   string // @requires @conn @half > >= < <= <.
	text string
}

// parseTranscript reads a file.
func parseTranscript(src string) ([]step, error) {
	var steps []step
	for i, l := range strings.Split(src, "\n") {
		if strings.TrimSpace(l) == "" || strings.HasPrefix(l, "#") {
			continue
		}
		op, text, _ := strings.Cut(l, " ")
		if !slices.Contains([]string{"@requires", "@conn", "@half", ">", ">=", "<", "<=", "<."}, op) {
			return nil, fmt.Errorf("line %d: %q is no step", i+1, l)
		}
		steps = append(steps, step{i + 1, op, text})
	}
	return steps, nil
}

// errSkip is why a case does not apply to the endpoint.
type errSkip string

func (e errSkip) Error() string { return "skipped: " + string(e) }

// player runs one transcript.
type player struct {
	e     *env
	vars  map[string]string
	conns map[string]*conn
	cur   *conn
}

// runTranscript plays a file against the endpoint.
func (e *env) runTranscript(ctx context.Context, src string) (err error) {
	steps, err := parseTranscript(src)
	if err != nil {
		return err
	}
	p := &player{e: e, vars: map[string]string{"T": e.freshTable()}, conns: map[string]*conn{}}
	defer func() {
		for _, c := range p.conns {
			err = errors.Join(err, c.close())
		}
	}()
	for _, s := range steps {
		if err := p.step(ctx, s); err != nil {
			var skip errSkip
			if errors.As(err, &skip) {
				return err
			}
			return fmt.Errorf("line %d: %s %.200s: %w", s.line, s.op, s.text, err)
		}
	}
	return p.finish()
}

func (p *player) step(ctx context.Context, s step) error {
	if s.op == "@requires" {
		return p.e.requires(s.text)
	}
	if s.op == "@conn" || p.cur == nil {
		name := "default"
		if s.op == "@conn" {
			name = s.text
		}
		if err := p.open(ctx, name); err != nil {
			return err
		}
	}
	switch s.op {
	case "@half":
		return p.cur.closeWrite()
	case ">", ">=":
		text, err := p.expand(s.text)
		if err != nil {
			return err
		}
		if s.op == ">" {
			text += "\r\n"
		}
		return p.cur.send(text)
	case "<":
		got, err := p.cur.line()
		if err != nil {
			return err
		}
		return p.match(s.text, got)
	case "<=":
		want, err := p.expand(s.text)
		if err != nil {
			return err
		}
		got, err := p.cur.bytes(len(want))
		if err != nil {
			return err
		}
		if string(got) != want {
			return fmt.Errorf("got bytes %.200q", got)
		}
	case "<.":
		return p.cur.eof()
	}
	return nil
}

func (p *player) open(ctx context.Context, spec string) error {
	name, raw := strings.CutSuffix(spec, " raw")
	if c := p.conns[name]; c != nil {
		p.cur = c
		return nil
	}
	open := p.e.session
	if raw {
		open = p.e.dial
	}
	c, err := open(ctx)
	if err != nil {
		return err
	}
	p.conns[name], p.cur = c, c
	return nil
}

// finish expects silence on every connection.
func (p *player) finish() error {
	for _, name := range slices.Sorted(maps.Keys(p.conns)) {
		// The server may have closed first: then there is no half left to close.
		_ = p.conns[name].closeWrite() // what counts is what the server still says
		if err := p.conns[name].eof(); err != nil {
			return fmt.Errorf("at the end of connection %s: %w", name, err)
		}
	}
	return nil
}

var (
	placeholder = regexp.MustCompile(`\{(?:(\*)|(\w+)|(\w+):(int|word|text)|(\d+)\*([^{}]*))\}`)
	kinds       = map[string]string{"int": `[0-9]+`, "word": `\S+`, "text": `.*`}
)

// expand replaces placeholders that stand for known text, then escapes.
func (p *player) expand(text string) (string, error) {
	var failed error
	out := placeholder.ReplaceAllStringFunc(text, func(m string) string {
		sub := placeholder.FindStringSubmatch(m)
		if sub[5] != "" {
			n, err := strconv.Atoi(sub[5])
			failed = errors.Join(failed, err)
			return strings.Repeat(sub[6], n)
		}
		v, ok := p.vars[sub[2]]
		if !ok {
			failed = errors.Join(failed, fmt.Errorf("%s is not known here", m))
		}
		return escape(v)
	})
	if failed != nil {
		return "", failed
	}
	return unescape(out)
}

// match compares a line with what is expected, and keeps what it names.
func (p *player) match(want, got string) error {
	var pattern strings.Builder
	var names []string
	pattern.WriteString(`(?s)\A`)
	last := 0
	literal := func(s string) error {
		s, err := unescape(s)
		pattern.WriteString(regexp.QuoteMeta(s))
		return err
	}
	for _, at := range placeholder.FindAllStringSubmatchIndex(want, -1) {
		if err := literal(want[last:at[0]]); err != nil {
			return err
		}
		last = at[1]
		m := want[at[0]:at[1]]
		sub := placeholder.FindStringSubmatch(m)
		switch {
		case sub[1] != "":
			pattern.WriteString(`.*`)
		case sub[4] != "":
			names = append(names, sub[3])
			fmt.Fprintf(&pattern, "(%s)", kinds[sub[4]])
		default:
			known, err := p.expand(m)
			if err != nil {
				return err
			}
			pattern.WriteString(regexp.QuoteMeta(known))
		}
	}
	if err := literal(want[last:]); err != nil {
		return err
	}
	pattern.WriteString(`\z`)
	re, err := regexp.Compile(pattern.String())
	if err != nil {
		return err
	}
	found := re.FindStringSubmatch(got)
	if found == nil {
		return fmt.Errorf("got %.300q", got)
	}
	for i, name := range names {
		p.vars[name] = found[i+1]
	}
	return nil
}

// unescape reads the escapes of a transcript.
func unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		if i++; i == len(s) {
			return "", errors.New(`text ends in a lone \`)
		}
		digits := map[byte]int{'x': 2, 'u': 4}[s[i]]
		switch {
		case digits > 0 && i+digits < len(s):
			n, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil {
				return "", err
			}
			if s[i] == 'x' {
				b.WriteByte(byte(n))
			} else {
				b.WriteRune(rune(n))
			}
			i += digits
		case strings.IndexByte(`rnt\`, s[i]) >= 0:
			b.WriteByte(map[byte]byte{'r': '\r', 'n': '\n', 't': '\t', '\\': '\\'}[s[i]])
		default:
			return "", fmt.Errorf(`\%c is no escape`, s[i])
		}
	}
	return b.String(), nil
}

// escape writes text so that unescape gives it back.
func escape(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == '\\':
			b.WriteString(`\\`)
		case r == '{' && placeholder.MatchString(s):
			b.WriteString(`\x7b`)
		case (r == utf8.RuneError && n == 1) || !strconv.IsPrint(r):
			for _, c := range []byte(s[:n]) {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		default:
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// rewriteTranscript plays a file and returns it with the lines that the server really said. Blocks of expected lines that
// match stay as they are, with their placeholders. It waits for silence, so it is for people, not for the suite.
func (e *env) rewriteTranscript(ctx context.Context, src string) (string, error) {
	const silence = 300 * time.Millisecond
	steps, err := parseTranscript(src)
	if err != nil {
		return "", err
	}
	byLine := map[int]step{}
	for _, s := range steps {
		byLine[s.line] = s
	}
	p := &player{e: e, vars: map[string]string{"T": e.freshTable()}, conns: map[string]*conn{}}
	lines := strings.Split(src, "\n")
	var out []string
	for i := 0; i < len(lines); i++ {
		if byLine[i+1].op != "<" {
			out = append(out, lines[i])
			if s, ok := byLine[i+1]; ok && s.op != "<." {
				if err := p.step(ctx, s); err != nil {
					return "", fmt.Errorf("line %d: %w", s.line, err)
				}
			}
			continue
		}
		end := i
		for end < len(lines) && byLine[end+1].op == "<" {
			end++
		}
		for ; ; i++ {
			if err := p.cur.nc.SetReadDeadline(time.Now().Add(silence)); err != nil {
				return "", err
			}
			got, err := p.cur.r.ReadString('\n')
			if err != nil {
				break
			}
			got = strings.TrimSuffix(got, "\r\n")
			if i < end && p.match(byLine[i+1].text, got) == nil {
				out = append(out, lines[i])
				continue
			}
			out = append(out, strings.ReplaceAll("< "+escape(got), p.vars["T"], "{T}"))
		}
		i = end - 1
	}
	return strings.Join(out, "\n"), nil
}
