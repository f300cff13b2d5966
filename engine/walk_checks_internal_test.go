// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/engine/storage"
)

// settle waits until the last round of the group has ended: a write is acknowledged a moment before, and until then the group's time
// stands still. The test's clock would go on by minutes meanwhile.
func (x *walk) settle(g *walkGroup) error {
	for now := x.e.clock.Read(); ; time.Sleep(100 * time.Microsecond) { // sleep: polls a condition that an event loop brings about
		view, err := x.e.replicator.ReadView(g.name)
		if err != nil || view.At >= now {
			return err
		}
	}
}

// slots is the number of commands that the disk says were decided.
func (x *walk) slots(g *walkGroup) (uint64, error) {
	rec, _, err := x.e.replicator.Record(g.name)
	if n := len(g.history); err == nil && n > 0 && rec.LastTime < g.history[n-1].at {
		err = fmt.Errorf("the record of group %s ends at %d, its history at %d", g.name, rec.LastTime, g.history[n-1].at)
	}
	return uint64(rec.Last), err
}

// changesOf reads a group's changes later than after.
func changesOf(s *storage.Store, g *walkGroup, after uint64) (list []walkChange, err error) {
	scan, err := s.Changes(g.name, after)
	if err != nil {
		return nil, err
	}
	seq := uint32(0)
	for scan.Next() {
		c := scan.Change()
		if n := len(list); n == 0 || list[n-1].at != c.Time {
			seq = 0
		}
		if c.Seq != seq {
			return nil, errors.Join(fmt.Errorf("change %+v, want seq %d", c, seq), scan.Close())
		}
		seq++
		list = append(list, walkChange{at: c.Time, kind: c.Kind, rest: string(c.Rest)})
	}
	return list, errors.Join(scan.Err(), scan.Close())
}

// learn takes the phase's changes into the history: those of the walkers, each once, and those of the sweeper.
func (x *walk) learn(g *walkGroup) error {
	after := x.began
	list, err := changesOf(x.e.store, g, after)
	if err != nil {
		return err
	}
	state := g.state(latest)
	for i := 0; i < len(list); {
		at := list[i].at
		if n := len(g.history); n > 0 && g.history[n-1].at >= at {
			return fmt.Errorf("a change at %d, after one at %d", at, g.history[n-1].at)
		}
		if want, ok := g.acked[at]; ok {
			delete(g.acked, at)
			for _, c := range want {
				if i == len(list) || list[i].at != at || list[i].kind != c.kind || list[i].rest != c.rest {
					return fmt.Errorf("at %d there are %+v, want %+v", at, list[i:], want)
				}
				i++
			}
			g.history = append(g.history, want...)
			if i < len(list) && list[i].at == at {
				return fmt.Errorf("at %d there is %+v, which nobody wrote", at, list[i])
			}
		} else {
			for ; i < len(list) && list[i].at == at; i++ {
				c := list[i]
				last := state[c.rest]
				if c.kind != storage.ChangeExpire || last == nil || last.kind != storage.ChangePut || last.expires == 0 || last.expires > at || last.worm > at {
					return fmt.Errorf("at %d there is %+v, which nobody wrote, of %+v", at, c, last)
				}
				x.n.expired++
				g.history = append(g.history, c)
			}
			g.slots++
		}
		for j := len(g.history) - 1; j >= 0 && g.history[j].at == at; j-- {
			c := g.history[j]
			state[c.rest] = &c
		}
	}
	for at, c := range g.acked {
		if len(c) > 0 {
			return fmt.Errorf("what was written at %d is missing: %+v", at, c)
		}
	}
	// Commands of the sweeper that came too late are not counted.
	if slots, err := x.slots(g); err != nil || slots < g.slots {
		return errors.Join(fmt.Errorf("the log has %d slots, %d commands were decided", slots, g.slots), err)
	}
	return x.checkReads(g)
}

// checkReads holds what transactions saw against the history.
func (x *walk) checkReads(g *walkGroup) error {
	for _, r := range g.reads {
		want := slices.DeleteFunc(g.rows(r.at, r.now, r.prefix), func(row string) bool {
			rest, _, _ := strings.Cut(row, "@")
			return r.hidden[rest]
		})
		if !slices.Equal(r.rows, want) {
			return fmt.Errorf("a transaction at %d saw of %q\n%s\nwant\n%s", r.at, r.prefix, strings.Join(r.rows, "\n"), strings.Join(want, "\n"))
		}
		for _, c := range g.history {
			if c.at > r.at && c.at < r.commit && c.kind != storage.ChangeExpire && strings.HasPrefix(c.rest, r.prefix) {
				return fmt.Errorf("a transaction that saw %q at %d commits at %d, with %+v between", r.prefix, r.at, r.commit, c)
			}
		}
	}
	return nil
}

// check holds all that can be read against the history. Requires: nothing is under way.
func (x *walk) check() error {
	for _, g := range x.groups {
		if err := x.checkGroup(g); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	return nil
}

func (x *walk) checkGroup(g *walkGroup) error {
	ctx, store := x.t.Context(), x.e.store
	swept, err := store.SweptTo()
	if err != nil {
		return err
	}
	list, err := changesOf(store, g, 0)
	if err != nil {
		return err
	}
	want := slices.Clone(g.history)
	for i := range want {
		want[i] = walkChange{at: want[i].at, kind: want[i].kind, rest: want[i].rest}
	}
	want = slices.DeleteFunc(want, func(c walkChange) bool { return c.at <= swept })
	if !slices.Equal(list, want) {
		return fmt.Errorf("changes after %d: %+v, want %+v", swept, list, want)
	}
	newer := make(map[string]uint64)
	for i := len(g.history) - 1; i >= 0; i-- {
		c := &g.history[i]
		next, replaced := newer[c.rest]
		newer[c.rest] = c.at
		at := max(c.at, swept)
		if replaced && next <= at {
			continue
		}
		v, ok, err := store.GetAt(g.name, []byte(c.rest), at)
		if err != nil {
			return err
		}
		value, err := v.Bytes()
		got := v.Version()
		if err := errors.Join(err, v.Close()); err != nil {
			return err
		}
		if ok != (c.kind == storage.ChangePut) || ok && (got.Time != c.at || got.Expires != c.expires || got.WormUntil != c.worm || string(value) != c.value) {
			return fmt.Errorf("%s at %d: %v, %+v, want %+v", c.rest, at, ok, got, c)
		}
	}
	s := x.session()
	for _, table := range g.tables {
		before := x.e.clock.Wall()
		rows, err := x.scan(ctx, s, g, table)
		if err != nil {
			return err
		}
		count, err := s.Count(ctx, g.key(table))
		if err != nil {
			return err
		}
		sample, err := s.Sample(ctx, g.key(table), 100)
		if err != nil {
			return err
		}
		after := x.e.clock.Wall()
		want := g.rows(^uint64(0), before, table+".")
		if !slices.Equal(want, g.rows(^uint64(0), after, table+".")) {
			continue // something expires just now
		}
		if !slices.Equal(rows, want) || int(count) != len(want) || len(sample) != len(want) {
			return fmt.Errorf("table %q: %d counted, %d sampled, rows\n%s\nwant\n%s", table, count, len(sample), strings.Join(rows, "\n"), strings.Join(want, "\n"))
		}
	}
	return nil
}

func (x *walk) scan(ctx context.Context, s *Session, g *walkGroup, table string) (rows []string, err error) {
	scan, err := s.Scan(ctx, ScanRequest{Prefix: g.key(table), Values: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for scan.Next() {
		value, err := scan.Item().Bytes()
		if err != nil {
			return nil, err
		}
		rows = append(rows, row(string(scan.Key()[len(g.name):]), scan.Item().Version, string(value)))
	}
	return rows, scan.Err()
}

// cut goes on with what a directory holds: of each group a beginning of its history, with all that was acknowledged.
func (x *walk) cut(acked map[*walkGroup]uint64) error {
	for _, g := range x.groups {
		list, err := changesOf(x.e.store, g, 0)
		if err != nil {
			return err
		}
		var last uint64
		if len(list) > 0 {
			last = list[len(list)-1].at
		}
		last = max(last, x.began)
		if last < acked[g] {
			// What was written at acked may have changed nothing but what was written: it is in the history.
			return fmt.Errorf("group %s: the last change is at %d, %d was acknowledged", g.name, last, acked[g])
		}
		keep := len(g.history)
		for keep > 0 && g.history[keep-1].at > last {
			keep--
		}
		x.n.cut += uint64(len(g.history) - keep)
		g.history = g.history[:keep]
	}
	return nil
}

// checkCopy opens a copy of the directory that was made meanwhile.
func (x *walk) checkCopy(c *copied) error {
	own, histories := x.e, make(map[*walkGroup][]walkChange)
	for _, g := range x.groups {
		histories[g] = g.history
	}
	var err error
	x.e, err = Open(x.t.Context(), Options{
		Dir: c.dir, FS: c.fs, MinFreeBytes: -1, SweepInterval: time.Hour, Now: func() time.Time { return time.Unix(0, x.nanos.Add(1)) },
	})
	if err != nil {
		return err
	}
	err = errors.Join(x.cut(c.acked), x.check(), x.e.Close(), c.fs.RemoveAll(c.dir))
	x.e = own
	for _, g := range x.groups {
		g.history = histories[g]
	}
	return err
}

// collect has all that is old collected, and says what is left of it.
func (x *walk) collect() error {
	if err := errors.Join(x.expireAll(), x.collectAll(), x.check()); err != nil {
		return err
	}
	for _, g := range x.groups {
		newest := g.state(latest)
		for _, c := range g.history {
			if newest[c.rest].at == c.at && c.kind == storage.ChangePut {
				continue
			}
			v, _, err := x.e.store.GetAt(g.name, []byte(c.rest), c.at)
			if err == nil && v != nil {
				err = errors.Join(fmt.Errorf("group %s: version %d of %s is left", g.name, c.at, c.rest), v.Close())
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// expireAll has the sweeper delete what expires in some time.
func (x *walk) expireAll() error {
	x.nanos.Add(x.rng.Int64N(int64(2*keepTime)) + 1)
	x.began = x.e.clock.Wall()
	for more := true; more; {
		var err error
		if more, err = x.e.expire(x.t.Context()); err != nil {
			return err
		}
	}
	for _, g := range x.groups {
		g.acked, g.reads, g.slots = nil, nil, 0
		if err := errors.Join(x.settle(g), x.learn(g)); err != nil {
			return fmt.Errorf("group %s: %w", g.name, err)
		}
	}
	return nil
}

// collectAll collects until nothing is old, by rounds of the sweeper or by small steps. Nothing is written meanwhile.
func (x *walk) collectAll() error {
	ctx := x.t.Context()
	for !x.e.replicator.IsAhead() {
		time.Sleep(100 * time.Microsecond) // sleep: nothing is collected before
	}
	for range x.rng.IntN(3) { // with some of it old enough
		if err := x.e.collect(ctx); err != nil {
			return err
		}
		x.nanos.Add(x.rng.Int64N(int64(keepTime)))
	}
	steps := x.rng.IntN(2) == 0
	for range 2 { // the first may be the end of a round that was begun before
		x.nanos.Add(int64(2*keepTime) + 1)
		if !steps {
			if err := x.e.collect(ctx); err != nil {
				return err
			}
			continue
		}
		now, err := x.e.clock.Now()
		for more := true; more && err == nil; {
			var stats storage.CollectStats
			stats, more, err = x.e.store.CollectBefore(ctx, now-keepTime, 1+x.rng.IntN(200))
			x.n.collected += uint64(stats.Versions)
		}
		if err != nil {
			return err
		}
	}
	stats, more, err := x.e.store.CollectBefore(ctx, x.e.clock.Read()-keepTime, 1<<20)
	if err != nil || more || stats.Changes+stats.Versions > 0 {
		return errors.Join(fmt.Errorf("the collection leaves %+v, %v", stats, more), err)
	}
	return nil
}
