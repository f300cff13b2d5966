// SPDX-License-Identifier: AGPL-3.0-only

package authz

import "testing"

func TestMayAssume(t *testing.T) {
	var none *Grants
	for _, c := range []struct {
		name string
		s    Subject
		row  *Grants
		want bool
	}{
		{"nobody, nothing granted", Subject{}, nil, false},
		{"nobody, an empty name in the list", Subject{}, none.with("", PermWrite), false},
		{"no list is no permission", Subject{Principal: "alice"}, nil, false},
		{"an empty list neither", Subject{Principal: "alice"}, &Grants{}, false},
		{"WRITE", Subject{Principal: "alice"}, none.with("alice", PermWrite), true},
		{"OWNER", Subject{Principal: "alice"}, none.with("alice", PermOwner), true},
		{"READ is not enough", Subject{Principal: "alice"}, none.with("alice", PermRead), false},
		{"another's WRITE", Subject{Principal: "alice"}, none.with("bob", PermWrite), false},
		{"an admin", Subject{Principal: "ops", Admin: true}, nil, true},
		{"the system", Subject{System: true}, nil, true},
	} {
		if got := MayAssume(c.s, c.row); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
