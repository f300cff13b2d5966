// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"encoding/binary"
	"unicode/utf8"
)

// cursor walks the words of a line. A word ends at a blank (space or tab); what follows a word stays as it was sent, so
// that a value keeps its blanks.
type cursor struct{ rest []byte }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// next gives the next word, or nil at the end of the line.
func (c *cursor) next() []byte {
	i := 0
	for i < len(c.rest) && isBlank(c.rest[i]) {
		i++
	}
	j := i
	for j < len(c.rest) && !isBlank(c.rest[j]) {
		j++
	}
	word := c.rest[i:j]
	c.rest = c.rest[j:]
	if len(word) == 0 {
		return nil
	}
	return word
}

// take takes the next word if it is the command word `upper`. It looks no further than that: a value's first word may be
// long.
func (c *cursor) take(upper string) bool {
	i := 0
	for i < len(c.rest) && isBlank(c.rest[i]) {
		i++
	}
	end := i + len(upper)
	if len(c.rest) < end || !isWord(c.rest[i:end], upper) || (len(c.rest) > end && !isBlank(c.rest[end])) {
		return false
	}
	c.rest = c.rest[end:]
	return true
}

// value takes the rest of the line after the one blank that ends the last word; there is none when the line ends there.
func (c *cursor) value() (v []byte, found bool) {
	if len(c.rest) == 0 {
		return nil, false
	}
	v = c.rest[1:]
	c.rest = nil
	return v, true
}

// done says whether only blanks are left.
func (c *cursor) done() bool {
	for _, b := range c.rest {
		if !isBlank(b) {
			return false
		}
	}
	return true
}

// isWord compares a word with an upper-case command word, ASCII letters in either case.
func isWord(word []byte, upper string) bool {
	if len(word) != len(upper) {
		return false
	}
	for i := range len(upper) {
		c := word[i]
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}

// parseUint reads a decimal number in its only form: digits, without a sign, blanks, or leading zeros. Anything else, and
// what does not fit 64 bits, is refused.
func parseUint(word []byte) (n uint64, ok bool) {
	if len(word) == 0 || len(word) > 20 || (word[0] == '0' && len(word) > 1) {
		return 0, false
	}
	for _, c := range word {
		if c < '0' || c > '9' {
			return 0, false
		}
		d := uint64(c - '0')
		if n > (1<<64-1-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, true
}

// isPrintable says whether the bytes can stand as a word in a line without being taken for anything else: UTF-8 without
// blanks, control characters or line breaks, U+0085, U+00A0, U+2028 and U+2029 among them.
func isPrintable(word []byte) bool {
	for i, c := range word {
		if c <= ' ' || c >= 0x7f {
			return c > 0x7f && isPrintableRunes(word[i:])
		}
	}
	return true
}

func isPrintableRunes(word []byte) bool {
	for i := 0; i < len(word); {
		r, size := utf8.DecodeRune(word[i:])
		if (r == utf8.RuneError && size <= 1) || isUnprintable(r) {
			return false
		}
		i += size
	}
	return true
}

// isUnprintable is the rule of table names in engine/key, for every name of this protocol.
func isUnprintable(r rune) bool {
	return r <= ' ' || (r >= 0x7f && r <= 0xa0) || r == '\u2028' || r == '\u2029'
}

// textScan looks whether a value, given in pieces, is one line of text: UTF-8 without control characters other than tab.
// The zero value is ready.
type textScan struct {
	carry    [utf8.UTFMax]byte // begin of a rune that the last piece cut
	carried  int
	isBinary bool
}

// Write takes the next piece; it never fails.
func (t *textScan) Write(p []byte) (int, error) {
	n := len(p)
	for t.carried > 0 && len(p) > 0 && !t.isBinary {
		t.carry[t.carried] = p[0]
		t.carried++
		p = p[1:]
		if head := t.carry[:t.carried]; utf8.FullRune(head) {
			t.isBinary = !isText(head)
			t.carried = 0
		}
	}
	if t.isBinary || len(p) == 0 {
		return n, nil
	}
	cut := len(p)
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if tail := p[len(p)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				cut = len(p) - back
			}
			break
		}
	}
	t.isBinary = !isText(p[:cut])
	t.carried = copy(t.carry[:], p[cut:])
	return n, nil
}

// text says whether all pieces together were text.
func (t *textScan) text() bool { return !t.isBinary && t.carried == 0 }

// isText says whether the whole value is one line of text.
func isText(p []byte) bool {
	for len(p) > 0 {
		if len(p) >= 8 && plainASCII(binary.LittleEndian.Uint64(p)) {
			p = p[8:]
			continue
		}
		c := p[0]
		if c >= ' ' && c < 0x7f || c == '\t' {
			p = p[1:]
			continue
		}
		if c < utf8.RuneSelf {
			return false
		}
		r, size := utf8.DecodeRune(p)
		if (r == utf8.RuneError && size <= 1) || (r >= 0x80 && r <= 0x9f) {
			return false
		}
		p = p[size:]
	}
	return true
}

// plainASCII says whether all eight bytes are in ' ' to '~'.
func plainASCII(w uint64) bool {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	below := (w - ones*' ') & ^w // top bit: the byte is below a blank (exact while no byte has its top bit set)
	del := w ^ ones*0x7f
	isDel := (del - ones) & ^del
	return (w|below|isDel)&tops == 0
}
