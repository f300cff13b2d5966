// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"iter"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/client/wire"
)

// Grant is what a principal holds on a table or a key. Of a list without entries, which is closed to all but admins,
// Principal and Perm are empty.
type Grant struct {
	Object, Principal string
	Perm              Perm
}

// Grants iterates over what is granted on a table and its keys, or on the keys of table.prefix: what stands on the table first,
// then that on its keys in order. It shows the lists that the principal may change. They stream on a connection of their own.
// An error ends the iteration.
func (c *Client) Grants(ctx context.Context, prefix string) iter.Seq2[Grant, error] {
	return func(yield func(Grant, error) bool) {
		cl := newCall("ACL LIST")
		defer cl.release()
		cl.key(prefix)
		if err := c.streamGrants(ctx, cl, yield); err != nil {
			yield(Grant{}, err)
		}
	}
}

// streamGrants returns no error once yield wanted no more.
func (c *Client) streamGrants(ctx context.Context, cl *call, yield func(Grant, error) bool) error {
	var stopped bool
	err := c.stream(ctx, cl, func(rc *rawConn) (err error) {
		stopped, err = rc.grants(cl, yield)
		return err
	})
	if stopped {
		return nil
	}
	return err
}

func (rc *rawConn) grants(cl *call, yield func(Grant, error) bool) (stopped bool, err error) {
	if err := rc.send(cl); err != nil {
		return false, err
	}
	for {
		f, err := rc.next()
		if err != nil {
			return false, err
		}
		if f.End() {
			return false, rc.finish(cl, f)
		}
		g, ok := parseGrant(string(f.Text))
		if f.Kind == wire.KindBlob || !ok {
			err := protocolError("ACL LIST answered with %q", wire.Visible(shorten(string(f.Text))))
			rc.spoil(err)
			return false, err
		}
		if !yield(g, nil) {
			rc.spoil(ErrClosed) // the rest is on its way: closing is the only way to stop it
			return true, nil
		}
	}
}

// parseGrant reads a line of ACL LIST.
func parseGrant(line string) (g Grant, ok bool) {
	words := strings.Split(line, " ")
	if len(words) < 3 || words[0] != "ACL" {
		return Grant{}, false
	}
	if g.Object, ok = wire.ParseKey([]byte(words[1])); !ok {
		return Grant{}, false
	}
	if len(words) == 3 {
		return g, words[2] == "(none)"
	}
	g.Principal = words[2]
	g.Perm = Perm(words[len(words)-1])
	return g, len(words) == 5 && words[3] == "PERMS" && slices.Contains([]Perm{Read, Write, Owner}, g.Perm)
}
