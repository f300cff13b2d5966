// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"fmt"
	"math"
	"time"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/engine"
)

var idOpen = []byte("[ID:")

// splitID takes `[ID:xyz] ` off a line. id is nil when there is none; tag is then empty, else what each line of the answer
// begins with: the id in its brackets. A line that begins as an id and is none is a fatalError: an answer to it could not
// be told from another's.
func splitID(line []byte) (id, rest []byte, err error) {
	i := 0
	for i < len(line) && isBlank(line[i]) {
		i++
	}
	line = line[i:]
	if !bytes.HasPrefix(line, idOpen) {
		return nil, line, nil
	}
	head := line[len(idOpen):min(len(line), len(idOpen)+RequestIDMax+1)]
	end := bytes.IndexByte(head, ']')
	rest = line[min(len(line), len(idOpen)+end+1):]
	switch {
	case end < 0 && len(head) > RequestIDMax:
		return nil, nil, &fatalError{"invalid: request id exceeds its limit of 128 bytes"}
	case end < 0:
		return nil, nil, &fatalError{"invalid: request id has no closing bracket"}
	case end == 0:
		return nil, nil, &fatalError{"invalid: request id is empty"}
	case len(rest) > 0 && !isBlank(rest[0]):
		return nil, nil, &fatalError{"invalid: request id is not followed by a blank"}
	case !isPrintable(head[:end]):
		return nil, nil, &fatalError{"invalid: request id holds a blank or a control character, or is not UTF-8"}
	}
	return head[:end], rest, nil
}

// parse reads a command, its request id taken off. A line that is refused leaves c.verb at what could be told of it; the
// error is an engine.Error, or a fatalError when the bytes that follow could not be understood.
func parse(line []byte, c *command) error {
	*c = command{}
	w := cursor{line}
	first := w.next()
	switch len(first) {
	case 0:
		return invalid("there is no command")
	case 3:
		switch {
		case isWord(first, "KEY"):
			return parseKeyCommand(&w, c)
		case isWord(first, "ACL"):
			return parseACL(&w, c)
		case isWord(first, "SQL"):
			return elsewhere(c, "this node serves no SQL")
		}
	case 4:
		switch {
		case isWord(first, "SCAN"):
			return parseScan(&w, c)
		case isWord(first, "NODE"):
			return parseNode(&w, c)
		case isWord(first, "HELP"):
			c.verb, c.name = verbHelp, w.rest
			return nil
		case isWord(first, "QUIT"):
			return c.bare(&w, verbQuit, "QUIT")
		}
	case 5:
		switch {
		case isWord(first, "COUNT"):
			c.verb = verbCount
			return c.onlyPrefix(&w, "COUNT <table[.prefix]>")
		case isWord(first, "BEGIN"):
			return c.bare(&w, verbBegin, "BEGIN")
		case isWord(first, "TABLE"):
			return parseTable(&w, c)
		case isWord(first, "GROUP"):
			return parseGroup(&w, c)
		case isWord(first, "WATCH"):
			return parseWatch(&w, c)
		case isWord(first, "HELLO"):
			return invalid("the handshake is over")
		}
	case 6:
		switch {
		case isWord(first, "COMMIT"):
			return c.bare(&w, verbCommit, "COMMIT")
		case isWord(first, "SAMPLE"):
			return parseSample(&w, c)
		case isWord(first, "QUORUM"):
			return parseQuorum(&w, c)
		}
	case 7:
		if isWord(first, "UNWATCH") {
			c.verb, c.name = verbUnwatch, w.next()
			return w.end("UNWATCH [id]")
		}
	case 8:
		if isWord(first, "ROLLBACK") {
			return c.bare(&w, verbRollback, "ROLLBACK")
		}
	case 9:
		if isWord(first, "PRINCIPAL") {
			return parsePrincipal(&w, c)
		}
	case 11:
		if isWord(first, "CONSISTENCY") {
			return parseConsistency(&w, c)
		}
	}
	for _, second := range []string{"GET", "PUT", "SET", "DEL", "WRITE", "BLOB"} {
		if isWord(first, second) {
			return invalid("unknown command %s: want KEY %s, and HELP lists what there is", show(first), second)
		}
	}
	return invalid("unknown command %s: HELP lists what there is", show(first))
}

// show quotes a word of the client's, or some with a space between, for an error text, cut to a length that suits a line.
func show(word []byte) string {
	const most = 48
	b := make([]byte, 0, most+4)
	b = append(b, '"')
	for len(word) > 0 && len(b) < most {
		r, size := utf8.DecodeRune(word)
		if (r == utf8.RuneError && size <= 1) || r != ' ' && isUnprintable(r) {
			b = append(b, '?')
		} else {
			b = append(b, word[:size]...)
		}
		word = word[size:]
	}
	if len(word) > 0 {
		b = append(b, "..."...)
	}
	return string(append(b, '"'))
}

func usageError(usage string) error { return invalid("usage: %s", usage) }

// end refuses what is left of a line.
func (c *cursor) end(usage string) error {
	if !c.done() {
		return usageError(usage)
	}
	return nil
}

// bare is a command without arguments.
func (c *command) bare(w *cursor, v verb, usage string) error {
	c.verb = v
	return w.end(usage)
}

func elsewhere(c *command, why string) error {
	c.verb, c.text = verbElsewhere, why
	return nil
}

// keyWord takes a key, a prefix or a table.
func (c *command) keyWord(w *cursor, usage string) (err error) {
	c.key, err = keyArgument(w, usage)
	return err
}

func keyArgument(w *cursor, usage string) ([]byte, error) {
	word := w.next()
	if word == nil {
		return nil, usageError(usage)
	}
	key, ok := parseKeyWord(word)
	if !ok && bytes.HasPrefix(word, quoteOpen) {
		return nil, invalid(`key %s is not well quoted: want ."..." with \xNN, \" and \\ inside`, show(word))
	}
	if !ok {
		return nil, invalid(`key %s holds a blank or a control character, or is not UTF-8: write it ."..." with \xNN`, show(word))
	}
	return key, nil
}

func (c *command) onlyPrefix(w *cursor, usage string) error {
	if err := c.keyWord(w, usage); err != nil {
		return err
	}
	return w.end(usage)
}

// principalWord takes a principal's name.
func (c *command) principalWord(w *cursor, usage string) error {
	c.name = w.next()
	if c.name == nil {
		return usageError(usage)
	}
	return checkPrincipal(c.name)
}

func checkPrincipal(name []byte) error {
	switch n := utf8.RuneCount(name); {
	case n > PrincipalRunesMax:
		return invalid("principal of %d characters exceeds the limit of %d", n, PrincipalRunesMax)
	case !isPrintable(name):
		return invalid("principal %s holds a control character, or is not UTF-8", show(name))
	case string(name) == noPrincipal:
		return invalid("principal %s means that there is none", show(name))
	}
	return nil
}

// noPrincipal is what WHOAMI shows for a connection without a principal.
const noPrincipal = "(none)"

// timeWordMax bounds the words of durations and instants, in bytes: none that means anything is as long.
const timeWordMax = 64

func durationArgument(w *cursor, what string) (time.Duration, error) {
	word := w.next()
	d, err := time.ParseDuration(string(word[:min(len(word), timeWordMax)]))
	if len(word) > timeWordMax || err != nil || d <= 0 || d > DurationMax {
		return 0, invalid("%s %s: want a duration as 90s, 15m or 24h, above zero and at most 876000h", what, show(word))
	}
	return d, nil
}

// instantArgument reads an instant that 64 bits of nanoseconds since 1970 can hold.
func instantArgument(w *cursor, what string) (time.Time, error) {
	word := w.next()
	t, err := time.Parse(time.RFC3339, string(word[:min(len(word), timeWordMax)]))
	if len(word) > timeWordMax || err != nil || t.Year() < 1970 || t.Year() > 2200 {
		return time.Time{}, invalid("%s %s: want an instant of the years 1970 to 2200 as 2030-01-31T00:00:00Z", what, show(word))
	}
	return t, nil
}

func numberArgument(w *cursor, what string) (uint64, error) {
	word := w.next()
	n, ok := parseUint(word)
	if !ok {
		return 0, invalid("%s %s: want %s", what, show(word), wantNumber(word))
	}
	return n, nil
}

// wantNumber says what parseUint, which refused word, takes.
func wantNumber(word []byte) string {
	switch {
	case len(word) == 0 || len(bytes.Trim(word, "0123456789")) > 0:
		return "a decimal number"
	case word[0] == '0':
		return "a decimal number without leading zeros"
	}
	return fmt.Sprintf("a decimal number of at most %d", uint64(math.MaxUint64))
}

const scanUsage = "SCAN <table[.prefix]> [VALUES] [META] [LIMIT <n>] [AFTER <key>] [REVERSE]"

func parseScan(w *cursor, c *command) (err error) {
	c.verb = verbScan
	if err := c.keyWord(w, scanUsage); err != nil {
		return err
	}
	limited := false
	for !w.done() {
		switch {
		case !c.values && w.take("VALUES"):
			c.values = true
		case !c.meta && w.take("META"):
			c.meta = true
		case !c.reverse && w.take("REVERSE"):
			c.reverse = true
		case !limited && w.take("LIMIT"):
			limited = true
			if c.number, err = numberArgument(w, "LIMIT"); err != nil {
				return err
			}
			if c.number == 0 || c.number > 1<<31-1 {
				return invalid("LIMIT %d is outside of 1 to %d", c.number, 1<<31-1)
			}
		case c.after == nil && w.take("AFTER"):
			if c.after, err = keyArgument(w, scanUsage); err != nil {
				return err
			}
		default:
			return usageError(scanUsage)
		}
	}
	return nil
}

const sampleUsage = "SAMPLE <table[.prefix]> <n>"

func parseSample(w *cursor, c *command) (err error) {
	c.verb = verbSample
	if err := c.keyWord(w, sampleUsage); err != nil {
		return err
	}
	w.take("N") // the older form, SAMPLE users N 5
	if w.done() {
		return usageError(sampleUsage)
	}
	if c.number, err = numberArgument(w, "sample size"); err != nil {
		return err
	}
	if err := w.end(sampleUsage); err != nil {
		return err
	}
	if c.number > SampleMax {
		return engine.Errorf(engine.ClassTooLarge, "sample size %d exceeds limit %d", c.number, SampleMax)
	}
	return nil
}

const watchUsage = "WATCH <table[.prefix]> [FROM <version>], with a request id"

func parseWatch(w *cursor, c *command) (err error) {
	c.verb = verbWatch
	if err := c.keyWord(w, watchUsage); err != nil {
		return err
	}
	if w.take("FROM") {
		c.hasVersion = true
		if c.ifVersion, err = numberArgument(w, "FROM"); err != nil {
			return err
		}
	}
	return w.end(watchUsage)
}
