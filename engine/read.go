// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/storage"
)

// Get gives the newest value of a key, or ErrNotFound. To one who may not read it, the key does not exist.
func (s *Session) Get(ctx context.Context, raw []byte) (*Item, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	k, err := parseKey(raw)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, s.e.readError(err)
	}
	if s.txn != nil {
		return s.txn.get(k)
	}
	group := k.Group()
	view, err := s.e.replicator.ReadView(group)
	if err != nil {
		return nil, s.e.readError(err)
	}
	a := access{e: s.e, reader: s.e.store, group: group, view: view, principal: s.principal}
	if v := s.e.hot.get(raw, view.At); v != nil {
		if err := s.mayShow(&a, k, &v.version); err != nil {
			return nil, err
		}
		return itemOf(&v.version, v), nil
	}
	value, ok, err := s.e.store.GetAt(group, k.Rest(), view.At)
	if err != nil {
		return nil, s.e.readError(err)
	}
	if !ok {
		closeQuietly(value)
		return nil, notFound(k)
	}
	version := value.Version()
	s.e.hot.put(raw, view.At, version)
	if err := s.mayShow(&a, k, &version); err != nil {
		closeQuietly(value)
		return nil, err
	}
	return newItem(value), nil
}

// mayShow is nil if the version is live and the caller may read it; else the key is not there for him.
func (s *Session) mayShow(a *access, k key.Key, v *storage.Version) error {
	if expired(v.Expires, a.view.Now) {
		return notFound(k)
	}
	if err := a.key(authz.VerbRead, k.Rest()); err != nil {
		if errors.Is(err, ErrDenied) {
			return notFound(k)
		}
		return s.e.readError(err)
	}
	return nil
}

func notFound(k key.Key) error { return Errorf(ClassNotFound, "key %s", key.Text(k.Bytes())) }

func expired(expires, now uint64) bool { return expires != 0 && expires <= now }

func newItem(v *storage.Value) *Item {
	ver := v.Version()
	return itemOf(&ver, v)
}

func itemOf(ver *storage.Version, value itemValue) *Item {
	return &Item{Version: ver.Time, Expires: nanoTime(ver.Expires), WormUntil: nanoTime(ver.WormUntil), Size: ver.Size, value: value}
}

// nanoTime is the time of a timestamp, the zero time for none.
func nanoTime(t uint64) time.Time {
	if t == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(t)).UTC()
}

// Scan walks the keys of a ScanRequest. Key and Item are valid until the next call of Next.
type Scan struct {
	e      *Engine
	ctx    context.Context
	group  string
	rows   rowSource
	access access
	limit  int // rows still wanted; negative is no limit
	most   int // what limit began with
	seen   int
	values bool
	key    []byte
	item   Item
	err    error
}

// rowSource is the rows of a range in order: of storage alone, or of a transaction.
type rowSource interface {
	Next() bool
	Rest() []byte
	Version() storage.Version
	itemValue
	Rewind()
	Err() error
}

// Scan begins to walk `table` or `table.prefix` at one snapshot. The Scan must be closed.
func (s *Session) Scan(ctx context.Context, r ScanRequest) (*Scan, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	k, lower, upper, err := scanRange(r)
	if err != nil {
		return nil, err
	}
	if r.Limit < 0 {
		return nil, Errorf(ClassInvalid, "limit %d is negative", r.Limit)
	}
	scan := &Scan{e: s.e, ctx: ctx, group: k.Group(), limit: r.Limit, values: r.Values}
	if r.Limit == 0 {
		scan.limit = -1
	}
	scan.most = scan.limit
	if s.txn != nil {
		scan.rows, err = s.txn.scan(k, lower, upper, r.Reverse, !r.Values)
		if err != nil {
			return nil, err
		}
		gate, err := s.txn.gate()
		if err != nil {
			return nil, errors.Join(err, scan.rows.Close())
		}
		scan.access = *gate
		return scan, nil
	}
	view, err := s.e.replicator.ReadView(k.Group())
	if err != nil {
		return nil, s.e.readError(err)
	}
	scan.access = access{e: s.e, reader: s.e.store, group: k.Group(), view: view, principal: s.principal}
	rows, err := s.e.store.NewScan(storage.ScanOptions{
		Group: k.Group(), Lower: lower, Upper: upper, At: view.At, Now: view.Now, Reverse: r.Reverse, KeysOnly: !r.Values,
	})
	if err != nil {
		return nil, s.e.readError(err)
	}
	scan.rows = rows
	return scan, nil
}

// scanRange turns a request into a range of rests.
func scanRange(r ScanRequest) (k key.Key, lower, upper []byte, err error) {
	if k, err = key.ParsePrefix(r.Prefix); err != nil {
		return k, nil, nil, keyError(err)
	}
	lower, upper = k.Rest(), key.PrefixEnd(k.Rest())
	if r.After == nil {
		return k, lower, upper, nil
	}
	after, err := parseKey(r.After)
	if err != nil {
		return k, nil, nil, err
	}
	if after.Table() != k.Table() {
		return k, nil, nil, Errorf(ClassInvalid, "key %s to begin after is not in table %s", key.Text(r.After), key.Text([]byte(k.Table())))
	}
	switch {
	case r.Reverse && bytes.Compare(after.Rest(), upper) < 0:
		upper = after.Rest()
	case !r.Reverse && bytes.Compare(after.Rest(), lower) >= 0:
		lower = append(bytes.Clone(after.Rest()), 0)
	}
	if bytes.Compare(lower, upper) > 0 {
		lower = upper // it begins behind the last key of the prefix: nothing is left
	}
	return k, lower, upper, nil
}

// Next moves to the next key that the caller may read; false at the end or at an error.
func (s *Scan) Next() bool {
	if s.err != nil || s.limit == 0 {
		return false
	}
	for s.rows.Next() {
		if s.seen++; s.seen%scanCheckEvery == 0 {
			if s.err = s.check(); s.err != nil {
				return false
			}
		}
		if err := s.access.key(authz.VerbRead, s.rows.Rest()); err != nil {
			if errors.Is(err, ErrDenied) {
				continue
			}
			s.err = s.e.readError(err)
			return false
		}
		if s.limit > 0 {
			s.limit--
		}
		return true
	}
	if err := s.rows.Err(); err != nil {
		s.err = s.e.readError(err)
	}
	return false
}

// check looks, now and then, at what may have changed around a long walk: whether it is still wanted, and the grants.
func (s *Scan) check() error {
	if err := s.ctx.Err(); err != nil {
		return s.e.readError(err)
	}
	gate, err := s.e.access(s.access.principal, s.group)
	if err == nil {
		s.access = *gate
	}
	return err
}

// Rewind begins again on the same snapshot. It gives the same rows, unless grants have changed meanwhile. An error stays.
func (s *Scan) Rewind() error {
	s.rows.Rewind()
	s.limit, s.seen = s.most, 0
	return s.err
}

// Key is the whole key at hand.
func (s *Scan) Key() []byte {
	s.key = append(append(s.key[:0], s.group...), s.rows.Rest()...)
	return s.key
}

// Item is the version at hand. Its value can be read only if the request asked for values; it needs no Close.
func (s *Scan) Item() *Item {
	ver := s.rows.Version()
	s.item = Item{Version: ver.Time, Expires: nanoTime(ver.Expires), WormUntil: nanoTime(ver.WormUntil), Size: ver.Size, value: scanValue{s.rows}}
	return &s.item
}

// scanValue is the value at hand; closing it does not close the scan.
type scanValue struct{ itemValue }

func (scanValue) Close() error { return nil }

// Err is what ended the walk early, or nil.
func (s *Scan) Err() error { return s.err }

// Close ends the walk.
func (s *Scan) Close() error {
	if err := s.rows.Close(); err != nil {
		return s.e.readError(err)
	}
	return nil
}

// Count counts the keys of `table` or `table.prefix` that the caller may read, at one snapshot.
func (s *Session) Count(ctx context.Context, prefix []byte) (n int64, err error) {
	if err := s.identified(); err != nil {
		return 0, err
	}
	k, lower, upper, err := scanRange(ScanRequest{Prefix: prefix})
	if err != nil {
		return 0, err
	}
	if s.txn == nil {
		a, err := s.e.access(s.principal, k.Group())
		if err != nil {
			return 0, err
		}
		if a.open() {
			n, err := s.e.store.Count(ctx, storage.ScanOptions{
				Group: k.Group(), Lower: lower, Upper: upper, At: a.view.At, Now: a.view.Now, KeysOnly: true,
			})
			if err != nil {
				return 0, s.e.readError(err)
			}
			return n, nil
		}
	}
	scan, err := s.Scan(ctx, ScanRequest{Prefix: prefix})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for scan.Next() {
		n++
	}
	return n, scan.Err()
}

// Sample gives at most n keys of `table` or `table.prefix`, picked at random, sorted.
func (s *Session) Sample(ctx context.Context, prefix []byte, n int) ([][]byte, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	if n < 1 || n > SampleMax {
		return nil, Errorf(ClassInvalid, "sample size %d is outside of 1 to %d", n, SampleMax)
	}
	k, lower, upper, err := scanRange(ScanRequest{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	a, err := s.e.access(s.principal, k.Group())
	if err != nil {
		return nil, err
	}
	if s.txn != nil || !a.open() {
		return s.sampleAll(ctx, prefix, n)
	}
	rests, err := s.e.store.Sample(ctx, storage.ScanOptions{
		Group: k.Group(), Lower: lower, Upper: upper, At: a.view.At, Now: a.view.Now, KeysOnly: true,
	}, n, rand.Uint64())
	if err != nil {
		return nil, s.e.readError(err)
	}
	keys := make([][]byte, len(rests))
	for i, rest := range rests {
		keys[i] = key.FromParts(k.Group(), rest)
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys, nil
}

// sampleAll picks from all keys that the caller may read, one by one (algorithm R): what decides on each cannot be skipped over.
func (s *Session) sampleAll(ctx context.Context, prefix []byte, n int) (keys [][]byte, err error) {
	scan, err := s.Scan(ctx, ScanRequest{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for seen := 0; scan.Next(); seen++ {
		switch {
		case seen < n:
			keys = append(keys, bytes.Clone(scan.Key()))
		default:
			if at := rand.IntN(seen + 1); at < n {
				keys[at] = bytes.Clone(scan.Key())
			}
		}
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys, scan.Err()
}
