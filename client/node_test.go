// SPDX-License-Identifier: AGPL-3.0-only

package client_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/internal/realnode"
)

// realNode is a client of a real node.
func realNode(t *testing.T) *client.Client {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{Address: realnode.Start(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Against the real server every kind of value and key comes back as it was written, in every way there is to read it.
func TestNodeValues(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	values := map[string][]byte{
		"t.text": []byte("hello world"), "t.blanks": []byte("  two  "), "t.empty": {}, "t.word": []byte("VALUE PRINCIPAL x"),
		"t.binary": []byte("a\r\nOK\r\n\x00"), "t.unicode": []byte("漢字 ä"), "t.invalid": []byte("\xff\xfe"), "t.tab": []byte("\tx\t"),
		"t.separator": []byte("a\u2028b\ufeff"), "t.blank key": []byte("v"), "t.\xff\x00\r\nOK": []byte("odd"), `t."\`: []byte("quotes"),
		"t.large": bytes.Repeat([]byte("x"), 300<<10), "t.largebinary": bytes.Repeat([]byte{0, '\n'}, 200<<10),
	}
	for key, value := range values {
		version, err := c.Put(ctx, key, value)
		if err != nil {
			t.Fatalf("put %q: %v", key, err)
		}
		got, err := c.Get(ctx, key)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("get %q: %d bytes, %v", key, len(got), err)
		}
		item, err := c.GetVersion(ctx, key)
		if err != nil || !bytes.Equal(item.Value, value) || item.Version != version {
			t.Errorf("get version %q: %d bytes at %d, put at %d, %v", key, len(item.Value), item.Version, version, err)
		}
	}
	for _, o := range []client.ScanOptions{{Values: true}, {Values: true, PageRows: 3}, {Values: true, PageRows: 4, Reverse: true}, {Values: true, PageRows: -1}} {
		rows := 0
		for row, err := range c.Scan(ctx, "t", o) {
			if err != nil || !bytes.Equal(row.Value, values[row.Key]) {
				t.Fatalf("%+v: row %q of %d bytes, %v", o, row.Key, len(row.Value), err)
			}
			rows++
		}
		if rows != len(values) {
			t.Errorf("%+v: %d rows", o, rows)
		}
	}
	if n, err := c.Count(ctx, "t"); err != nil || n != int64(len(values)) {
		t.Errorf("count %d, %v", n, err)
	}
	if keys, err := c.Sample(ctx, "t", 5); err != nil || len(keys) != 5 {
		t.Errorf("sample %q, %v", keys, err)
	}
	big := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	version, err := c.PutBlob(ctx, "t.big", bytes.NewReader(big), int64(len(big)))
	if err != nil || version == 0 {
		t.Fatalf("version %d, %v", version, err)
	}
	b, err := c.GetBlob(ctx, "t.big")
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, big) {
		t.Errorf("blob of %d bytes, %v", len(got), err)
	}
}

func TestNodeConditions(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	if _, err := c.Get(ctx, "t.none"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	for _, value := range []string{"text", "bin\x00ary"} {
		key := "t." + value[:3]
		v, err := c.Write(ctx, client.WriteRequest{Key: key, Value: []byte(value), IfAbsent: true, TTL: time.Hour, Principal: "alice"})
		if err != nil || v == 0 {
			t.Fatalf("%q: version %d, %v", value, v, err)
		}
		if _, err := c.Write(ctx, client.WriteRequest{Key: key, Value: []byte(value), IfAbsent: true}); !errors.Is(err, client.ErrConflict) {
			t.Errorf("if absent: %v", err)
		}
		other := v + 1
		if _, err := c.Write(ctx, client.WriteRequest{Key: key, Value: []byte(value), IfVersion: &other}); !errors.Is(err, client.ErrConflict) {
			t.Errorf("if version: %v", err)
		}
		if err := c.DeleteIf(ctx, key, other); !errors.Is(err, client.ErrConflict) {
			t.Errorf("delete if: %v", err)
		}
		if err := c.DeleteIf(ctx, key, v); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Write(ctx, client.WriteRequest{Key: "t.worm", Value: []byte("1"), WormTTL: time.Hour}); err != nil {
		t.Error(err)
	}
	if _, err := c.Write(ctx, client.WriteRequest{Key: "t.worm2", Value: []byte("1"), WormUntil: time.Now().Add(time.Hour)}); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "t.worm"); !errors.Is(err, client.ErrDenied) {
		t.Errorf("delete of a write-once key: %v", err)
	}
	if _, err := c.Write(ctx, client.WriteRequest{Key: "t.ttl", Value: []byte("1"), TTL: 1500 * time.Microsecond}); err != nil {
		t.Error(err)
	}
}

// What a value's ends are is read as it was written, to the nanosecond.
func TestNodeMeta(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	expires, until := time.Date(2100, 1, 31, 0, 0, 0, 123456789, time.UTC), time.Date(2099, 1, 31, 0, 0, 0, 0, time.UTC)
	want := map[string]client.Meta{}
	for _, r := range []client.WriteRequest{
		{Key: "t.plain", Value: []byte("text")},
		{Key: "t.ends", Value: []byte("bin\x00ary"), Expires: expires, WormUntil: until},
		{Key: "t.large", Value: bytes.Repeat([]byte("x"), 100<<10), Expires: expires.In(time.FixedZone("", 3600))},
		{Key: "t.empty", WormUntil: until},
	} {
		version, err := c.Write(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		m := client.Meta{Version: version, Size: int64(len(r.Value)), WormUntil: r.WormUntil}
		if !r.Expires.IsZero() {
			m.Expires = expires
		}
		if got, err := c.Meta(ctx, r.Key); err != nil || version != 0 && got != m {
			t.Errorf("%s: %+v, %v; want %+v", r.Key, got, err, m)
		} else {
			m.Version = got.Version
		}
		want[r.Key] = m
	}
	if _, err := c.Meta(ctx, "t.none"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := c.Write(ctx, client.WriteRequest{Key: "t.x", TTL: time.Hour, Expires: expires}); !errors.Is(err, client.ErrInvalid) {
		t.Errorf("two ends: %v", err)
	}
	x, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Write(ctx, client.WriteRequest{Key: "t.txn", Value: []byte("own"), Expires: expires}); err != nil {
		t.Error(err)
	}
	if got, err := x.Meta(ctx, "t.txn"); err != nil || got != (client.Meta{Size: 3}) {
		t.Errorf("a transaction's own: %+v, %v", got, err)
	}
	version, err := x.Commit(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want["t.txn"] = client.Meta{Version: version, Size: 3, Expires: expires}
	s, err := c.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, o := range []client.ScanOptions{{}, {Values: true}, {Values: true, StreamMin: 1}, {PageRows: 2}, {Reverse: true}} {
		o.Meta = true
		for name, rows := range map[string]iter.Seq2[client.Row, error]{"client": c.Scan(ctx, "t", o), "session": s.Scan(ctx, "t", o)} {
			seen := 0
			for row, err := range rows {
				if err != nil || row.Meta != want[row.Key] || row.Size != row.Meta.Size {
					t.Fatalf("%s %+v: %s is %+v, %v; want %+v", name, o, row.Key, row.Meta, err, want[row.Key])
				}
				seen++
			}
			if seen != len(want) {
				t.Errorf("%s %+v: %d rows", name, o, seen)
			}
		}
	}
}

func TestNodeGrants(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	if err := c.Assume(ctx, "admin"); err != nil {
		t.Fatal(err)
	}
	want := []client.Grant{
		{Object: "t", Principal: "alice", Perm: client.Read},
		{Object: "t", Principal: "alice", Perm: client.Write},
		{Object: "t", Principal: "bob", Perm: client.Owner},
		{Object: "t.closed"},
		{Object: "t.odd key\n", Principal: "alice", Perm: client.Read},
	}
	for _, g := range want {
		if g.Principal != "" {
			if err := c.Grant(ctx, g.Object, g.Principal, g.Perm); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(c.Grant(ctx, "t.closed", "x", client.Read), c.Revoke(ctx, "t.closed", "x", client.Read)); err != nil {
		t.Fatal(err)
	}
	for _, most := range []int{1, len(want)} { // one who stops gives the connection back
		var got []client.Grant
		for g, err := range c.Grants(ctx, "t") {
			if err != nil {
				t.Fatal(err)
			}
			if got = append(got, g); len(got) == most {
				break
			}
		}
		if !slices.Equal(got, want[:most]) {
			t.Errorf("got %+v", got)
		}
	}
	if err := c.Assume(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	for g, err := range c.Grants(ctx, "t") {
		t.Errorf("alice sees %+v, %v", g, err)
	}
	for g, err := range c.Grants(ctx, "") {
		if !errors.Is(err, client.ErrInvalid) {
			t.Errorf("no prefix: %+v, %v", g, err)
		}
	}
}

func TestNodeTransactions(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	version, err := c.Transact(ctx, 3, func(x *client.Txn) error {
		if _, err := x.Put(ctx, "t.1", []byte("a")); err != nil {
			return err
		}
		if _, err := x.Put(ctx, "t.2", []byte("b\n")); err != nil {
			return err
		}
		rows := 0
		for _, err := range x.Scan(ctx, "t", client.ScanOptions{Values: true, PageRows: 1}) {
			if err != nil {
				return err
			}
			rows++
		}
		if rows != 2 {
			t.Errorf("the transaction sees %d rows", rows)
		}
		return nil
	})
	if err != nil || version == 0 {
		t.Fatalf("version %d, %v", version, err)
	}
	x, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.Get(ctx, "t.1"); err != nil {
		t.Error(err)
	}
	if _, err := c.Put(ctx, "t.1", []byte("other")); err != nil {
		t.Error(err)
	}
	if _, err := x.Put(ctx, "t.1", []byte("mine")); err != nil {
		t.Error(err)
	}
	if _, err := x.Commit(ctx); !errors.Is(err, client.ErrConflict) {
		t.Errorf("commit over another's write: %v", err)
	}
	if v, err := c.Get(ctx, "t.1"); err != nil || string(v) != "other" {
		t.Errorf("%q, %v", v, err)
	}
}

func TestNodeWatch(t *testing.T) {
	c := realNode(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first, err := c.Put(ctx, "t.first", []byte("x"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if _, err := c.Put(ctx, fmt.Sprintf("t.%d", i), []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Delete(ctx, "t.0"); err != nil {
		t.Fatal(err)
	}
	var got []string
	for e, err := range c.Watch(ctx, "t", client.WatchOptions{After: &first}) {
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			break
		}
		got = append(got, string(e.Kind)+" "+e.Key)
		if len(got) == 6 {
			if _, err := c.Put(ctx, "t.odd key", []byte("x")); err != nil {
				t.Error(err)
			}
		}
		if len(got) == 7 {
			cancel()
		}
	}
	if want := "PUT t.0,PUT t.1,PUT t.2,PUT t.3,PUT t.4,DEL t.0,PUT t.odd key"; strings.Join(got, ",") != want {
		t.Errorf("got %q", got)
	}
}

func TestNodeAdministration(t *testing.T) {
	c := realNode(t)
	ctx := t.Context()
	if err := c.Assume(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(ctx, "shop/users.1", []byte("x")); err != nil {
		t.Fatal(err)
	}
	tables, err := c.Tables(ctx)
	if err != nil || !strings.Contains(strings.Join(tables, " "), "shop/users") {
		t.Errorf("tables %q, %v", tables, err)
	}
	groups, err := c.Groups(ctx)
	if err != nil || !strings.Contains(strings.Join(groups, " "), "shop") {
		t.Errorf("groups %q, %v", groups, err)
	}
	if info, err := c.Table(ctx, "shop/users"); err != nil || info.Fields["group"] != "shop" {
		t.Errorf("table %v, %v", info, err)
	}
	if info, err := c.Group(ctx, "shop"); err != nil || info.Fields["owner"] != "1" {
		t.Errorf("group %v, %v", info, err)
	}
	if nodes, err := c.Nodes(ctx); err != nil || len(nodes) != 1 || nodes[0].ID != 1 || nodes[0].Port != 4444 {
		t.Errorf("nodes %v, %v", nodes, err)
	}
	if n, err := c.Node(ctx, 1); err != nil || n.Region != "local" {
		t.Errorf("node %v, %v", n, err)
	}
	if pong, err := c.PingNode(ctx, 1); err != nil || pong["node"] != "1" {
		t.Errorf("pong %v, %v", pong, err)
	}
	if q, err := c.Quorum(ctx, "shop/users"); err != nil || len(q.Q1) != 1 || len(q.Q2) != 1 {
		t.Errorf("quorum %v, %v", q, err)
	}
	if err := c.Grant(ctx, "shop/users.1", "alice", client.Owner); err != nil {
		t.Error(err)
	}
	if err := c.Assume(ctx, "bob"); err != nil {
		t.Error(err)
	}
	if _, err := c.Get(ctx, "shop/users.1"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("a key that may not be read: %v", err)
	}
	if _, err := c.Put(ctx, "shop/users.1", nil); !errors.Is(err, client.ErrDenied) {
		t.Errorf("a key that may not be written: %v", err)
	}
	if r, err := c.Do(ctx, "HELP KEY GET", nil); err != nil || len(r.Frames) != 2 {
		t.Errorf("help %v, %v", r, err)
	}
}
