// SPDX-License-Identifier: AGPL-3.0-only

package wire

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Visible returns s with what could steer a terminal or mislead the eye made visible: control characters (but TAB), bytes
// that are not UTF-8, line separators, and bidirectional or zero-width format characters become \xNN or \uNNNN.
func Visible(s string) string {
	i := hidden(s)
	if i < 0 {
		return s
	}
	const hex = "0123456789abcdef"
	var b strings.Builder
	for {
		b.WriteString(s[:i])
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n <= 1 || r < 0x100 {
			c := byte(r)
			if r == utf8.RuneError {
				c = s[i]
			}
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			if r > 0xffff {
				b.WriteString(`\U`)
				for shift := 28; shift >= 16; shift -= 4 {
					b.WriteByte(hex[r>>shift&15])
				}
			} else {
				b.WriteString(`\u`)
			}
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hex[r>>shift&15])
			}
		}
		s = s[i+n:]
		if i = hidden(s); i < 0 {
			b.WriteString(s)
			return b.String()
		}
	}
}

// hidden is the index of the first rune of s that Visible replaces, or -1.
func hidden(s string) int {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' || c == 0x7f {
				return i
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return i
		}
		i += n
	}
	return -1
}

// Text tells whether value can stand in a command's line and come back the same: UTF-8 without control characters (TAB is
// one) or line separators. Everything else travels as a blob.
func Text(value []byte) bool {
	for i := 0; i < len(value); {
		c := value[i]
		if c < utf8.RuneSelf {
			if c < 0x20 && c != '\t' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, n := utf8.DecodeRune(value[i:])
		if r == utf8.RuneError && n == 1 || r == 0x2028 || r == 0x2029 || r < 0xa0 || r == 0xfeff {
			return false
		}
		i += n
	}
	return true
}
