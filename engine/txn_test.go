// SPDX-License-Identifier: AGPL-3.0-only

package engine_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/atlas-edge/atlas/engine"
)

func request(key, value string) engine.PutRequest {
	return engine.PutRequest{Key: []byte(key), Value: []byte(value)}
}

func TestTxnIsAtomicAndIsolated(t *testing.T) {
	e := open(t, vfs.NewMem())
	s, other := trusted(e), trusted(e)
	put(t, s, "shop/a.1", "old")
	must(t, s.Begin(t.Context()))
	put(t, s, "shop/a.1", "new")
	put(t, s, "shop/b.1", "new")
	if got := get(t, s, "shop/b.1"); got != "new" {
		t.Fatalf("own write reads %q", got)
	}
	if got := get(t, other, "shop/a.1"); got != "old" {
		t.Fatalf("an uncommitted write is seen: %q", got)
	}
	v, err := s.Commit(t.Context())
	must(t, err)
	for _, k := range []string{"shop/a.1", "shop/b.1"} {
		item, err := other.Get(t.Context(), []byte(k))
		must(t, err)
		if item.Version != v {
			t.Fatalf("%s has version %d, the transaction %d", k, item.Version, v)
		}
		must(t, item.Close())
	}
	must(t, s.Begin(t.Context()))
	put(t, s, "shop/a.1", "dropped")
	must(t, s.Rollback())
	if got := get(t, s, "shop/a.1"); got != "new" {
		t.Fatalf("a rolled back write is seen: %q", got)
	}
	_, err = s.Commit(t.Context())
	wantErr(t, err, engine.ErrInvalid)
	must(t, s.Begin(t.Context()))
	wantErr(t, s.Begin(t.Context()), engine.ErrInvalid)
	put(t, s, "shop/a.1", "x")
	_, err = s.Put(t.Context(), request("other.1", "x"))
	wantErr(t, err, engine.ErrInvalid)
	wantErr(t, s.Assume(t.Context(), "bob"), engine.ErrInvalid)
	must(t, s.Close())
}

// TestTxnConflicts: what a transaction read must not have changed until its commit: keys, absences, ranges and lifetimes.
func TestTxnConflicts(t *testing.T) {
	w := newWall()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.Now = w.now; o.SweepInterval = time.Hour })
	other := trusted(e)
	for _, c := range []struct {
		name     string
		read     func(s *engine.Session)
		disturb  func()
		conflict bool
	}{
		{"key changed", func(s *engine.Session) { get(t, s, "t.a") }, func() { put(t, other, "t.a", "x") }, true},
		{"key deleted", func(s *engine.Session) { get(t, s, "t.a") }, func() { del(t, other, "t.a") }, true},
		{"absent key appeared", func(s *engine.Session) { get(t, s, "t.new") }, func() { put(t, other, "t.new", "x"); del(t, other, "t.new") }, true},
		{"other key changed", func(s *engine.Session) { get(t, s, "t.a") }, func() { put(t, other, "t.b", "x") }, false},
		{"row in range changed", func(s *engine.Session) { rows(t, s, engine.ScanRequest{Prefix: []byte("t")}) }, func() { put(t, other, "t.b", "y") }, true},
		{"phantom", func(s *engine.Session) { rows(t, s, engine.ScanRequest{Prefix: []byte("t.q")}) }, func() { put(t, other, "t.q1", "x") }, true},
		{"behind the limit", func(s *engine.Session) { rows(t, s, engine.ScanRequest{Prefix: []byte("t"), Limit: 1}) }, func() { put(t, other, "t.z", "x") }, false},
		{"before the limit", func(s *engine.Session) { rows(t, s, engine.ScanRequest{Prefix: []byte("t"), Limit: 1}) }, func() { put(t, other, "t.0", "x"); del(t, other, "t.0") }, true},
		{"reverse, before the limit", func(s *engine.Session) {
			rows(t, s, engine.ScanRequest{Prefix: []byte("t"), Limit: 1, Reverse: true})
		}, func() { put(t, other, "t.zz", "x"); del(t, other, "t.zz") }, true},
		{"reverse, behind the limit", func(s *engine.Session) {
			rows(t, s, engine.ScanRequest{Prefix: []byte("t"), Limit: 1, Reverse: true})
		}, func() { put(t, other, "t.a", "x") }, false},
		{"read value expired", func(s *engine.Session) { get(t, s, "t.ttl") }, func() { w.add(2 * time.Minute) }, true},
		{"count", func(s *engine.Session) {
			if _, err := s.Count(t.Context(), []byte("t")); err != nil {
				t.Fatal(err)
			}
		}, func() { put(t, other, "t.b", "z") }, true},
		{"nothing read", func(*engine.Session) {}, func() { put(t, other, "t.mine", "x") }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			put(t, other, "t.a", "a")
			put(t, other, "t.b", "b")
			put(t, other, "t.z0", "z")
			_, err := other.Put(t.Context(), engine.PutRequest{Key: []byte("t.ttl"), Value: []byte("v"), TTL: time.Minute})
			must(t, err)
			s := trusted(e)
			must(t, s.Begin(t.Context()))
			c.read(s)
			put(t, s, "t.mine", "mine")
			c.disturb()
			_, err = s.Commit(t.Context())
			if c.conflict {
				wantErr(t, err, engine.ErrConflict)
			} else {
				must(t, err)
			}
		})
	}
}

func TestTxnConditions(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	v := put(t, s, "t.a", "a")
	ctx := t.Context()
	must(t, s.Begin(ctx))
	_, err := s.Put(ctx, engine.PutRequest{Key: []byte("t.a"), IfAbsent: true})
	wantErr(t, err, engine.ErrConflict)
	wrong := v + 1
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.a"), IfVersion: &wrong})
	wantErr(t, err, engine.ErrConflict)
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.a"), Value: []byte("b"), IfVersion: &v})
	must(t, err)
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.a"), Value: []byte("c"), IfVersion: &v})
	wantErr(t, err, engine.ErrConflict)
	_, err = s.Delete(ctx, engine.DeleteRequest{Key: []byte("t.a")})
	must(t, err)
	_, err = s.Put(ctx, engine.PutRequest{Key: []byte("t.a"), Value: []byte("d"), IfAbsent: true})
	must(t, err)
	_, err = s.Commit(ctx)
	must(t, err)
	if got := get(t, s, "t.a"); got != "d" {
		t.Fatalf("reads %q", got)
	}
}

func TestTxnStatementsAndSavepoints(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	put(t, s, "t.a", "1")
	txn, err := s.BeginTxn(t.Context())
	must(t, err)
	must(t, txn.Put(request("t.b", "1")))
	txn.BeginStatement()
	must(t, txn.Put(request("t.c", "1")))
	must(t, txn.Put(request("t.a", "2")))
	scan, err := txn.Scan(t.Context(), engine.ScanRequest{Prefix: []byte("t"), Values: true})
	must(t, err)
	var got []string
	for scan.Next() {
		b, err := scan.Item().Bytes()
		must(t, err)
		got = append(got, fmt.Sprintf("%s=%s", scan.Key(), b))
	}
	must(t, errors.Join(scan.Err(), scan.Close()))
	wantRows(t, got, "t.a=1", "t.b=1")
	txn.EndStatement()
	mark := txn.Savepoint()
	must(t, txn.Delete(engine.DeleteRequest{Key: []byte("t.a")}))
	must(t, txn.RollbackTo(mark))
	later := txn.Savepoint()
	must(t, txn.RollbackTo(engine.Mark{}))
	wantErr(t, txn.RollbackTo(later), engine.ErrInvalid)
	must(t, txn.Put(request("t.b", "2")))
	_, err = txn.Commit(t.Context())
	must(t, err)
	wantRows(t, rows(t, s, engine.ScanRequest{Prefix: []byte("t")}), "t.a=1", "t.b=2")
}

// TestTxnAgainstModel compares what a transaction reads, in both directions, with a sorted map.
func TestTxnAgainstModel(t *testing.T) {
	e := open(t, vfs.NewMem())
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		table := fmt.Sprintf("m%d", n)
		s := trusted(e)
		model := map[string]string{}
		row := rapid.StringMatching(`[a-c]{1,3}`)
		for range rapid.IntRange(0, 8).Draw(rt, "before") {
			k := table + "." + row.Draw(rt, "row")
			put(t, s, k, "base")
			model[k] = "base"
		}
		must(t, s.Begin(t.Context()))
		for i := range rapid.IntRange(0, 25).Draw(rt, "steps") {
			k := table + "." + row.Draw(rt, "row")
			switch rapid.IntRange(0, 3).Draw(rt, "op") {
			case 0:
				del(t, s, k)
				delete(model, k)
			case 1:
				v := fmt.Sprint(i)
				put(t, s, k, v)
				model[k] = v
			case 2:
				want, ok := model[k]
				if !ok {
					want = absent
				}
				if got := get(t, s, k); got != want {
					rt.Fatalf("get %s: %q, want %q", k, got, want)
				}
			default:
				compareScan(t, rt, s, table, row.Draw(rt, "prefix"), model)
			}
		}
		_, err := s.Commit(t.Context())
		must(t, err)
		compareScan(t, rt, s, table, "", model)
	})
}

func compareScan(t *testing.T, rt *rapid.T, s *engine.Session, table, prefix string, model map[string]string) {
	var want []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if strings.HasPrefix(k, table+"."+prefix) {
			want = append(want, k+"="+model[k])
		}
	}
	r := engine.ScanRequest{Prefix: []byte(table + "." + prefix), Reverse: rapid.Bool().Draw(rt, "reverse"), Limit: rapid.IntRange(0, 4).Draw(rt, "limit")}
	if r.Reverse {
		slices.Reverse(want)
	}
	if r.Limit > 0 && len(want) > r.Limit {
		want = want[:r.Limit]
	}
	if got := rows(t, s, r); !slices.Equal(got, want) {
		rt.Fatalf("scan %s reverse=%v limit=%d: %v, want %v", r.Prefix, r.Reverse, r.Limit, got, want)
	}
}

// TestBank: transfers between accounts keep the total, and every reader sees the total, whatever runs beside it.
func TestBank(t *testing.T) {
	e := open(t, vfs.NewMem())
	const accounts, start = 6, 100
	seeder := trusted(e)
	for i := range accounts {
		put(t, seeder, fmt.Sprintf("bank.%d", i), fmt.Sprint(start))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	committed, conflicts := 0, 0
	for w := range 6 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(w), 7))
			s := trusted(e)
			for range 60 {
				err := transfer(t, s, rng, accounts)
				mu.Lock()
				switch {
				case err == nil:
					committed++
				case errors.Is(err, engine.ErrConflict):
					conflicts++
				default:
					t.Error(err)
				}
				mu.Unlock()
				if got := total(t, s); got != accounts*start {
					t.Errorf("total %d, want %d", got, accounts*start)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d transfers committed, %d conflicts", committed, conflicts)
	if committed == 0 {
		t.Fatal("no transfer was committed: nothing was tested")
	}
}

func transfer(t *testing.T, s *engine.Session, rng *rand.Rand, accounts int) error {
	from, to := rng.IntN(accounts), rng.IntN(accounts)
	if from == to {
		to = (to + 1) % accounts
	}
	if err := s.Begin(t.Context()); err != nil {
		return err
	}
	for account, delta := range map[int]int{from: -1, to: 1} {
		key := fmt.Sprintf("bank.%d", account)
		v, err := read(t.Context(), s, key)
		if err != nil {
			return errors.Join(err, s.Rollback())
		}
		var n int
		fmt.Sscan(v, &n)
		if _, err := s.Put(t.Context(), request(key, fmt.Sprint(n+delta))); err != nil {
			return errors.Join(err, s.Rollback())
		}
	}
	_, err := s.Commit(t.Context())
	return err
}

func total(t *testing.T, s *engine.Session) int {
	sum := 0
	got, err := scanRows(t.Context(), s, engine.ScanRequest{Prefix: []byte("bank")})
	if err != nil {
		t.Error(err)
	}
	for _, row := range got {
		var n int
		fmt.Sscan(row[strings.Index(row, "=")+1:], &n)
		sum += n
	}
	return sum
}

// A transaction to which something was hidden or refused rests on the grants, also if it read nothing else: once they are widened it stands
// at no point of the order behind that. G14, G16.
func TestTxnRestsOnGrants(t *testing.T) {
	for _, c := range []struct {
		name  string
		asked func(s *engine.Session) error
		found error
	}{
		{"hidden", func(s *engine.Session) error { _, err := s.Get(t.Context(), []byte("t.k")); return err }, engine.ErrNotFound},
		{"refused", func(s *engine.Session) error { _, err := s.Put(t.Context(), request("t.k", "x")); return err }, engine.ErrDenied},
	} {
		for _, widened := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", then widened: ", widened), func(t *testing.T) {
				e := open(t, vfs.NewMem())
				owner, other := as(t, e, "owner"), as(t, e, "other")
				put(t, owner, "t.k", "x")
				must(t, owner.Grant(t.Context(), []byte("t.k"), "owner", engine.PermOwner))
				must(t, other.Begin(t.Context()))
				wantErr(t, c.asked(other), c.found)
				put(t, other, "t.seen", "nothing")
				if widened {
					must(t, owner.Grant(t.Context(), []byte("t.k"), "other", engine.PermOwner))
				}
				_, err := other.Commit(t.Context())
				if widened {
					wantErr(t, err, engine.ErrConflict)
					return
				}
				must(t, err)
			})
		}
	}
}

// The version of a commit is that of what it changed: to delete what is absent changes nothing, as outside of a transaction. It once had
// a version that no key and no event bears.
func TestTxnThatChangesNothing(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	put(t, s, "t.a", "x")
	for _, c := range []struct {
		name    string
		run     func()
		changes bool
	}{
		{"nothing", func() {}, false},
		{"absent key deleted", func() { del(t, s, "t.none") }, false},
		{"written and deleted", func() { put(t, s, "t.new", "x"); del(t, s, "t.new") }, false},
		{"absent key deleted beside a write", func() { del(t, s, "t.none"); put(t, s, "t.b", "x") }, true},
		{"key deleted", func() { del(t, s, "t.a") }, true},
	} {
		must(t, s.Begin(t.Context()))
		c.run()
		v, err := s.Commit(t.Context())
		must(t, err)
		if (v != 0) != c.changes {
			t.Errorf("%s: committed at version %d", c.name, v)
		}
	}
}

// What a transaction wrote as write-once it cannot write again itself: the second write once took the place of the first, and its protection
// with it, though both were answered. To take it back is not to overwrite it. G10.
func TestTxnKeepsItsOwnWriteOnce(t *testing.T) {
	until := time.Now().Add(time.Hour)
	for name, r := range map[string]engine.PutRequest{
		"for a time":        {Key: []byte("t.k"), Value: []byte("first"), WormTTL: time.Hour},
		"up to a time":      {Key: []byte("t.k"), Value: []byte("first"), WormUntil: until},
		"that expires, too": {Key: []byte("t.k"), Value: []byte("first"), WormTTL: time.Hour, TTL: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			e := open(t, vfs.NewMem())
			s := trusted(e)
			x, err := s.BeginTxn(t.Context())
			must(t, err)
			must(t, x.Put(request("t.k", "not protected")))
			mark := x.Savepoint()
			must(t, x.Put(r))
			wantErr(t, x.Put(request("t.k", "second")), engine.ErrDenied)
			wantErr(t, x.Delete(engine.DeleteRequest{Key: []byte("t.k")}), engine.ErrDenied)
			must(t, x.RollbackTo(mark))
			must(t, x.Put(request("t.k", "again")))
			must(t, x.Put(r))
			_, err = x.Commit(t.Context())
			must(t, err)
			if got := get(t, s, "t.k"); got != "first" {
				t.Errorf("got %q", got)
			}
			_, err = s.Put(t.Context(), request("t.k", "third"))
			wantErr(t, err, engine.ErrDenied)
		})
	}
}

// A condition in a transaction needs READ, as it does outside of one: it would tell whether a hidden key exists. G13.
func TestTxnConditionNeedsRead(t *testing.T) {
	e := open(t, vfs.NewMem())
	owner, writer := as(t, e, "owner"), as(t, e, "writer")
	put(t, owner, "t.k", "secret")
	must(t, owner.Grant(t.Context(), []byte("t.k"), "owner", engine.PermOwner))
	must(t, owner.Grant(t.Context(), []byte("t.k"), "writer", engine.PermWrite))
	wrong := uint64(7)
	for _, inTxn := range []bool{false, true} {
		for _, r := range []engine.PutRequest{
			{Key: []byte("t.k"), IfAbsent: true},
			{Key: []byte("t.k"), IfVersion: &wrong},
		} {
			if inTxn {
				must(t, writer.Begin(t.Context()))
			}
			_, err := writer.Put(t.Context(), r)
			wantErr(t, err, engine.ErrDenied)
			if inTxn {
				must(t, writer.Rollback())
			}
		}
	}
}

// A statement that puts one absent key twice is a conflict, although its reads do not see its own writes: the second put once took
// the place of the first without a word.
func TestStatementPutsAnAbsentKeyTwice(t *testing.T) {
	e := open(t, vfs.NewMem())
	txn, err := trusted(e).BeginTxn(t.Context())
	must(t, err)
	mark := txn.BeginStatement()
	r := request("t.a", "1")
	r.IfAbsent = true
	must(t, txn.Put(r))
	_, err = txn.Get([]byte("t.a"))
	wantErr(t, err, engine.ErrNotFound)
	wantErr(t, txn.Put(r), engine.ErrConflict)
	must(t, txn.RollbackTo(mark))
	must(t, txn.Put(r))
	txn.EndStatement()
	_, err = txn.Commit(t.Context())
	must(t, err)
}

// G17: TestTxnIsRolledBackWhenIdle: a transaction that nobody uses is ended, its memory and its snapshot with it; what comes late is refused
// and not taken for a command of its own.
func TestTxnIsRolledBackWhenIdle(t *testing.T) {
	w := newWall()
	figures := prometheus.NewRegistry()
	e := open(t, vfs.NewMem(), func(o *engine.Options) {
		o.Now, o.TxnIdle, o.Registry = w.now, 100*time.Millisecond, figures
	})
	idles := func() {
		t.Helper()
		before := figure(t, figures, "atlas_engine_transactions_expired_total")
		w.add(time.Second)
		for deadline := time.Now().Add(30 * time.Second); figure(t, figures, "atlas_engine_transactions_expired_total") == before; {
			if time.Now().After(deadline) {
				t.Fatal("an idle transaction goes on")
			}
			time.Sleep(time.Millisecond) // sleep: between two looks at a condition with a deadline
		}
	}
	s, ctx := trusted(e), t.Context()
	put(t, s, "t.a", "old")
	put(t, s, "t.b", strings.Repeat("x", 1<<20))
	idle := "the transaction was rolled back: it was idle for longer than 100ms"
	for _, c := range []struct {
		name  string
		late  func() error
		ended bool // by late itself
	}{
		{"get", func() error { _, err := s.Get(ctx, []byte("t.a")); return err }, false},
		{"put", func() error { _, err := s.Put(ctx, request("t.a", "late")); return err }, false},
		{"delete", func() error { _, err := s.Delete(ctx, engine.DeleteRequest{Key: []byte("t.a")}); return err }, false},
		{"scan", func() error { _, err := s.Scan(ctx, engine.ScanRequest{Prefix: []byte("t")}); return err }, false},
		{"count", func() error { _, err := s.Count(ctx, []byte("t")); return err }, false},
		{"sample", func() error { _, err := s.Sample(ctx, []byte("t"), 1); return err }, false},
		{"commit", func() error { _, err := s.Commit(ctx); return err }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			must(t, s.Begin(ctx))
			get(t, s, "t.a")
			put(t, s, "t.a", "mine")
			idles()
			err := c.late()
			wantErr(t, err, engine.ErrConflict)
			if !strings.Contains(err.Error(), idle) {
				t.Errorf("got %v", err)
			}
			if s.InTxn() == c.ended {
				t.Fatalf("in a transaction: %v", s.InTxn())
			}
			if !c.ended {
				must(t, s.Rollback())
			}
			if got := get(t, s, "t.a"); got != "old" {
				t.Errorf("a transaction that was rolled back wrote %q", got)
			}
		})
	}

	// What is being read is in use, however long that takes.
	must(t, s.Begin(ctx))
	put(t, s, "t.c", "mine")
	scan, err := s.Scan(ctx, engine.ScanRequest{Prefix: []byte("t"), Values: true})
	must(t, err)
	item, err := s.Get(ctx, []byte("t.b"))
	must(t, err)
	must(t, scan.Close())
	other := trusted(e)
	must(t, other.Begin(ctx))
	get(t, other, "t.a")
	idles() // the reaper has looked at both
	must(t, other.Rollback())
	if v, err := item.Bytes(); err != nil || len(v) != 1<<20 {
		t.Fatalf("%d bytes, %v", len(v), err)
	}
	must(t, item.Close())
	_, err = s.Commit(ctx)
	must(t, err)
	if got := get(t, s, "t.c"); got != "mine" {
		t.Fatalf("committed %q", got)
	}

	if n := figure(t, figures, "atlas_engine_transactions"); n != 0 {
		t.Errorf("%v transactions are open", n)
	}

	// A transaction that is in use all the time ends by its age.
	must(t, s.Begin(ctx))
	scan, err = s.Scan(ctx, engine.ScanRequest{Prefix: []byte("t")})
	must(t, err)
	w.add(engine.TxnAgeMax + time.Second)
	_, err = s.Get(ctx, []byte("t.a"))
	wantErr(t, err, engine.ErrConflict)
	must(t, scan.Close())
	_, err = s.Commit(ctx)
	wantErr(t, err, engine.ErrConflict)
}

// A transaction that begins while the first write after a long pause is on its way to the disk commits. The group's time to read at stood
// where the clock had stood when nobody wrote any more, so that the transaction was as old as the pause, and was refused for its age.
func TestTxnBesideTheFirstWriteAfterAPause(t *testing.T) {
	w, fs := newWall(), newFaultFS()
	e := open(t, fs, func(o *engine.Options) { o.SweepInterval, o.Now = time.Hour, w.now })
	put(t, trusted(e), "t.k", "1")
	w.add(time.Hour)
	fs.held.Store(true)
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := trusted(e).Put(context.Background(), request("t.k", "2")); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the sync of the clock's ceiling", func() bool { return fs.waiting.Load() == 1 })
	fs.release <- struct{}{}
	eventually(t, "the sync of the write", func() bool { return fs.waiting.Load() == 2 })
	s := trusted(e)
	must(t, s.Begin(t.Context()))
	if got := get(t, s, "t.other"); got != absent {
		t.Fatalf("a key that nobody wrote reads %s", got)
	}
	put(t, s, "t.other", "1")
	fs.held.Store(false)
	close(fs.release)
	wg.Wait()
	if _, err := s.Commit(t.Context()); err != nil {
		t.Fatalf("commit of a transaction that has just begun: %v", err)
	}
}

// G25, G26: TestTxnMemory: open transactions share a bounded memory; what does not fit is refused, and room comes back with every end.
func TestTxnMemory(t *testing.T) {
	figures := prometheus.NewRegistry()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.TxnMemory, o.Registry = engine.TxnMemoryMin, figures })
	one, two, ctx := trusted(e), trusted(e), t.Context()
	half := strings.Repeat("v", engine.TxnMemoryMin/2)
	for name, end := range map[string]func() error{
		"commit":   func() error { _, err := one.Commit(ctx); return err },
		"rollback": one.Rollback,
		"close":    one.Close,
		"conflict": func() error {
			put(t, trusted(e), "t.read", "x")
			_, err := one.Commit(ctx)
			return ignore(err, engine.ErrConflict)
		},
	} {
		must(t, one.Begin(ctx))
		must(t, two.Begin(ctx))
		_, err := one.Get(ctx, []byte("t.read"))
		must(t, ignore(err, engine.ErrNotFound))
		put(t, one, "t.one", half)
		_, err = two.Put(ctx, request("t.two", half))
		wantErr(t, err, engine.ErrUnavailable)
		put(t, two, "t.two", "small")
		must(t, end())
		put(t, two, "t.two", half)
		if _, err := two.Commit(ctx); err != nil {
			t.Fatal(name, err)
		}
		if held := figure(t, figures, "atlas_engine_transactions_memory_bytes"); held != 0 {
			t.Fatalf("after %s %v bytes are held", name, held)
		}
	}

	// Reads count as well.
	must(t, one.Begin(ctx))
	var err error
	for i := 0; err == nil && i < engine.TxnReadsMax; i++ {
		_, err = one.Get(ctx, fmt.Appendf(nil, "t.%0*d", 1000, i))
		err = ignore(err, engine.ErrNotFound)
	}
	wantErr(t, err, engine.ErrUnavailable)
	must(t, one.Rollback())
}

// ignore is err, or nil if it is the one expected.
func ignore(err, expected error) error {
	if errors.Is(err, expected) {
		return nil
	}
	return err
}

// figure is the value of a counter or gauge.
func figure(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatal("no figure ", name)
	return 0
}

// A transaction may read as many ranges as the limit says, and writes at its end. It was once refused at the commit past a quarter of
// that, after all its work. G25.
func TestTxnReadsAtTheLimit(t *testing.T) {
	e := open(t, vfs.NewMem())
	s := trusted(e)
	scan := func() error {
		sc, err := s.Scan(t.Context(), engine.ScanRequest{Prefix: []byte("t")})
		if err != nil {
			return err
		}
		sc.Next()
		return sc.Close()
	}
	must(t, s.Begin(t.Context()))
	for range engine.TxnReadsMax {
		must(t, scan())
	}
	wantErr(t, scan(), engine.ErrTooLarge)
	put(t, s, "t.k", "x")
	if _, err := s.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	must(t, s.Begin(t.Context()))
	must(t, scan())
	put(t, trusted(e), "t.a", "x")
	put(t, s, "t.k", "y")
	_, err := s.Commit(t.Context())
	wantErr(t, err, engine.ErrConflict)
}

// Writes that were taken back hold no memory: a statement that fails again and again in one transaction once took all that there is
// for the transactions of everybody.
func TestTxnMemoryOfWritesTakenBack(t *testing.T) {
	figures := prometheus.NewRegistry()
	e := open(t, vfs.NewMem(), func(o *engine.Options) { o.TxnMemory, o.Registry = engine.TxnMemoryMin, figures })
	txn, err := trusted(e).BeginTxn(t.Context())
	must(t, err)
	held := func() float64 { return figure(t, figures, "atlas_engine_transactions_memory_bytes") }
	must(t, txn.Put(request("t.a", "kept")))
	before := held()
	for i := range 10 {
		mark := txn.Savepoint()
		must(t, txn.Put(request("t.a", strings.Repeat("v", engine.TxnMemoryMin/4))))
		must(t, txn.Put(request(fmt.Sprint("t.b", i), strings.Repeat("v", engine.TxnMemoryMin/4))))
		must(t, txn.Delete(engine.DeleteRequest{Key: []byte("t.c")}))
		if held() < before+engine.TxnMemoryMin/2 {
			t.Fatalf("%v bytes are held with the writes, %v before", held(), before)
		}
		must(t, txn.RollbackTo(mark))
		if held() != before {
			t.Fatalf("%v bytes are held after the writes were taken back, %v before", held(), before)
		}
	}
	if _, err := txn.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if held() != 0 {
		t.Fatalf("%v bytes are held after the end", held())
	}
}
