// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// CollectStats counts what one CollectBefore removed, and the changes that it looked at.
type CollectStats struct {
	Looked, Changes, Versions, Large int
	// Earliest is the least time by which a record of changes that was passed over as later than floor can go; 0 if there was none.
	Earliest Timestamp
}

// collector remembers between calls where the collection stands: the key of the change index, or of an acceptor record, to go on from.
type collector struct {
	mu     sync.Mutex // one collection at a time; nothing else waits for it
	cursor []byte
	// carrying counts the commits since the start of batches in which versions carry records, each once it is there to be seen; a round need not walk
	// the small groups while it is what it was, plus one, before the state was fixed in which a round began to that left nothing to be
	// collected later: idle. began and left are of the round at hand.
	carrying    atomic.Uint64
	idle, began uint64
	left        bool
	carries     func(group string) bool // see CollectKnowing
}

// CollectKnowing tells the collection which small groups it may pass over: those of which carries is false. No version of theirs that had been
// committed before the call carries a stamp, but for what a later record came after. Requires: it is called before CollectBefore.
func (s *Store) CollectKnowing(carries func(group string) bool) { s.collect.carries = carries }

// CollectBefore removes what no read at or after floor can see, going by the change index: for each change not later
// than floor, all versions of its key older than the newest one not later than floor, and that one too if it is a
// tombstone; their chunks and TTL entries; and the change record. Then it goes through the keys of all small groups, of whose changes
// the index lacks some. The newest version of a key stays if it is live, with
// or without a change record. budget bounds the records looked at; more says that the round over all groups has not
// ended and the next call goes on with it. SweptTo rises to floor before anything is removed, and only then: where nothing is
// that old, all history is kept.
//
// What it removes need not be durable when it returns; what a crash brings back is collected again.
func (s *Store) CollectBefore(ctx context.Context, floor Timestamp, budget int) (stats CollectStats, more bool, err error) {
	s.collect.mu.Lock()
	defer s.collect.mu.Unlock()
	if err := s.enter(); err != nil {
		return stats, true, err
	}
	defer s.gate.leave()
	s.copying.RLock()
	err = s.orphans.retry(s.dropOrphan)
	s.copying.RUnlock()
	if err != nil {
		return stats, true, err
	}
	carrying := s.collect.carrying.Load() // before the state that is collected in
	versions, err := s.db.NewIter(&pointOptions)
	if err != nil {
		return stats, true, s.settle(err)
	}
	p := collection{s: s, floor: floor, carrying: carrying, versions: versions, b: s.NewBatch(), seen: map[string]struct{}{}}
	p.b.urgency = reclaims
	more, err = p.round(ctx, s.collect.cursor, budget)
	err = errors.Join(err, versions.Close())
	p.b.Close()
	if err = s.settle(err); err != nil {
		return p.stats, true, err
	}
	if s.collect.cursor = nil; more {
		s.collect.cursor = p.cursor
	}
	return p.stats, more, nil
}

// collection is one call of CollectBefore.
type collection struct {
	s        *Store
	floor    Timestamp
	carrying uint64 // commits that its state has all of
	versions *pebble.Iterator
	changes  *pebble.Iterator // of the same state: the change index, or then acceptor records
	b        *Batch
	seen     map[string]struct{} // group 00 rest that were done with
	group    []byte
	key      []byte
	cursor   []byte
	raised   bool // SweptTo is at floor
	stats    CollectStats
}

// round goes on with a round from cursor, nil for its beginning.
func (c *collection) round(ctx context.Context, cursor []byte, budget int) (more bool, err error) {
	if cursor == nil {
		cursor = []byte{kindChange, 0}
	}
	if cursor[0] == kindChange {
		if more, err = c.each(ctx, cursor, budget, c.indexed); err != nil || more {
			return more, err
		}
		if cursor, more = c.s.collect.small(c.carrying); !more {
			return false, c.b.Commit(false)
		}
	}
	if more, err = c.each(ctx, cursor, budget, c.small); err != nil || more {
		return more, err
	}
	if err := c.b.Commit(false); err != nil {
		return true, err
	}
	c.s.collect.smallDone()
	return false, nil
}

// each calls fn for the records of the first one's kind from there on; more says that it stopped before the end. fn moves the iterator on.
func (c *collection) each(ctx context.Context, from []byte, budget int, fn func() (ok bool, err error)) (more bool, err error) {
	c.changes, err = c.versions.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{LowerBound: from, UpperBound: []byte{from[0] + 1, 0}}})
	if err != nil {
		return true, err
	}
	defer func() { err = errors.Join(err, c.changes.Close()) }()
	for ok := c.changes.First(); ok; {
		if c.stats.Looked >= budget || ctx.Err() != nil {
			c.cursor = bytes.Clone(c.changes.Key())
			return true, errors.Join(c.b.Commit(false), ctx.Err())
		}
		if ok, err = fn(); err != nil {
			return true, err
		}
		if c.b.Len() >= collectCommitLen {
			if err := c.b.Commit(false); err != nil {
				return true, err
			}
			c.b.Reset()
			c.b.urgency = reclaims
		}
	}
	return false, c.changes.Error()
}

// indexed does with the record of the change index under the iterator.
func (c *collection) indexed() (ok bool, err error) {
	group, t, seq, err := splitTimedKey(c.changes.Key(), kindChange)
	if err != nil {
		return false, err
	}
	if t > c.floor {
		c.stats.Looked++
		c.passed(t)
		c.group = append(c.group[:0], group...)
		c.key = appendGroupEnd(c.key[:0], kindChange, string(c.group))
		return c.changes.SeekGE(c.key), nil
	}
	if err := c.raise(); err != nil {
		return false, err
	}
	if err := c.record(string(group), t, seq); err != nil {
		return false, err
	}
	return c.changes.Next(), nil
}

// raise raises SweptTo, before anything is removed.
func (c *collection) raise() error {
	if c.raised {
		return nil
	}
	c.raised = true
	return c.s.raise(&c.s.swept, nodeSweptTo, c.floor, false)
}

// record removes the record of the change index under the iterator, and what its changes made old.
func (c *collection) record(group string, t Timestamp, seq uint32) error {
	v, err := c.changes.ValueAndErr()
	if err != nil {
		return err
	}
	var r changeRecord
	if err := r.open(t, seq, v); err != nil {
		return err
	}
	for {
		change, ok, err := r.change()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		c.stats.Looked++
		c.stats.Changes++
		if err := c.change(group, change.Rest); err != nil {
			return err
		}
	}
	c.b.note(c.b.b.Delete(c.changes.Key(), nil))
	return nil
}

// change removes what the change of a key made old.
func (c *collection) change(group string, rest []byte) error {
	c.key = appendDataKey(c.key[:0], group, rest, c.floor)
	bare := c.key[:len(c.key)-versionLen]
	if _, done := c.seen[string(bare)]; done {
		return nil
	}
	c.seen[string(bare)] = struct{}{}
	for ok, first := c.versions.SeekPrefixGE(c.key), true; ok; ok, first = c.versions.Next(), false {
		v, err := versionAt(c.versions, groupLen(group))
		if err != nil {
			return err
		}
		if first && !v.Deleted {
			continue
		}
		c.remove(group, rest, &v)
	}
	return c.versions.Error()
}

// passed notes a change that is later than floor.
func (c *collection) passed(t Timestamp) {
	if c.stats.Earliest == 0 || t < c.stats.Earliest {
		c.stats.Earliest = t
	}
}

// remove takes away the version under the iterator.
func (c *collection) remove(group string, rest []byte, v *Version) {
	c.stats.Versions++
	c.b.note(c.b.b.Delete(c.versions.Key(), nil))
	if v.chunked {
		c.stats.Large++
		c.b.note(c.b.b.DeleteRange(appendChunkKey(nil, group, v.Time, v.Seq, 0), appendChunkEnd(nil, group, v.Time, v.Seq), nil))
	}
	if v.Expires != 0 {
		c.b.DropExpiry(ExpiredKey{Group: group, Rest: rest, Time: v.Time, Expires: v.Expires})
	}
}

// ExpiredKey names a version whose time to live has passed.
type ExpiredKey struct {
	Group   string
	Rest    []byte
	Time    Timestamp // the version
	Expires Timestamp
}

// Expired lists versions that expired at or before now and are still the newest of their keys, the longest expired
// first, at most limit. Entries of the TTL index whose version has been replaced are removed on the way; so that a great
// many of them cannot hold the caller up, the list may be short, or empty, although more have expired. more says that the
// index holds more that is due, and that going on at once gets on.
func (s *Store) Expired(now Timestamp, limit int) (list []ExpiredKey, more bool, err error) {
	if limit <= 0 {
		return nil, false, s.health.Err()
	}
	lower := []byte{kindExpiry, 0}
	upper := append(appendTime([]byte{kindExpiry}, now), 0xff, 0) // above every group's first byte, which begins UTF-8
	w, err := s.newWalk(lower, upper)
	if err != nil {
		return nil, false, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	b := s.NewBatch()
	defer b.Close()
	b.urgency = reclaims
	for looked := 0; ; looked++ {
		k, _, ok := w.next()
		if !ok {
			break
		}
		if more = len(list) == limit || looked == 8*limit+1024; more {
			break
		}
		expires, group, rest, t, err := splitExpiryKey(k)
		if err != nil {
			w.fail(err)
			return nil, false, w.Err()
		}
		e := ExpiredKey{Group: string(group), Rest: bytes.Clone(rest), Time: t, Expires: expires}
		v, found, err := s.Latest(e.Group, rest)
		if err != nil {
			return nil, false, err
		}
		if found && v.Time == t && v.Expires == expires {
			list = append(list, e)
		} else {
			b.DropExpiry(e)
		}
	}
	if w.Err() != nil {
		return nil, false, w.Err()
	}
	err = b.Commit(false)
	if errors.Is(err, ErrDiskFull) || errors.Is(err, ErrReadOnly) {
		return list, false, nil // what was replaced is met again: there is no use in going on at once
	}
	return list, more, err
}
