// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// someLists are no list, the empty one, and alice holding each set of permissions.
func someLists() []*Grants {
	lists := []*Grants{nil, {}}
	for p := Perm(1); p <= permAll; p++ {
		lists = append(lists, (*Grants)(nil).with("alice", p))
	}
	return lists
}

func someSubjects() []Subject {
	return []Subject{
		{},
		{Principal: "alice"},
		{Principal: "bob"},
		{Principal: "carol", Admin: true},
		{Principal: "alice", Admin: true},
		{System: true},
	}
}

func someObjects() []Object {
	var objects []Object
	for _, group := range []string{"users", "shop", "atlas"} {
		for _, rest := range []string{"", "/t"} {
			objects = append(objects, Object{Group: group, Kind: KindTable, Rest: []byte(rest)})
		}
		for _, rest := range []string{".x", "/t.x", ".principals.bob", ".principals.", ".principals", ".principalsx", "/principals.bob"} {
			objects = append(objects, Object{Group: group, Kind: KindKey, Rest: []byte(rest)})
		}
	}
	return objects
}

// slowAllowed is the decision once more, from the sentences of the package comment, one after the other.
func slowAllowed(s Subject, v Verb, o Object, l Lists) bool {
	inSystem := o.Group == "atlas"
	may := false
	// While nothing has been granted on a key or its table it is public.
	public := l.Table == nil && (o.Kind == KindTable || l.Key == nil)
	if public {
		may = true
	}
	// The more specific list decides.
	var entries []Entry
	if o.Kind == KindKey && l.Key != nil {
		entries = l.Key.Entries()
	} else if l.Table != nil {
		entries = l.Table.Entries()
	}
	for _, e := range entries {
		if e.Principal != s.Principal || s.Principal == "" {
			continue
		}
		words := e.Perms.String()
		owner := strings.Contains(words, "OWNER")
		switch v {
		case VerbRead:
			may = may || owner || strings.Contains(words, "READ")
		case VerbWrite:
			may = may || owner || strings.Contains(words, "WRITE")
		case VerbGrant:
			may = may || owner
		}
	}
	// Granting on a key is for the OWNER of its table too.
	if v == VerbGrant && l.Table != nil && s.Principal != "" {
		for _, e := range l.Table.Entries() {
			may = may || (e.Principal == s.Principal && e.Perms >= PermOwner)
		}
	}
	// An admin may do all of it everywhere ...
	if s.Admin {
		may = true
	}
	// ... but in group atlas, where reading is for all, granting on its table and on principals for admins, and the rest for nobody.
	if inSystem {
		switch v {
		case VerbRead:
			may = !(o.Kind == KindKey && strings.HasPrefix(string(o.Rest), ".principals."))
		case VerbWrite:
			may = false
		case VerbGrant:
			may = s.Admin && ((o.Kind == KindTable && string(o.Rest) == "") || (o.Kind == KindKey && strings.HasPrefix(string(o.Rest), ".principals.")))
		}
	}
	return may || s.System
}

// TestAllowedMatrix goes through every verb, subject, object and pair of lists there is up to names.
func TestAllowedMatrix(t *testing.T) {
	cells := 0
	for _, s := range someSubjects() {
		for _, v := range []Verb{VerbRead, VerbWrite, VerbGrant} {
			for _, o := range someObjects() {
				for _, own := range someLists() {
					if o.Kind == KindTable && own != nil {
						continue // a table has no key's list
					}
					for _, table := range someLists() {
						l := Lists{Key: own, Table: table}
						cells++
						got, want := Allowed(s, v, o, l), slowAllowed(s, v, o, l)
						if got != want {
							t.Errorf("%v %v %v with key list %v and table list %v: %v, want %v", s, v, o, own.show(), table.show(), got, want)
						}
						err := Check(s, v, o, l)
						if (err == nil) != got || (err != nil && !errors.Is(err, ErrDenied)) {
							t.Errorf("%v %v %v: Check = %v, Allowed = %v", s, v, o, err, got)
						}
					}
				}
			}
		}
	}
	if want := 6 * 3 * 3 * (2*9 + 7*81); cells != want {
		t.Errorf("%d cells tried, want %d", cells, want)
	}
	for _, v := range []Verb{0, VerbGrant + 1, 255} {
		if Allowed(Subject{Principal: "alice"}, v, Object{Group: "users", Kind: KindKey, Rest: []byte(".x")}, Lists{Table: (*Grants)(nil).with("alice", permAll)}) {
			t.Errorf("verb %d that does not exist is allowed", v)
		}
	}
}

func (g *Grants) show() string {
	if g == nil {
		return "none"
	}
	return fmt.Sprint(g.entries)
}

func TestDenialText(t *testing.T) {
	closed := &Grants{}
	for _, c := range []struct {
		s    Subject
		v    Verb
		o    Object
		want string
	}{
		{Subject{Principal: "bob"}, VerbWrite, Object{"users", KindKey, []byte(".alice")}, `principal "bob" may not write users.alice`},
		{Subject{Principal: "bob"}, VerbRead, Object{"shop", KindKey, []byte("/users.1")}, `principal "bob" may not read shop/users.1`},
		{Subject{}, VerbGrant, Object{"shop", KindTable, []byte("/users")}, `principal (none) may not grant on table shop/users`},
		{Subject{Principal: "bob\r\nOK"}, VerbWrite, Object{"users", KindKey, []byte(".\r\nOK")}, `principal "bob\r\nOK" may not write "users.\r\nOK"`},
		{Subject{Principal: "admin", Admin: true}, VerbWrite, Object{"atlas", KindKey, []byte(".nodes.1")}, `table atlas is written by the system only`},
		{Subject{Principal: "admin", Admin: true}, VerbRead, Object{"atlas", KindKey, []byte(".principals.bob")}, `principal "admin" may not read atlas.principals.bob`},
	} {
		if err := Check(c.s, c.v, c.o, Lists{Table: closed}); err == nil || err.Error() != c.want {
			t.Errorf("Check = %v, want %s", err, c.want)
		}
	}
}

func TestIsAdmin(t *testing.T) {
	var none *Grants
	list := none.with("ops", PermOwner).with("reader", PermRead|PermWrite)
	for _, c := range []struct {
		name string
		list *Grants
		want bool
	}{
		{"admin", nil, true},
		{"admin", &Grants{}, true},
		{"ops", list, true},
		{"ops", nil, false},
		{"reader", list, false},
		{"", list, false},
		{"", nil, false},
		{"Admin", list, false},
	} {
		if got := IsAdmin(c.name, c.list); got != c.want {
			t.Errorf("IsAdmin(%q, %v) = %v", c.name, c.list.show(), got)
		}
	}
}

func TestCheckPrincipal(t *testing.T) {
	for _, good := range []string{"a", "alice", "Straße", "a b", strings.Repeat("x", 256), strings.Repeat("\U0001F600", 256)} {
		if err := CheckPrincipal(good); err != nil {
			t.Errorf("CheckPrincipal(%.20q): %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":                                "principal is empty",
		strings.Repeat("x", 257):          "principal of 257 runes exceeds limit 256",
		strings.Repeat("\U0001F600", 257): "principal of 1028 bytes exceeds limit 1024",
		"a\xff":                           "principal is not UTF-8",
		"a\nb":                            "principal holds a control character",
		"a\x00":                           "principal holds a control character",
		"a\u0085":                         "principal holds a control character",
		"a\u2028b":                        "principal holds a control character",
		"\x7f":                            "principal holds a control character",
		"a\u2029b":                        "principal holds a control character",
		strings.Repeat("x", 256) + "\xff": "principal is not UTF-8",
		strings.Repeat("x", 4096) + "xyz": "principal of 4099 bytes exceeds limit 1024",
	} {
		if err := CheckPrincipal(bad); !errors.Is(err, ErrInvalid) || err.Error() != want {
			t.Errorf("CheckPrincipal(%.20q) = %v, want %s", bad, err, want)
		}
	}
}

func TestPermWords(t *testing.T) {
	for p := Perm(0); p <= permAll; p++ {
		var want []string
		for _, one := range []Perm{PermRead, PermWrite, PermOwner} {
			if p&one != 0 {
				want = append(want, one.String())
				if got, err := ParsePerm(strings.ToLower(one.String())); err != nil || got != one {
					t.Errorf("ParsePerm(%s) = %v, %v", one, got, err)
				}
			}
		}
		if p.String() != strings.Join(want, ",") {
			t.Errorf("Perm(%d) = %s", p, p)
		}
	}
	if _, err := ParsePerm("READ\r\nOK"); !errors.Is(err, ErrInvalid) || strings.Contains(err.Error(), "\n") {
		t.Errorf("ParsePerm = %v", err)
	}
}

func TestObjectNames(t *testing.T) {
	names := map[string]Object{}
	for _, o := range someObjects() {
		if o.Group != "users" {
			continue
		}
		name := o.StateName()
		if other, twice := names[name]; twice {
			t.Errorf("%v and %v share the name %q", o, other, name)
		}
		names[name] = o
		for _, table := range []string{"", "/t", "/", "/t/u", "/principals"} {
			under := o.Kind == KindKey && string(o.Table().Rest) == table
			if got := strings.HasPrefix(name, KeyStatePrefix([]byte(table))); got != under {
				t.Errorf("name %q under the keys of table %q: %v", name, table, got)
			}
		}
	}
}
