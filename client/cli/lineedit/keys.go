// SPDX-License-Identifier: AGPL-3.0-only

package lineedit

import (
	"bytes"
	"io"
	"strconv"
	"unicode/utf8"
)

// keyCode names a key: that of Ctrl-X is ctrl('X').
type keyCode int

const (
	keyRune  keyCode = iota + 256 // text is what was typed
	keyPaste                      // text is what was pasted
	keyEnter
	keyEscape
	keyUp
	keyDown
	keyLeft
	keyRight
	keyHome
	keyEnd
	keyDelete
	keyBackspace
	keyWordLeft
	keyWordRight
	keyKillWordLeft
	keyKillWordRight
	keyOther // nothing we know
)

func ctrl(c byte) keyCode { return keyCode(c & 0x1f) }

type key struct {
	code keyCode
	text string
}

var (
	pasteBegin = []byte("\x1b[200~")
	pasteEnd   = []byte("\x1b[201~")
)

// key reads the next key.
func (e *Editor) key() (key, error) {
	for {
		if len(e.in) > 0 {
			if k, n := decode(e.in); n > 0 {
				e.in = e.in[n:]
				return k, nil
			}
			if len(e.in) > 2*LineLenMax { // a paste without end
				e.in = nil
				return key{code: keyOther}, nil
			}
		}
		var chunk [4096]byte
		n, err := e.o.In.Read(chunk[:])
		e.in = append(e.in, chunk[:n]...)
		if n == 0 && err != nil {
			return key{}, err
		}
		if n == 0 && err == nil {
			return key{}, io.ErrNoProgress
		}
	}
}

// decode takes the first key off b; n is 0 when more bytes are needed. Text that was typed in one go is one key.
func decode(b []byte) (k key, n int) {
	switch c := b[0]; {
	case c == '\r' || c == '\n':
		return key{code: keyEnter}, 1
	case c == 0x7f:
		return key{code: keyBackspace}, 1
	case c == 0x1b:
		return decodeEscape(b)
	case c < ' ':
		return key{code: keyCode(c)}, 1
	}
	for n < len(b) && b[n] >= ' ' && b[n] != 0x7f {
		if !utf8.FullRune(b[n:]) {
			break
		}
		_, size := utf8.DecodeRune(b[n:])
		n += size
	}
	if n == 0 {
		return key{}, 0
	}
	return key{code: keyRune, text: string(bytes.ToValidUTF8(b[:n], []byte("\ufffd")))}, n
}

func decodeEscape(b []byte) (key, int) {
	if bytes.HasPrefix(b, pasteBegin) {
		end := bytes.Index(b, pasteEnd)
		if end < 0 {
			return key{}, 0
		}
		text := bytes.ToValidUTF8(b[len(pasteBegin):end], []byte("\ufffd"))
		return key{code: keyPaste, text: string(text)}, end + len(pasteEnd)
	}
	if len(b) < 2 {
		return key{}, 0
	}
	switch b[1] {
	case '[':
		for i := 2; i < len(b) && i < 32; i++ {
			if b[i] >= '@' && b[i] <= '~' {
				return key{code: sequence(b[2:i], b[i])}, i + 1
			}
		}
		if len(b) >= 32 {
			return key{code: keyOther}, 2
		}
		return key{}, 0
	case 'O':
		if len(b) < 3 {
			return key{}, 0
		}
		return key{code: sequence(nil, b[2])}, 3
	case 'b', 'B':
		return key{code: keyWordLeft}, 2
	case 'f', 'F':
		return key{code: keyWordRight}, 2
	case 'd', 'D':
		return key{code: keyKillWordRight}, 2
	case 0x7f, 0x08:
		return key{code: keyKillWordLeft}, 2
	case 0x1b:
		return key{code: keyEscape}, 1
	}
	return key{code: keyOther}, 2
}

// sequence names the key of ESC [ params final.
func sequence(params []byte, final byte) keyCode {
	word := bytes.Equal(params, []byte("1;5")) || bytes.Equal(params, []byte("1;3")) // with Ctrl or Alt
	switch final {
	case 'A':
		return keyUp
	case 'B':
		return keyDown
	case 'C':
		if word {
			return keyWordRight
		}
		return keyRight
	case 'D':
		if word {
			return keyWordLeft
		}
		return keyLeft
	case 'H':
		return keyHome
	case 'F':
		return keyEnd
	case '~':
		switch string(params) {
		case "1", "7":
			return keyHome
		case "4", "8":
			return keyEnd
		case "3":
			return keyDelete
		}
	}
	return keyOther
}

func itoa(n int) string { return strconv.Itoa(n) }
