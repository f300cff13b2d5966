// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
	"fmt"
)

// Layout of a record of version 1, which programs up to format 2 of the data directory wrote and this one only reads:
//
//	1        version, 1
//	1        flags: 1 = Accepted is Promised, 2 = Applied is Last
//	v v v    Promised: configuration, round, node
//	v v v    Accepted, unless flag 1
//	v v v    Last, Last-Commit, Commit-Applied; only the first if flag 2
//	v v      First, 0
//	v        Established
//	8        LastTime, little endian
//	8        LastChain, little endian
//	8 8      AppliedTime, AppliedChain, little endian, unless flag 2
//	4        CRC-32C of all that, little endian
//
// v is an unsigned varint in its shortest form, and a flag is set where it can be.
const (
	recordVersion1 = 1

	flagAcceptedIsPromised = 1 << 0
	flagAppliedIsLast      = 1 << 1
)

// decodeRecordV1 reads what stands between version and checksum.
func decodeRecordV1(body []byte) (Record, error) {
	r := readerV1{src: body}
	flags := r.byte()
	rec := Record{Promised: r.ballot()}
	rec.Accepted = rec.Promised
	if flags&flagAcceptedIsPromised == 0 {
		rec.Accepted = r.ballot()
	}
	rec.Last = Slot(r.uvarint())
	rec.Commit, rec.Applied = rec.Last, rec.Last
	if flags&flagAppliedIsLast == 0 {
		rec.Commit = rec.Last - Slot(r.uvarint())
		rec.Applied = rec.Commit - Slot(r.uvarint())
	}
	rec.First = Slot(r.uvarint())
	gap := r.uvarint()
	rec.Established = r.uvarint()
	rec.LastTime = r.fixed64()
	rec.LastChain = r.fixed64()
	rec.AppliedTime, rec.AppliedChain = rec.LastTime, rec.LastChain
	if flags&flagAppliedIsLast == 0 {
		rec.AppliedTime = r.fixed64()
		rec.AppliedChain = r.fixed64()
	}
	switch {
	case r.short:
		return Record{}, fmt.Errorf("%w: record: ends in a field, or in a bad varint", ErrCorrupt)
	case len(r.src) > 0:
		return Record{}, fmt.Errorf("%w: record: %d bytes too many", ErrCorrupt, len(r.src))
	case flags&^(flagAcceptedIsPromised|flagAppliedIsLast) != 0:
		return Record{}, fmt.Errorf("%w: record: unknown flags %#x", ErrCorrupt, flags)
	case flags&flagAcceptedIsPromised == 0 && rec.Accepted == rec.Promised, flags&flagAppliedIsLast == 0 && rec.Applied == rec.Last:
		return Record{}, fmt.Errorf("%w: record: a flag is not set that could be", ErrCorrupt)
	case gap != 0:
		return Record{}, fmt.Errorf("%w: record: a log with a gap of %d slots, which nothing wrote", ErrCorrupt, gap)
	}
	return rec, nil
}

// readerV1 takes fields from the front of src. After one that is not there, short is set and every field is zero.
type readerV1 struct {
	src   []byte
	short bool
}

func (r *readerV1) take(n int) []byte {
	if r.short = r.short || len(r.src) < n; r.short {
		return make([]byte, n)
	}
	v := r.src[:n]
	r.src = r.src[n:]
	return v
}

func (r *readerV1) byte() byte      { return r.take(1)[0] }
func (r *readerV1) fixed64() uint64 { return binary.LittleEndian.Uint64(r.take(8)) }

// uvarint refuses a longer form than is needed: a layout has one encoding.
func (r *readerV1) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 1 && r.src[n-1] == 0 {
		r.short = true
		return 0
	}
	r.take(n)
	return v
}

func (r *readerV1) ballot() Ballot {
	return Ballot{Cfg: r.uvarint(), Round: r.uvarint(), Node: NodeID(r.uvarint())}
}
