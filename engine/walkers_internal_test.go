// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/engine/storage"
)

// walker writes to keys that are its own, so that it knows what becomes of each command, in groups that it shares with the others.
type walker struct {
	x     *walk
	s     *Session
	index int
	rng   *rand.Rand
	own   map[string]*walkChange // by whole key
	n     walkCounts
}

// rest draws one of the walker's keys; false if it has none in that group.
func (w *walker) rest(g *walkGroup) (string, bool) {
	if w.index >= g.keys {
		return "", false
	}
	return fmt.Sprintf("%s.%02d", g.tables[w.rng.IntN(len(g.tables))], w.index+walkersMax*w.rng.IntN((g.keys-w.index+walkersMax-1)/walkersMax)), true
}

func (w *walker) value() []byte {
	size := w.rng.IntN(40)
	switch w.rng.IntN(60) {
	case 0:
		size = storage.InlineLenMax + w.rng.IntN(3) - 1
	case 1, 2, 3:
		size = storage.CarriedValueLenMax + w.rng.IntN(3) - 1
	}
	return append(fmt.Appendf(nil, "%d ", w.rng.Uint32()), bytes.Repeat([]byte{'x'}, size)...)[:size]
}

// request draws a put of a key.
func (w *walker) request(g *walkGroup, rest string) PutRequest {
	r := PutRequest{Key: g.key(rest), Value: w.value()}
	switch w.rng.IntN(24) {
	case 0:
		r.TTL = time.Duration(1 + w.rng.IntN(int(time.Minute)))
	case 1:
		r.TTL = time.Hour
	case 2:
		if g.keys == 18 || g.keys == 8 { // the others stay light
			r.WormTTL = time.Duration(1 + w.rng.IntN(int(time.Minute)))
		}
	}
	return r
}

// done notes what became of a command, and says what it should not have been. lo and hi are times of the clock before and after.
func (w *walker) done(g *walkGroup, at uint64, changes ...walkChange) error {
	w.n.writes++
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range changes {
		c := &changes[i]
		c.at = at
		if last := w.own[g.name+c.rest]; last != nil {
			if last.at >= at {
				return fmt.Errorf("%s%s has version %d after %d", g.name, c.rest, at, last.at)
			}
			if last.kind == storage.ChangePut && last.worm > at {
				return fmt.Errorf("%s%s, write-once until %d, was changed at %d", g.name, c.rest, last.worm, at)
			}
		}
		w.own[g.name+c.rest] = c
	}
	if g.acked[at] != nil {
		return fmt.Errorf("two commands of %s got version %d", g.name, at)
	}
	g.acked[at] = changes
	g.slots++
	g.newest = max(g.newest, at)
	return nil
}

// write puts or deletes one key.
func (w *walker) write(ctx context.Context, g *walkGroup, rest string) error {
	last := w.own[g.name+rest]
	if last == nil {
		last = &walkChange{kind: storage.ChangeDelete}
	}
	r := w.request(g, rest)
	lo := w.x.e.clock.Wall()
	holds := func(now uint64) bool { return true } // whether the condition does
	var version uint64
	var err error
	remove := false
	switch w.rng.IntN(12) {
	case 0:
		r.IfAbsent = true
		holds = func(now uint64) bool { return !last.live(now) }
	case 1, 2:
		wrong := w.rng.IntN(4) == 0
		v := last.at
		if wrong {
			v++
		}
		r.IfVersion = &v
		holds = func(now uint64) bool {
			if last.live(now) {
				return !wrong
			}
			return v == 0
		}
	case 3, 4:
		remove = true
	}
	if remove {
		version, err = w.s.Delete(ctx, DeleteRequest{Key: r.Key})
	} else {
		version, err = w.s.Put(ctx, r)
	}
	hi := w.x.e.clock.Wall()
	switch {
	case errors.Is(err, ErrDenied):
		w.n.refused++
		if last.kind != storage.ChangePut || last.worm <= lo {
			return fmt.Errorf("%s, write-once until %d, is denied at %d", r.Key, last.worm, lo)
		}
		g.decided()
		return nil
	case errors.Is(err, ErrConflict):
		w.n.refused++
		if holds(lo) && holds(hi) {
			return fmt.Errorf("%s is refused, and has the right version %d: %w", r.Key, last.at, err)
		}
		g.decided()
		return nil
	case err != nil:
		return err
	case version == 0:
		if !remove || last.live(lo) && last.live(hi) {
			return fmt.Errorf("%s is written at 0, and has version %d", r.Key, last.at)
		}
		g.decided()
		return nil
	}
	if !holds(version) {
		return fmt.Errorf("%s has version %d, and was written with %+v at %d", r.Key, last.at, r, version)
	}
	c := changeOf(rest, version, &r)
	if remove {
		c = walkChange{kind: storage.ChangeDelete, rest: rest}
	}
	return w.done(g, version, c)
}

// changeOf is what a put makes of a key at that time.
func changeOf(rest string, at uint64, r *PutRequest) walkChange {
	c := walkChange{kind: storage.ChangePut, rest: rest, value: string(r.Value)}
	if r.TTL > 0 {
		c.expires = at + uint64(r.TTL)
	}
	if r.WormTTL > 0 {
		c.worm = at + uint64(r.WormTTL)
	}
	return c
}

// burst hands several puts over before it waits for any, so that some share a round.
func (w *walker) burst(ctx context.Context, g *walkGroup) error {
	type handed struct {
		write Write
		rest  string
		r     PutRequest
	}
	var all []handed
	for range 2 + w.rng.IntN(8) {
		rest, ok := w.rest(g)
		if last := w.own[g.name+rest]; !ok || last != nil && last.worm != 0 {
			continue
		}
		h := handed{rest: rest, r: PutRequest{Key: g.key(rest), Value: w.value()}}
		var err error
		if h.write, err = w.s.PutLater(ctx, h.r); err != nil {
			return err
		}
		all = append(all, h)
	}
	for i := range all {
		version, err := all[i].write.Wait(ctx)
		if err != nil {
			return err
		}
		if err := w.done(g, version, changeOf(all[i].rest, version, &all[i].r)); err != nil {
			return err
		}
	}
	return nil
}

// read reads one of the walker's keys.
func (w *walker) read(ctx context.Context, g *walkGroup, rest string) error {
	item, err := w.s.Get(ctx, g.key(rest))
	return w.compare(g, rest, item, err)
}

func (w *walker) compare(g *walkGroup, rest string, item *Item, err error) error {
	last := w.own[g.name+rest]
	if errors.Is(err, ErrNotFound) {
		if last != nil && last.live(w.x.e.clock.Wall()) {
			return fmt.Errorf("%s%s is absent, want version %d", g.name, rest, last.at)
		}
		return nil
	}
	if err != nil {
		return err
	}
	value, err := item.Bytes()
	if err := errors.Join(err, item.Close()); err != nil {
		return err
	}
	// One that has expired by now may be there while another's write is being synced: see G11.
	if last == nil || last.kind != storage.ChangePut || item.Version != last.at || string(value) != last.value {
		return fmt.Errorf("%s%s reads version %d of %d bytes, want %+v", g.name, rest, item.Version, len(value), last)
	}
	return nil
}

// txn writes several keys at once, on what it read.
func (w *walker) txn(ctx context.Context, g *walkGroup) error {
	txn, err := w.s.BeginTxn(ctx)
	if err != nil {
		return err
	}
	w.n.txns++
	u := walkTxn{w: w, g: g, txn: txn, lo: w.x.e.clock.Wall(), read: make(map[string]bool), written: make(map[string]*PutRequest)}
	size := 1 + w.rng.IntN(4)
	if w.rng.IntN(30) == 0 {
		size = 40
	}
	for range size {
		if err := u.step(ctx); err != nil {
			return errors.Join(err, txn.Rollback())
		}
	}
	if err := u.disturb(ctx); err != nil {
		return errors.Join(err, txn.Rollback())
	}
	return u.commit(ctx)
}

// walkTxn is a transaction that is under way.
type walkTxn struct {
	w       *walker
	g       *walkGroup
	txn     *Txn
	lo      uint64                 // when it began
	read    map[string]bool        // keys
	written map[string]*PutRequest // nil: deleted
	scans   []walkRead
	may     bool // it may be refused
	must    bool // it must be
}

func (u *walkTxn) step(ctx context.Context) error {
	w, g := u.w, u.g
	rest, ok := w.rest(g)
	if _, wrote := u.written[rest]; !ok || wrote {
		return nil
	}
	switch w.rng.IntN(5) {
	case 0:
		u.read[rest] = true
		item, err := u.txn.Get(g.key(rest))
		if last := w.own[g.name+rest]; last == nil || last.expires == 0 {
			return w.compare(g, rest, item, err)
		}
		u.may = true
		if err == nil {
			err = item.Close()
		} else if errors.Is(err, ErrNotFound) {
			err = nil
		}
		return err
	case 1:
		u.may = true
		return u.scan(ctx)
	case 2:
		u.written[rest] = nil
		return u.txn.Delete(DeleteRequest{Key: g.key(rest)})
	default:
		r := w.request(g, rest)
		u.written[rest] = &r
		return u.txn.Put(r)
	}
}

// disturb writes some of what was read beside the transaction.
func (u *walkTxn) disturb(ctx context.Context) error {
	for rest := range u.read {
		_, wrote := u.written[rest]
		if last := u.w.own[u.g.name+rest]; wrote || last != nil && last.worm != 0 || u.w.rng.IntN(8) > 0 {
			continue
		}
		r := PutRequest{Key: u.g.key(rest), Value: []byte("beside")}
		version, err := u.w.s.Put(ctx, r)
		if err == nil {
			err = u.w.done(u.g, version, changeOf(rest, version, &r))
		}
		if err != nil {
			return err
		}
		u.must = true
	}
	return nil
}

func (u *walkTxn) commit(ctx context.Context) error {
	w, g := u.w, u.g
	rests := slices.Sorted(maps.Keys(u.written))
	worm := slices.ContainsFunc(rests, func(rest string) bool {
		last := w.own[g.name+rest]
		return last != nil && last.kind == storage.ChangePut && last.worm > u.lo
	})
	version, err := u.txn.Commit(ctx)
	g.mu.Lock()
	may := u.may || u.must || g.granted
	g.mu.Unlock()
	switch {
	case err == nil && u.must && version > 0:
		return fmt.Errorf("a transaction of %s commits at %d, and what it read was written", g.name, version)
	case err == nil:
	case errors.Is(err, ErrDenied) && worm:
	case errors.Is(err, ErrConflict) && may:
		w.n.conflicts++
	default:
		return fmt.Errorf("a transaction of %s: %w", g.name, err)
	}
	g.mu.Lock()
	for _, r := range u.scans {
		r.commit = version
		g.reads = append(g.reads, r)
	}
	g.mu.Unlock()
	if version == 0 {
		return nil
	}
	var changes []walkChange
	for _, rest := range rests {
		if r := u.written[rest]; r != nil {
			changes = append(changes, changeOf(rest, version, r))
		} else if last := w.own[g.name+rest]; last != nil && last.live(version) {
			changes = append(changes, walkChange{kind: storage.ChangeDelete, rest: rest})
		}
	}
	return w.done(g, version, changes...)
}

// scan notes what the transaction sees of a table, but for what its own writes hide.
func (u *walkTxn) scan(ctx context.Context) (err error) {
	g := u.g
	prefix := g.tables[u.w.rng.IntN(len(g.tables))] + "."
	scan, err := u.txn.Scan(ctx, ScanRequest{Prefix: g.key(prefix), Values: true, Reverse: u.w.rng.IntN(2) == 0})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	read := walkRead{at: u.txn.at, now: u.txn.now, prefix: prefix, hidden: make(map[string]bool)}
	for rest := range u.written {
		read.hidden[rest] = true
	}
	for scan.Next() {
		rest := string(scan.Key()[len(g.name):])
		value, err := scan.Item().Bytes()
		if err != nil {
			return err
		}
		if !read.hidden[rest] {
			read.rows = append(read.rows, row(rest, scan.Item().Version, string(value)))
		}
	}
	slices.Sort(read.rows)
	u.scans = append(u.scans, read)
	return scan.Err()
}

// walk does one thing.
func (w *walker) walk(ctx context.Context) error {
	g := w.x.pick(w.rng)
	rest, ok := w.rest(g)
	if !ok {
		return nil
	}
	switch w.rng.IntN(24) {
	case 0:
		return w.burst(ctx, g)
	case 1, 2:
		return w.txn(ctx, g)
	case 3, 4, 5, 6:
		return w.read(ctx, g, rest)
	case 7:
		if g.keys == 4 { // the others stay light
			return w.grant(ctx, g, rest)
		}
	}
	for range 1 + w.rng.IntN(6) {
		if err := w.write(ctx, g, rest); err != nil {
			return err
		}
		rest, _ = w.rest(g)
	}
	return nil
}

func (w *walker) grant(ctx context.Context, g *walkGroup, rest string) error {
	g.mu.Lock()
	g.granted = true
	g.mu.Unlock()
	object := g.key(g.tables[0])
	if w.rng.IntN(2) == 0 {
		object = g.key(rest)
	}
	g.decided()
	return w.s.Grant(ctx, object, fmt.Sprint("p", w.rng.IntN(3)), PermRead)
}

// follower watches a table, and begins again now and then.
type follower struct {
	g      *walkGroup
	s      *Session
	rng    *rand.Rand
	prefix string // of rests
	from   uint64
	events []Event
	watch  *Watch
	n      walkCounts
}

func (f *follower) open(from uint64) (err error) {
	f.watch, err = f.s.Watch(context.Background(), WatchRequest{Prefix: f.g.key(f.prefix), From: &from})
	return err
}

// run follows until ctx ends.
func (f *follower) run(ctx context.Context) error {
	for {
		ev, err := f.watch.Next(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("watch of %s: %w", f.g.key(f.prefix), err)
		}
		f.n.events++
		f.events = append(f.events, ev)
		if f.rng.IntN(10) > 0 {
			continue
		}
		// The last version may not be whole: begin before it.
		for len(f.events) > 0 && f.events[len(f.events)-1].Version == ev.Version {
			f.events = f.events[:len(f.events)-1]
		}
		f.n.resumed++
		if err := errors.Join(f.watch.Close(), f.open(ev.Version-1)); err != nil {
			return fmt.Errorf("watch of %s from %d: %w", f.g.key(f.prefix), ev.Version-1, err)
		}
	}
}

// check reads to the present, and compares with the history.
func (f *follower) check() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		ev, err := f.watch.Next(ended)
		if errors.Is(err, ErrUnavailable) {
			break
		}
		if err != nil {
			return err
		}
		f.events = append(f.events, ev)
	}
	var want, got []string
	show := func(kind EventKind, at uint64, key []byte) string { return fmt.Sprintf("%d %d %s", kind, at, key) }
	for _, c := range f.g.history {
		if c.at <= f.from || !strings.HasPrefix(c.rest, f.prefix) {
			continue
		}
		kind := EventDelete
		if c.kind == storage.ChangePut {
			kind = EventPut
		}
		want = append(want, show(kind, c.at, f.g.key(c.rest)))
	}
	for _, ev := range f.events {
		got = append(got, show(ev.Kind, ev.Version, ev.Key))
	}
	if !slices.Equal(got, want) {
		return fmt.Errorf("from %d it gives %d events:\n%s\nwant %d:\n%s", f.from, len(got), strings.Join(got, "\n"), len(want), strings.Join(want, "\n"))
	}
	return f.watch.Close()
}
