// SPDX-License-Identifier: AGPL-3.0-only

package authz

import "github.com/atlas-edge/atlas/engine/key"

// Op is what a change does to a list.
type Op uint8

// The operations on a list.
const (
	OpGrant  Op = iota + 1 // adds permissions
	OpRevoke               // takes permissions away
	OpReset                // removes the list: admins only
)

// Change is a wish to change the list on an object.
type Change struct {
	Op        Op
	Object    Object
	Principal string // of OpGrant and OpRevoke: who gains or loses
	Perms     Perm   // of OpGrant and OpRevoke
}

// Check checks the form, which no state is needed for: a *Refusal that is ErrInvalid.
func (c Change) Check() error {
	switch {
	case c.Object.Kind != KindTable && c.Object.Kind != KindKey:
		return refuse(ErrInvalid, "object of a grant is neither a table nor a key")
	case c.Object.Group == key.SystemGroup && !c.Object.isSystemTable() && !c.Object.isPrincipal():
		return refuse(ErrInvalid, "grants in group %s stand on its table %s and on the rows of principals alone", key.SystemGroup, key.SystemGroup)
	case c.Op == OpReset:
		return nil
	case c.Op != OpGrant && c.Op != OpRevoke:
		return refuse(ErrInvalid, "unknown change %d of grants", c.Op)
	case c.Perms == 0 || c.Perms&^permAll != 0:
		return refuse(ErrInvalid, "permissions %#x of a grant", byte(c.Perms))
	case c.Object.isPrincipal() && c.Perms != PermWrite:
		return refuse(ErrInvalid, "the row of a principal takes only WRITE, which lets another assume it")
	case c.Object.Group == key.SystemGroup && !c.Object.isPrincipal() && c.Perms != PermOwner:
		return refuse(ErrInvalid, "table %s takes only OWNER, which makes an admin", key.SystemGroup)
	}
	return CheckPrincipal(c.Principal)
}

// ChangeGrants decides the wish. The lists are those on the object and on its table; keyLists says whether any key of the
// object's table has a list, and matters for the first grant on a table only. It returns the list that is to stand on the
// object and whether that differs from what stood there; nil means none. A refusal is a *Refusal of any of the classes.
func ChangeGrants(s Subject, c Change, l Lists, keyLists bool) (next *Grants, changed bool, err error) {
	if err := c.Check(); err != nil {
		return nil, false, err
	}
	if err := Check(s, VerbGrant, c.Object, l); err != nil {
		return nil, false, err
	}
	own := l.On(c.Object)
	switch c.Op {
	case OpReset:
		if !s.Admin && !s.System {
			return nil, false, refuse(ErrDenied, "%s may not reset the grants on %s", s, c.Object)
		}
		return nil, own != nil, nil
	case OpGrant:
		if own == nil {
			return firstGrant(s, c, keyLists)
		}
		return grant(own, c)
	default:
		return revoke(s, c, l)
	}
}

// firstGrant starts a list. It must leave an owner, since only admins could mend a list without one.
func firstGrant(s Subject, c Change, keyLists bool) (*Grants, bool, error) {
	var list *Grants
	list = list.with(c.Principal, c.Perms)
	switch {
	case s.Admin || s.System:
	case c.Object.Kind == KindTable && keyLists:
		return nil, false, refuse(ErrDenied, "%s may not take %s, keys of which have grants of their own: an admin may", s, c.Object)
	case s.Principal != "":
		list = list.with(s.Principal, list.Perms(s.Principal)|PermOwner)
	case c.Perms&PermOwner == 0:
		return nil, false, refuse(ErrDenied, "the first grant on %s without a principal must name an OWNER", c.Object)
	}
	return list, true, nil
}

func grant(own *Grants, c Change) (*Grants, bool, error) {
	held := own.Perms(c.Principal)
	if held|c.Perms == held {
		return own, false, nil
	}
	next := own.with(c.Principal, held|c.Perms)
	if next.Len() > GrantsMax {
		return nil, false, refuse(ErrInvalid, "%d principals in the grants on %s exceed limit %d", next.Len(), c.Object, GrantsMax)
	}
	return next, true, nil
}

// revoke takes away, and succeeds only if the principal is without the permissions afterwards.
func revoke(s Subject, c Change, l Lists) (*Grants, bool, error) {
	own := l.On(c.Object)
	who := Subject{Principal: c.Principal}
	if own == nil {
		table := l.deciding(c.Object)
		switch {
		case c.Object.isPrincipal(): // never public, and nothing comes from the table
		case table == nil:
			return nil, false, refuse(ErrConflict, "nothing is granted on %s: it is public", c.Object)
		case table.Perms(c.Principal).effective()&c.Perms != 0:
			return nil, false, refuse(ErrConflict, "%s holds %s by the grants on %s", who, table.Perms(c.Principal), c.Object.Table())
		}
		return nil, false, nil
	}
	held := own.Perms(c.Principal)
	left := held &^ c.Perms
	switch {
	case left.effective()&c.Perms != 0:
		return nil, false, refuse(ErrConflict, "%s holds %s by OWNER on %s: revoke that", who, c.Perms, c.Object)
	case left == held:
		return own, false, nil
	case held&^left&PermOwner != 0 && own.owners() == 1 && !s.Admin && !s.System:
		return nil, false, refuse(ErrDenied, "%s may not revoke the last OWNER of %s: an admin may", s, c.Object)
	}
	return own.with(c.Principal, left), true, nil
}
