// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/internal/failpoint"
)

// ErrTimeNotAfter is the error of Apply when the view holds a version that is not before the commit time: log and state do
// not belong together, and going on would write history out of order.
var ErrTimeNotAfter = errors.New("stored version is not before the commit time")

// ApplyEncoded is DecodeFrom and Apply. An encoding that cannot be read is refused as invalid: each node finds the same.
func ApplyEncoded(v View, w Writer, at Timestamp, scratch *Command, encoded []byte) (Result, error) {
	if err := scratch.DecodeFrom(encoded); err != nil {
		return Result{Outcome: Invalid, Text: err.Error(), Version: at}, nil
	}
	return Apply(v, w, at, scratch)
}

// Apply decides the command at its commit time and writes its effects, all or none; the package comment has the order.
// An error comes from the view alone: nothing was decided or written, and the node must not go on as if it had been.
// Requires: c passes Validate; at is after every version and change that the view holds.
func Apply(v View, w Writer, at Timestamp, c *Command) (Result, error) {
	a := decision{view: v, group: v.Group(), at: at, c: c}
	if err := a.decide(); err != nil {
		return a.refusal(err)
	}
	return Result{Outcome: Applied, Version: at, Changes: a.write(w)}, nil
}

// decision is the work on one command.
type decision struct {
	view  View
	group string
	at    Timestamp
	c     *Command
	state GroupState // as the view has it; then as it is to become
	lists []newList  // what Grant, Revoke and ResetGrants come to, in their order
	idle  idleSet

	// The lookups made last: a condition and a mutation mostly speak of one key, and the keys of one table.
	latestRest []byte
	latestMeta Meta
	tableRest  []byte
	tableList  *authz.Grants
	tableKnown bool
}

// newList is a list that is to stand on an object.
type newList struct {
	object  authz.Object
	list    *authz.Grants
	changed bool
	added   int // 1 for the first list there, -1 for a list removed
}

// idleSet is the positions of the mutations that have nothing to do.
type idleSet struct {
	first uint64 // the first 64
	more  []bool // nil = none
}

func (s *idleSet) add(i, of int) {
	if i < 64 {
		s.first |= 1 << i
		return
	}
	if s.more == nil {
		s.more = make([]bool, of)
	}
	s.more[i] = true
}

func (s *idleSet) has(i int) bool {
	if i < 64 {
		return s.first&(1<<i) != 0
	}
	return s.more != nil && s.more[i]
}

// conflict is a refusal of a condition or a read set.
type conflict struct {
	text  string
	found Timestamp
}

func (c *conflict) Error() string { return c.text }

func conflictf(format string, args ...any) error {
	return &conflict{text: fmt.Sprintf(format, args...)}
}

// refusal turns an error of decide into the result that it stands for; any other error is the view's.
func (a *decision) refusal(err error) (Result, error) {
	r := Result{Text: err.Error(), Version: a.at}
	switch e := err.(type) { // by type and not errors.As: no refusal is wrapped here, and what a view wraps is not one
	case *conflict:
		r.Outcome, r.Found = Conflict, e.found
	case *InvalidError:
		r.Outcome = Invalid
	case *authz.Refusal:
		switch e.Class {
		case authz.ErrDenied:
			r.Outcome = Denied
		case authz.ErrConflict:
			r.Outcome = Conflict
		default:
			r.Outcome = Invalid
		}
	default:
		return Result{}, fmt.Errorf("decide command of group %s at %d: %w", key.Text([]byte(a.group)), a.at, err)
	}
	return r, nil
}

// decide is every check. It writes nothing but the decision's own fields.
func (a *decision) decide() error {
	var err error
	if a.state, err = a.view.State(); err != nil {
		return err
	}
	worms := a.state.WormUntilMax > a.at && !failpoint.Enabled(failpoint.CommandSkipWorm)
	for i := range a.c.Mutations {
		if err := a.authorise(&a.c.Mutations[i]); err != nil {
			return err
		}
	}
	for i := range a.c.Conditions {
		if err := a.check(authz.VerbRead, a.c.Conditions[i].Rest); err != nil {
			return err
		}
	}
	for i := range a.c.Mutations {
		if err := a.checkTimes(&a.c.Mutations[i]); err != nil {
			return err
		}
	}
	if worms {
		for i := range a.c.Mutations {
			if err := a.checkWorm(&a.c.Mutations[i]); err != nil {
				return err
			}
		}
	}
	for i := range a.c.Conditions {
		if err := a.checkCondition(&a.c.Conditions[i]); err != nil {
			return err
		}
	}
	if a.c.Reads != nil && !failpoint.Enabled(failpoint.CommandSkipReadSet) {
		if err := a.checkReads(a.c.Reads); err != nil {
			return err
		}
	}
	return a.findIdle()
}

func (a *decision) subject() authz.Subject {
	return authz.Subject{Principal: a.c.Principal, Admin: a.c.Admin, System: a.c.System}
}

// authorise decides by the grants as they stood before the command, also those that the command itself changes.
func (a *decision) authorise(m *Mutation) error {
	switch m.Kind {
	case Put, Delete:
		return a.check(authz.VerbWrite, m.Rest)
	case Expire:
		if !a.c.System {
			return invalid("only the system expires keys")
		}
		return nil
	default:
		return a.changeGrants(m)
	}
}

// check is the decision on a key.
func (a *decision) check(v authz.Verb, rest []byte) error {
	o := authz.Object{Group: a.group, Kind: authz.KindKey, Rest: rest}
	lists, err := a.listsOn(o)
	if err != nil {
		return err
	}
	return authz.Check(a.subject(), v, o, lists)
}

// listsOn looks up what bears on an object, and nothing that the group's state says is not there.
func (a *decision) listsOn(o authz.Object) (l authz.Lists, err error) {
	if o.Kind == authz.KindKey && a.state.KeyLists > 0 && !failpoint.Enabled(failpoint.CommandForgetKeyGrants) {
		if l.Key, err = a.view.Grants(o); err != nil {
			return l, err
		}
	}
	if a.state.TableLists == 0 {
		return l, nil
	}
	table := o.Table()
	if !a.tableKnown || !bytes.Equal(table.Rest, a.tableRest) {
		if a.tableList, err = a.view.Grants(table); err != nil {
			return l, err
		}
		a.tableRest, a.tableKnown = table.Rest, true
	}
	l.Table = a.tableList
	return l, nil
}

func (a *decision) changeGrants(m *Mutation) error {
	change := m.change(a.group)
	lists, err := a.listsOn(change.Object)
	if err != nil {
		return err
	}
	keyLists := false
	if m.Kind == Grant && m.Object == authz.KindTable && lists.Table == nil && a.state.KeyLists > 0 {
		err := a.view.EachKeyList(m.Rest, func([]byte) bool { keyLists = true; return false })
		if err != nil {
			return err
		}
	}
	next, changed, err := authz.ChangeGrants(a.subject(), change, lists, keyLists)
	if err != nil {
		return err
	}
	n := newList{object: change.Object, list: next, changed: changed}
	if changed && next == nil {
		n.added = -1
	} else if changed && lists.On(change.Object) == nil {
		n.added = 1
	}
	a.lists = append(a.lists, n)
	return nil
}

// change is the mutation as authz has it. Requires: Grant, Revoke or ResetGrants.
func (m *Mutation) change(group string) authz.Change {
	op := authz.OpReset
	switch m.Kind {
	case Grant:
		op = authz.OpGrant
	case Revoke:
		op = authz.OpRevoke
	}
	return authz.Change{
		Op: op, Object: authz.Object{Group: group, Kind: m.Object, Rest: m.Rest}, Principal: m.Principal, Perms: m.Perms,
	}
}

// ends are the absolute times of a put at a commit time: 0 = none.
func (m *Mutation) ends(at Timestamp) (expires, worm Timestamp) {
	expires, worm = m.Expires, m.WormUntil
	if m.TTL != 0 {
		expires = at + Timestamp(m.TTL)
	}
	if m.WormTTL != 0 {
		worm = at + Timestamp(m.WormTTL)
	}
	return expires, worm
}

func (a *decision) checkTimes(m *Mutation) error {
	if m.Kind != Put {
		return nil
	}
	expires, worm := m.ends(a.at)
	switch {
	case expires == 0 && worm == 0:
		return nil
	case expires > TimestampMax || worm > TimestampMax:
		return invalid("time lies after the year 2262")
	case expires != 0 && expires <= a.at:
		return invalid("expiry %s of %s is not after the commit time", showTime(expires), a.show(m.Rest))
	case worm != 0 && worm <= a.at:
		return invalid("WORM end %s of %s is not after the commit time", showTime(worm), a.show(m.Rest))
	case expires != 0 && expires < worm:
		return invalid("%s would expire at %s, before its WORM end %s", a.show(m.Rest), showTime(expires), showTime(worm))
	}
	return nil
}

func (a *decision) checkWorm(m *Mutation) error {
	if m.Kind != Put && m.Kind != Delete {
		return nil
	}
	meta, err := a.latest(m.Rest)
	if err != nil {
		return err
	}
	if !meta.Deleted && meta.WormUntil > a.at {
		return &authz.Refusal{Class: authz.ErrDenied, Text: fmt.Sprintf("%s is write-once until %s", a.show(m.Rest), showTime(meta.WormUntil))}
	}
	return nil
}

func (a *decision) checkCondition(c *Condition) error {
	meta, err := a.latest(c.Rest)
	if err != nil {
		return err
	}
	var found Timestamp
	if meta.LiveAt(a.at) {
		found = meta.Version
	}
	switch {
	case found == c.Version: // Absent has Version 0
		return nil
	case found == 0:
		return &conflict{text: fmt.Sprintf("%s is absent, not at version %d", a.show(c.Rest), c.Version)}
	case c.Version == 0:
		return &conflict{text: fmt.Sprintf("%s is at version %d, not absent", a.show(c.Rest), found), found: found}
	}
	return &conflict{text: fmt.Sprintf("%s is at version %d, not %d", a.show(c.Rest), found, c.Version), found: found}
}

// latest looks a key up, once if the same is asked again.
func (a *decision) latest(rest []byte) (Meta, error) {
	if a.latestRest != nil && bytes.Equal(rest, a.latestRest) {
		return a.latestMeta, nil
	}
	meta, err := a.view.Latest(rest)
	if err != nil {
		return Meta{}, err
	}
	if meta.Version >= a.at {
		return Meta{}, fmt.Errorf("%w: %s at %d, commit time %d", ErrTimeNotAfter, a.show(rest), meta.Version, a.at)
	}
	a.latestRest, a.latestMeta = rest, meta
	return meta, nil
}

// findIdle marks the mutations that have nothing to do. It is part of deciding because it reads.
func (a *decision) findIdle() error {
	for i := range a.c.Mutations {
		m := &a.c.Mutations[i]
		if m.Kind != Delete && m.Kind != Expire {
			continue
		}
		meta, err := a.latest(m.Rest)
		if err != nil {
			return err
		}
		live := meta.LiveAt(a.at)
		if m.Kind == Expire {
			// The sweeper looked at some earlier moment: what became of the key since then is no reason to refuse the others.
			live = meta.Version == m.Version && m.Version != 0 && !meta.Deleted && !live && meta.WormUntil <= a.at
		}
		if !live {
			a.idle.add(i, len(a.c.Mutations))
		}
	}
	return nil
}

// write is what follows a decision to apply: it cannot fail. It returns the number of changes.
func (a *decision) write(w Writer) int {
	var seq uint32
	lists := 0
	state := a.state
	next := a.lists
	for i := range a.c.Mutations {
		m := &a.c.Mutations[i]
		switch m.Kind {
		case Put:
			expires, worm := m.ends(a.at)
			w.Put(m.Rest, a.at, seq, Version{Value: m.Value, Expires: expires, WormUntil: worm})
			state.coverWorm(worm)
			seq++
		case Delete, Expire:
			if a.idle.has(i) {
				continue
			}
			kind := ChangeDelete
			if m.Kind == Expire {
				kind = ChangeExpire
			}
			w.Delete(m.Rest, a.at, seq, kind)
			seq++
		default:
			if next[0].changed {
				w.SetGrants(next[0].object, next[0].list)
				state.countList(m.Object, next[0].added, a.at)
				lists++
			}
			next = next[1:]
		}
	}
	if state != a.state {
		w.SetState(state)
	}
	return int(seq) + lists
}

func (a *decision) show(rest []byte) string { return showKey(a.group, rest) }

func showKey(group string, rest []byte) string { return key.Text(key.FromParts(group, rest)) }

func showTime(t Timestamp) string { return time.Unix(0, int64(t)).UTC().Format(time.RFC3339Nano) }
