// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// A small group has few keys, so that all of them can be walked. A command that does no more there than write one value is one record
// on the disk, not three: the version carries a stamp, which says what has become of the acceptor record, and says itself what the change index
// would say of it.
//
//	acceptor record   smallMark keys:1 after:8 record, of a group that had at most that many keys
//	version record    see version.go: the stamp of the nth version since after
//
// Every version of a small group that is later than after carries a stamp, and is the only thing that its command did. So the newest of
// them leads from the stored record to the present one, and all of them are the changes that the index lacks. Whatever else is done to the group
// stores the record again, and enters those changes into the index, in the same batch. (ADR 0018)
const (
	smallMark    = 0xC5 // no record of the consensus core begins with it: see TestSmallMarkIsNoVersion
	smallHeadLen = 1 + 1 + 8
)

// carried is what a version carries.
type carried struct {
	stamp []byte
	nth   int
}

const carriedHeadLen = 1 + 1

func (c *carried) len() int {
	if c.nth == 0 {
		return 0
	}
	return carriedHeadLen + len(c.stamp)
}

// put writes it to the beginning of dst.
func (c *carried) put(dst []byte) int {
	dst[0], dst[1] = byte(c.nth), byte(len(c.stamp))
	return carriedHeadLen + copy(dst[carriedHeadLen:], c.stamp)
}

// openCarried reads what put wrote, of n bytes. The stamp aliases b.
func openCarried(b []byte) (c carried, n int, ok bool) {
	if len(b) < carriedHeadLen || len(b) < carriedHeadLen+int(b[1]) {
		return c, 0, false
	}
	n = carriedHeadLen + int(b[1])
	c = carried{stamp: b[carriedHeadLen:n:n], nth: int(b[0])}
	return c, n, c.nth > 0 && c.nth <= CarriedMax && len(c.stamp) <= StampLenMax
}

// Acceptor is what is stored of a group's acceptor.
type Acceptor struct {
	// Record is the acceptor record that was last stored by itself.
	Record []byte
	// Stamp leads from there to the present one: that of the newest version, of the time At. Nil if none was written since.
	Stamp []byte
	At    Timestamp
	Smallness
}

// Smallness says whether versions of a group may carry stamps.
type Smallness struct {
	// Small says that they may.
	Small bool
	// Keys bounds the keys that the group had when its record was last stored by itself, tombstones too; at most SmallKeysMax.
	Keys int
	// Carried is the number of versions that were written since, each with a stamp; at most CarriedMax.
	Carried int
}

// openAcceptor reads a stored acceptor record, which may not be the newest: after is the time behind which versions carry stamps.
func openAcceptor(b []byte) (a Acceptor, after Timestamp, err error) {
	if len(b) == 0 || b[0] != smallMark {
		return Acceptor{Record: b}, 0, nil
	}
	if len(b) < smallHeadLen || b[1] > SmallKeysMax {
		return a, 0, fmt.Errorf("%w: acceptor record of a small group, of %d bytes", ErrCorrupt, len(b))
	}
	a = Acceptor{Record: b[smallHeadLen:], Smallness: Smallness{Small: true, Keys: int(b[1])}}
	return a, binary.BigEndian.Uint64(b[2:]), nil
}

// SetSmallRecord stores the acceptor record of a small group as of the time after: no version is later, and the group has at most that many
// keys, tombstones too. Requires: IndexCarried came before if the group was small.
func (b *Batch) SetSmallRecord(group string, rec []byte, after Timestamp, keys int) {
	if !b.admit(group, nil) {
		return
	}
	if keys < 0 || keys > SmallKeysMax {
		b.note(fmt.Errorf("%w: %d keys of a small group exceed %d", ErrTooLarge, keys, SmallKeysMax))
		return
	}
	op := b.b.SetDeferred(groupLen(group), smallHeadLen+len(rec))
	appendRecordKey(op.Key[:0], group)
	op.Value[0], op.Value[1] = smallMark, byte(keys)
	binary.BigEndian.PutUint64(op.Value[2:], after)
	copy(op.Value[smallHeadLen:], rec)
	b.finish(op)
}

// PutCarrying stores a version of a key with a stamp, and nothing else: the version that its command wrote, with seq 0, and
// the only thing that it did. It is the nth since the record was stored by itself. What else there is to say is that of PutVersion.
func (b *Batch) PutCarrying(group string, rest []byte, at Timestamp, v Version, stamp []byte, nth int) {
	if !b.admit(group, rest) || !b.admitVersion(at, &v) {
		return
	}
	if !MayCarry(&v) || len(stamp) > StampLenMax || nth < 1 || nth > CarriedMax {
		b.note(fmt.Errorf("%w: version %d of a value of %d bytes carries a stamp of %d bytes", ErrTooLarge, nth, len(v.Value), len(stamp)))
		return
	}
	v.Seq, v.Size, v.chunked = 0, int64(len(v.Value)), false
	b.setVersion(group, rest, at, &v, carried{stamp: stamp, nth: nth})
	b.carries = true
}

// MayCarry says whether a version can carry a stamp.
func MayCarry(v *Version) bool { return !v.Deleted && len(v.Value) <= CarriedValueLenMax }

// IndexCarried enters into the change index, before what the batch changes, what the store's versions say of a small group and the index lacks, and
// counts the group's keys, tombstones too. Of what is not later than SweptTo, for which nobody may ask and of which some may be gone, it enters
// only what the collection has still to act on. It is the group's only writer who may ask. Requires: the batch holds no change of the group yet.
func (b *Batch) IndexCarried(group string) (keys int, err error) {
	it, done, err := b.s.pointIter()
	if err != nil {
		return 0, err
	}
	defer func() { err = done(err) }()
	a, after, _, err := acceptorAt(it, group)
	if err != nil {
		return 0, err
	}
	if !a.Small {
		after = newest // the index has all
	}
	changes, keys, err := carriedChanges(it, group, after, b.s.swept.now.Load())
	if err != nil {
		return 0, err
	}
	for i := range changes {
		c := &changes[i]
		b.note(b.changes.add(b.s.db, group, c.Time, c.Seq, c.Kind, c.Rest))
	}
	b.note(b.changes.flush()) // so that the collection takes the record away without waiting for what the batch changes
	return keys, nil
}

// CountKeys counts the keys of a group, tombstones too, up to limit.
func (s *Store) CountKeys(group string, limit int) (n int, err error) {
	it, done, err := s.pointIter()
	if err != nil {
		return 0, err
	}
	defer func() { err = done(err) }()
	err = eachVersion(it, group, func([]byte, Timestamp) (bool, error) {
		if n++; n >= limit {
			return false, errEnough
		}
		return false, nil
	})
	return n, err
}

// pointIter gives an iterator on one state of the store. done gives it back and says what becomes of an error.
func (r *reader) pointIter() (it *pebble.Iterator, done func(error) error, err error) {
	if err := r.enter(); err != nil {
		return nil, nil, err
	}
	cached, err := r.cache.take(r.src)
	if err := r.settle(err); err != nil {
		r.s.gate.leave()
		return nil, nil, err
	}
	return cached.Iterator, func(err error) error {
		defer r.s.gate.leave()
		if err != nil {
			return r.settle(errors.Join(err, cached.Close()))
		}
		return r.settle(r.cache.give(cached))
	}, nil
}

func (r *reader) Record(group string) (a Acceptor, found bool, err error) {
	it, done, err := r.pointIter()
	if err != nil {
		return Acceptor{}, false, err
	}
	defer func() {
		if err = done(err); err != nil {
			a, found = Acceptor{}, false
		}
	}()
	a, after, found, err := acceptorAt(it, group)
	if err != nil || !found {
		return Acceptor{}, false, err
	}
	a.Record = bytes.Clone(a.Record)
	if a.Small {
		err = a.advance(it, group, after)
	}
	return a, true, err
}

// acceptorAt reads the record that is stored by itself. It aliases the iterator's memory.
func acceptorAt(it *pebble.Iterator, group string) (a Acceptor, after Timestamp, found bool, err error) {
	k := keyBufs.Get().(*keyBuf)
	defer keyBufs.Put(k)
	k.b = appendRecordKey(k.b[:0], group)
	if !it.SeekPrefixGE(k.b) {
		return a, 0, false, it.Error()
	}
	b, err := it.ValueAndErr()
	if err != nil {
		return a, 0, false, err
	}
	a, after, err = openAcceptor(b)
	return a, after, err == nil, err
}

// advance finds the stamp of the newest version, if one is later than after.
func (a *Acceptor) advance(it *pebble.Iterator, group string, after Timestamp) error {
	return eachVersion(it, group, func(_ []byte, t Timestamp) (bool, error) {
		if t <= max(after, a.At) {
			return false, nil
		}
		c, err := carriedAt(it, t)
		if err == nil {
			a.Stamp, a.At, a.Carried = append(a.Stamp[:0], c.stamp...), t, c.nth
		}
		return false, err
	})
}

// carriedAt reads what the version under the iterator must carry. It aliases the iterator's memory.
func carriedAt(it *pebble.Iterator, t Timestamp) (carried, error) {
	b, err := it.ValueAndErr()
	if err != nil {
		return carried{}, err
	}
	v, err := decodeVersion(b, t)
	if err == nil && v.carries == 0 {
		err = corruptVersion(b, "is later than its group's acceptor record, and carries no stamp")
	}
	if err != nil {
		return carried{}, err
	}
	c, _, _ := openCarried(b[v.carries:])
	return c, nil
}

// eachVersion calls fn for versions of a group's keys, under which the iterator is, in the order of their keys: of each the newest, and
// older ones as long as fn asks for them.
func eachVersion(it *pebble.Iterator, group string, fn func(rest []byte, t Timestamp) (older bool, err error)) error {
	k := keyBufs.Get().(*keyBuf)
	defer keyBufs.Put(k)
	k.b = appendDataPrefix(k.b[:0], group, nil)
	bare := k.b[:groupLen(group)]
	for ok := it.SeekGE(k.b); ok && bytes.HasPrefix(it.Key(), bare); {
		rest, t, err := splitDataKey(it.Key(), len(bare))
		if err != nil {
			return err
		}
		older, err := fn(rest, t)
		switch {
		case errors.Is(err, errEnough):
			return nil
		case err != nil:
			return err
		case older:
			ok = it.Next()
		default:
			ok = it.NextPrefix()
		}
	}
	return it.Error()
}

// errEnough ends a walk that has found what it looked for.
var errEnough = errors.New("enough")

// carriedChanges lists the changes that versions later than after stand for, in the order of their times, and counts the group's keys. Of those
// not later than swept it lists only what made a version old that is still there.
func carriedChanges(it *pebble.Iterator, group string, after, swept Timestamp) (list []Change, keys int, err error) {
	var last []byte // its key
	var held Change // the one before, if it is swept, until an older version of its key is met
	err = eachVersion(it, group, func(rest []byte, t Timestamp) (bool, error) {
		if keys == 0 || !bytes.Equal(rest, last) {
			keys++
			last, held = bytes.Clone(rest), Change{}
		}
		if held.Time != 0 {
			list, held = append(list, held), Change{}
		}
		if t <= after {
			return false, nil
		}
		if c := (Change{Time: t, Kind: ChangePut, Rest: last}); t > swept {
			list = append(list, c)
		} else {
			held = c
		}
		_, err := carriedAt(it, t)
		return true, err
	})
	slices.SortFunc(list, func(a, b Change) int { return cmp.Compare(a.Time, b.Time) })
	return list, keys, err
}
