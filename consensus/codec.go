// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/bits"
	"slices"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// What lies on disk or goes to another node is a protobuf message of package consensuspb in its canonical form: fields in the
// order of their numbers, none that is zero or empty, varints in their shortest form. The codecs of the hot messages are written
// by hand, with what this file has; the tests hold them against the generated ones.

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

// writer appends fields. Their numbers must rise; fields that are zero or empty are left out. Room for them is asked for first:
// the buffer then stays and only n moves, which is a little faster than appending.
type writer struct {
	buf []byte // all of its capacity
	n   int    // what was written of buf
}

// newWriter appends to dst. It has room for this many bytes.
func newWriter(dst []byte, room int) writer {
	w := writer{dst, len(dst)}
	w.need(room)
	return w
}

// need makes room for this many bytes.
func (w *writer) need(room int) {
	if cap(w.buf)-w.n < room {
		w.buf = slices.Grow(w.buf[:w.n], room)
	}
	w.buf = w.buf[:cap(w.buf)]
}

// written is all of it. The writer is done.
func (w *writer) written() []byte { return w.buf[:w.n] }

func (w *writer) byte(v byte) {
	w.buf[w.n] = v
	w.n++
}

func (w *writer) uvarint(v uint64) { w.n = putUvarint(w.buf, w.n, v) }

// putUvarint writes at n, and gives where v ends.
func putUvarint(buf []byte, n int, v uint64) int {
	for ; v >= 0x80; v >>= 7 {
		buf[n] = byte(v) | 0x80
		n++
	}
	buf[n] = byte(v)
	return n + 1
}

func (w *writer) tag(field, wire int) { w.uvarint(uint64(field<<3 | wire)) }

func (w *writer) uint(field int, v uint64) {
	if v != 0 {
		buf := w.buf
		w.n = putUvarint(buf, putUvarint(buf, w.n, uint64(field<<3|wireVarint)), v)
	}
}

func (w *writer) bool(field int, v bool) {
	if v {
		w.uint(field, 1)
	}
}

func (w *writer) fixed64(field int, v uint64) {
	if v != 0 {
		w.tag(field, wireFixed64)
		binary.LittleEndian.PutUint64(w.buf[w.n:], v)
		w.n += 8
	}
}

func (w *writer) bytes(field int, v []byte) {
	if len(v) != 0 {
		w.tag(field, wireBytes)
		w.uvarint(uint64(len(v)))
		w.n += copy(w.buf[w.n:], v)
	}
}

// open begins a message of at most 127 bytes within; shut ends it. An empty one stays.
func (w *writer) open(field int) (at int) {
	w.tag(field, wireBytes)
	w.n++
	return w.n
}

func (w *writer) shut(at int) { w.buf[at-1] = byte(w.n - at) }

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
	words := h.Words()
	last := len(words) - 1
	for words[last] == 0 {
		last--
	}
	for _, word := range words[:last] {
		binary.LittleEndian.PutUint64(w.buf[w.n:], word)
		w.n += 8
	}
	for rest := words[last]; rest != 0; rest >>= 8 {
		w.byte(byte(rest))
	}
	w.shut(at)
}

// checksum ends what began at start, and is all of it.
func (w *writer) checksum(start int) []byte {
	binary.LittleEndian.PutUint32(w.buf[w.n:], crc32.Checksum(w.buf[start:w.n], castagnoli))
	w.n += checksumLen
	return w.written()
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
	at   int    // what was read of src: moving it costs less than cutting src, which the garbage collector watches
	what string // for the error
	kind error  // ErrCorrupt or ErrInvalid, which every error is
	// lenient skips fields with unknown numbers, which a newer node may send. Without it they are refused: on disk, and in what
	// goes from a message to the disk, which is every message within.
	lenient bool
	again   bool // the field may come again
	number  int  // of the field that next found
	wire    int  // its wire type
	err     error
}

func (f *fields) fail(format string, args ...any) {
	if f.err == nil {
		f.err = fmt.Errorf("%w: %s: %s", f.kind, f.what, fmt.Sprintf(format, args...))
	}
	f.src, f.at = nil, 0
}

// next finds the next field, whose number is above the one before, or equal to it after repeats was called.
func (f *fields) next() bool {
	if f.at == len(f.src) {
		return false
	}
	tag := f.uvarint()
	number := int(tag >> 3 & (1<<29 - 1))
	if tag > 1<<32-1 || number <= f.number && !(f.again && number == f.number) {
		f.badTag(tag)
		return false
	}
	f.number, f.wire, f.again = number, int(tag&7), false
	return true
}

func (f *fields) badTag(tag uint64) {
	switch number := tag >> 3; {
	case number == 0 || number > 1<<29-1:
		f.fail("field number %d", number) // or a bad varint, which is in err already
	case int(number) < f.number:
		f.fail("field %d after field %d", number, f.number)
	default:
		f.fail("field %d comes twice", number)
	}
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
	if f.at < len(f.src) && f.src[f.at] < 0x80 {
		f.at++
		return uint64(f.src[f.at-1])
	}
	v, n := binary.Uvarint(f.src[f.at:])
	if n <= 0 || n > 1 && f.src[f.at+n-1] == 0 {
		f.fail("bad varint after field %d", f.number)
		return 0
	}
	f.at += n
	return v
}

func (f *fields) take(n uint64) []byte {
	if left := len(f.src) - f.at; n > uint64(left) {
		f.fail("field %d: length %d exceeds the %d bytes left", f.number, n, left)
		return nil
	}
	from := f.at
	f.at += int(n)
	return f.src[from:f.at:f.at]
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
	return fields{src: f.bytes(limit), what: f.what, kind: f.kind, err: f.err}
}

// absorb takes over what went wrong within.
func (f *fields) absorb(in *fields) {
	if in.err != nil && f.err == nil {
		f.err, f.src, f.at = in.err, nil, 0
	}
}

// messageWithinMax bounds a small message in a field: a ballot, a promise, a tie.
const messageWithinMax = 64

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
