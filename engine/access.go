// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/replication"
	"github.com/atlas-edge/atlas/engine/storage"
)

// access answers what one principal may do in one group, at one state of it. It asks authz for every decision and
// only spares the look-ups that cannot matter. It is for one goroutine.
type access struct {
	e         *Engine
	reader    storage.Reader
	group     string
	view      replication.ReadView
	principal string

	subject *authz.Subject // nil until needed: whether the principal is an admin takes a look-up
	// table is the list on the table looked at last; scans ask for one table over and over.
	table     *authz.Grants
	tableRest []byte
	tableRead bool
}

// open says that no decision in this group needs a list: everything in it is public. The system group has rules of its own.
func (a *access) open() bool {
	return !a.view.TableLists && !a.view.KeyLists && a.group != key.SystemGroup
}

// key decides on a key, given by its rest.
func (a *access) key(v authz.Verb, rest []byte) error {
	if a.open() {
		return nil
	}
	var lists authz.Lists
	object := authz.Object{Group: a.group, Kind: authz.KindKey, Rest: rest}
	if a.view.KeyLists {
		g, err := replication.LoadGrants(a.reader, object)
		if err != nil {
			return err
		}
		lists.Key = g
	}
	var err error
	if lists.Table, err = a.tableList(key.TableOfRest(rest)); err != nil {
		return err
	}
	return a.check(v, object, lists)
}

// tableObject decides on a table, given by its part of the rest.
func (a *access) tableObject(v authz.Verb, tableRest []byte) error {
	if a.open() {
		return nil
	}
	list, err := a.tableList(tableRest)
	if err != nil {
		return err
	}
	return a.check(v, authz.Object{Group: a.group, Kind: authz.KindTable, Rest: tableRest}, authz.Lists{Table: list})
}

func (a *access) check(v authz.Verb, o authz.Object, l authz.Lists) error {
	if a.subject == nil {
		admin, err := a.e.isAdmin(a.principal)
		if err != nil {
			return err
		}
		a.subject = &authz.Subject{Principal: a.principal, Admin: admin}
	}
	if err := authz.Check(*a.subject, v, o, l); err != nil {
		return Errorf(ClassDenied, "%w", err)
	}
	return nil
}

func (a *access) tableList(tableRest []byte) (*authz.Grants, error) {
	if !a.view.TableLists {
		return nil, nil
	}
	if a.tableRead && bytes.Equal(a.tableRest, tableRest) {
		return a.table, nil
	}
	g, err := replication.LoadGrants(a.reader, authz.Object{Group: a.group, Kind: authz.KindTable, Rest: tableRest})
	if err != nil {
		return nil, err
	}
	a.table, a.tableRest, a.tableRead = g, append(a.tableRest[:0], tableRest...), true
	return g, nil
}

// isAdmin says whether the principal holds the admin grant: it is the built-in admin, or an owner of the system table.
func (e *Engine) isAdmin(principal string) (bool, error) {
	if principal == "" || principal == authz.PrincipalAdmin {
		return principal != "", nil
	}
	view, err := e.replicator.ReadView(key.SystemGroup)
	if err != nil {
		return false, err
	}
	if !view.TableLists {
		return false, nil
	}
	list, err := replication.LoadGrants(e.store, authz.Object{Group: key.SystemGroup, Kind: authz.KindTable})
	if err != nil {
		return false, err
	}
	return authz.IsAdmin(principal, list), nil
}
