// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2"
)

// ChangeKind says what a change did to its key.
type ChangeKind byte

// The kinds of change.
const (
	ChangePut ChangeKind = iota + 1
	ChangeDelete
	ChangeExpire
)

// changeList begins a record of several changes; that of one begins with its kind.
const changeList = 4

// A record of the change index holds what one batch changed in a group, in the order of (time, seq), as far as changeRecordLenMax allows:
// a record for each change would be the half of all records. Its key has the time and seq of its last change, so that
// seeking a time finds the first record with a change at or after it.
//
//	one      kind:1 rest
//	several  changeList:1 v(last time - first), then for each v(time - that before it) v(seq) v(len(rest)) kind:1 rest; the first has 0

// changeWriter gathers the changes of a batch into records.
type changeWriter struct {
	to          *pebble.Batch // nil before the first
	group       string
	count       int // of the record at hand
	first, last Timestamp
	seq         uint32 // of the last
	lastLen     int    // of the last's kind and rest
	body        []byte // its changes, as in a record of several
}

// add takes a change in.
func (w *changeWriter) add(db *pebble.DB, group string, at Timestamp, seq uint32, kind ChangeKind, rest []byte) error {
	fits := w.count > 0 && w.group == group && (at > w.last || at == w.last && seq > w.seq) && len(w.body)+len(rest) <= changeRecordLenMax
	if !fits {
		if err := w.flush(); err != nil {
			return err
		}
		if w.to == nil {
			w.to = db.NewBatch()
		}
		w.group, w.first, w.last = group, at, at
	}
	w.body = binary.AppendUvarint(w.body, at-w.last)
	w.body = binary.AppendUvarint(w.body, uint64(seq))
	w.body = binary.AppendUvarint(w.body, uint64(len(rest)))
	w.body = append(w.body, byte(kind))
	w.body = append(w.body, rest...)
	w.last, w.seq, w.lastLen = at, seq, 1+len(rest)
	w.count++
	return nil
}

// flush writes the record at hand, if there is one.
func (w *changeWriter) flush() error {
	if w.count == 0 {
		return nil
	}
	keyLen := groupLen(w.group) + 8 + 4 + sentinelLen
	var op *pebble.DeferredBatchOp
	if w.count == 1 {
		op = w.to.SetDeferred(keyLen, w.lastLen)
		copy(op.Value, w.body[len(w.body)-w.lastLen:])
	} else {
		var head [1 + binary.MaxVarintLen64]byte
		head[0] = changeList
		n := 1 + binary.PutUvarint(head[1:], w.last-w.first)
		op = w.to.SetDeferred(keyLen, n+len(w.body))
		copy(op.Value, head[:n])
		copy(op.Value[n:], w.body)
	}
	appendChangeKey(op.Key[:0], w.group, w.last, w.seq)
	w.count, w.body = 0, w.body[:0]
	return op.Finish()
}

// moveTo appends all records to a batch.
func (w *changeWriter) moveTo(b *pebble.Batch) error {
	if err := w.flush(); err != nil || w.to == nil || w.to.Empty() {
		return err
	}
	defer w.to.Reset()
	return b.Apply(w.to, nil)
}

// empty says whether there is nothing that was taken in and not moved.
func (w *changeWriter) empty() bool { return w.count == 0 && (w.to == nil || w.to.Empty()) }

// len is the length of what was taken in and not moved.
func (w *changeWriter) len() int {
	if w.to == nil {
		return 0
	}
	return w.to.Len() + len(w.body)
}

func (w *changeWriter) reset() {
	if w.to != nil {
		w.to.Reset()
	}
	w.count, w.body = 0, w.body[:0]
}

// close keeps the writer's memory for the next batch.
func (w *changeWriter) close() {
	if w.to != nil {
		_ = w.to.Close() // frees memory; it has no error to report on a batch without an index
	}
	*w = changeWriter{body: w.body[:0]}
}

// changeRecord reads a record of the change index.
type changeRecord struct {
	body []byte // what is still to be read
	last Timestamp
	seq  uint32
	many bool
	next Change // the time and seq of the last one read, or those to count from
}

// open begins to read the record of that key. The value must stay unchanged while it is read.
func (r *changeRecord) open(t Timestamp, seq uint32, value []byte) error {
	*r = changeRecord{body: value, last: t, seq: seq}
	if len(value) == 0 {
		return corruptChange(value, "is empty")
	}
	if value[0] != changeList {
		return nil
	}
	span, n := binary.Uvarint(value[1:])
	if n <= 0 || span > t {
		return corruptChange(value, "begins after its end")
	}
	r.many, r.body, r.next.Time = true, value[1+n:], t-span
	if len(r.body) == 0 {
		return corruptChange(value, "holds nothing")
	}
	return nil
}

// change gives the next change; false after the last.
func (r *changeRecord) change() (c Change, ok bool, err error) {
	if len(r.body) == 0 {
		return c, false, nil
	}
	if !r.many {
		c, r.body = Change{Time: r.last, Seq: r.seq, Kind: ChangeKind(r.body[0]), Rest: r.body[1:]}, nil
		return c, true, checkChange(&c)
	}
	fields := [3]uint64{}
	rest := r.body
	for i := range fields {
		v, n := binary.Uvarint(rest)
		if n <= 0 {
			return c, false, corruptChange(r.body, "is cut short")
		}
		fields[i], rest = v, rest[n:]
	}
	if fields[1] > math.MaxUint32 || fields[2] >= uint64(len(rest)) || fields[0] > r.last-r.next.Time {
		return c, false, corruptChange(r.body, "has a field out of bounds")
	}
	size := 1 + int(fields[2])
	c = Change{Time: r.next.Time + fields[0], Seq: uint32(fields[1]), Kind: ChangeKind(rest[0]), Rest: rest[1:size:size]}
	if r.next.Kind != 0 && c.Time == r.next.Time && c.Seq <= r.next.Seq {
		return c, false, corruptChange(r.body, "is out of order")
	}
	r.body, r.next = rest[size:], c
	if len(r.body) == 0 && (c.Time != r.last || c.Seq != r.seq) {
		return c, false, corruptChange(r.body, "does not end where its key says")
	}
	return c, true, checkChange(&c)
}

func checkChange(c *Change) error {
	if c.Kind < ChangePut || c.Kind > ChangeExpire {
		return fmt.Errorf("%w: change of kind %d", ErrCorrupt, c.Kind)
	}
	if len(c.Rest) > RestLenMax {
		return fmt.Errorf("%w: change of a key of %d bytes", ErrCorrupt, len(c.Rest))
	}
	return nil
}

func corruptChange(b []byte, what string) error {
	return fmt.Errorf("%w: change record, at its last %d bytes: it %s", ErrCorrupt, len(b), what)
}
