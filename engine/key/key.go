// SPDX-License-Identifier: AGPL-3.0-only

// Package key reads the dotted names by which Atlas addresses data.
//
// A key is `<table>.<row>`: the part before the first dot is the table, the rest is the row (which may hold further dots
// and, being bytes, anything else). A table's name may carry a group: the part of the name before its first `/`. Tables of
// one group live in one log and change atomically; a table without a `/` is a group of its own.
//
//	users.alice             table users        group users  row alice       rest .alice
//	shop/users.42           table shop/users   group shop   row 42          rest /users.42
//	atlas.nodes.1           table atlas        group atlas  row nodes.1     rest .nodes.1
//
// Group + Rest is always the key itself, so the pair is an injective encoding, and the rests of a group sort as its keys do.
// The package only parses: it knows neither permissions nor which names are reserved. It starts no goroutine and keeps no state.
package key

import (
	"bytes"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// Limits of names, in bytes.
const (
	// TableLenMax bounds a table's name, its group included.
	TableLenMax = 128
	// LenMax bounds a whole key.
	LenMax = 4 << 10
)

// SystemGroup is the group and table of the system's own records. Clients read it; only the system writes it.
const SystemGroup = "atlas"

// ErrInvalid is what every error of this package is.
var ErrInvalid = errors.New("invalid key")

// ErrTooLong is the ErrInvalid of a key or a table's name that exceeds its limit.
var ErrTooLong = fmt.Errorf("%w: too long", ErrInvalid)

// refusal is an error of this package. Its text leaves the kind out: who reports it puts the word of its class in front.
type refusal struct {
	kind error // ErrInvalid or ErrTooLong
	text string
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) Unwrap() error { return r.kind }

func refuse(kind error, format string, args ...any) error {
	return &refusal{kind: kind, text: fmt.Sprintf(format, args...)}
}

// Key is a parsed key. It aliases the bytes it was parsed from.
type Key struct {
	raw      []byte
	tableLen int
	groupLen int
}

// Parse reads a whole key: table, dot and a row of at least one byte. It keeps a reference to raw.
func Parse(raw []byte) (Key, error) {
	k, rowStart, err := parse(raw)
	if err != nil {
		return Key{}, err
	}
	if rowStart < 0 {
		return Key{}, refuse(ErrInvalid, "key %s has no row: want table.row", quote(raw))
	}
	if rowStart == len(raw) {
		return Key{}, refuse(ErrInvalid, "key %s has an empty row: want table.row", quote(raw))
	}
	return k, nil
}

// ParsePrefix reads `table` or `table.prefix`, as SCAN and its kin take it. A bare table means all of its rows, and so
// does `table.`; either way Rest of the result ends in the dot or beyond, so that table `user` never covers `users`.
func ParsePrefix(raw []byte) (Key, error) {
	k, rowStart, err := parse(raw)
	if err != nil {
		return Key{}, err
	}
	if rowStart < 0 {
		k.raw = append(bytes.Clone(raw), '.')
	}
	return k, nil
}

// ParseTable reads a table's name alone.
func ParseTable(raw []byte) (Key, error) {
	k, rowStart, err := parse(raw)
	if err != nil {
		return Key{}, err
	}
	if rowStart >= 0 {
		return Key{}, refuse(ErrInvalid, "%s is not a table name: it holds a dot", quote(raw))
	}
	return k, nil
}

// FromParts joins what Group and Rest gave. Requires: the parts come from a parsed key.
func FromParts(group string, rest []byte) []byte {
	out := make([]byte, 0, len(group)+len(rest))
	return append(append(out, group...), rest...)
}

// parse finds the parts; rowStart is -1 when there is no dot.
func parse(raw []byte) (k Key, rowStart int, err error) {
	if len(raw) > LenMax {
		return Key{}, 0, refuse(ErrTooLong, "key length %d exceeds limit %d", len(raw), LenMax)
	}
	tableLen := bytes.IndexByte(raw, '.')
	rowStart = tableLen + 1
	if tableLen < 0 {
		tableLen, rowStart = len(raw), -1
	}
	table := raw[:tableLen]
	if err := checkTable(table); err != nil {
		return Key{}, 0, err
	}
	groupLen := bytes.IndexByte(table, '/')
	if groupLen < 0 {
		groupLen = tableLen
	}
	return Key{raw: raw, tableLen: tableLen, groupLen: groupLen}, rowStart, nil
}

// checkTable refuses what could not be told apart, shown or typed again: empty parts, control characters, blanks, and
// bytes that are not UTF-8. A row has no such rule: it is bytes.
func checkTable(table []byte) error {
	switch {
	case len(table) == 0:
		return refuse(ErrInvalid, "table name is empty")
	case len(table) > TableLenMax:
		return refuse(ErrTooLong, "table name length %d exceeds limit %d", len(table), TableLenMax)
	case !utf8.Valid(table):
		return refuse(ErrInvalid, "table name is not UTF-8")
	case table[0] == '/':
		return refuse(ErrInvalid, "table name %s has an empty group", quote(table))
	case table[len(table)-1] == '/':
		return refuse(ErrInvalid, "table name %s is empty after its group", quote(table))
	}
	return checkRunes(table)
}

func checkRunes(table []byte) error {
	for _, r := range string(table) {
		if r <= ' ' || r == 0x7f || (r >= 0x80 && r <= 0xa0) || r == '\u2028' || r == '\u2029' {
			return refuse(ErrInvalid, "table name %s holds a blank or control character", quote(table))
		}
	}
	return nil
}

// CheckRest checks that the bytes can be the Rest of a key, of some group short enough for them.
func CheckRest(rest []byte) error {
	dot := bytes.IndexByte(rest, '.')
	switch {
	case len(rest) >= LenMax: // the group has a byte at least
		return refuse(ErrTooLong, "key length %d exceeds limit %d", len(rest), LenMax-1)
	case dot < 0 || dot == len(rest)-1:
		return refuse(ErrInvalid, "key %s after the group has no row", quote(rest))
	case dot == 0:
		return nil
	}
	return CheckTableRest(rest[:dot])
}

// CheckTableRest checks that the bytes can be the TableRest of a table, of some group short enough for them.
func CheckTableRest(tableRest []byte) error {
	switch {
	case len(tableRest) == 0:
		return nil
	case tableRest[0] != '/' || tableRest[len(tableRest)-1] == '/':
		return refuse(ErrInvalid, "%s after the group is not a table", quote(tableRest))
	case len(tableRest) >= TableLenMax:
		return refuse(ErrTooLong, "table name length %d exceeds limit %d", len(tableRest), TableLenMax-1)
	case !utf8.Valid(tableRest):
		return refuse(ErrInvalid, "table name is not UTF-8")
	case bytes.IndexByte(tableRest, '.') >= 0:
		return refuse(ErrInvalid, "table name %s holds a dot", quote(tableRest))
	}
	return checkRunes(tableRest)
}

// Bytes is the whole key as it was given.
func (k Key) Bytes() []byte { return k.raw }

// String is the whole key; it may hold any byte.
func (k Key) String() string { return string(k.raw) }

// Table is the part before the first dot.
func (k Key) Table() string { return string(k.raw[:k.tableLen]) }

// Group is the part of the table before its first `/`, else the table.
func (k Key) Group() string { return string(k.raw[:k.groupLen]) }

// GroupBytes is Group without a copy.
func (k Key) GroupBytes() []byte { return k.raw[:k.groupLen] }

// Rest is what follows the group: it begins with `.` or `/`.
func (k Key) Rest() []byte { return k.raw[k.groupLen:] }

// TableRest is the part of Rest that names the table, up to but without the dot: empty for a plain table.
func (k Key) TableRest() []byte { return k.raw[k.groupLen:k.tableLen] }

// Row is what follows the first dot.
func (k Key) Row() []byte {
	if k.tableLen >= len(k.raw) {
		return nil
	}
	return k.raw[k.tableLen+1:]
}

// TableOfRest is TableRest for a rest that storage gave back.
func TableOfRest(rest []byte) []byte {
	if i := bytes.IndexByte(rest, '.'); i >= 0 {
		return rest[:i]
	}
	return rest
}

// PrefixEnd is the smallest byte string above all that begin with p; nil means that there is none.
func PrefixEnd(p []byte) []byte {
	end := bytes.Clone(p)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return nil
}

// Text shows a key or a name in an error or a log line: as it is when it is short and made of visible characters only,
// else quoted, escaped and cut. A control character or a line break of the name never comes
// through, and a blank only between quotes.
func Text(raw []byte) string {
	const shown = 256
	if len(raw) == 0 || len(raw) > shown || !utf8.Valid(raw) || raw[0] == '"' {
		return quote(raw)
	}
	for _, r := range string(raw) {
		if r == ' ' || !unicode.IsPrint(r) {
			return quote(raw)
		}
	}
	return string(raw)
}

// quote shows at most 64 bytes of a name, escaped, so that no name can forge a line of an error or a log.
func quote(b []byte) string {
	const shown = 64
	if len(b) > shown {
		return fmt.Sprintf("%q...", b[:shown])
	}
	return fmt.Sprintf("%q", b)
}
