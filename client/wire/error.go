// SPDX-License-Identifier: AGPL-3.0-only

package wire

import (
	"strings"
)

// Class is the stable word with which the protocol's error messages begin.
type Class string

// The classes. A class is also an error, the target for errors.Is.
const (
	Invalid     Class = "invalid"
	Denied      Class = "denied"
	NotFound    Class = "not_found"
	Conflict    Class = "conflict"
	Unavailable Class = "unavailable" // was not applied
	Unknown     Class = "unknown"     // may have been applied
	TooLarge    Class = "too_large"
	Corrupt     Class = "corrupt"
)

// Error makes a class a target for errors.Is.
func (c Class) Error() string { return string(c) }

func (c Class) known() bool {
	switch c {
	case Invalid, Denied, NotFound, Conflict, Unavailable, Unknown, TooLarge, Corrupt:
		return true
	}
	return false
}

// Error is a request that failed, at the server or on the way.
type Error struct {
	// Class says what kind of failure it is; "" when the server's message begins with no known word.
	Class Class
	// Fatal says that the server closes the connection.
	Fatal bool
	// Text is the message, without its class. Control characters in it are made visible.
	Text string
	// Cause is what happened on the client's side, nil when the server refused.
	Cause error
}

// Error is `class: text: cause`.
func (e *Error) Error() string {
	var b strings.Builder
	for _, part := range []string{string(e.Class), e.Text} {
		if part == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteString(": ")
		}
		b.WriteString(part)
	}
	if e.Cause != nil {
		b.WriteString(": ")
		b.WriteString(e.Cause.Error())
	}
	return b.String()
}

// Is matches the class.
func (e *Error) Is(target error) bool {
	c, ok := target.(Class)
	return ok && c == e.Class
}

// Unwrap is the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ParseError reads an `ERROR WARN|FATAL <class>: <text>` line. A line that is not in that form gives an Error without class.
func ParseError(line []byte) *Error {
	text := strings.TrimPrefix(string(line[:min(len(line), errorTextLenMax)]), "ERROR ")
	e := &Error{}
	switch {
	case strings.HasPrefix(text, "WARN"):
		text = text[len("WARN"):]
	case strings.HasPrefix(text, "FATAL"):
		text, e.Fatal = text[len("FATAL"):], true
	}
	text = strings.TrimPrefix(text, " ")
	word, rest, _ := strings.Cut(text, ":")
	if c := Class(strings.TrimSpace(word)); c.known() {
		e.Class, text = c, strings.TrimPrefix(rest, " ")
	}
	e.Text = Visible(text)
	return e
}

const errorTextLenMax = 4 << 10
