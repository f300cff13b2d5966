// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/atlas-edge/atlas/engine/key"
)

// Reader is a view of the stored state: a *Store, of which each call sees the newest state, or a *Snapshot. A view holds
// what was applied, durable or not: who must not see the latter reads at a timestamp.
type Reader interface {
	// Record is the acceptor record of a group; false if the group is untouched. The bytes are the caller's.
	Record(group string) (Acceptor, bool, error)
	// Entry is a log entry. The bytes are the caller's.
	Entry(group string, slot uint64) ([]byte, bool, error)
	// EachEntry calls fn for the log entries with from <= slot < to, in order. The bytes are valid during the call only.
	EachEntry(group string, from, to uint64, fn func(slot uint64, data []byte) error) error
	// State is a group's state of that name. The bytes are the caller's.
	State(group, name string) ([]byte, bool, error)
	// EachState calls fn for the state whose name begins with the prefix, in order. The bytes are valid during the call only.
	EachState(group, prefix string, fn func(name string, val []byte) error) error
	// Latest is the newest version of a key, of any time, a tombstone too; Value is not loaded.
	Latest(group string, rest []byte) (Version, bool, error)
	// GetAt is the newest version not later than at. A tombstone is reported with false and a handle that says so; of
	// nothing at all there is none. The handle must be closed; its methods accept nil.
	GetAt(group string, rest []byte, at Timestamp) (*Value, bool, error)
	// NewScan walks the live keys of a group at a timestamp. It must be closed.
	NewScan(o ScanOptions) (*Scan, error)
	// Changes walks the changes of a group later than after, and than SweptTo: of those before some may be gone. It must be closed.
	Changes(group string, after Timestamp) (*ChangeScan, error)
	// Groups walks the groups that have an acceptor record and sort after the name. It must be closed.
	Groups(after string) (*GroupScan, error)
	// Tables names the tables of a group that have a live key at the timestamp at, of which none expired at or before now (0: none did),
	// and that come after the name, at most limit, in the order of their keys.
	Tables(group string, at, now Timestamp, after string, limit int) ([]string, error)
	// Count counts the live keys that the scan would give.
	Count(ctx context.Context, o ScanOptions) (int64, error)
	// Sample draws at most n different keys (rests) of those that the scan would give, in order. See sample.go.
	Sample(ctx context.Context, o ScanOptions, n int, seed uint64) ([][]byte, error)
}

var (
	_ Reader = (*Store)(nil)
	_ Reader = (*Snapshot)(nil)
)

// reader implements Reader over one of Pebble's.
type reader struct {
	s     *Store
	src   pebble.Reader
	cache *iterCache // nil in a snapshot
}

// Snapshot is a fixed state of the store. It must be closed; while it is open nothing that it sees is freed.
type Snapshot struct {
	reader
	snap *pebble.Snapshot
	once sync.Once
}

// NewSnapshot fixes the state of now. On a store that is closed or has failed, the snapshot's calls say so.
func (s *Store) NewSnapshot() *Snapshot {
	if err := s.enter(); err != nil {
		return &Snapshot{reader: reader{s: s}}
	}
	snap := s.db.NewSnapshot()
	return &Snapshot{reader: reader{s: s, src: snap}, snap: snap}
}

// Close gives the snapshot back.
func (s *Snapshot) Close() error {
	var err error
	s.once.Do(func() {
		if s.snap != nil {
			err = s.snap.Close()
			s.s.gate.leave()
		}
	})
	return err
}

// enter begins a read.
func (r *reader) enter() error {
	if err := r.s.enter(); err != nil {
		return err
	}
	if r.src == nil {
		r.s.gate.leave()
		return fmt.Errorf("%w: %s", ErrClosed, r.s.opts.Dir)
	}
	return nil
}

// readError says what an error of a read means. Damage stops the node.
func (s *Store) readError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrCorrupt):
		s.health.fail(err)
		return err
	case errors.Is(err, pebble.ErrCorruption):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		s.health.fail(err)
		return err
	}
	return fmt.Errorf("reading %s: %w", s.opts.Dir, err)
}

// settle turns the error of a read into what the caller gets: once the store has failed, its answers count for nothing.
func (r *reader) settle(err error) error {
	if err != nil {
		err = r.s.readError(err)
	}
	if ferr := r.s.health.Err(); ferr != nil {
		return ferr
	}
	return err
}

// keyBuf is memory for a key.
type keyBuf struct{ b []byte }

// keyBufs spares point reads the allocation of their key. shared: a pool holds no state.
var keyBufs = sync.Pool{New: func() any { return &keyBuf{b: make([]byte, 0, 256)} }}

// pointOptions are those of a read of one key. shared: never changed.
var pointOptions = pebble.IterOptions{KeyTypes: pebble.IterKeyTypePointsOnly, UseL6Filters: true}

// get copies a plain record.
func (r *reader) get(key []byte) (val []byte, found bool, err error) {
	if err := r.enter(); err != nil {
		return nil, false, err
	}
	defer r.s.gate.leave()
	v, closer, err := r.src.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, r.settle(nil)
	}
	if err != nil {
		return nil, false, r.settle(err)
	}
	val = append(make([]byte, 0, len(v)), v...)
	if err := r.settle(closer.Close()); err != nil {
		return nil, false, err
	}
	return val, true, nil
}

func (r *reader) Entry(group string, slot uint64) ([]byte, bool, error) {
	return r.get(appendEntryKey(nil, group, slot))
}

func (r *reader) State(group, name string) ([]byte, bool, error) {
	k := keyBufs.Get().(*keyBuf)
	defer keyBufs.Put(k)
	k.b = appendStateKey(k.b[:0], group, name)
	return r.get(k.b)
}

// each calls fn for the records between two stored keys.
func (r *reader) each(lower, upper []byte, fn func(key, val []byte) error) error {
	if err := r.enter(); err != nil {
		return err
	}
	defer r.s.gate.leave()
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return r.settle(err)
	}
	var fnErr error
	for ok := it.First(); ok && fnErr == nil; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			break // Error reports it
		}
		if r.s.health.Err() != nil {
			break
		}
		fnErr = fn(it.Key(), v)
	}
	err = it.Error()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err := r.settle(err); err != nil {
		return err
	}
	if errors.Is(fnErr, ErrCorrupt) {
		return r.settle(fnErr)
	}
	return fnErr
}

func (r *reader) EachEntry(group string, from, to uint64, fn func(slot uint64, data []byte) error) error {
	lower := appendEntryKey(nil, group, from)
	return r.each(lower, appendEntryKey(nil, group, to), func(k, v []byte) error {
		slot, err := entrySlot(k, len(lower))
		if err != nil {
			return err
		}
		return fn(slot, v)
	})
}

func (r *reader) EachState(group, prefix string, fn func(name string, val []byte) error) error {
	lower := appendStateKey(nil, group, prefix)
	bare := lower[:len(lower)-sentinelLen]
	upper := appendGroupEnd(nil, kindState, group)
	if end := key.PrefixEnd([]byte(prefix)); end != nil {
		upper = appendStateKey(nil, group, string(end))
	}
	return r.each(lower, upper, func(k, v []byte) error {
		if !bytes.HasPrefix(k, bare) {
			return fmt.Errorf("%w: state key of %d bytes lies outside its range", ErrCorrupt, len(k))
		}
		return fn(string(k[groupLen(group):len(k)-sentinelLen]), v)
	})
}

// seek positions an iterator on the newest version of a key not later than at. It is nil when there is none.
func (r *reader) seek(group string, rest []byte, at Timestamp) (*cachedIter, Version, error) {
	it, err := r.cache.take(r.src)
	if err != nil {
		return nil, Version{}, err
	}
	k := keyBufs.Get().(*keyBuf)
	k.b = appendDataKey(k.b[:0], group, rest, at)
	found := it.SeekPrefixGE(k.b)
	keyBufs.Put(k)
	if !found {
		if err := it.Error(); err != nil {
			return nil, Version{}, errors.Join(err, it.Close())
		}
		return nil, Version{}, r.cache.give(it)
	}
	v, err := versionAt(it.Iterator, groupLen(group))
	if err != nil {
		return nil, Version{}, errors.Join(err, it.Close())
	}
	return it, v, nil
}

// versionAt decodes the record under an iterator. Value aliases the iterator's memory.
func versionAt(it *pebble.Iterator, prefixLen int) (Version, error) {
	_, t, err := splitDataKey(it.Key(), prefixLen)
	if err != nil {
		return Version{}, err
	}
	b, err := it.ValueAndErr()
	if err != nil {
		return Version{}, err
	}
	return decodeVersion(b, t)
}

func (r *reader) Latest(group string, rest []byte) (Version, bool, error) {
	if err := r.enter(); err != nil {
		return Version{}, false, err
	}
	defer r.s.gate.leave()
	it, v, err := r.seek(group, rest, newest)
	if err == nil && it != nil {
		v.Value = nil
		err = r.cache.give(it)
	}
	if err := r.settle(err); err != nil {
		return Version{}, false, err
	}
	return v, it != nil, nil
}

// newest is later than every version.
const newest = ^Timestamp(0)

func (r *reader) GetAt(group string, rest []byte, at Timestamp) (*Value, bool, error) {
	if err := r.enter(); err != nil {
		return nil, false, err
	}
	it, ver, err := r.seek(group, rest, at)
	if err := r.settle(err); err != nil {
		if it != nil {
			_ = it.Close() // the store has failed
		}
		r.s.gate.leave()
		return nil, false, err
	}
	if it == nil {
		r.s.gate.leave()
		return nil, false, nil
	}
	v := values.Get().(*Value)
	v.s, v.v = r.s, ver
	if ver.chunked {
		// The iterator keeps the chunks of this state alive; the gate stays entered with it.
		v.it, v.group = it.Iterator, group
		return v, true, nil
	}
	v.buf = append(v.buf[:0], ver.Value...)
	v.v.Value = v.buf
	err = r.settle(r.cache.give(it))
	r.s.gate.leave()
	if err != nil {
		return nil, false, errors.Join(err, v.Close())
	}
	return v, !ver.Deleted, nil
}
