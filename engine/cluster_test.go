// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"slices"
	"testing"
	"time"

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

// G13: a table of which every row is hidden looks as one without a row, in the lists too: TABLE LIST once named it to those to whom
// TABLE INFO said that there is none, so that it told when a hidden key came and went.
func TestTablesOfHiddenRowsAreHidden(t *testing.T) {
	e := open(t, vfs.NewMem())
	ctx := t.Context()
	alice, bob, admin := as(t, e, "alice"), as(t, e, "bob"), as(t, e, "admin")
	for _, k := range []string{"secret.a", "shop/hidden.a", "shop/mixed.a", "shop/mixed.b"} {
		put(t, alice, k, "v")
	}
	for _, k := range []string{"secret.a", "shop/hidden.a", "shop/mixed.a"} {
		must(t, alice.Grant(ctx, []byte(k), "alice", engine.PermOwner))
	}
	all := []string{"atlas", "secret", "shop/hidden", "shop/mixed"}
	for _, c := range []struct {
		s              *engine.Session
		tables, groups []string
	}{
		{alice, all, []string{"atlas", "secret", "shop"}},
		{bob, []string{"atlas", "shop/mixed"}, []string{"atlas", "shop"}},
		{admin, all, []string{"atlas", "secret", "shop"}},
	} {
		tables, err := c.s.Tables(ctx, "", 10)
		must(t, err)
		groups, err := c.s.Groups(ctx, "", 10)
		must(t, err)
		if !slices.Equal(tables, c.tables) || !slices.Equal(groups, c.groups) {
			t.Errorf("%s sees tables %q and groups %q", c.s.Principal(), tables, groups)
		}
		info, err := c.s.GroupInfo(ctx, "shop")
		must(t, err)
		if want := c.tables[len(c.tables)-len(info.Tables):]; !slices.Equal(info.Tables, want) || len(want) == 0 {
			t.Errorf("%s sees tables %q of the group", c.s.Principal(), info.Tables)
		}
		page, err := c.s.Tables(ctx, "atlas", 1)
		must(t, err)
		if !slices.Equal(page, c.tables[1:2]) {
			t.Errorf("%s sees page %q", c.s.Principal(), page)
		}
	}
}

// G11: a table of which every row has expired is not listed, swept or not.
func TestTablesOfExpiredRows(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now; o.SweepInterval = time.Hour })
	s := trusted(e)
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("brief.a"), TTL: time.Minute})
	must(t, err)
	for _, want := range [][]string{{"atlas", "brief"}, {"atlas"}} {
		tables, err := s.Tables(t.Context(), "", 10)
		must(t, err)
		if !slices.Equal(tables, want) {
			t.Errorf("tables are %q, want %q", tables, want)
		}
		w.add(time.Hour)
	}
}

// G26: a list ends with its context, also within one group, of which a principal may be shown no table.
func TestTablesEndWithTheirContext(t *testing.T) {
	e := open(t, vfs.NewMem())
	alice, bob := as(t, e, "alice"), as(t, e, "bob")
	put(t, alice, "shop/hidden.a", "v")
	must(t, alice.Grant(t.Context(), []byte("shop/hidden.a"), "alice", engine.PermOwner))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := bob.Tables(ended, "shop", 10)
	wantErr(t, err, engine.ErrUnavailable)
	_, err = bob.GroupInfo(ended, "shop")
	wantErr(t, err, engine.ErrUnavailable)
}
