// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A table of hostile input is a file of rows: what must come back, a tab, what is sent, with the escapes and {T} and
// {N*S} of transcripts, byte for byte. What must come back is one of
//
//	warn WORD     one line `ERROR WARN WORD...`, and the connection stays
//	fatal WORD    one line `ERROR FATAL WORD...`, and the end
//	is TEXT       exactly these bytes, and the connection stays
//	end TEXT      exactly these bytes, and the end
//	end           the end, or a fatal error and the end
//	silent        nothing, and the connection stays
//
// with `raw` before it when the input replaces the handshake, and `half` when our half of the connection is closed after
// it. A row asserts that the answer comes; that it is one printable line with a stable word; that the connection goes on or
// ends as it says; that another client is served; that nothing of table {T} changed. {W} is another table, for rows that may
// write.

// words are the stable words of the protocol.
var words = []string{"invalid", "denied", "not_found", "conflict", "unavailable", "unknown", "too_large", "corrupt"}

// hostileRow is one row.
type hostileRow struct {
	line       int
	raw, half  bool
	kind, text string
	send       string
}

func parseHostile(src string) ([]hostileRow, error) {
	var rows []hostileRow
	for i, l := range strings.Split(src, "\n") {
		if strings.TrimSpace(l) == "" || strings.HasPrefix(l, "#") {
			continue
		}
		answer, send, ok := strings.Cut(l, "\t")
		if !ok {
			return nil, fmt.Errorf("line %d: no tab", i+1)
		}
		r := hostileRow{line: i + 1, send: strings.TrimLeft(send, "\t")}
		answer, r.raw = cutWord(answer, "raw")
		answer, r.half = cutWord(answer, "half")
		r.kind, r.text, _ = strings.Cut(answer, " ")
		if !slices.Contains([]string{"warn", "fatal", "is", "end", "silent"}, r.kind) {
			return nil, fmt.Errorf("line %d: %q is no answer", i+1, answer)
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func cutWord(s, word string) (rest string, found bool) {
	if s == word {
		return "", true
	}
	return strings.CutPrefix(s, word+" ")
}

// hostile runs the rows of one table.
type hostile struct {
	*player
	canary  string // key of table {T} that must stay as it is
	version string // its VERSION line
	other   *conn  // the client that must be served all the while
}

func (e *env) runHostile(ctx context.Context, src string) (err error) {
	rows, err := parseHostile(src)
	if err != nil {
		return err
	}
	h := &hostile{player: &player{e: e, vars: map[string]string{"T": e.freshTable(), "W": e.freshTable()}}}
	h.canary = h.vars["T"] + ".canary"
	if h.other, err = e.session(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.other.close()) }()
	lines, err := h.other.must("KEY WRITE " + h.canary + " VALUE canary")
	if err != nil {
		return err
	}
	h.version = fmt.Sprintf("VERSION:%d", versionIn(lines))
	var failed []error
	for _, r := range rows {
		if err := h.row(ctx, r); err != nil {
			failed = append(failed, fmt.Errorf("line %d: %.120q: %w", r.line, r.send, err))
		}
		e.badInputs.Add(1)
		if err := h.unchanged(h.other); err != nil {
			return errors.Join(append(failed, fmt.Errorf("line %d: %.120q: another client: %w", r.line, r.send, err))...)
		}
	}
	return errors.Join(failed...)
}

// unchanged expects the state of table {T} as it was made.
func (h *hostile) unchanged(c *conn) error {
	return errors.Join(
		c.want("KEY GET "+h.canary+" VERSION", h.version, "VALUE:canary", "OK"),
		c.want("COUNT "+h.vars["T"], "COUNT:1", "OK"))
}

func (h *hostile) row(ctx context.Context, r hostileRow) (err error) {
	open := h.e.session
	if r.raw {
		open = h.e.dial
	}
	c, err := open(ctx)
	if err != nil {
		return err
	}
	defer func() {
		_ = c.close() // its other half may be gone already
	}()
	if r.raw {
		if err := c.expect(welcome); err != nil {
			return err
		}
	}
	text, err := h.expand(r.send)
	if err != nil {
		return err
	}
	// The server may answer and close before it has taken everything: what counts is what it said.
	sendErr := c.send(text)
	if r.half && sendErr == nil {
		sendErr = c.closeWrite()
	}
	ended, err := h.answered(c, r)
	if err != nil {
		return errors.Join(err, sendErr)
	}
	if ended || r.half {
		return c.eof()
	}
	if r.raw {
		if err := h.e.prove(c); err != nil {
			return err
		}
	}
	return errors.Join(sendErr, h.unchanged(c))
}

// answered reads the answer of a row and compares it; ended says that the connection must end now.
func (h *hostile) answered(c *conn, r hostileRow) (ended bool, err error) {
	switch r.kind {
	case "silent":
		return false, nil
	case "warn", "fatal":
		line, err := c.line()
		if err != nil {
			return false, err
		}
		want := "ERROR " + strings.ToUpper(r.kind) + " " + r.text
		if rest, ok := strings.CutPrefix(line, want); !ok || (rest != "" && !strings.ContainsAny(rest[:1], ": ")) {
			return false, fmt.Errorf("got %.300q, want %q", line, want)
		}
		return r.kind == "fatal", checkErrorLine(line)
	default: // is, end
		if r.kind == "end" && r.text == "" {
			line, err := c.line()
			if err == nil && !strings.HasPrefix(line, "ERROR FATAL ") {
				return false, fmt.Errorf("got %.300q, want the end", line)
			}
			if err != nil && isTimeout(err) {
				return false, errors.New("connection is still open, want its end")
			}
			return true, nil
		}
		want, err := h.expand(r.text)
		if err != nil {
			return false, err
		}
		got, err := c.bytes(len(want))
		if err != nil {
			return false, fmt.Errorf("want %.300q: %w", want, err)
		}
		if string(got) != want {
			return false, fmt.Errorf("got %.300q, want %.300q", got, want)
		}
		return r.kind == "end", nil
	}
}

// checkErrorLine holds an error line against the protocol: a stable word, and nothing that a terminal or a reader of lines
// takes for more than text.
func checkErrorLine(line string) error {
	const lenMax = 2 << 10
	text := strings.TrimPrefix(strings.TrimPrefix(line, "ERROR WARN "), "ERROR FATAL ")
	word, _, _ := strings.Cut(text, ":")
	known := slices.Contains(words, word) || text == "invalid handshake" || text == "command exceeded maximum length"
	switch {
	case !known:
		return fmt.Errorf("error line %.300q begins with no stable word", line)
	case len(line) > lenMax:
		return fmt.Errorf("error line of %d bytes: %.300q", len(line), line)
	case !utf8.ValidString(line) || strings.ContainsFunc(line, unprintable):
		return fmt.Errorf("error line %.300q holds what does not print", line)
	}
	return nil
}

// unprintable is what must not come from input into an error line: controls, line and paragraph separators.
func unprintable(r rune) bool {
	return unicode.IsControl(r) || r == '\u2028' || r == '\u2029'
}
