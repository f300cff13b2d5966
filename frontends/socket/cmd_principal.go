// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"github.com/atlas-edge/atlas/engine"
)

func (q *request) principal() error {
	switch q.cmd.verb {
	case verbWhoAmI:
		name := q.sess.Principal()
		if name == "" {
			name = noPrincipal
		}
		b := q.c.out.begin()
		b = appendLine(b, q.tag, "PRINCIPAL "+name)
		q.end(appendOK(b, q.tag))
		return nil
	case verbAssume:
		if err := q.sess.Assume(q.ctx, string(q.cmd.name)); err != nil {
			return err
		}
	case verbAuth:
		if err := q.authenticate(); err != nil {
			return err
		}
	case verbSecret:
		if err := q.sess.SetSecret(q.ctx, string(q.cmd.name), string(q.cmd.value)); err != nil {
			return err
		}
	}
	q.ok()
	return nil
}

// authenticate checks a secret, one at a time for each source, and makes the source wait after a wrong one.
func (q *request) authenticate() error {
	q.c.out.flush()
	turn, err := q.c.srv.auth.enter(q.ctx, q.c.source)
	if err != nil {
		q.c.m.authFailures.Inc()
		return err
	}
	err = q.sess.Authenticate(q.ctx, string(q.cmd.name), string(q.cmd.value))
	failed := err != nil && engine.ClassOf(err) == engine.ClassDenied
	if failed {
		q.c.m.authFailures.Inc()
	}
	turn.leave(q.ctx, failed)
	return err
}

// permWords are the permissions as they are typed.
var permWords = [...]string{engine.PermRead: "READ", engine.PermWrite: "WRITE", engine.PermOwner: "OWNER"}

func (q *request) acl() error {
	change, done := q.sess.Grant, "ACL granted "
	if q.cmd.verb == verbRevoke {
		change, done = q.sess.Revoke, "ACL revoked "
	}
	if err := change(q.ctx, q.cmd.key, string(q.cmd.name), q.cmd.perm); err != nil {
		return err
	}
	b := q.c.out.begin()
	b = append(append(b, q.tag...), done...)
	b = appendKey(b, q.cmd.key)
	b = append(b, ' ')
	b = append(b, q.cmd.name...)
	b = append(b, " PERMS "...)
	b = append(b, permWords[q.cmd.perm]...)
	b = append(b, crlf...)
	q.end(appendOK(b, q.tag))
	return nil
}

// grants sends the lists of grants, a piece at a time; other answers' lines may come between pieces.
func (q *request) grants() error {
	var lines []byte
	err := q.sess.Grants(q.ctx, q.cmd.key, func(l engine.GrantList) error {
		if len(l.Entries) == 0 {
			lines = q.appendGrant(lines, l.Object, noPrincipal, "")
		}
		for _, e := range l.Entries {
			for _, p := range e.Perms {
				lines = q.appendGrant(lines, l.Object, e.Principal, permWords[p])
			}
		}
		if len(lines) < scanChunk*3/4 {
			return nil
		}
		piece := lines
		lines = nil
		return q.send(piece)
	})
	if err != nil {
		return err
	}
	return q.send(appendOK(lines, q.tag))
}

// appendGrant appends what one principal holds, in the words that grant it; of a list without entries perm is empty.
func (q *request) appendGrant(b, object []byte, principal, perm string) []byte {
	b = append(append(b, q.tag...), "ACL "...)
	b = append(append(appendKey(b, object), ' '), principal...)
	if perm != "" {
		b = append(append(b, " PERMS "...), perm...)
	}
	return append(b, crlf...)
}
