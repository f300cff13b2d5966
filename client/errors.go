// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/atlas-edge/atlas/client/wire"
)

// Error is a command that failed; errors.As finds its class, text and cause.
type Error = wire.Error

// The classes of errors, targets for errors.Is.
const (
	ErrInvalid     = wire.Invalid     // the command is wrong
	ErrDenied      = wire.Denied      // the principal may not
	ErrNotFound    = wire.NotFound    // no such key, table or node
	ErrConflict    = wire.Conflict    // a condition did not hold; not applied
	ErrUnavailable = wire.Unavailable // not applied; may work later
	ErrUnknown     = wire.Unknown     // may have been applied, now or later
	ErrTooLarge    = wire.TooLarge    // past a limit; not applied
	ErrCorrupt     = wire.Corrupt     // stored bytes are damaged
)

// ErrProtocol is in the chain of errors about a server that breaks the protocol.
var ErrProtocol = wire.ErrProtocol

// ErrClosed is in the chain of errors of a Client, Session or Txn that was closed.
var ErrClosed = errors.New("closed")

// errEnded is why a command is not sent on a connection that the server has ended.
var errEnded = errors.New("the server ended it")

func errClosed() error { return &Error{Class: wire.Unavailable, Text: "client", Cause: ErrClosed} }

// cancelled is the error of a command that was never sent because its context ended.
func cancelled(ctx context.Context) error {
	return &Error{Class: wire.Unavailable, Text: "not sent", Cause: context.Cause(ctx)}
}

// unanswered is the error of a command that was sent and whose answer is no longer awaited.
func unanswered(cl *call, cause error) error {
	if cl.write {
		return &Error{Class: wire.Unknown, Text: "sent, no answer received", Cause: cause}
	}
	return &Error{Class: wire.Unavailable, Text: "no answer received", Cause: cause}
}

// lostError says that the connection failed under a command.
type lostError struct {
	sent  bool // bytes of it may have left
	cause error
}

func (e *lostError) Error() string { return fmt.Sprintf("connection lost: %v", e.cause) }
func (e *lostError) Unwrap() error { return e.cause }

// classify makes of it what the caller is told.
func (e *lostError) classify(cl *call) error {
	if e.sent {
		return unanswered(cl, e)
	}
	return &Error{Class: wire.Unavailable, Text: "not sent", Cause: e}
}

// broken is the error of a reply that does not fit its command.
func protocolError(format string, args ...any) error {
	return &Error{Text: "reply", Cause: fmt.Errorf("%w: %s", wire.ErrProtocol, fmt.Sprintf(format, args...))}
}
