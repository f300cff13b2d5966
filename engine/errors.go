// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"errors"
	"fmt"
)

// Class says what an error means for the one who asked. Its text is the stable word of the protocol.
type Class uint8

// The classes, as every frontend reports them.
const (
	// ClassInvalid: the request itself is wrong; nothing was applied.
	ClassInvalid Class = iota + 1
	// ClassDenied: the principal may not do this; nothing was applied.
	ClassDenied
	// ClassNotFound: what the request names does not exist, or may not be seen.
	ClassNotFound
	// ClassConflict: a condition did not hold; nothing was applied.
	ClassConflict
	// ClassUnavailable: the node could not do it now; nothing was applied, a retry may succeed.
	ClassUnavailable
	// ClassUnknown: the result could not be learned; the command may have been applied, or be applied later.
	ClassUnknown
	// ClassTooLarge: a named limit is exceeded; nothing was applied.
	ClassTooLarge
	// ClassCorrupt: stored data is wrong; the node stops.
	ClassCorrupt
)

// String is the stable word of the protocol.
func (c Class) String() string {
	switch c {
	case ClassInvalid:
		return "invalid"
	case ClassDenied:
		return "denied"
	case ClassNotFound:
		return "not_found"
	case ClassConflict:
		return "conflict"
	case ClassUnavailable:
		return "unavailable"
	case ClassUnknown:
		return "unknown"
	case ClassTooLarge:
		return "too_large"
	case ClassCorrupt:
		return "corrupt"
	}
	return fmt.Sprintf("class(%d)", uint8(c))
}

// Sentinels, one a class, for errors.Is.
var (
	ErrInvalid     = &Error{Class: ClassInvalid, Text: "invalid request"}
	ErrDenied      = &Error{Class: ClassDenied, Text: "denied"}
	ErrNotFound    = &Error{Class: ClassNotFound, Text: "not found"}
	ErrConflict    = &Error{Class: ClassConflict, Text: "conflict"}
	ErrUnavailable = &Error{Class: ClassUnavailable, Text: "unavailable"}
	ErrUnknown     = &Error{Class: ClassUnknown, Text: "result unknown"}
	ErrTooLarge    = &Error{Class: ClassTooLarge, Text: "too large"}
	ErrCorrupt     = &Error{Class: ClassCorrupt, Text: "corrupt"}
)

// Error is every error that the engine returns. Text holds no control characters and no value; names in it are quoted.
type Error struct {
	Class Class
	Text  string
	// Found is the version that a failed version condition met; 0 is an absent key.
	Found uint64
	cause error
}

// Error is `<class>: <text>`, as the protocol shows it.
func (e *Error) Error() string { return e.Class.String() + ": " + e.Text }

// Unwrap gives the cause, if there is one.
func (e *Error) Unwrap() error { return e.cause }

// Is makes every error of a class match the class's sentinel.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Class == e.Class && (t == e || isSentinel(t))
}

func isSentinel(e *Error) bool {
	switch e {
	case ErrInvalid, ErrDenied, ErrNotFound, ErrConflict, ErrUnavailable, ErrUnknown, ErrTooLarge, ErrCorrupt:
		return true
	}
	return false
}

// ClassOf is the class of err. What is not an Error is reported as unknown, which claims nothing.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	return ClassUnknown
}

// Errorf makes an Error of a class. The format may wrap a cause with %w.
func Errorf(c Class, format string, args ...any) *Error {
	err := fmt.Errorf(format, args...)
	return &Error{Class: c, Text: err.Error(), cause: errors.Unwrap(err)}
}
