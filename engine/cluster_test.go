// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// G13: TestHiddenTablesHaveNoGroup: a group is often named as its table, so that who may not read any table of it is not told of the group
// either; and a table that may not be read looks as one that is not there.
func TestHiddenTablesHaveNoGroup(t *testing.T) {
	e := open(t, vfs.NewMem())
	alice, bob, admin := trusted(e), trusted(e), trusted(e)
	ctx := t.Context()
	for s, name := range map[*engine.Session]string{alice: "alice", bob: "bob", admin: "admin"} {
		must(t, s.Assume(ctx, name))
	}
	for _, k := range []string{"secret.a", "shop/hidden.a", "shop/users.a", "open.a"} {
		put(t, alice, k, "v")
	}
	for _, table := range []string{"secret", "shop/hidden"} {
		must(t, alice.Grant(ctx, []byte(table), "alice", engine.PermRead))
	}
	for _, c := range []struct {
		s      *engine.Session
		groups []string
		sees   bool
	}{
		{alice, []string{"atlas", "open", "secret", "shop"}, true},
		{bob, []string{"atlas", "open", "shop"}, false},
		{admin, []string{"atlas", "open", "secret", "shop"}, true},
	} {
		groups, err := c.s.Groups(ctx, "", 10)
		must(t, err)
		if !slices.Equal(groups, c.groups) {
			t.Errorf("%s sees groups %q", c.s.Principal(), groups)
		}
		_, group := c.s.GroupInfo(ctx, "secret")
		_, table := c.s.TableInfo(ctx, "shop/hidden")
		for _, err := range []error{group, table} {
			if c.sees {
				must(t, err)
			} else {
				wantErr(t, err, engine.ErrNotFound)
			}
		}
		_, err = c.s.TableInfo(ctx, "shop/none")
		wantErr(t, err, engine.ErrNotFound)
		_, err = c.s.GroupInfo(ctx, "shop")
		must(t, err)
	}
}
