// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestChangeGrantsStories are the rules of the package comment, one by one.
func TestChangeGrantsStories(t *testing.T) {
	var none *Grants
	alice, bob, anon, admin := Subject{Principal: "alice"}, Subject{Principal: "bob"}, Subject{}, Subject{Principal: "admin", Admin: true}
	row := Object{"users", KindKey, []byte(".alice")}
	table := Object{"users", KindTable, nil}
	system := Object{"atlas", KindTable, nil}
	bobsRow := Object{"atlas", KindKey, []byte(".principals.bob")}
	give := func(o Object, to string, p Perm) Change { return Change{OpGrant, o, to, p} }
	take := func(o Object, from string, p Perm) Change { return Change{OpRevoke, o, from, p} }
	aliceOwns := none.with("alice", PermOwner)
	for _, c := range []struct {
		name     string
		s        Subject
		c        Change
		l        Lists
		keyLists bool
		want     *Grants
		refused  error
		text     string
	}{
		{name: "the first grant makes its maker owner", s: alice, c: give(row, "bob", PermRead), want: none.with("alice", PermOwner).with("bob", PermRead)},
		{name: "a first grant to oneself", s: alice, c: give(row, "alice", PermRead), want: none.with("alice", PermRead|PermOwner)},
		{name: "a first grant without a principal may name an owner", s: anon, c: give(row, "bob", PermOwner), want: none.with("bob", PermOwner)},
		{
			name: "and nothing less", s: anon, c: give(row, "bob", PermRead), refused: ErrDenied,
			text: "the first grant on users.alice without a principal must name an OWNER",
		},
		{name: "an admin stays outside", s: admin, c: give(row, "bob", PermRead), want: none.with("bob", PermRead)},
		{
			name: "a table whose keys have owners cannot be taken", s: bob, c: give(table, "bob", PermOwner), keyLists: true, refused: ErrDenied,
			text: `principal "bob" may not take table users, keys of which have grants of their own: an admin may`,
		},
		{name: "but by an admin", s: admin, c: give(table, "bob", PermOwner), keyLists: true, want: none.with("bob", PermOwner)},
		{name: "a key's lists do not matter to a key", s: bob, c: give(row, "bob", PermRead), keyLists: true, want: none.with("bob", PermRead|PermOwner)},
		{name: "owners grant", s: alice, c: give(row, "bob", PermWrite), l: Lists{Key: aliceOwns}, want: aliceOwns.with("bob", PermWrite)},
		{
			name: "writers do not", s: bob, c: give(row, "bob", PermOwner), l: Lists{Key: aliceOwns.with("bob", PermRead|PermWrite)}, refused: ErrDenied,
			text: `principal "bob" may not grant on users.alice`,
		},
		{name: "nor does nobody", s: anon, c: give(row, "bob", PermOwner), l: Lists{Key: aliceOwns}, refused: ErrDenied, text: `principal (none) may not grant on users.alice`},
		{name: "a table's owner grants on its keys", s: alice, c: give(row, "bob", PermRead), l: Lists{Key: none.with("carol", PermOwner), Table: aliceOwns}, want: none.with("bob", PermRead).with("carol", PermOwner)},
		{name: "and owns a key on whose list it begins", s: alice, c: give(row, "bob", PermRead), l: Lists{Table: aliceOwns}, want: none.with("alice", PermOwner).with("bob", PermRead)},
		{name: "a key's owner does not grant on the table", s: bob, c: give(table, "bob", PermRead), l: Lists{Key: none.with("bob", PermOwner), Table: aliceOwns}, refused: ErrDenied, text: `principal "bob" may not grant on table users`},
		{name: "a closed object stays closed", s: alice, c: give(row, "alice", PermOwner), l: Lists{Key: &Grants{}}, refused: ErrDenied, text: `principal "alice" may not grant on users.alice`},
		{name: "a revoke", s: alice, c: take(row, "bob", PermRead), l: Lists{Key: aliceOwns.with("bob", PermRead|PermWrite)}, want: aliceOwns.with("bob", PermWrite)},
		{name: "a revoke that empties an entry", s: alice, c: take(row, "bob", PermRead), l: Lists{Key: aliceOwns.with("bob", PermRead)}, want: aliceOwns},
		{
			name: "the last owner stays", s: alice, c: take(row, "alice", PermOwner), l: Lists{Key: aliceOwns.with("bob", PermRead)}, refused: ErrDenied,
			text: `principal "alice" may not revoke the last OWNER of users.alice: an admin may`,
		},
		{name: "one of two owners goes", s: alice, c: take(row, "alice", PermOwner), l: Lists{Key: aliceOwns.with("bob", PermOwner)}, want: none.with("bob", PermOwner)},
		{name: "an admin revokes the last owner, and the list stays", s: admin, c: take(row, "alice", PermOwner), l: Lists{Key: aliceOwns}, want: &Grants{}},
		{
			name: "what OWNER implies is not revoked alone", s: alice, c: take(row, "alice", PermRead), l: Lists{Key: aliceOwns.with("alice", PermRead|PermOwner)}, refused: ErrConflict,
			text: `principal "alice" holds READ by OWNER on users.alice: revoke that`,
		},
		{name: "nor on a public object", s: alice, c: take(row, "bob", PermRead), refused: ErrConflict, text: `nothing is granted on users.alice: it is public`},
		{name: "nor on a public table", s: alice, c: take(table, "bob", PermRead), refused: ErrConflict, text: `nothing is granted on table users: it is public`},
		{
			name: "nor what the table gives", s: alice, c: take(row, "bob", PermRead), l: Lists{Table: aliceOwns.with("bob", PermRead)}, refused: ErrConflict,
			text: `principal "bob" holds READ by the grants on table users`,
		},
		{name: "what is not held is revoked already", s: alice, c: take(row, "bob", PermRead), l: Lists{Key: aliceOwns}, want: aliceOwns},
		{name: "there too where only the table has a list", s: alice, c: take(row, "bob", PermRead), l: Lists{Table: aliceOwns}, want: nil},
		{name: "a reset by an admin", s: admin, c: Change{Op: OpReset, Object: row}, l: Lists{Key: &Grants{}}, want: nil},
		{name: "a reset by an owner", s: alice, c: Change{Op: OpReset, Object: row}, l: Lists{Key: aliceOwns}, refused: ErrDenied, text: `principal "alice" may not reset the grants on users.alice`},
		{name: "an admin makes admins", s: admin, c: give(system, "ops", PermOwner), want: none.with("ops", PermOwner)},
		{name: "nobody else does", s: alice, c: give(system, "alice", PermOwner), refused: ErrDenied, text: `principal "alice" may not grant on table atlas`},
		{name: "by no other grant", s: admin, c: give(system, "ops", PermRead), refused: ErrInvalid, text: "table atlas takes only OWNER, which makes an admin"},
		{name: "and on no other object", s: admin, c: give(Object{"atlas", KindKey, []byte(".nodes.1")}, "ops", PermOwner), refused: ErrInvalid, text: "grants in group atlas stand on its table atlas and on the rows of principals alone"},
		{name: "an admin lets one principal assume another", s: admin, c: give(bobsRow, "alice", PermWrite), l: Lists{Table: aliceOwns}, want: none.with("alice", PermWrite)},
		{name: "not that other itself", s: bob, c: give(bobsRow, "alice", PermWrite), refused: ErrDenied, text: `principal "bob" may not grant on atlas.principals.bob`},
		{name: "and by WRITE alone", s: admin, c: give(bobsRow, "alice", PermOwner), refused: ErrInvalid, text: "the row of a principal takes only WRITE, which lets another assume it"},
		{name: "a principal is never public", s: admin, c: take(bobsRow, "alice", PermWrite), want: nil},
		{name: "whoever owns the table", s: admin, c: take(bobsRow, "alice", PermWrite), l: Lists{Table: aliceOwns}, want: nil},
		{name: "nobody may assume it any more", s: admin, c: take(bobsRow, "alice", PermWrite), l: Lists{Key: none.with("alice", PermWrite)}, want: &Grants{}},
		{name: "nobody gains", s: alice, c: give(row, "", PermRead), refused: ErrInvalid, text: "principal is empty"},
		{name: "nothing is granted", s: alice, c: give(row, "bob", 0), refused: ErrInvalid, text: "permissions 0x0 of a grant"},
		{name: "a permission that is none", s: alice, c: give(row, "bob", 8), refused: ErrInvalid, text: "permissions 0x8 of a grant"},
		{name: "an object that is none", s: alice, c: give(Object{"users", 0, nil}, "bob", 1), refused: ErrInvalid, text: "object of a grant is neither a table nor a key"},
		{name: "a change that is none", s: alice, c: Change{Op: 9, Object: row}, refused: ErrInvalid, text: "unknown change 9 of grants"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := c.l
			got, changed, err := ChangeGrants(c.s, c.c, c.l, c.keyLists)
			if c.refused != nil {
				if !errors.Is(err, c.refused) || err.Error() != c.text || changed || got != nil {
					t.Fatalf("%v (changed %v), %v; want %s", got.show(), changed, err, c.text)
				}
				return
			}
			if err != nil || !same(got, c.want) {
				t.Fatalf("%v, %v; want %v", got.show(), err, c.want.show())
			}
			if changed != !same(got, before.On(c.c.Object)) {
				t.Fatalf("changed = %v from %v to %v", changed, before.On(c.c.Object).show(), got.show())
			}
		})
	}
}

func same(a, b *Grants) bool {
	return (a == nil) == (b == nil) && slices.Equal(a.Entries(), b.Entries())
}

func TestGrantsMax(t *testing.T) {
	list := &Grants{}
	for i := range GrantsMax {
		list.entries = append(list.entries, Entry{Principal: "p" + string(rune('0'+i/100)) + string(rune('0'+i/10%10)) + string(rune('0'+i%10)), Perms: PermOwner})
	}
	slices.SortFunc(list.entries, func(a, b Entry) int {
		if a.Principal < b.Principal {
			return -1
		}
		return 1
	})
	o := Object{"users", KindTable, nil}
	s := Subject{Principal: list.entries[0].Principal}
	if _, _, err := ChangeGrants(s, Change{OpGrant, o, "zed", PermRead}, Lists{Table: list}, false); !errors.Is(err, ErrInvalid) {
		t.Errorf("one past the limit: %v", err)
	}
	if _, _, err := ChangeGrants(s, Change{OpGrant, o, s.Principal, PermRead}, Lists{Table: list}, false); err != nil {
		t.Errorf("at the limit: %v", err)
	}
}

// world is the lists of one table and its keys, changed by what ChangeGrants decides.
type world struct {
	lists map[string]*Grants
}

func (w *world) on(o Object) Lists {
	l := Lists{Table: w.lists[o.Table().StateName()]}
	if o.Kind == KindKey {
		l.Key = w.lists[o.StateName()]
	}
	return l
}

func (w *world) keyLists() bool {
	for name, g := range w.lists {
		if g != nil && name[0] == 'k' {
			return true
		}
	}
	return false
}

// TestNoTakeover changes grants at random, by principals of whom none is an admin, and watches what must never happen.
func TestNoTakeover(t *testing.T) {
	objects := []Object{{"g", KindTable, nil}, {"g", KindKey, []byte(".x")}, {"g", KindKey, []byte(".y")}}
	names := []string{"", "alice", "bob", "carol"}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{lists: map[string]*Grants{}}
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			s := Subject{Principal: rapid.SampledFrom(names).Draw(t, "subject"), Admin: rapid.IntRange(0, 9).Draw(t, "admin") == 0}
			c := Change{
				Op: rapid.SampledFrom([]Op{OpGrant, OpGrant, OpRevoke, OpReset}).Draw(t, "op"), Object: rapid.SampledFrom(objects).Draw(t, "object"),
				Principal: rapid.SampledFrom(names[1:]).Draw(t, "to"), Perms: Perm(rapid.IntRange(1, int(permAll)).Draw(t, "perms")),
			}
			before := snapshotOf(w, objects, names)
			l := w.on(c.Object)
			next, changed, err := ChangeGrants(s, c, l, w.keyLists())
			if err != nil {
				continue
			}
			if changed {
				w.lists[c.Object.StateName()] = next
			}
			checkChange(t, w, s, c, l, next, before, objects, names)
		}
	})
}

type access struct {
	object, name string
	verb         Verb
}

func snapshotOf(w *world, objects []Object, names []string) map[access]bool {
	m := map[access]bool{}
	for _, o := range objects {
		for _, n := range names {
			for _, v := range []Verb{VerbRead, VerbWrite, VerbGrant} {
				m[access{o.StateName(), n, v}] = Allowed(Subject{Principal: n}, v, o, w.on(o))
			}
		}
	}
	return m
}

func checkChange(t *rapid.T, w *world, s Subject, c Change, l Lists, next *Grants, before map[access]bool, objects []Object, names []string) {
	after := snapshotOf(w, objects, names)
	for _, o := range objects {
		for _, n := range names {
			for _, v := range []Verb{VerbRead, VerbWrite, VerbGrant} {
				at := access{o.StateName(), n, v}
				if after[at] && !before[at] && !s.Admin && !before[access{o.StateName(), s.Principal, VerbGrant}] {
					t.Fatalf("%v gained %v on %v through %v, who may not grant there: %+v", n, v, o, s, c)
				}
			}
		}
	}
	who := Subject{Principal: c.Principal}
	switch c.Op {
	case OpGrant:
		if next.Perms(c.Principal)&c.Perms != c.Perms {
			t.Fatalf("%v was granted %v and holds %v", who, c.Perms, next.Perms(c.Principal))
		}
		if !s.Admin && l.On(c.Object) == nil && next.owners() == 0 {
			t.Fatalf("%v left %v without an owner", s, c.Object)
		}
	case OpRevoke:
		now := w.on(c.Object)
		for p, v := range map[Perm]Verb{PermRead: VerbRead, PermWrite: VerbWrite} {
			if c.Perms&p != 0 && Allowed(who, v, c.Object, now) {
				t.Fatalf("%v lost %v on %v and may still %v", who, c.Perms, c.Object, v)
			}
		}
	case OpReset:
		if !s.Admin {
			t.Fatalf("%v reset %v", s, c.Object)
		}
	}
	if own := l.On(c.Object); own != nil && !s.Admin {
		if next == nil {
			t.Fatalf("%v opened %v to the public", s, c.Object)
		}
		if own.owners() > 0 && next.owners() == 0 {
			t.Fatalf("%v left %v without an owner", s, c.Object)
		}
	}
}
