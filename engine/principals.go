// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/key"
)

// principalKey is the row of the system table that holds a principal's secret.
func principalKey(name string) (key.Key, error) {
	k, err := key.Parse([]byte(authz.SecretKey(name)))
	if err != nil {
		return key.Key{}, keyError(err)
	}
	return k, nil
}

// Authenticate proves by a secret who the client is, and puts that principal in force. A wrong secret and an unknown name
// look alike, in the answer and in the time it takes.
func (s *Session) Authenticate(ctx context.Context, name, secret string) error {
	if s.txn != nil {
		return Errorf(ClassInvalid, "the principal cannot change inside a transaction")
	}
	if err := authz.CheckPrincipal(name); err != nil {
		return Errorf(ClassInvalid, "%w", err)
	}
	if len(secret) > SecretLenMax {
		return Errorf(ClassTooLarge, "secret length %d exceeds limit %d", len(secret), SecretLenMax)
	}
	k, err := principalKey(name)
	if err != nil {
		return err
	}
	stored, err := s.e.readSystem(k)
	if err != nil {
		return err
	}
	ok, err := s.e.verify(ctx, stored, secret)
	if err != nil {
		return err
	}
	if !ok {
		return Errorf(ClassDenied, "wrong principal or secret")
	}
	s.principal, s.proven = name, name
	return nil
}

// verify compares a secret with its stored hash; without one it only takes the time.
func (e *Engine) verify(ctx context.Context, stored []byte, secret string) (bool, error) {
	leave, err := e.enterSecrets(ctx)
	if err != nil {
		return false, err
	}
	defer leave()
	if stored == nil {
		authz.VerifyUnknown([]byte(secret))
		return false, nil
	}
	ok, err := authz.VerifySecret(string(stored), []byte(secret))
	if err != nil {
		return false, Errorf(ClassCorrupt, "stored secret: %w", err)
	}
	return ok, nil
}

// enterSecrets waits for a place among those who hash: each hash takes much memory.
func (e *Engine) enterSecrets(ctx context.Context) (leave func(), err error) {
	select {
	case e.secrets <- struct{}{}:
		return func() { <-e.secrets }, nil
	case <-ctx.Done():
		return nil, Errorf(ClassUnavailable, "wait for other secrets to be checked: %w", ctx.Err())
	}
}

// SetSecret stores the salted, slow hash of a principal's secret. Admins may set any; others only their own, when this
// client is trusted or proved who it is.
func (s *Session) SetSecret(ctx context.Context, name, secret string) error {
	if s.txn != nil {
		return Errorf(ClassInvalid, "secrets cannot change inside a transaction")
	}
	if err := authz.CheckPrincipal(name); err != nil {
		return Errorf(ClassInvalid, "%w", err)
	}
	if len(secret) < SecretLenMin || len(secret) > SecretLenMax {
		return Errorf(ClassInvalid, "secret length %d is outside of %d to %d", len(secret), SecretLenMin, SecretLenMax)
	}
	admin, err := s.e.isAdmin(s.principal)
	if err != nil {
		return s.e.readError(err)
	}
	own := s.principal == name && (s.opts.Trusted || s.proven == name)
	if !admin && !own {
		return Errorf(ClassDenied, "%v may not set the secret of %q", authz.Subject{Principal: s.principal}, name)
	}
	leave, err := s.e.enterSecrets(ctx)
	if err != nil {
		return err
	}
	hash, err := authz.HashSecret([]byte(secret))
	leave()
	if err != nil {
		return Errorf(ClassInvalid, "%w", err)
	}
	k, err := principalKey(name)
	if err != nil {
		return err
	}
	_, err = s.e.propose(ctx, k.Group(), &command.Command{
		System: true, Mutations: []command.Mutation{{Kind: command.Put, Rest: k.Rest(), Value: []byte(hash)}},
	})
	return err
}
