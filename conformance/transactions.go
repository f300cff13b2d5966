// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/atlas-edge/atlas/conformance/history"
)

// errConflict is how a transaction of a case ends that was refused, as it may be.
var errConflict = errors.New("conflict")

// txn runs the commands of f in a transaction. It returns errConflict when the transaction was refused, and checks that
// nothing is left open.
func (c *conn) txn(f func() error) error {
	if _, err := c.must("BEGIN"); err != nil {
		return err
	}
	if err := f(); err != nil {
		_, rollback := c.must("ROLLBACK")
		return errors.Join(err, rollback)
	}
	r, err := c.do("COMMIT")
	switch {
	case err != nil:
		return err
	case r.word() == "conflict":
		return errConflict
	case r.fail != "":
		return fmt.Errorf("COMMIT: %s", r.fail)
	}
	return nil
}

// number reads a key that holds a number.
func (c *conn) number(key string) (int, error) {
	lines, err := c.must("KEY GET " + key)
	if err != nil {
		return 0, err
	}
	s, ok := strings.CutPrefix(lines[0], "VALUE:")
	if !ok {
		return 0, fmt.Errorf("%s is %q", key, lines)
	}
	return strconv.Atoi(s)
}

// put writes a number.
func (c *conn) put(key string, n int) error {
	_, err := c.must(fmt.Sprintf("KEY PUT %s %d", key, n))
	return err
}

// scanTexts reads all rows of a table: keys and text values.
func (c *conn) scanTexts(table string) (keys, values []string, err error) {
	lines, err := c.must("SCAN " + table + " VALUES")
	if err != nil {
		return nil, nil, err
	}
	for i := 1; i+1 < len(lines); i += 2 {
		v, ok := strings.CutPrefix(lines[i+1], "VALUE:")
		if !ok {
			return nil, nil, fmt.Errorf("scan gives %q after %q", lines[i+1], lines[i])
		}
		keys, values = append(keys, lines[i]), append(values, v)
	}
	if lines[0] != fmt.Sprintf("KEYS:%d", len(keys)) {
		return nil, nil, fmt.Errorf("scan begins with %q and gives %d keys", lines[0], len(keys))
	}
	return keys, values, nil
}

// scanSnapshots sets several keys to one value in each transaction, from two writers, while others scan: every scan must
// see one value in all keys, and a scan inside of a transaction the same twice. (G4, G8)
func (e *env) scanSnapshots(ctx context.Context) error {
	const rows, writers, readers = 6, 2, 3
	table := e.freshTable()
	var done atomic.Bool
	var left atomic.Int32
	left.Store(writers)
	return together(writers+readers, func(i int) error {
		defer func() {
			if i < writers && left.Add(-1) == 0 {
				done.Store(true)
			}
		}()
		return e.with(ctx, func(c *conn) error {
			if i < writers {
				return e.writeTogether(c, table, i, rows)
			}
			for n := 0; !done.Load() || n < 10; n++ {
				if err := c.scanEqual(table, rows, i%2 == 0); err != nil {
					return err
				}
				e.operations.Add(1)
			}
			return nil
		})
	})
}

func (e *env) writeTogether(c *conn, table string, writer, rows int) error {
	for n := range e.scaled(60) {
		err := c.txn(func() error {
			for r := range rows {
				if _, err := c.must(fmt.Sprintf("KEY PUT %s.r%d w%d-%d", table, r, writer, n)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil && !errors.Is(err, errConflict) {
			return err
		}
		e.operations.Add(1)
	}
	return nil
}

func (c *conn) scanEqual(table string, rows int, inTxn bool) error {
	look := func() ([]string, error) {
		_, values, err := c.scanTexts(table)
		if err != nil {
			return nil, err
		}
		if len(values) != 0 && len(values) != rows {
			return nil, fmt.Errorf("a scan sees %d of %d rows written together", len(values), rows)
		}
		for _, v := range values {
			if v != values[0] {
				return nil, fmt.Errorf("a scan sees parts of two transactions: %q", values)
			}
		}
		return values, nil
	}
	if !inTxn {
		_, err := look()
		return err
	}
	err := c.txn(func() error {
		first, err := look()
		if err != nil {
			return err
		}
		again, err := look()
		if err == nil && !slices.Equal(first, again) {
			err = fmt.Errorf("a transaction sees %q and then %q", first, again)
		}
		return err
	})
	if errors.Is(err, errConflict) {
		return nil
	}
	return err
}

// bank moves money between accounts in transactions, some of which are refused, while others add all accounts up: the
// total never changes, and in the end each account holds what the answered transactions say. (G16)
func (e *env) bank(ctx context.Context) error {
	const accounts, each, tellers, auditors = 5, 100, 4, 2
	table := e.freshTable()
	account := func(i int) string { return fmt.Sprintf("%s.a%d", table, i) }
	err := e.with(ctx, func(c *conn) error {
		for i := range accounts {
			if err := c.put(account(i), each); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var moved [accounts]atomic.Int64
	var committed atomic.Int64
	var left atomic.Int32
	left.Store(tellers)
	err = together(tellers+auditors, func(i int) error {
		if i < tellers {
			defer left.Add(-1)
		}
		return e.with(ctx, func(c *conn) error {
			if i >= tellers {
				for n := 0; left.Load() > 0 || n < 10; n++ {
					if err := c.audit(table, accounts*each); err != nil {
						return err
					}
					e.operations.Add(1)
				}
				return nil
			}
			rng := e.rng(uint64(200 + i))
			for range e.scaled(100) {
				from, to, sum := rng.IntN(accounts), rng.IntN(accounts), 1+rng.IntN(20)
				if from == to {
					continue
				}
				err := c.txn(func() error { return c.transfer(account(from), account(to), sum) })
				if err != nil && !errors.Is(err, errConflict) {
					return err
				}
				if err == nil {
					committed.Add(1)
					moved[from].Add(int64(-sum))
					moved[to].Add(int64(sum))
				}
				e.operations.Add(1)
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	if committed.Load() == 0 {
		return errors.New("every transfer was refused")
	}
	return e.with(ctx, func(c *conn) error {
		for i := range accounts {
			got, err := c.number(account(i))
			if want := each + int(moved[i].Load()); err != nil || got != want {
				return fmt.Errorf("account %d holds %d, want %d: %w", i, got, want, err)
			}
		}
		return nil
	})
}

func (c *conn) transfer(from, to string, sum int) error {
	a, err := c.number(from)
	if err != nil {
		return err
	}
	b, err := c.number(to)
	if err != nil {
		return err
	}
	return errors.Join(c.put(from, a-sum), c.put(to, b+sum))
}

func (c *conn) audit(table string, want int) error {
	_, values, err := c.scanTexts(table)
	if err != nil {
		return err
	}
	total := 0
	for _, v := range values {
		n, err := strconv.Atoi(v)
		if err != nil {
			return err
		}
		total += n
	}
	if total != want {
		return fmt.Errorf("accounts add up to %d, want %d: %q", total, want, values)
	}
	return nil
}

// writeSkew has two transactions read the same keys and write different ones, in step: at most one of them may commit.
// So too when what they read is a range that holds nothing yet. (G16)
func (e *env) writeSkew(ctx context.Context) error {
	return e.with(ctx, func(a *conn) error {
		return e.with(ctx, func(b *conn) error {
			for range e.scaled(20) {
				table := e.freshTable()
				if err := errors.Join(a.put(table+".x", 1), a.put(table+".y", 1)); err != nil {
					return err
				}
				looks := []string{"KEY GET " + table + ".x", "KEY GET " + table + ".y"}
				if err := skew(a, b, looks, []string{"KEY PUT " + table + ".x 0", "KEY PUT " + table + ".y 0"}); err != nil {
					return fmt.Errorf("keys: %w", err)
				}
				empty := e.freshTable()
				for _, look := range []string{"SCAN " + empty, "COUNT " + empty, "SCAN " + empty + ".r REVERSE LIMIT 5", "KEY GET " + empty + ".rb"} {
					puts := []string{"KEY PUT " + empty + ".ra 1", "KEY PUT " + empty + ".rb 1"}
					looks := []string{look, "KEY GET " + empty + ".ra"}
					if err := skew(a, b, looks, puts); err != nil {
						return fmt.Errorf("%s: %w", look, err)
					}
					for _, k := range []string{".ra", ".rb"} {
						if _, err := a.must("KEY DEL " + empty + k); err != nil {
							return err
						}
					}
				}
				e.operations.Add(5)
			}
			return nil
		})
	})
}

// skew runs two transactions in step: both look, then each puts its own, then both commit.
func skew(a, b *conn, looks, puts []string) error {
	both := [2]*conn{a, b}
	for i, c := range both {
		for _, command := range slices.Concat([]string{"BEGIN"}, looks, puts[i:i+1]) {
			if _, err := c.must(command); err != nil {
				return err
			}
		}
	}
	committed := 0
	for _, c := range both {
		r, err := c.do("COMMIT")
		if err != nil {
			return err
		}
		switch r.word() {
		case "":
			committed++
		case "conflict":
		default:
			return fmt.Errorf("COMMIT: %s", r.fail)
		}
	}
	if committed != 1 {
		return fmt.Errorf("%d of two transactions that exclude each other committed", committed)
	}
	return nil
}

// watches has watchers follow a table from before its first write: one without a break, one that leaves and resumes again
// and again, one of a prefix only, and one that replays everything at the end. All must tell the same story, which is
// that of the writers. (G18, G19, G20, G21)
func (e *env) watches(ctx context.Context) error {
	const writers = 4
	table := e.freshTable()
	from, err := e.mark(ctx, table)
	if err != nil {
		return err
	}
	rec := newRecorder()
	stories := make([][]history.Change, 3)
	var left atomic.Int32
	left.Store(writers)
	err = together(writers+3, func(i int) (err error) {
		switch i {
		case 0:
			stories[0], err = e.follow(ctx, table, table, from, 0)
		case 1:
			stories[1], err = e.follow(ctx, table, table, from, 7)
		case 2:
			stories[2], err = e.follow(ctx, table, table+".k1", from, 0)
		default:
			err = e.with(ctx, func(c *conn) error {
				k := &keyClient{c: c, id: i, table: table, keys: 4, rng: e.rng(uint64(300 + i)), rec: rec, seen: map[string]uint64{}}
				for range e.scaled(150) {
					if err := k.next(); err != nil {
						return err
					}
				}
				return nil
			})
			if left.Add(-1) == 0 {
				// The row at which every watcher stops, inside and outside of the prefix.
				err = errors.Join(err, e.with(ctx, func(c *conn) error {
					_, err := c.must("KEY PUT " + table + ".k1end x")
					return err
				}))
			}
		}
		return err
	})
	if err != nil {
		return err
	}
	all, err := e.replay(ctx, table, from)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(c history.Change) bool { return c.Key == table+".k1end" })
	prefixed := slices.DeleteFunc(slices.Clone(all), func(c history.Change) bool { return c.Key != table+".k1" })
	for i, want := range [][]history.Change{all, all, prefixed} {
		if !slices.Equal(stories[i], want) {
			return fmt.Errorf("watcher %d tells %d changes, a replay %d; they part at %d", i, len(stories[i]), len(want),
				partsAt(stories[i], want))
		}
	}
	return e.judge(rec.all(), all)
}

func partsAt(a, b []history.Change) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// follow watches a prefix from a version until the row k1end is written. With a limit it leaves after that many events, and
// resumes from the last version before the one that it was in the middle of, since one commit may make several events.
func (e *env) follow(ctx context.Context, table, prefix string, from uint64, limit int) (story []history.Change, err error) {
	for {
		ended := false
		err := e.with(ctx, func(c *conn) error {
			w, err := c.watch(prefix, from)
			if err != nil {
				return err
			}
			for n := 0; limit == 0 || n < limit; n++ {
				ev, err := w.next()
				if err != nil {
					return err
				}
				if ev.Key == table+".k1end" {
					ended = true
					return nil
				}
				story = append(story, ev)
			}
			return nil
		})
		if err != nil || ended {
			return story, err
		}
		last := story[len(story)-1].Version
		for len(story) > 0 && story[len(story)-1].Version == last {
			story = story[:len(story)-1]
		}
		if len(story) > 0 {
			from = story[len(story)-1].Version
		}
	}
}

// pages walks a table by pages, forward and back, while other rows come and go: the rows that stay appear once each, in
// order. (G8)
func (e *env) pages(ctx context.Context) error {
	const stay, size = 150, 20
	table := e.freshTable()
	var want []string
	err := e.with(ctx, func(c *conn) error {
		for i := range stay {
			key := fmt.Sprintf("%s.s%03d", table, i)
			want = append(want, key)
			if err := c.put(key, i); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var done atomic.Bool
	return together(3, func(i int) error {
		if i < 2 {
			defer done.Store(true)
		}
		return e.with(ctx, func(c *conn) error {
			if i == 2 {
				rng := e.rng(400)
				for !done.Load() {
					key := fmt.Sprintf("%s.s%03dx", table, rng.IntN(stay))
					if err := errors.Join(c.put(key, 1), c.want("KEY DEL "+key, "OK")); err != nil {
						return err
					}
				}
				return nil
			}
			for range e.scaled(5) {
				if err := c.walkPages(table, size, i == 1, want); err != nil {
					return err
				}
				e.operations.Add(stay / size)
			}
			return nil
		})
	})
}

func (c *conn) walkPages(table string, size int, reverse bool, want []string) error {
	var got []string
	command, after := fmt.Sprintf("SCAN %s LIMIT %d", table, size), ""
	if reverse {
		command += " REVERSE"
	}
	for {
		lines, err := c.must(command + after)
		if err != nil {
			return err
		}
		keys := lines[1:]
		if lines[0] != fmt.Sprintf("KEYS:%d", len(keys)) || len(keys) > size {
			return fmt.Errorf("page begins with %q and has %d keys", lines[0], len(keys))
		}
		for _, k := range keys {
			if !strings.HasSuffix(k, "x") {
				got = append(got, k)
			}
		}
		if len(keys) == 0 {
			break
		}
		after = " AFTER " + keys[len(keys)-1]
	}
	if reverse {
		slices.Reverse(got)
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("pages give %d rows that stay, want %d, or in another order", len(got), len(want))
	}
	return nil
}
