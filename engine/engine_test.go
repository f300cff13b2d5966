// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/engine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wall is a wall clock that tests set.
type wall struct{ nanos atomic.Int64 }

func newWall() *wall {
	w := &wall{}
	w.nanos.Store(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC).UnixNano())
	return w
}

func (w *wall) now() time.Time      { return time.Unix(0, w.nanos.Add(1)) }
func (w *wall) add(d time.Duration) { w.nanos.Add(int64(d)) }

// open opens a node on the file system; tests end by closing it.
func open(t testing.TB, fs vfs.FS, change ...func(*engine.Options)) *engine.Engine {
	t.Helper()
	o := engine.Options{Dir: "data", FS: fs, MinFreeBytes: -1}
	for _, c := range change {
		c(&o)
	}
	e, err := engine.Open(t.Context(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() { closeEngine(t, e) })
	return e
}

func closeEngine(t testing.TB, e *engine.Engine) {
	t.Helper()
	if err := e.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func trusted(e *engine.Engine) *engine.Session {
	return e.NewSession(engine.SessionOptions{Trusted: true, Frontend: "test"})
}

// as is a session of a principal.
func as(t testing.TB, e *engine.Engine, principal string) *engine.Session {
	t.Helper()
	s := trusted(e)
	must(t, s.Assume(t.Context(), principal))
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func put(t testing.TB, s *engine.Session, key, value string) uint64 {
	t.Helper()
	v, err := s.Put(t.Context(), engine.PutRequest{Key: []byte(key), Value: []byte(value)})
	if err != nil {
		t.Fatalf("put %s: %v", key, err)
	}
	return v
}

func del(t testing.TB, s *engine.Session, key string) uint64 {
	t.Helper()
	v, err := s.Delete(t.Context(), engine.DeleteRequest{Key: []byte(key)})
	if err != nil {
		t.Fatalf("delete %s: %v", key, err)
	}
	return v
}

const absent = "(absent)"

func get(t testing.TB, s *engine.Session, key string) string {
	t.Helper()
	v, err := read(t.Context(), s, key)
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return v
}

// read gives a value, or absent.
func read(ctx context.Context, s *engine.Session, key string) (string, error) {
	item, err := s.Get(ctx, []byte(key))
	if errors.Is(err, engine.ErrNotFound) {
		return absent, nil
	}
	if err != nil {
		return "", err
	}
	b, err := item.Bytes()
	return string(b), errors.Join(err, item.Close())
}

// rows gives `key=value` for what a scan finds.
func rows(t testing.TB, s *engine.Session, r engine.ScanRequest) []string {
	t.Helper()
	got, err := scanRows(t.Context(), s, r)
	must(t, err)
	return got
}

func scanRows(ctx context.Context, s *engine.Session, r engine.ScanRequest) (out []string, err error) {
	r.Values = true
	scan, err := s.Scan(ctx, r)
	if err != nil {
		return nil, err
	}
	for scan.Next() {
		b, err := scan.Item().Bytes()
		if err != nil {
			return nil, errors.Join(err, scan.Close())
		}
		out = append(out, fmt.Sprintf("%s=%s", scan.Key(), b))
	}
	return out, errors.Join(scan.Err(), scan.Close())
}

func wantRows(t testing.TB, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got rows %v, want %v", got, want)
	}
}

// TestKeys covers G1 (a write that was acknowledged is read) and G2 (conditions).
func TestKeys(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	if got := get(t, s, "users.alice"); got != absent {
		t.Fatalf("a key never written reads %q", got)
	}
	v1 := put(t, s, "users.alice", "one")
	v2 := put(t, s, "users.alice", "")
	if v1 == 0 || v2 <= v1 {
		t.Fatalf("versions %d, %d do not rise", v1, v2)
	}
	if got := get(t, s, "users.alice"); got != "" {
		t.Fatalf("an empty value reads %q", got)
	}
	ctx := t.Context()
	_, err := s.Put(ctx, engine.PutRequest{Key: []byte("users.alice"), Value: []byte("x"), IfAbsent: true})
	wantErr(t, err, engine.ErrConflict)
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("users.alice"), Value: []byte("x"), IfVersion: &v1})
	wantErr(t, err, engine.ErrConflict)
	if e, ok := errors.AsType[*engine.Error](err); !ok || e.Found != v2 {
		t.Fatalf("conflict %v does not name the version %d found", err, v2)
	}
	v3, err := s.Put(ctx, engine.PutRequest{Key: []byte("users.alice"), Value: []byte("three"), IfVersion: &v2})
	must(t, err)
	_, err = s.Delete(ctx, engine.DeleteRequest{Key: []byte("users.alice"), IfVersion: &v2})
	wantErr(t, err, engine.ErrConflict)
	if v, err := s.Delete(ctx, engine.DeleteRequest{Key: []byte("users.alice"), IfVersion: &v3}); err != nil || v <= v3 {
		t.Fatalf("delete: %d, %v", v, err)
	}
	if v := del(t, s, "users.alice"); v != 0 {
		t.Fatalf("deleting what is absent gave version %d", v)
	}
	if got := get(t, s, "users.alice"); got != absent {
		t.Fatalf("a deleted key reads %q", got)
	}
	if _, err := s.Put(ctx, engine.PutRequest{Key: []byte("users.alice"), Value: []byte("back"), IfAbsent: true}); err != nil {
		t.Fatalf("a deleted key is absent: %v", err)
	}
}

func TestBadKeysAndLimits(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	long := strings.Repeat("r", 4096-2)
	put(t, s, "t."+long, "at the limit")
	for key, want := range map[string]error{
		"":                              engine.ErrInvalid,
		"notable":                       engine.ErrInvalid,
		".row":                          engine.ErrInvalid,
		"t.":                            engine.ErrInvalid,
		"/t.row":                        engine.ErrInvalid,
		"t." + long + "r":               engine.ErrTooLarge,
		strings.Repeat("t", 129) + ".r": engine.ErrTooLarge,
		"a b.r":                         engine.ErrInvalid,
		"atlas.x":                       engine.ErrDenied,
	} {
		_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte(key), Value: []byte("v")})
		if !errors.Is(err, want) {
			t.Errorf("put %.20q: got %v, want %v", key, err, want)
		}
	}
	put(t, s, strings.Repeat("t", 128)+".r", "at the limit")
	_, err := s.Put(t.Context(), engine.PutRequest{Key: []byte("t.v"), TTL: engine.TTLMax + 1})
	wantErr(t, err, engine.ErrInvalid)
	_, err = s.Put(t.Context(), engine.PutRequest{Key: []byte("t.v"), TTL: -1})
	wantErr(t, err, engine.ErrInvalid)
}

func TestScan(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	for _, k := range []string{"user.x", "users.a", "users.ab", "users.b", "users.b.c", "users/x.a", "usersz.a", "shop/users.1", "shop/users.2", "shop/orders.1", "shop.x"} {
		put(t, s, k, "v")
	}
	put(t, s, "users.gone", "v")
	del(t, s, "users.gone")
	keys := func(r engine.ScanRequest) []string {
		var out []string
		for _, row := range rows(t, s, r) {
			out = append(out, strings.TrimSuffix(row, "=v"))
		}
		return out
	}
	bytes := func(s string) []byte { return []byte(s) }
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users")}), "users.a", "users.ab", "users.b", "users.b.c")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users.")}), "users.a", "users.ab", "users.b", "users.b.c")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users.a")}), "users.a", "users.ab")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("shop/users")}), "shop/users.1", "shop/users.2")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("shop")}), "shop.x")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users/x")}), "users/x.a")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("none")}))
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users"), Limit: 2}), "users.a", "users.ab")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users"), After: bytes("users.ab")}), "users.b", "users.b.c")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users"), Reverse: true, Limit: 2}), "users.b.c", "users.b")
	wantRows(t, keys(engine.ScanRequest{Prefix: bytes("users"), Reverse: true, After: bytes("users.b")}), "users.ab", "users.a")
	_, err := s.Scan(t.Context(), engine.ScanRequest{Prefix: bytes("users"), After: bytes("other.x")})
	wantErr(t, err, engine.ErrInvalid)
	n, err := s.Count(t.Context(), bytes("users"))
	must(t, err)
	if n != 4 {
		t.Fatalf("count %d, want 4", n)
	}
	sample, err := s.Sample(t.Context(), bytes("users"), 10)
	must(t, err)
	if len(sample) != 4 || string(sample[0]) != "users.a" {
		t.Fatalf("sample of all gives %q", sample)
	}
	tables, err := s.Tables(t.Context(), "", 100)
	must(t, err)
	wantRows(t, tables, "atlas", "shop", "shop/orders", "shop/users", "user", "users", "users/x", "usersz")
	tables, err = s.Tables(t.Context(), "shop/orders", 2)
	must(t, err)
	wantRows(t, tables, "shop/users", "user")
}

// TestScanIsOneSnapshot: a scan that is open does not see what is written behind its back.
func TestScanIsOneSnapshot(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	for i := range 100 {
		put(t, s, fmt.Sprintf("t.%03d", i), "old")
	}
	scan, err := s.Scan(t.Context(), engine.ScanRequest{Prefix: []byte("t"), Values: true})
	must(t, err)
	n := 0
	for scan.Next() {
		if n == 0 {
			for i := range 200 {
				put(t, s, fmt.Sprintf("t.%03d", i), "new")
			}
		}
		b, err := scan.Item().Bytes()
		must(t, err)
		if string(b) != "old" {
			t.Fatalf("row %s reads %q", scan.Key(), b)
		}
		n++
	}
	must(t, errors.Join(scan.Err(), scan.Close()))
	if n != 100 {
		t.Fatalf("%d rows, want 100", n)
	}
}

func TestWormAndTTL(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now; o.SweepInterval = time.Hour })
	s := trusted(e)
	ctx := t.Context()
	_, err := s.Put(ctx, engine.PutRequest{Key: []byte("t.w"), Value: []byte("once"), WormTTL: time.Hour})
	must(t, err)
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.w"), Value: []byte("twice")})
	wantErr(t, err, engine.ErrDenied)
	_, err = s.Delete(ctx, engine.DeleteRequest{Key: []byte("t.w")})
	wantErr(t, err, engine.ErrDenied)
	must(t, s.Begin(ctx))
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.w"), Value: []byte("by transaction")})
	must(t, err)
	_, err = s.Commit(ctx)
	wantErr(t, err, engine.ErrDenied)
	if got := get(t, s, "t.w"); got != "once" {
		t.Fatalf("write-once key reads %q", got)
	}
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.ttl"), Value: []byte("short"), TTL: time.Minute})
	must(t, err)
	item, err := s.Get(ctx, []byte("t.ttl"))
	must(t, err)
	if item.Expires.IsZero() || item.Expires.Sub(w.now()) > time.Minute {
		t.Fatalf("expires %v", item.Expires)
	}
	must(t, item.Close())
	w.add(59 * time.Second)
	if got := get(t, s, "t.ttl"); got != "short" {
		t.Fatalf("before its end it reads %q", got)
	}
	w.add(2 * time.Second)
	if got := get(t, s, "t.ttl"); got != absent {
		t.Fatalf("after its end it reads %q", got)
	}
	wantRows(t, rows(t, s, engine.ScanRequest{Prefix: []byte("t")}), "t.w=once")
	w.add(time.Hour)
	put(t, s, "t.w", "free")
}

func TestGrants(t *testing.T) {
	e := open(t, vfs.NewMem())
	alice, bob, admin := as(t, e, "alice"), as(t, e, "bob"), as(t, e, "admin")
	put(t, alice, "t.k", "secret")
	put(t, alice, "t.open", "all")
	must(t, alice.Grant(t.Context(), []byte("t.k"), "alice", engine.PermOwner))
	if got := get(t, bob, "t.k"); got != absent {
		t.Fatalf("bob reads %q", got)
	}
	wantRows(t, rows(t, bob, engine.ScanRequest{Prefix: []byte("t")}), "t.open=all")
	if n, err := bob.Count(t.Context(), []byte("t")); err != nil || n != 1 {
		t.Fatalf("bob counts %d, %v", n, err)
	}
	if sample, err := bob.Sample(t.Context(), []byte("t"), 5); err != nil || len(sample) != 1 {
		t.Fatalf("bob samples %q, %v", sample, err)
	}
	_, err := bob.Put(t.Context(), engine.PutRequest{Key: []byte("t.k"), Value: []byte("x")})
	wantErr(t, err, engine.ErrDenied)
	wantErr(t, bob.Grant(t.Context(), []byte("t.k"), "bob", engine.PermRead), engine.ErrDenied)
	must(t, alice.Grant(t.Context(), []byte("t.k"), "bob", engine.PermRead))
	if got := get(t, bob, "t.k"); got != "secret" {
		t.Fatalf("bob reads %q with a grant", got)
	}
	must(t, bob.Begin(t.Context()))
	_, err = bob.Put(t.Context(), engine.PutRequest{Key: []byte("t.k"), Value: []byte("x")})
	wantErr(t, err, engine.ErrDenied)
	must(t, bob.Rollback())
	must(t, alice.Revoke(t.Context(), []byte("t.k"), "bob", engine.PermRead))
	if got := get(t, bob, "t.k"); got != absent {
		t.Fatalf("bob reads %q after the revoke", got)
	}
	if got := get(t, admin, "t.k"); got != "secret" {
		t.Fatalf("admin reads %q", got)
	}
	wantErr(t, bob.Grant(t.Context(), []byte("t"), "bob", engine.PermOwner), engine.ErrDenied) // it would open alice's key to him
	must(t, admin.Grant(t.Context(), []byte("t"), "alice", engine.PermOwner))
	if got := get(t, bob, "t.open"); got != absent {
		t.Fatalf("bob reads %q of a closed table", got)
	}
	if tables, err := bob.Tables(t.Context(), "", 10); err != nil || !slices.Equal(tables, []string{"atlas"}) {
		t.Fatalf("bob sees tables %v, %v", tables, err)
	}
}

func TestPrincipals(t *testing.T) {
	e := open(t, vfs.NewMem())
	ctx := t.Context()
	admin := as(t, e, "admin")
	must(t, admin.SetSecret(ctx, "alice", "correct horse"))
	far := e.NewSession(engine.SessionOptions{Remote: "198.51.100.7"})
	wantErr(t, far.Assume(ctx, "alice"), engine.ErrDenied)
	put(t, admin, "public.k", "v")
	for what, try := range map[string]func() error{
		"get":    func() error { _, err := far.Get(ctx, []byte("public.k")); return err },
		"put":    func() error { _, err := far.Put(ctx, request("public.k", "x")); return err },
		"delete": func() error { _, err := far.Delete(ctx, engine.DeleteRequest{Key: []byte("public.k")}); return err },
		"scan":   func() error { _, err := far.Scan(ctx, engine.ScanRequest{Prefix: []byte("public")}); return err },
		"count":  func() error { _, err := far.Count(ctx, []byte("public")); return err },
		"sample": func() error { _, err := far.Sample(ctx, []byte("public"), 1); return err },
		"watch":  func() error { _, err := far.Watch(ctx, engine.WatchRequest{Prefix: []byte("public")}); return err },
		"begin":  func() error { return far.Begin(ctx) },
		"grant":  func() error { return far.Grant(ctx, []byte("public"), "x", engine.PermOwner) },
		"revoke": func() error { return far.Revoke(ctx, []byte("public"), "x", engine.PermOwner) },
		"secret": func() error { return far.SetSecret(ctx, "mallory", "long enough") },
		"tables": func() error { _, err := far.Tables(ctx, "", 1); return err },
		"table":  func() error { _, err := far.TableInfo(ctx, "public"); return err },
		"groups": func() error { _, err := far.Groups(ctx, "", 1); return err },
		"group":  func() error { _, err := far.GroupInfo(ctx, "public"); return err },
		"nodes":  func() error { _, err := far.Nodes(ctx); return err },
		"node":   func() error { _, err := far.Node(ctx, 1); return err },
		"ping":   func() error { _, err := far.Ping(ctx, 1); return err },
		"quorum": func() error { _, err := far.Quorum(ctx, "public"); return err },
	} {
		if err := try(); !errors.Is(err, engine.ErrDenied) {
			t.Errorf("%s by a client that proved nothing: %v", what, err)
		}
	}
	wantErr(t, far.Authenticate(ctx, "alice", "wrong horse"), engine.ErrDenied)
	wantErr(t, far.Authenticate(ctx, "nobody", "wrong horse"), engine.ErrDenied)
	if far.Principal() != "" {
		t.Fatalf("principal %q after failures", far.Principal())
	}
	must(t, far.Authenticate(ctx, "alice", "correct horse"))
	if far.Principal() != "alice" {
		t.Fatalf("principal %q", far.Principal())
	}
	must(t, far.Assume(ctx, "alice"))
	wantErr(t, far.Assume(ctx, "admin"), engine.ErrDenied)
	wantErr(t, far.Assume(ctx, "bob"), engine.ErrDenied)
	must(t, admin.Grant(ctx, []byte("atlas.principals.bob"), "alice", engine.PermWrite))
	must(t, far.Assume(ctx, "bob"))
	must(t, far.Assume(ctx, "alice"))
	must(t, far.SetSecret(ctx, "alice", "battery staple"))
	wantErr(t, far.SetSecret(ctx, "bob", "battery staple"), engine.ErrDenied)
	if got := get(t, admin, "atlas.principals.alice"); got != absent {
		t.Fatalf("the stored secret can be read: %q", got)
	}
	for _, row := range rows(t, admin, engine.ScanRequest{Prefix: []byte("atlas")}) {
		if strings.Contains(row, "argon2") {
			t.Fatalf("a scan shows a stored secret: %q", row)
		}
	}
}

// TestRevokeHoldsAtOnce covers G14: an answered revocation decides what follows, also in a transaction and a watch that were open.
func TestRevokeHoldsAtOnce(t *testing.T) {
	e := open(t, vfs.NewMem())
	alice, bob := as(t, e, "alice"), as(t, e, "bob")
	put(t, alice, "t.a", "1")
	put(t, alice, "t.b", "1")
	txn, err := bob.BeginTxn(t.Context())
	must(t, err)
	if _, err := txn.Get([]byte("t.b")); err != nil {
		t.Fatal(err)
	}
	zero := uint64(0)
	w := watch(t, bob, "t", &zero)
	next(t, w) // reads both events
	must(t, alice.Grant(t.Context(), []byte("t.b"), "alice", engine.PermOwner))
	if _, err := txn.Get([]byte("t.b")); !errors.Is(err, engine.ErrNotFound) {
		t.Fatalf("an open transaction reads what was closed: %v", err)
	}
	wantErr(t, txn.Put(request("t.b", "2")), engine.ErrDenied)
	must(t, txn.Rollback())
	v := put(t, alice, "t.c", "1")
	want(t, next(t, w), "PUT %d t.c", v)
}

// TestRestart covers G1: what was acknowledged is there after a clean restart, and versions go on rising with a clock set back.
func TestRestart(t *testing.T) {
	fs := vfs.NewMem()
	w := newWall()
	e := open(t, fs, func(o *engine.Options) { o.Now = w.now })
	v1 := put(t, trusted(e), "t.k", "one")
	cluster := e.ClusterID()
	closeEngine(t, e)
	w.add(-24 * time.Hour)
	e = open(t, fs, func(o *engine.Options) { o.Now = w.now })
	if e.ClusterID() != cluster {
		t.Fatalf("cluster %s became %s", cluster, e.ClusterID())
	}
	s := trusted(e)
	if got := get(t, s, "t.k"); got != "one" {
		t.Fatalf("after a restart it reads %q", got)
	}
	if v2 := put(t, s, "t.k", "two"); v2 <= v1 {
		t.Fatalf("version %d after %d", v2, v1)
	}
	if got := get(t, s, "t.k"); got != "two" {
		t.Fatalf("it reads %q", got)
	}
}

// TestManyWriters: concurrent compare-and-set increments over a few keys lose nothing.
func TestManyWriters(t *testing.T) {
	e := open(t, vfs.NewMem())
	const workers, each = 8, 50
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			s := trusted(e)
			for i := range each {
				if err := increment(t.Context(), s, fmt.Sprintf("c.%d", (w+i)%3)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	total := 0
	for i := range 3 {
		var n int
		fmt.Sscan(get(t, trusted(e), fmt.Sprintf("c.%d", i)), &n)
		total += n
	}
	if total != workers*each {
		t.Fatalf("counters sum to %d, want %d", total, workers*each)
	}
}

func increment(ctx context.Context, s *engine.Session, key string) error {
	for {
		var version uint64
		n := 0
		item, err := s.Get(ctx, []byte(key))
		switch {
		case err == nil:
			b, err := item.Bytes()
			if err != nil {
				return err
			}
			if _, err := fmt.Sscan(string(b), &n); err != nil {
				return err
			}
			version = item.Version
			if err := item.Close(); err != nil {
				return err
			}
		case !errors.Is(err, engine.ErrNotFound):
			return err
		}
		_, err = s.Put(ctx, engine.PutRequest{Key: []byte(key), Value: []byte(fmt.Sprint(n + 1)), IfVersion: &version})
		if !errors.Is(err, engine.ErrConflict) {
			return err
		}
	}
}

func TestClusterInfo(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	nodes, err := s.Nodes(t.Context())
	must(t, err)
	if len(nodes) != 1 || nodes[0].ID != 1 || nodes[0].Region != "local" || nodes[0].Host != "localhost" || nodes[0].Port != 4444 {
		t.Fatalf("nodes %+v", nodes)
	}
	q, err := s.Quorum(t.Context(), "atlas.nodes")
	must(t, err)
	if len(q.Q1) != 1 || len(q.Q2) != 1 || q.Q1[0].ID != 1 || len(q.Survives) == 0 {
		t.Fatalf("quorum %+v", q)
	}
	put(t, s, "shop/users.1", "v")
	info, err := s.TableInfo(t.Context(), "shop/users")
	must(t, err)
	if info.Rows != 1 || info.Group != "shop" || info.Owner != 1 || info.Writes != 1 {
		t.Fatalf("table %+v", info)
	}
	_, err = s.TableInfo(t.Context(), "nothing")
	wantErr(t, err, engine.ErrNotFound)
	g, err := s.GroupInfo(t.Context(), "shop")
	must(t, err)
	if g.Owner != 1 || g.Applied == 0 || !slices.Equal(g.Tables, []string{"shop/users"}) {
		t.Fatalf("group %+v", g)
	}
	_, err = s.GroupInfo(t.Context(), "nothing")
	wantErr(t, err, engine.ErrNotFound)
	if row := get(t, s, "atlas.nodes.1"); !strings.Contains(row, `"region":"local"`) {
		t.Fatalf("node row %q", row)
	}
}

// An Item that is closed twice must not close the handle that another reader has got from the pool since.
func TestItemClosedTwice(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	put(t, s, "t.a", "a")
	put(t, s, "t.b", "b")
	for range 100 {
		a, err := s.Get(t.Context(), []byte("t.a"))
		must(t, err)
		must(t, a.Close())
		b, err := s.Get(t.Context(), []byte("t.b"))
		must(t, err)
		must(t, a.Close())
		a, err = s.Get(t.Context(), []byte("t.a"))
		must(t, err)
		v, err := b.Bytes()
		must(t, err)
		if string(v) != "b" {
			t.Fatalf("value of t.b reads %q", v)
		}
		must(t, b.Close())
		must(t, a.Close())
	}
}
