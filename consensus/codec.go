// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// What lies on disk or goes to another node is a protobuf message of package consensuspb in its canonical form: fields in the
// order of their numbers, none that is zero or empty, varints in their shortest form. The codecs of the hot messages are written
// by hand, with what this file has: a fifth of the generated code's time, and no allocation. The tests hold them against the
// generated ones.

// castagnoli is the polynomial that processors compute. The table is only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumLen = 4

// Wire types of protobuf.
const (
	wireVarint  = 0
	wireFixed64 = 1
	wireBytes   = 2
	wireFixed32 = 5
)

// writer appends fields. Their numbers must rise; fields that are zero or empty are left out.
type writer struct{ buf []byte }

func (w *writer) tag(field, wire int) {
	if field < 16 {
		w.buf = append(w.buf, byte(field<<3|wire))
		return
	}
	w.buf = append(w.buf, byte(field<<3|wire)|0x80, byte(field>>4)) // below 2048
}

func (w *writer) uint(field int, v uint64) {
	if v != 0 {
		w.tag(field, wireVarint)
		w.buf = binary.AppendUvarint(w.buf, v)
	}
}

func (w *writer) bool(field int, v bool) {
	if v {
		w.tag(field, wireVarint)
		w.buf = append(w.buf, 1)
	}
}

func (w *writer) fixed64(field int, v uint64) {
	if v != 0 {
		w.tag(field, wireFixed64)
		w.buf = binary.LittleEndian.AppendUint64(w.buf, v)
	}
}

func (w *writer) bytes(field int, v []byte) {
	if len(v) != 0 {
		w.tag(field, wireBytes)
		w.buf = binary.AppendUvarint(w.buf, uint64(len(v)))
		w.buf = append(w.buf, v...)
	}
}

// open begins a message of at most 127 bytes within; shut ends it. An empty one stays.
func (w *writer) open(field int) (at int) {
	w.tag(field, wireBytes)
	w.buf = append(w.buf, 0)
	return len(w.buf)
}

func (w *writer) shut(at int) { w.buf[at-1] = byte(len(w.buf) - at) }

// ballotLenMax bounds the fields of a ballot.
const ballotLenMax = 11 + 10 + 11

func (w *writer) ballot(field int, b Ballot) {
	if b.IsZero() {
		return
	}
	at := w.open(field)
	w.uint(1, b.Cfg)
	w.uint(2, b.Round)
	w.uint(3, uint64(b.Node))
	w.shut(at)
}

// home is written as bytes: region i is bit i%8 of byte i/8, and the last byte is not 0.
func (w *writer) home(field int, h quorum.Home) {
	if h.IsZero() {
		return
	}
	at := w.open(field)
	for _, word := range h.Words() {
		w.buf = binary.LittleEndian.AppendUint64(w.buf, word)
	}
	for w.buf[len(w.buf)-1] == 0 {
		w.buf = w.buf[:len(w.buf)-1]
	}
	w.shut(at)
}

// checksum ends what began at start.
func (w *writer) checksum(start int) []byte {
	return binary.LittleEndian.AppendUint32(w.buf, crc32.Checksum(w.buf[start:], castagnoli))
}

// uvarintLen is how many bytes AppendUvarint appends.
func uvarintLen(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// fieldLen is how many bytes writer.uint appends for a field below 16.
func fieldLen(v uint64) int {
	if v == 0 {
		return 0
	}
	return 1 + uvarintLen(v)
}

func ballotLen(b Ballot) int {
	if b.IsZero() {
		return 0
	}
	return 2 + fieldLen(b.Cfg) + fieldLen(b.Round) + fieldLen(uint64(b.Node))
}

// fields reads a message, strictly: what is not canonical is wrong. The first thing that is wrong stays in err; there are no
// more fields then, and every value is zero.
type fields struct {
	src  []byte
	what string // for the error
	kind error  // ErrCorrupt or ErrInvalid, which every error is
	// lenient skips fields with unknown numbers, which a newer node may send. Without it they are refused.
	lenient bool
	number  int // of the field that next found
	wire    int // its wire type
	again   bool
	err     error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s: %s", f.kind, f.what, fmt.Sprintf(format, args...))
	}
	f.src = nil
}

// next finds the next field, whose number is above the one before, or equal to it after repeats was called.
func (f *fields) next() bool {
	if len(f.src) == 0 {
		return false
	}
	var tag uint64
	if b := f.src[0]; b < 0x80 {
		tag, f.src = uint64(b), f.src[1:]
	} else if tag = f.uvarint(); f.err != nil {
		return false
	}
	number, wire := tag>>3, int(tag&7)
	switch {
	case number == 0 || number > 1<<29-1:
		f.fail("field number %d", number)
		return false
	case int(number) < f.number:
		f.fail("field %d after field %d", number, f.number)
		return false
	case int(number) == f.number && !f.again:
		f.fail("field %d comes twice", number)
		return false
	}
	f.number, f.wire, f.again = int(number), wire, false
	return true
}

// repeats lets the field that next found come again.
func (f *fields) repeats() { f.again = true }

// unknown is for a field with a number that the caller does not know: it is skipped, or refused.
func (f *fields) unknown() {
	if !f.lenient {
		f.fail("unknown field %d: a newer program wrote this", f.number)
		return
	}
	f.again = true // it may be a repeated one
	switch f.wire {
	case wireVarint:
		f.uvarint()
	case wireFixed64:
		f.take(8)
	case wireFixed32:
		f.take(4)
	case wireBytes:
		f.take(f.uvarint())
	default:
		f.fail("field %d has wire type %d", f.number, f.wire)
	}
}

func (f *fields) expect(wire int) bool {
	if f.wire != wire {
		f.fail("field %d has wire type %d, want %d", f.number, f.wire, wire)
		return false
	}
	return true
}

// uvarint refuses a longer form than is needed.
func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.src)
	if n <= 0 || n > 1 && f.src[n-1] == 0 {
		f.fail("bad varint after field %d", f.number)
		return 0
	}
	f.src = f.src[n:]
	return v
}

func (f *fields) take(n uint64) []byte {
	if n > uint64(len(f.src)) {
		f.fail("field %d: length %d exceeds the %d bytes left", f.number, n, len(f.src))
		return nil
	}
	v := f.src[:n:n]
	f.src = f.src[n:]
	return v
}

func (f *fields) nonzero(v uint64) uint64 {
	if v == 0 {
		f.fail("field %d is written though it is zero", f.number)
	}
	return v
}

func (f *fields) uint() uint64 {
	if !f.expect(wireVarint) {
		return 0
	}
	return f.nonzero(f.uvarint())
}

// enum is a uint of at most this.
func (f *fields) enum(most uint64) uint8 {
	v := f.uint()
	if v > most {
		f.fail("field %d is %d, which is none of its %d values", f.number, v, most+1)
		return 0
	}
	return uint8(v)
}

func (f *fields) bool() bool { return f.enum(1) == 1 }

func (f *fields) fixed64() uint64 {
	if !f.expect(wireFixed64) {
		return 0
	}
	b := f.take(8)
	if b == nil {
		return 0
	}
	return f.nonzero(binary.LittleEndian.Uint64(b))
}

// bytes takes a field of at most limit bytes, which alias the source.
func (f *fields) bytes(limit uint64) []byte {
	if !f.expect(wireBytes) {
		return nil
	}
	n := f.uvarint()
	if n > limit {
		f.fail("field %d: length %d exceeds limit %d", f.number, n, limit)
		return nil
	}
	return f.take(n)
}

// within is a reader of the message of at most limit bytes that is this field. Requires: absorb follows.
func (f *fields) within(limit uint64) fields {
	return fields{src: f.bytes(limit), what: f.what, kind: f.kind, lenient: f.lenient, err: f.err}
}

// absorb takes over what went wrong within.
func (f *fields) absorb(in *fields) {
	if in.err != nil && f.err == nil {
		f.err, f.src = in.err, nil
	}
}

// messageWithinMax bounds a small message in a field: a ballot and its kind, and what newer nodes may add to them.
const messageWithinMax = 1 << 10

func (f *fields) ballot() Ballot {
	in := f.within(messageWithinMax)
	var b Ballot
	for in.next() {
		switch in.number {
		case 1:
			b.Cfg = in.uint()
		case 2:
			b.Round = in.uint()
		case 3:
			b.Node = NodeID(in.uint())
		default:
			in.unknown()
		}
	}
	if f.absorb(&in); f.err == nil && b.IsZero() {
		f.fail("field %d is an empty ballot", f.number)
	}
	return b
}

func (f *fields) home() quorum.Home {
	b := f.bytes(8 * quorum.HomeWords)
	var words [quorum.HomeWords]uint64
	for i, v := range b {
		words[i/8] |= uint64(v) << (i % 8 * 8)
	}
	if f.err == nil && (len(b) == 0 || b[len(b)-1] == 0) {
		f.fail("field %d: a home ends in regions that are not in it", f.number)
	}
	return quorum.HomeFromWords(words)
}

// onDisk checks the checksum around what lies on disk, and splits off the version byte. Every error is ErrCorrupt.
func onDisk(src []byte, what string) (version byte, body []byte, err error) {
	if len(src) < 1+checksumLen {
		return 0, nil, fmt.Errorf("%w: %s: %d bytes, want at least %d", ErrCorrupt, what, len(src), 1+checksumLen)
	}
	body, sum := src[:len(src)-checksumLen], binary.LittleEndian.Uint32(src[len(src)-checksumLen:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		return 0, nil, fmt.Errorf("%w: %s: checksum %08x, computed %08x", ErrCorrupt, what, sum, got)
	}
	return body[0], body[1:], nil
}
