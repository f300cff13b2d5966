// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"unicode/utf8"
)

// A key that is not printable cannot stand in a line as it is: it could end the line and forge the next. Such keys come
// from other frontends, and are written `."..."`, with \" \\ and \xNN inside. No plain key begins with a dot, since a
// table's name is not empty, so the form cannot be taken for a key, nor a key for the form. A key that begins as a request
// id does is shown in the form, too, and taken in both.
var (
	quoteOpen  = []byte(`."`)
	quoteClose = byte('"')
)

const hexDigits = "0123456789abcdef"

// appendKey shows a key as one word.
func appendKey(b, key []byte) []byte {
	if len(key) > 0 && key[0] != '.' && !bytes.HasPrefix(key, idOpen) && isPrintable(key) {
		return append(b, key...)
	}
	b = append(b, quoteOpen...)
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRune(key[i:])
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case (r == utf8.RuneError && size <= 1) || isUnprintable(r):
			for _, c := range key[i : i+size] {
				b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
			}
		default:
			b = append(b, key[i:i+size]...)
		}
		i += size
	}
	return append(b, quoteClose)
}

// parseKeyWord reads a word as a key, plain or quoted. A plain one is the word itself; ok is false for what is neither
// printable nor well quoted. Whether the bytes are a key is for the engine to say.
func parseKeyWord(word []byte) (key []byte, ok bool) {
	if !isPrintable(word) {
		return nil, false
	}
	if !bytes.HasPrefix(word, quoteOpen) {
		return word, true
	}
	if len(word) < len(quoteOpen)+1 {
		return nil, false
	}
	inner := word[len(quoteOpen) : len(word)-1]
	if word[len(word)-1] != quoteClose {
		return nil, false
	}
	out := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch c := inner[i]; {
		case c == '"':
			return nil, false
		case c != '\\':
			out = append(out, c)
		case i+1 < len(inner) && (inner[i+1] == '"' || inner[i+1] == '\\'):
			out = append(out, inner[i+1])
			i++
		case i+3 < len(inner) && inner[i+1] == 'x':
			hi, lo := unhex(inner[i+2]), unhex(inner[i+3])
			if hi < 0 || lo < 0 {
				return nil, false
			}
			out = append(out, byte(hi<<4|lo))
			i += 3
		default:
			return nil, false
		}
	}
	return out, true
}

func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
