// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"context"
	"errors"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/replication"
)

// GrantList is what is granted on one table or key. Without entries it is closed to all but admins.
type GrantList struct {
	Object  []byte // a table's name, or a key
	Entries []GrantEntry
}

// GrantEntry is what one principal holds.
type GrantEntry struct {
	Principal string
	Perms     []Perm // ascending
}

// Grants gives fn the list on a table, when prefix is a table's name, and then those on its keys that begin with prefix, in byte
// order: those that the caller may change, for only who may change a list may see it. The list is valid during the call only.
// What fn returns ends the walk.
func (s *Session) Grants(ctx context.Context, prefix []byte, fn func(GrantList) error) error {
	if err := s.identified(); err != nil {
		return err
	}
	if s.txn != nil {
		return Errorf(ClassInvalid, "grants are not listed inside a transaction")
	}
	k, err := key.ParsePrefix(prefix)
	if err != nil {
		return keyError(err)
	}
	w := grantWalk{s: s, ctx: ctx, group: k.Group(), fn: fn}
	if err := w.look(); err != nil {
		return err
	}
	if w.access.view.TableLists && bytes.IndexByte(prefix, '.') < 0 {
		if err := w.table(k.TableRest()); err != nil {
			return err
		}
	}
	if !w.access.view.KeyLists {
		return nil
	}
	from := authz.Object{Group: w.group, Kind: authz.KindKey, Rest: k.Rest()}.StateName()
	err = s.e.store.EachState(w.group, from, func(name string, _ []byte) error {
		w.stopped = w.key([]byte(name[1:])) // behind the letter that marks a key's list
		return w.stopped
	})
	switch {
	case w.stopped != nil:
		return w.stopped
	case err != nil:
		return s.e.readError(err)
	}
	return nil
}

// grantWalk is one call of Session.Grants.
type grantWalk struct {
	s       *Session
	ctx     context.Context
	group   string
	access  *access
	fn      func(GrantList) error
	seen    int
	stopped error // why the walk ended, before storage says so in its own words
}

// look sees the grants of now, by which the caller is judged.
func (w *grantWalk) look() (err error) {
	w.access, err = w.s.e.access(w.s.principal, w.group)
	return err
}

func (w *grantWalk) table(tableRest []byte) error {
	list, err := w.access.tableList(tableRest)
	if err != nil {
		return w.s.e.readError(err)
	}
	o := authz.Object{Group: w.group, Kind: authz.KindTable, Rest: tableRest}
	return w.show(o, list, authz.Lists{Table: list})
}

func (w *grantWalk) key(rest []byte) error {
	if w.seen++; w.seen%scanCheckEvery == 0 {
		if err := w.ctx.Err(); err != nil {
			return w.s.e.readError(err)
		}
		if err := w.look(); err != nil {
			return err
		}
	}
	o := authz.Object{Group: w.group, Kind: authz.KindKey, Rest: rest}
	list, err := replication.LoadGrants(w.s.e.store, o)
	if err != nil {
		return w.s.e.readError(err)
	}
	table, err := w.access.tableList(key.TableOfRest(rest))
	if err != nil {
		return w.s.e.readError(err)
	}
	return w.show(o, list, authz.Lists{Key: list, Table: table})
}

// show gives the list out, if there is one that the caller may change.
func (w *grantWalk) show(o authz.Object, list *authz.Grants, all authz.Lists) error {
	if list == nil {
		return nil
	}
	switch err := w.access.check(authz.VerbGrant, o, all); {
	case errors.Is(err, ErrDenied):
		return nil
	case err != nil:
		return err
	}
	out := GrantList{Object: key.FromParts(w.group, o.Rest)}
	for _, e := range list.Entries() {
		out.Entries = append(out.Entries, GrantEntry{Principal: e.Principal, Perms: permsOf(e.Perms)})
	}
	return w.fn(out)
}

func permsOf(held authz.Perm) (out []Perm) {
	for _, p := range []struct {
		gate authz.Perm
		perm Perm
	}{{authz.PermRead, PermRead}, {authz.PermWrite, PermWrite}, {authz.PermOwner, PermOwner}} {
		if held&p.gate != 0 {
			out = append(out, p.perm)
		}
	}
	return out
}
