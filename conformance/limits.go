// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/atlas-edge/atlas/conformance/history"
)

const (
	watchesMax      = 256
	txnMutationsMax = 65_536
)

// putMany writes rows 0 to n-1 of a table in one transaction.
func (c *conn) putMany(table string, n int) error {
	return c.txn(func() error {
		return c.pipeline(n, func(i int) string { return fmt.Sprintf("KEY PUT %s.r%06d x", table, i) })
	})
}

// pipeline sends n commands that answer OK alone, without waiting in between.
func (c *conn) pipeline(n int, command func(i int) string) error {
	var group sync.WaitGroup
	var sendErr error
	group.Go(func() {
		var b strings.Builder
		for i := range n {
			b.WriteString(command(i) + "\r\n")
			if b.Len() > 32<<10 || i == n-1 {
				if sendErr = c.send(b.String()); sendErr != nil {
					return
				}
				b.Reset()
			}
		}
	})
	var err error
	for i := 0; i < n && err == nil; i++ {
		if err = c.expect("OK"); err != nil {
			err = errors.Join(fmt.Errorf("answer %d: %w", i, err), c.close())
		}
	}
	group.Wait()
	return errors.Join(err, sendErr)
}

// largeTransaction writes as much in one transaction as the limit allows, and one more: that one is refused by name, and
// what was there before can still be committed. (G4, G25)
func (e *env) largeTransaction(ctx context.Context) error {
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		err := c.txn(func() error {
			if err := c.pipeline(txnMutationsMax, func(i int) string { return fmt.Sprintf("KEY PUT %s.r%06d x", table, i) }); err != nil {
				return err
			}
			e.badInputs.Add(1)
			return c.refused("KEY PUT "+table+".more x", "too_large")
		})
		if err != nil {
			return err
		}
		e.operations.Add(txnMutationsMax)
		return c.want("COUNT "+table, fmt.Sprintf("COUNT:%d", txnMutationsMax), "OK")
	})
}

// manyWatches opens as many watches on one connection as may be, and one more, which is refused; the others go on. (G25)
func (e *env) manyWatches(ctx context.Context) error {
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		for i := range watchesMax {
			if err := c.send(fmt.Sprintf("[ID:w%d] WATCH %s\r\n", i, table)); err != nil {
				return err
			}
		}
		e.badInputs.Add(1)
		if err := c.send("[ID:more] WATCH " + table + "\r\n"); err != nil {
			return err
		}
		r, err := c.answer("[ID:more] ")
		if err != nil || r.word() != "too_large" {
			return fmt.Errorf("watch %d: %+v %w", watchesMax+1, r, err)
		}
		if err := e.with(ctx, func(c *conn) error { return c.want("KEY PUT "+table+".a x", "OK") }); err != nil {
			return err
		}
		seen := map[string]bool{}
		for range watchesMax {
			line, err := c.line()
			if err != nil {
				return err
			}
			if !strings.HasSuffix(line, " "+table+".a") || seen[line] {
				return fmt.Errorf("got %.200q, want one event for each watch", line)
			}
			seen[line] = true
		}
		e.operations.Add(watchesMax)
		return nil
	})
}

// deafWatcher opens a watch and does not read while very much changes. The node must not keep it all: the watch may end
// with an error, but what it told before is right, and a watch resumed from there tells the rest. Others are not
// affected. (G19, G20, G26)
func (e *env) deafWatcher(ctx context.Context) error {
	const rows = 4000
	table := e.freshTable()
	from, err := e.mark(ctx, table)
	if err != nil {
		return err
	}
	return e.with(ctx, func(deaf *conn) error {
		w, err := deaf.watch(table, from)
		if err != nil {
			return err
		}
		err = e.with(ctx, func(c *conn) error {
			for range e.scaled(8) {
				if err := c.putMany(table, rows); err != nil {
					return err
				}
				if err := c.want("COUNT "+table, fmt.Sprintf("COUNT:%d", rows+1), "OK"); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		want, err := e.replay(ctx, table, from)
		if err != nil {
			return err
		}
		e.operations.Add(int64(len(want)))
		var got []history.Change
		for len(got) < len(want) {
			ev, err := w.next()
			if err == nil {
				got = append(got, ev)
				continue
			}
			if !errors.Is(err, errWatchEnded) && !isEnd(err) {
				return err
			}
			break
		}
		for i := range got {
			if got[i] != want[i] {
				return fmt.Errorf("event %d is %v, want %v", i, got[i], want[i])
			}
		}
		return nil
	})
}
