// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"
)

// command is a line taken apart as far as the shell must understand it.
type command struct {
	plain string // the line as typed
	tag   string // its request id, "" when it has none
	ours  bool   // the id is the shell's, and not shown
	line  string // without id and redirection: what is sent
	verb  string // first word, upper case
	sub   string // second word, upper case
	sub2  string // third word, upper case
	into  string // FILE of `> FILE`
	from  string // FILE of `< FILE` or `@FILE`
	file  string // either of them as typed, with what stands behind it

	options string // of a KEY BLOB SET with such a FILE: what line lacks behind the length
}

const (
	watchTag  = "watch"
	tablesTag = "tables"
)

// wordsWithin is how far into a line the shell looks for words, in bytes.
const wordsWithin = 16 << 10

// parse takes a line apart. A line of blanks has no verb, nor has a comment, which begins with #.
func parse(line string) command {
	line = strings.TrimRight(line, "\r\n")
	c := command{plain: line, line: strings.TrimLeft(line, " \t")}
	if rest, ok := strings.CutPrefix(c.line, "[ID:"); ok {
		if tag, after, ok := strings.Cut(rest, "] "); ok {
			c.tag, c.line = tag, strings.TrimLeft(after, " \t")
		}
	}
	if strings.HasPrefix(c.line, "#") {
		return c
	}
	words := strings.Fields(c.line[:min(len(c.line), wordsWithin)])
	for i, word := range []*string{&c.verb, &c.sub, &c.sub2} {
		if i < len(words) {
			*word = strings.ToUpper(words[i])
		}
	}
	switch {
	case c.setsBlob():
		c.cutSource(words)
	case c.redirectable():
		c.cutTarget()
	}
	if c.verb == "WATCH" && c.tag == "" {
		c.tag, c.ours = watchTag, true
	}
	return c
}

// redirectable tells whether the command takes no free text, so that `> FILE` at its end cannot be meant for the server.
func (c *command) redirectable() bool {
	switch c.verb {
	case "KEY":
		return c.sub == "GET" || c.sub == "BLOB" && c.sub2 == "GET"
	case "SCAN", "SAMPLE", "COUNT", "TABLE", "GROUP", "NODE", "QUORUM", "HELP":
		return true
	}
	return false
}

func (c *command) cutTarget() {
	if before, file, ok := strings.Cut(c.line, " > "); ok && strings.TrimSpace(file) != "" {
		c.line, c.into, c.file = strings.TrimRight(before, " \t"), fileName(strings.TrimSpace(file)), strings.TrimLeft(file, " \t")
	}
}

// cutSource reads `KEY BLOB SET key [options] < file` and the same with @file. The name goes to the end of the line.
func (c *command) cutSource(words []string) {
	if len(words) < 5 || isNumber(words[4]) { // a length: the bytes follow the line
		return
	}
	rest := c.line
	for i, word := range words {
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if i >= 4 && (word[0] == '<' || word[0] == '@') && !strings.EqualFold(words[i-1], "PRINCIPAL") {
			if file := strings.TrimSpace(rest[1:]); file != "" {
				c.from, c.file = fileName(file), strings.TrimLeft(rest[1:], " \t")
				c.line, c.options = strings.Join(words[:4], " "), strings.Join(words[4:i], " ")
			}
			return
		}
		rest = rest[len(word):]
	}
}

// setLen completes a command whose bytes come from a file: the protocol wants their length between the key and the options.
func (c *command) setLen(n int64) {
	c.line += " " + strconv.FormatInt(n, 10)
	if c.options != "" {
		c.line += " " + c.options
	}
}

// fileName is what the end of a line names: a quoted name as it is, else one in which ~/ is the home directory.
func fileName(s string) string {
	if len(s) >= 2 && s[0] == s[len(s)-1] && (s[0] == '"' || s[0] == '\'') {
		return s[1 : len(s)-1]
	}
	if rest, ok := strings.CutPrefix(s, "~/"); ok {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return s
}

// wire is what is sent.
func (c *command) wire() string {
	if c.tag == "" {
		return c.line
	}
	return "[ID:" + c.tag + "] " + c.line
}

// setsBlob tells whether the command is a KEY BLOB SET.
func (c *command) setsBlob() bool { return c.verb == "KEY" && c.sub == "BLOB" && c.sub2 == "SET" }

// blobLen is the length that a KEY BLOB SET line announces; ok is false for other lines.
func (c *command) blobLen() (n int64, ok bool) {
	if !c.setsBlob() {
		return 0, false
	}
	words := strings.Fields(c.line)
	if len(words) < 5 {
		return 0, false
	}
	n, err := strconv.ParseInt(words[4], 10, 64)
	return n, err == nil && n >= 0
}

func isNumber(word string) bool {
	return strings.Trim(word, "0123456789") == ""
}

// writes tells whether the command may change data.
func (c *command) writes() bool {
	switch c.verb {
	case "KEY":
		return c.sub != "GET" && c.sub2 != "GET"
	case "ACL", "COMMIT", "SQL":
		return true
	case "PRINCIPAL":
		return c.sub == "SECRET"
	case "TABLE", "QUORUM", "NODE", "GROUP":
		return c.sub != "LIST" && c.sub != "INFO" && c.sub != "PING"
	}
	return false
}
