// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/replication"
)

// Session is the state of one client: principal, consistency, open transaction. One goroutine at a time may call it;
// a frontend that runs commands side by side gives each its own Fork.
type Session struct {
	e           *Engine
	opts        SessionOptions
	principal   string // in force; "" is none
	proven      string // by Authenticate; "" is none
	consistency Consistency
	txn         *Txn
}

// NewSession opens a session for a client without a principal.
func (e *Engine) NewSession(o SessionOptions) *Session { return &Session{e: e, opts: o} }

// Fork is a session with the same client, principal and consistency as this one has now, and no transaction.
func (s *Session) Fork() *Session {
	f := *s
	f.txn = nil
	return &f
}

// Close rolls an open transaction back.
func (s *Session) Close() error {
	if s.txn == nil {
		return nil
	}
	return s.Rollback()
}

// Principal is the one in force; "" is none.
func (s *Session) Principal() string { return s.principal }

// Assume puts another principal in force. A trusted client may assume any; others the one that they proved to be, and
// those whose row `atlas.principals.<name>` they were granted WRITE on.
func (s *Session) Assume(_ context.Context, name string) error {
	if s.txn != nil {
		return Errorf(ClassInvalid, "the principal cannot change inside a transaction")
	}
	if err := s.mayAssume(name); err != nil {
		return err
	}
	s.principal = name
	return nil
}

func (s *Session) mayAssume(name string) error {
	if err := authz.CheckPrincipal(name); err != nil {
		return Errorf(ClassInvalid, "%w", err)
	}
	if s.opts.Trusted || (s.proven != "" && s.proven == name) {
		return nil
	}
	denied := Errorf(ClassDenied, "this client may not assume principal %q", name)
	if s.proven == "" {
		return denied
	}
	k, err := principalKey(name)
	if err != nil {
		return err
	}
	admin, err := s.e.isAdmin(s.proven)
	if err != nil {
		return s.e.readError(err)
	}
	list, err := replication.LoadGrants(s.e.store, authz.KeyObject(k))
	if err != nil {
		return s.e.readError(err)
	}
	if !authz.MayAssume(authz.Subject{Principal: s.proven, Admin: admin}, list) {
		return denied
	}
	return nil
}

// identified refuses a client that has yet to prove who it is. What is public is so to local principals: a trusted client is one
// even without a name, any other has to authenticate.
func (s *Session) identified() error {
	if s.opts.Trusted || s.proven != "" {
		return nil
	}
	return Errorf(ClassDenied, "this client must prove its principal first")
}

// Consistency is the setting for reads.
func (s *Session) Consistency() Consistency { return s.consistency }

// SetConsistency changes the setting for reads.
func (s *Session) SetConsistency(c Consistency) error {
	if c.Level == Bounded && c.MaxStaleness <= 0 {
		return Errorf(ClassInvalid, "staleness bound %s is not positive", c.MaxStaleness)
	}
	if c.Level > Local {
		return Errorf(ClassInvalid, "consistency level %d is not known", c.Level)
	}
	s.consistency = c
	return nil
}

// access is the gate of a principal to a group, now.
func (e *Engine) access(principal, group string) (*access, error) {
	view, err := e.replicator.ReadView(group)
	if err != nil {
		return nil, e.readError(err)
	}
	return &access{e: e, reader: e.store, group: group, view: view, principal: principal}, nil
}

// parseKey is key.Parse with an error of the engine.
func parseKey(raw []byte) (key.Key, error) {
	k, err := key.Parse(raw)
	if err != nil {
		return key.Key{}, keyError(err)
	}
	return k, nil
}

func keyError(err error) error {
	if errors.Is(err, key.ErrTooLong) {
		return Errorf(ClassTooLarge, "%w", err)
	}
	return Errorf(ClassInvalid, "%w", err)
}

// Put stores a value and returns its version. Inside a transaction the version is 0: Commit tells it.
func (s *Session) Put(ctx context.Context, r PutRequest) (uint64, error) {
	w, err := s.PutLater(ctx, r)
	if err != nil {
		return 0, err
	}
	return w.Wait(ctx)
}

// PutLater is Put that does not wait for the outcome. Writes to one group take effect in the order in which they were handed over,
// by Put or by PutLater; whoever reads what was written must Wait first. Requires: Wait is called once if the error is nil.
func (s *Session) PutLater(ctx context.Context, r PutRequest) (Write, error) {
	defer r.Upload.Release()
	if err := s.identified(); err != nil {
		return Write{}, err
	}
	k, err := parseKey(r.Key)
	if err != nil {
		return Write{}, err
	}
	m, err := s.e.putMutation(k, r)
	if err != nil {
		return Write{}, err
	}
	principal := s.principal
	if r.Principal != "" && r.Principal != s.principal {
		if s.txn != nil {
			return Write{}, Errorf(ClassInvalid, "the principal cannot change inside a transaction")
		}
		if err := s.mayAssume(r.Principal); err != nil {
			return Write{}, err
		}
		principal = r.Principal
	}
	if s.txn != nil {
		return Write{}, s.txn.put(k, m, r.IfAbsent, r.IfVersion)
	}
	return s.e.mutate(ctx, principal, k, m, r.IfAbsent, r.IfVersion, r.Upload)
}

// Write is a write whose outcome was not asked for yet.
type Write struct {
	e *Engine // nil inside a transaction
	t replication.Ticket
}

// Wait gives the outcome as Put does. A write that nobody waits for any more, because ctx ended, is unknown.
func (w Write) Wait(ctx context.Context) (version uint64, err error) {
	if w.e == nil {
		return 0, nil
	}
	result, err := w.e.outcome(w.t.Wait(ctx))
	if err != nil || result.Changes == 0 {
		return 0, err
	}
	return result.Version, nil
}

// Delete removes a key and returns the version of its absence: 0 when there was nothing to remove, or inside a transaction.
func (s *Session) Delete(ctx context.Context, r DeleteRequest) (uint64, error) {
	if err := s.identified(); err != nil {
		return 0, err
	}
	k, err := parseKey(r.Key)
	if err != nil {
		return 0, err
	}
	m := command.Mutation{Kind: command.Delete, Rest: k.Rest()}
	if s.txn != nil {
		return 0, s.txn.put(k, m, false, r.IfVersion)
	}
	w, err := s.e.mutate(ctx, s.principal, k, m, false, r.IfVersion, nil)
	if err != nil {
		return 0, err
	}
	return w.Wait(ctx)
}

// mutate submits one mutation. up holds its value, unless it is nil.
func (e *Engine) mutate(ctx context.Context, principal string, k key.Key, m command.Mutation, ifAbsent bool, ifVersion *uint64, up *Upload) (Write, error) {
	admin, err := e.isAdmin(principal)
	if err != nil {
		return Write{}, e.readError(err)
	}
	one := struct {
		c command.Command
		m [1]command.Mutation
		i [1]command.Condition
	}{c: command.Command{Principal: principal, Admin: admin}, m: [1]command.Mutation{m}}
	one.c.Mutations = one.m[:]
	switch {
	case ifAbsent && ifVersion != nil:
		return Write{}, Errorf(ClassInvalid, "IF ABSENT and IF VERSION exclude each other")
	case ifAbsent:
		one.i[0] = command.Condition{Kind: command.Absent, Rest: k.Rest()}
		one.c.Conditions = one.i[:]
	case ifVersion != nil:
		one.i[0] = command.Condition{Kind: command.VersionIs, Rest: k.Rest(), Version: *ifVersion}
		one.c.Conditions = one.i[:]
	}
	t, err := e.submit(ctx, k.Group(), &one.c, up)
	return Write{e, t}, err
}

// putMutation checks a request's values and makes its mutation.
func (e *Engine) putMutation(k key.Key, r PutRequest) (command.Mutation, error) {
	value := r.Value
	if r.Upload != nil {
		value = r.Upload.Value()
	}
	m := command.Mutation{Kind: command.Put, Rest: k.Rest(), Value: value, TTL: r.TTL, WormTTL: r.WormTTL}
	switch {
	case r.Upload != nil && r.Value != nil:
		return m, Errorf(ClassInvalid, "a value and an upload exclude each other")
	case len(value) > ValueLenMax:
		return m, Errorf(ClassTooLarge, "value length %d exceeds limit %d", len(value), ValueLenMax)
	case r.TTL < 0 || r.TTL > TTLMax:
		return m, Errorf(ClassInvalid, "time to live %s is outside of 1ns to %s", r.TTL, TTLMax)
	case r.WormTTL < 0 || r.WormTTL > TTLMax:
		return m, Errorf(ClassInvalid, "write-once time %s is outside of 1ns to %s", r.WormTTL, TTLMax)
	case r.TTL > 0 && !r.Expires.IsZero():
		return m, Errorf(ClassInvalid, "TTL and EXPIRES exclude each other")
	case r.WormTTL > 0 && !r.WormUntil.IsZero():
		return m, Errorf(ClassInvalid, "WORM TTL and WORM EXPIRES exclude each other")
	}
	var err error
	if m.Expires, err = e.instant("expiry", r.Expires); err != nil {
		return m, err
	}
	m.WormUntil, err = e.instant("write-once end", r.WormUntil)
	return m, err
}

// instant is the timestamp of a time that a client gave, 0 for none.
func (e *Engine) instant(what string, t time.Time) (uint64, error) {
	switch {
	case t.IsZero():
		return 0, nil
	case t.Before(time.Unix(0, 1)), t.Sub(e.opts.Now()) > TTLMax:
		return 0, Errorf(ClassInvalid, "%s %s is before 1970, or more than %dh from now", what, t.UTC().Format(time.RFC3339), TTLMax/time.Hour)
	}
	return uint64(t.UnixNano()), nil
}

// Grant gives a principal a permission on a table or a key.
func (s *Session) Grant(ctx context.Context, object []byte, principal string, p Perm) error {
	return s.changeGrants(ctx, command.Grant, object, principal, p)
}

// Revoke takes a permission on a table or a key away.
func (s *Session) Revoke(ctx context.Context, object []byte, principal string, p Perm) error {
	return s.changeGrants(ctx, command.Revoke, object, principal, p)
}

func (s *Session) changeGrants(ctx context.Context, kind command.MutationKind, object []byte, principal string, p Perm) error {
	if err := s.identified(); err != nil {
		return err
	}
	if s.txn != nil {
		return Errorf(ClassInvalid, "grants cannot change inside a transaction")
	}
	perms, err := p.authz()
	if err != nil {
		return err
	}
	if err := authz.CheckPrincipal(principal); err != nil {
		return Errorf(ClassInvalid, "%w", err)
	}
	m := command.Mutation{Kind: kind, Principal: principal, Perms: perms, Object: authz.KindKey}
	k, err := key.Parse(object)
	m.Rest = k.Rest()
	if err != nil {
		if k, err = key.ParseTable(object); err != nil {
			return keyError(err)
		}
		m.Object, m.Rest = authz.KindTable, k.TableRest()
	}
	admin, err := s.e.isAdmin(s.principal)
	if err != nil {
		return s.e.readError(err)
	}
	_, err = s.e.propose(ctx, k.Group(), &command.Command{
		Principal: s.principal, Admin: admin, Mutations: []command.Mutation{m},
	})
	return err
}

// authz is the permission as the gate knows it.
func (p Perm) authz() (authz.Perm, error) {
	switch p {
	case PermRead:
		return authz.PermRead, nil
	case PermWrite:
		return authz.PermWrite, nil
	case PermOwner:
		return authz.PermOwner, nil
	}
	return 0, Errorf(ClassInvalid, "permission %d is not known: want READ, WRITE or OWNER", p)
}

// Begin opens a transaction: the reads and writes that follow are part of it, until Commit or Rollback.
func (s *Session) Begin(ctx context.Context) error {
	if s.txn != nil {
		return Errorf(ClassInvalid, "a transaction is open already")
	}
	txn, err := s.BeginTxn(ctx)
	s.txn = txn
	return err
}

// Commit ends the transaction and returns the version of its writes, 0 if nothing changed. Whatever it returns, the transaction is over.
func (s *Session) Commit(ctx context.Context) (uint64, error) {
	if s.txn == nil {
		return 0, Errorf(ClassInvalid, "no transaction is open")
	}
	txn := s.txn
	s.txn = nil
	return txn.Commit(ctx)
}

// Rollback ends the transaction; nothing of it happened.
func (s *Session) Rollback() error {
	if s.txn == nil {
		return Errorf(ClassInvalid, "no transaction is open")
	}
	txn := s.txn
	s.txn = nil
	return txn.Rollback()
}

// InTxn says whether a transaction is open.
func (s *Session) InTxn() bool { return s.txn != nil }
