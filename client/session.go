// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"strings"

	"github.com/atlas-edge/atlas/client/wire"
)

// Session is a connection of its own: commands run in order, and the principal, the consistency and a transaction are its
// own. Not for concurrent use. A command whose context ended, or whose connection was lost, leaves the session closed.
type Session struct {
	commands
	client *Client
	rc     *rawConn // nil once closed
}

// Session takes a connection out of the pool until Close.
func (c *Client) Session(ctx context.Context) (*Session, error) {
	rc, err := c.acquire(ctx)
	if err != nil {
		return nil, err
	}
	s := &Session{client: c, rc: rc}
	s.commands.x = s
	return s, nil
}

// Close gives the connection back. A session that changed its principal or consistency, or has a transaction open, is
// closed for good; the server rolls the transaction back. Closing twice is allowed.
func (s *Session) Close() error {
	if s.rc != nil {
		s.client.giveBack(s.rc)
		s.rc = nil
	}
	return nil
}

func (s *Session) exec(ctx context.Context, cl *call) error {
	if cl.err != nil {
		return cl.err
	}
	if s.rc == nil {
		return &Error{Class: wire.Unavailable, Text: "session", Cause: ErrClosed}
	}
	if cl.write && ctx.Err() == nil && !wire.Idle(s.rc.nc) {
		return s.rc.ended().classify(cl)
	}
	return s.rc.roundTrip(ctx, cl)
}

// Do is as Client.Do, and every command but WATCH and UNWATCH (see Client.Watch) is allowed.
func (s *Session) Do(ctx context.Context, line string, body []byte) (*Reply, error) {
	if strings.TrimSpace(line) != "" {
		verb, sub := firstWords(line)
		if verb == "WATCH" || verb == "UNWATCH" {
			return nil, &Error{Class: wire.Invalid, Text: "a session runs one command at a time: use Client.Watch"}
		}
		if bindsConnection(verb, sub) && s.rc != nil {
			s.rc.stateful = true
		}
	}
	return s.commands.Do(ctx, line, body)
}

// Assume changes the session's principal, on the server's trust.
func (s *Session) Assume(ctx context.Context, principal string) error {
	return s.change(ctx, "PRINCIPAL ASSUME", principal, "")
}

// Authenticate changes the session's principal, proving it.
func (s *Session) Authenticate(ctx context.Context, principal, secret string) error {
	return s.change(ctx, "PRINCIPAL AUTH", principal, secret)
}

func (s *Session) change(ctx context.Context, verb, principal, secret string) error {
	if err := checkPrincipal(principal, secret); err != nil {
		return err
	}
	cl := newCall(verb)
	cl.word("principal", principal)
	if secret != "" {
		cl.literal(" " + secret)
	}
	return s.setState(ctx, cl)
}

// SetConsistency changes how the session reads: "STRONG", "BOUNDED <duration>" or "LOCAL".
func (s *Session) SetConsistency(ctx context.Context, level string) error {
	cl := newCall("CONSISTENCY ")
	cl.literal(level)
	if !wire.Text([]byte(level)) {
		cl.fail(&Error{Class: wire.Invalid, Text: "consistency holds control characters"})
	}
	return s.setState(ctx, cl)
}

func (s *Session) setState(ctx context.Context, cl *call) error {
	defer cl.release()
	if s.rc != nil {
		s.rc.stateful = true
	}
	return s.exec(ctx, cl)
}

// Assume makes the client act as principal, on the server's trust: every command begun after it returned does. It returns
// once the server has accepted the principal on a new connection.
func (c *Client) Assume(ctx context.Context, principal string) error {
	return c.become(ctx, func(who *identity) { who.principal, who.secret = principal, "" })
}

// Authenticate is as Assume, with proof.
func (c *Client) Authenticate(ctx context.Context, principal, secret string) error {
	if secret == "" {
		return &Error{Class: wire.Invalid, Text: "secret is empty"}
	}
	return c.become(ctx, func(who *identity) { who.principal, who.secret = principal, secret })
}

// Txn is a serializable transaction over the keys of one group. Nothing it writes is seen by others before Commit returned
// nil. Not for concurrent use; always end it with Commit or Rollback.
type Txn struct {
	commands
	session *Session
	ended   bool
}

// Begin starts a transaction on a connection of its own.
func (c *Client) Begin(ctx context.Context) (*Txn, error) {
	s, err := c.Session(ctx)
	if err != nil {
		return nil, err
	}
	t := &Txn{session: s}
	t.commands.x = t
	s.rc.stateful = true
	cl := newCall("BEGIN")
	defer cl.release()
	if err := s.exec(ctx, cl); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return t, nil
}

func (t *Txn) exec(ctx context.Context, cl *call) error {
	if t.ended {
		return &Error{Class: wire.Invalid, Text: "transaction", Cause: ErrClosed}
	}
	write := cl.write
	cl.write = false // nothing is applied before the commit: a lost connection rolls back
	err := t.session.exec(ctx, cl)
	cl.write = write
	return err
}

// Commit applies the transaction and returns its version (0 when the server names none). ErrConflict: another command
// changed what was read, and nothing was applied; ErrUnknown: it may have been applied. Either way the transaction is over.
func (t *Txn) Commit(ctx context.Context) (version uint64, err error) {
	if t.ended {
		return 0, &Error{Class: wire.Invalid, Text: "transaction", Cause: ErrClosed}
	}
	t.ended = true
	cl := newWrite("COMMIT")
	defer cl.release()
	if err = t.session.exec(ctx, cl); err == nil {
		version, err = optionalVersion(cl)
		t.session.rc.stateful = false
	}
	return version, errors.Join(err, t.session.Close())
}

// Rollback drops the transaction. After Commit it does nothing.
func (t *Txn) Rollback(ctx context.Context) error {
	if t.ended {
		return nil
	}
	t.ended = true
	cl := newCall("ROLLBACK")
	defer cl.release()
	err := t.session.exec(ctx, cl)
	if err == nil {
		t.session.rc.stateful = false
	}
	return errors.Join(err, t.session.Close())
}

// Transact runs f in a transaction and commits it. When the commit conflicts it runs f again, at most tries times in all
// (at least once); f must not have effects of its own. An error of f rolls back and is returned. ErrUnknown is never
// retried.
func (c *Client) Transact(ctx context.Context, tries int, f func(*Txn) error) (version uint64, err error) {
	for try := 1; ; try++ {
		version, err = c.transactOnce(ctx, f)
		if err == nil || try >= tries || !errors.Is(err, ErrConflict) || errors.Is(err, ErrUnknown) || ctx.Err() != nil {
			return version, err
		}
	}
}

func (c *Client) transactOnce(ctx context.Context, f func(*Txn) error) (uint64, error) {
	t, err := c.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = t.Rollback(ctx) }() // does nothing after Commit; after an error of f, closing rolls back as well
	if err := f(t); err != nil {
		return 0, err
	}
	return t.Commit(ctx)
}
