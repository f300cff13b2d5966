// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/engine"
)

// Lines are appended to what is pending, each beginning with the answer's tag, which is empty or `[ID:xyz] `.

var crlf = []byte("\r\n")

func appendLine(b, tag []byte, text string) []byte {
	b = append(b, tag...)
	b = append(b, text...)
	return append(b, crlf...)
}

func appendOK(b, tag []byte) []byte {
	b = append(b, tag...)
	return append(b, "OK\r\n"...)
}

// appendCount is a line like KEYS:3.
func appendCount(b, tag []byte, word string, n uint64) []byte {
	b = append(b, tag...)
	b = append(b, word...)
	b = strconv.AppendUint(b, n, 10)
	return append(b, crlf...)
}

// appendError is the line of a failure. fatal tells the client that the connection closes.
func appendError(b, tag []byte, err error) []byte {
	b = append(b, tag...)
	var fatal *fatalError
	if errors.As(err, &fatal) {
		b = append(b, "ERROR FATAL "...)
		b = appendSafe(b, fatal.text)
		return append(b, crlf...)
	}
	b = append(b, "ERROR WARN "...)
	var e *engine.Error
	if errors.As(err, &e) {
		b = append(b, e.Class.String()...)
		b = append(b, ": "...)
		b = appendSafe(b, e.Text)
	} else {
		b = append(b, engine.ClassOf(err).String()...)
		b = append(b, ": "...)
		b = appendSafe(b, err.Error())
	}
	return append(b, crlf...)
}

// appendSafe appends text with everything replaced that could break a line or act on a terminal, cut to ErrorTextMax.
func appendSafe(b []byte, text string) []byte {
	most := len(b) + ErrorTextMax
	for i, r := range text {
		size := utf8.RuneLen(r)
		if len(b)+max(size, 1) > most-len("...") {
			return append(b, "..."...)
		}
		if r == utf8.RuneError || (r != ' ' && isUnprintable(r)) {
			b = append(b, '?')
			continue
		}
		b = append(b, text[i:i+size]...)
	}
	return b
}

// appendField is ` name=value`, with nothing in the value that could end it.
func appendField(b []byte, name, value string) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=')
	for i, r := range value {
		if r == utf8.RuneError || isUnprintable(r) {
			b = append(b, '_')
			continue
		}
		b = append(b, value[i:i+utf8.RuneLen(r)]...)
	}
	return b
}

func appendIntField(b []byte, name string, n int64) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=')
	return strconv.AppendInt(b, n, 10)
}

func appendUintField(b []byte, name string, n uint64) []byte {
	b = append(b, ' ')
	b = append(b, name...)
	b = append(b, '=')
	return strconv.AppendUint(b, n, 10)
}
