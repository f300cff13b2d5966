// SPDX-License-Identifier: AGPL-3.0-only

package session

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"slices"
)

const (
	tableVersion = 1
	checksumLen  = 4
	// sessionLenMin is the shortest layout of a session: what a count is held against before anything is made for it.
	sessionLenMin = 6
)

// castagnoli is the polynomial that processors compute.
// shared: only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendTo appends the table as it lies in a snapshot.
func (t *Table) AppendTo(dst []byte) []byte {
	start := len(dst)
	dst = append(dst, tableVersion)
	for _, v := range [...]uint64{
		uint64(t.options.SessionsMax), uint64(t.options.ResultBytesMax), t.options.Lifetime,
		t.now, uint64(t.opened), uint64(len(t.byID)),
	} {
		dst = binary.AppendUvarint(dst, v)
	}
	before := ID(0)
	for _, s := range t.sorted() {
		dst = binary.AppendUvarint(dst, uint64(s.id-before))
		before = s.id
		dst = binary.AppendUvarint(dst, t.now-s.used)
		dst = binary.AppendUvarint(dst, s.max)
		dst = binary.AppendUvarint(dst, s.applied)
		dst = binary.AppendUvarint(dst, s.dropped)
		dst = binary.AppendUvarint(dst, uint64(len(s.results)))
		for _, r := range s.results {
			dst = binary.AppendUvarint(dst, s.max-r.seq)
			dst = binary.AppendUvarint(dst, uint64(len(r.body)))
			dst = append(dst, r.body...)
		}
	}
	return append(dst[:start], appendChecksum(dst[start:])...)
}

// appendChecksum ends a layout.
func appendChecksum(layout []byte) []byte {
	return binary.LittleEndian.AppendUint32(layout, crc32.Checksum(layout, castagnoli))
}

// sorted is all sessions by number.
func (t *Table) sorted() []*session {
	all := make([]*session, 0, len(t.byID))
	for s := t.ring.newer; s != &t.ring; s = s.newer {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *session) int { return cmp.Compare(a.id, b.id) })
	return all
}

// Hash is of the whole table: equal tables have equal hashes. It takes as long as AppendTo.
func (t *Table) Hash() uint64 {
	h := fnv.New64a()
	_, _ = h.Write(t.AppendTo(nil)) // a hash takes everything
	return h.Sum64()
}

// Decode reads what AppendTo wrote, and nothing after it. It keeps no reference to src. Every error is ErrCorrupt.
func Decode(src []byte) (*Table, error) {
	if len(src) < 1+checksumLen {
		return nil, fmt.Errorf("%w: %d bytes, want at least %d", ErrCorrupt, len(src), 1+checksumLen)
	}
	body, sum := src[:len(src)-checksumLen], binary.LittleEndian.Uint32(src[len(src)-checksumLen:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return nil, fmt.Errorf("%w: checksum %08x, computed %08x", ErrCorrupt, sum, got)
	}
	if body[0] != tableVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrCorrupt, body[0], tableVersion)
	}
	r := reader{src: body[1:]}
	t := r.table()
	if r.err == nil && len(r.src) > 0 {
		r.fail("%d bytes too many", len(r.src))
	}
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

// reader takes fields from the front of src. The first thing that is wrong stays in err; every field after it is 0.
type reader struct {
	src []byte
	err error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	}
	r.src = nil
}

// uvarint refuses a longer form than is needed.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 1 && r.src[n-1] == 0 {
		r.fail("bad varint")
		return 0
	}
	r.src = r.src[n:]
	return v
}

// upTo is a number that may not be above limit.
func (r *reader) upTo(limit uint64, what string) uint64 {
	v := r.uvarint()
	if r.err == nil && v > limit {
		r.fail("%s is %d, above %d", what, v, limit)
		return 0
	}
	return v
}

func (r *reader) table() *Table {
	o := Options{
		SessionsMax:    int(r.upTo(SessionsLimit, "SessionsMax")),
		ResultBytesMax: int(r.upTo(ResultBytesLimit, "ResultBytesMax")),
		Lifetime:       r.upTo(LifetimeLimit, "Lifetime"),
	}
	if err := o.Validate(); r.err == nil && err != nil {
		r.fail("%s", err)
	}
	now, opened := r.uvarint(), ID(r.uvarint())
	n := r.upTo(uint64(min(o.SessionsMax, len(r.src)/sessionLenMin+1)), "number of sessions")
	t := &Table{options: o, now: now, opened: opened, byID: make(map[ID]*session, n)}
	t.ring.older, t.ring.newer = &t.ring, &t.ring
	all := make([]*session, 0, n)
	before := ID(0)
	for range n {
		s := r.session(t, before)
		if r.err != nil {
			return nil
		}
		all, before = append(all, s), s.id
	}
	slices.SortStableFunc(all, func(a, b *session) int { return cmp.Compare(a.used, b.used) })
	for _, s := range all {
		t.link(s)
	}
	return t
}

func (r *reader) session(t *Table, before ID) *session {
	s := &session{}
	s.id = before + ID(r.upTo(uint64(t.opened-before), "session"))
	s.used = t.now - r.upTo(min(t.now, t.options.Lifetime), "time since the last use")
	s.max, s.applied, s.dropped = r.uvarint(), r.uvarint(), r.uvarint()
	n := r.upTo(WindowLen, "number of results")
	switch {
	case r.err != nil:
		return nil
	case s.id == before:
		r.fail("session %d comes twice, or is none", s.id)
	case s.max == 0 && s.applied != 0, s.max > 0 && s.applied&1 == 0, s.max < WindowLen && s.applied>>s.max != 0:
		r.fail("session %d: applied %x does not fit the highest number %d", s.id, s.applied, s.max)
	case s.dropped&^s.applied != 0:
		r.fail("session %d: a result is dropped that never was", s.id)
	}
	for range n {
		back := r.upTo(WindowLen-1, "sequence number")
		body := r.bytes(uint64(t.options.ResultBytesMax - s.bytes))
		if r.err != nil {
			return nil
		}
		seq := s.max - back
		switch {
		case len(body) == 0:
			r.fail("session %d: an empty result is written out", s.id)
		case s.applied>>back&1 == 0, s.dropped>>back&1 != 0:
			r.fail("session %d: a result of number %d, which has none", s.id, seq)
		case len(s.results) > 0 && s.results[len(s.results)-1].seq >= seq:
			r.fail("session %d: results are not in order", s.id)
		}
		s.results = append(s.results, result{seq: seq, body: body})
		s.bytes += len(body)
	}
	return s
}

// bytes is a copy of a field with its length in front.
func (r *reader) bytes(limit uint64) []byte {
	n := r.upTo(limit, "length of the results")
	if n > uint64(len(r.src)) {
		r.fail("length %d exceeds the %d bytes left", n, len(r.src))
		return nil
	}
	v := slices.Clone(r.src[:n])
	r.src = r.src[n:]
	return v
}
