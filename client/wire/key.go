// SPDX-License-Identifier: AGPL-3.0-only

package wire

import (
	"strings"
	"unicode/utf8"
)

// AppendKey writes a key as one word: as it is when it is printable, else as `."..."`, with \" \\ and \xNN inside. No plain
// key begins with a dot, so neither form can be taken for the other.
func AppendKey(dst []byte, key string) []byte {
	if key != "" && key[0] != '.' && printable(key) {
		return append(dst, key...)
	}
	const hex = "0123456789abcdef"
	dst = append(dst, '.', '"')
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRuneInString(key[i:])
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == utf8.RuneError && size <= 1 || unprintable(r):
			for _, c := range []byte(key[i : i+size]) {
				dst = append(dst, '\\', 'x', hex[c>>4], hex[c&15])
			}
		default:
			dst = append(dst, key[i:i+size]...)
		}
		i += size
	}
	return append(dst, '"')
}

// ParseKey reads what AppendKey wrote. ok is false for what is badly quoted.
func ParseKey(word []byte) (key string, ok bool) {
	if len(word) < 2 || word[0] != '.' || word[1] != '"' {
		return string(word), len(word) > 0
	}
	if len(word) < 3 || word[len(word)-1] != '"' {
		return "", false
	}
	word = word[2 : len(word)-1]
	var b strings.Builder
	for i := 0; i < len(word); i++ {
		switch c := word[i]; {
		case c == '"':
			return "", false
		case c != '\\':
			b.WriteByte(c)
		case i+1 < len(word) && (word[i+1] == '"' || word[i+1] == '\\'):
			b.WriteByte(word[i+1])
			i++
		case i+3 < len(word) && word[i+1] == 'x' && unhex(word[i+2]) >= 0 && unhex(word[i+3]) >= 0:
			b.WriteByte(byte(unhex(word[i+2])<<4 | unhex(word[i+3])))
			i += 3
		default:
			return "", false
		}
	}
	return b.String(), true
}

func printable(s string) bool {
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			if unprintable(rune(c)) {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && size <= 1 || unprintable(r) {
			return false
		}
		i += size
	}
	return true
}

// unprintable is the server's rule for what may not stand in a name.
func unprintable(r rune) bool {
	return r <= ' ' || r >= 0x7f && r <= 0xa0 || r == 0x2028 || r == 0x2029
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
