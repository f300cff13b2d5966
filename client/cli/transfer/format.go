// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bufio"
	"crypto/sha256"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"time"

	"github.com/atlas-edge/atlas/client"
)

// An export file, format 2. Integers are little-endian; a uvarint is encoding/binary's.
//
//	file    = head record* end
//	head    = magic[8] format:u16 length:u32 meta[length] crc:u32      meta is a JSON object, see Meta; crc is of all before it
//	record  = 'K' key-length:uvarint key value-length:uvarint value, with checksums
//	        | 'T' key-length:uvarint key expires:uvarint worm-until:uvarint value-length:uvarint value, with checksums
//	        | 'G' object-length:uvarint object principal-length:uvarint principal permission, crc:u32
//	end     = 'E' records:uvarint value-bytes:uvarint sha256[32] crc:u32
//
// 'T' is a value that expires, or is write-once until then: nanoseconds since 1970, 0 for neither; such a value has at least one of
// them. 'G' is what a principal holds on a table or key: 'R', 'W' or 'O'; or '-' and no principal for a list without entries. Those of a
// prefix stand before its keys, those of an object together, and are not counted in the end record. Format 1 has 'K' alone.
//
// A record's checksums are its running CRC-32C, the checksums themselves not counted: one after each 256 KiB of its value,
// and one at its end, unless one was just written. So no more than 256 KiB must be held to hand out only bytes that were
// checked. sha256 is of all bytes of the file before the end record; the end's crc is of the end record. A file without an
// end is an export that was interrupted.
const (
	// FormatVersion is the format written here, and the newest that is read. Format 1 is read, too.
	FormatVersion = 2

	magic      = "\x89ATLAS\r\n" // as in PNG: shows transfers that changed line ends or cut the top bit
	kindKey    = 'K'
	kindEnds   = 'T'
	kindGrant  = 'G'
	kindEnd    = 'E'
	chunkLen   = 256 << 10
	metaLenMax = 1 << 20
	keyLenMax  = 4 << 10
	valueMax   = 128 << 20

	principalLenMax = 1 << 10 // 256 characters
)

// Errors of reading a file.
var (
	// ErrDamaged is in the chain when bytes are not what was written.
	ErrDamaged = errors.New("export file is damaged")
	// ErrIncomplete is in the chain when the file ends before its end record.
	ErrIncomplete = errors.New("export file is incomplete")
	// ErrFormat is in the chain when the file is no export, or of a newer format.
	ErrFormat = errors.New("not an export file that this version can read")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is what a file holds of a key, or a grant.
type record struct {
	key       string
	size      int64     // of the value, bytes
	expires   time.Time // zero: never
	wormUntil time.Time // zero: not write-once
	grant     *client.Grant
}

// permLetters are the permissions of a grant in a file; "" is a list without entries.
var permLetters = map[client.Perm]byte{client.Read: 'R', client.Write: 'W', client.Owner: 'O', "": '-'}

// nanos is how a file shows a time, 0 for the zero time.
func nanos(t time.Time) uint64 {
	if t.IsZero() {
		return 0
	}
	return uint64(t.UnixNano())
}

// instant is the time that nanos showed.
func instant(n uint64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, int64(n)).UTC()
}

// Meta says where an export comes from.
type Meta struct {
	Prefixes []string `json:"prefixes"`          // what was asked for; empty: all tables
	Server   string   `json:"server,omitempty"`  // see identity
	Created  string   `json:"created,omitempty"` // RFC 3339
}

// writer writes an export file. After an error nothing more may be written.
type writer struct {
	w       *bufio.Writer
	hash    hash.Hash
	crc     uint32
	left    int64  // of the value under way
	chunk   int    // bytes of it since the last checksum
	records uint64 // of keys
	grants  uint64
	bytes   uint64 // of values
	written int64  // bytes of the file
	buf     []byte
}

func newWriter(w io.Writer, m Meta) (*writer, error) {
	wr := &writer{w: bufio.NewWriterSize(w, chunkLen), hash: sha256.New()}
	meta, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(meta) > metaLenMax {
		return nil, fmt.Errorf("export head of %d bytes exceeds limit %d", len(meta), metaLenMax)
	}
	head := binary.LittleEndian.AppendUint16([]byte(magic), FormatVersion)
	head = binary.LittleEndian.AppendUint32(head, uint32(len(meta)))
	head = append(head, meta...)
	head = binary.LittleEndian.AppendUint32(head, crc32.Checksum(head, castagnoli))
	return wr, wr.put(head)
}

// put writes bytes that count for the whole file's checksum.
func (wr *writer) put(b []byte) error {
	wr.hash.Write(b)
	n, err := wr.w.Write(b)
	wr.written += int64(n)
	return err
}

// key begins the record of a key, whose value follows.
func (wr *writer) key(r record) error {
	size := r.size
	kind := byte(kindKey)
	if !r.expires.IsZero() || !r.wormUntil.IsZero() {
		kind = kindEnds
	}
	b := append(wr.buf[:0], kind)
	b = binary.AppendUvarint(b, uint64(len(r.key)))
	b = append(b, r.key...)
	if kind == kindEnds {
		b = binary.AppendUvarint(b, nanos(r.expires))
		b = binary.AppendUvarint(b, nanos(r.wormUntil))
	}
	b = binary.AppendUvarint(b, uint64(size))
	wr.crc = crc32.Checksum(b, castagnoli)
	wr.left, wr.chunk = size, 0
	wr.buf = b
	if size == 0 {
		b = binary.LittleEndian.AppendUint32(b, wr.crc)
		wr.records++
	}
	return wr.put(b)
}

// grant writes the record of a grant.
func (wr *writer) grant(g client.Grant) error {
	letter, ok := permLetters[g.Perm]
	if !ok {
		return fmt.Errorf("permission %q is not known", g.Perm)
	}
	b := append(wr.buf[:0], kindGrant)
	b = binary.AppendUvarint(b, uint64(len(g.Object)))
	b = append(b, g.Object...)
	b = binary.AppendUvarint(b, uint64(len(g.Principal)))
	b = append(append(b, g.Principal...), letter)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	wr.buf = b
	wr.grants++
	return wr.put(b)
}

// Write writes bytes of the value of the record that key began.
func (wr *writer) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 {
		n := min(len(p), chunkLen-wr.chunk)
		if int64(n) > wr.left {
			return done, fmt.Errorf("value is longer than its length: %d bytes more", int64(len(p))-wr.left)
		}
		wr.crc = crc32.Update(wr.crc, castagnoli, p[:n])
		if err := wr.put(p[:n]); err != nil {
			return done, err
		}
		done, p = done+n, p[n:]
		wr.left -= int64(n)
		wr.bytes += uint64(n)
		if wr.chunk += n; wr.chunk == chunkLen || wr.left == 0 {
			wr.chunk = 0
			if err := wr.put(binary.LittleEndian.AppendUint32(wr.buf[:0], wr.crc)); err != nil {
				return done, err
			}
		}
		if wr.left == 0 {
			wr.records++
		}
	}
	return done, nil
}

// end writes the end record and flushes.
func (wr *writer) end() error {
	b := append(wr.buf[:0], kindEnd)
	b = binary.AppendUvarint(b, wr.records)
	b = binary.AppendUvarint(b, wr.bytes)
	b = wr.hash.Sum(b)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	n, err := wr.w.Write(b)
	wr.written += int64(n)
	if err != nil {
		return err
	}
	return wr.w.Flush()
}

// reader reads an export file and checks everything it hands out.
type reader struct {
	r      *bufio.Reader
	hash   hash.Hash
	crc    uint32
	offset int64 // bytes read
	left   int64 // of the value under way
	chunk  []byte
	ready  []byte // checked bytes of the value, not yet handed out

	Meta    Meta
	Format  uint16
	Records uint64 // whole records of keys read
	Grants  uint64
	Bytes   uint64 // of their values
	record  record
	ended   bool
}

// newReader reads the head.
func newReader(r io.Reader) (*reader, error) {
	rd := &reader{r: bufio.NewReaderSize(r, chunkLen), hash: sha256.New()}
	head := make([]byte, len(magic)+6)
	if err := rd.get(head); err != nil {
		if errors.Is(err, ErrIncomplete) {
			err = fmt.Errorf("%w: it is shorter than a head", ErrFormat)
		}
		return nil, err
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it begins with %q", ErrFormat, head[:len(magic)])
	}
	if rd.Format = binary.LittleEndian.Uint16(head[len(magic):]); rd.Format < 1 || rd.Format > FormatVersion {
		return nil, fmt.Errorf("%w: format %d, this version reads up to %d", ErrFormat, rd.Format, FormatVersion)
	}
	length := binary.LittleEndian.Uint32(head[len(magic)+2:])
	if length > metaLenMax {
		return nil, fmt.Errorf("%w: head of %d bytes exceeds limit %d", ErrDamaged, length, metaLenMax)
	}
	rd.crc = crc32.Checksum(head, castagnoli)
	meta := make([]byte, length)
	if err := rd.get(meta); err != nil {
		return nil, err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, meta)
	if err := rd.check("head"); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(meta, &rd.Meta); err != nil {
		return nil, fmt.Errorf("%w: head: %w", ErrDamaged, err)
	}
	return rd, nil
}

// get fills b.
func (rd *reader) get(b []byte) error {
	n, err := io.ReadFull(rd.r, b)
	rd.offset += int64(n)
	rd.hash.Write(b[:n])
	return rd.short(err)
}

func (rd *reader) short(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: it ends at byte %d", ErrIncomplete, rd.offset)
	}
	return err
}

// check reads a checksum and compares.
func (rd *reader) check(what string) error {
	var sum [4]byte
	if err := rd.get(sum[:]); err != nil {
		return err
	}
	if got := binary.LittleEndian.Uint32(sum[:]); got != rd.crc {
		return fmt.Errorf("%w: checksum of the %s that ends at byte %d is %08x, want %08x", ErrDamaged, what, rd.offset, got, rd.crc)
	}
	return nil
}

// uvarint reads an integer of at most limit, and counts it in the record's checksum.
func (rd *reader) uvarint(what string, limit uint64) (uint64, error) {
	var n uint64
	for shift := 0; shift < 64; shift += 7 {
		var b [1]byte
		if err := rd.get(b[:]); err != nil {
			return 0, err
		}
		rd.crc = crc32.Update(rd.crc, castagnoli, b[:])
		n |= uint64(b[0]&0x7f) << shift
		if b[0] < 0x80 {
			if n > limit {
				return 0, fmt.Errorf("%w: %s %d before byte %d exceeds limit %d", ErrDamaged, what, n, rd.offset, limit)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("%w: %s before byte %d is no number", ErrDamaged, what, rd.offset)
}

// next passes over what is left of the value and reads the next record, but for its value. It returns io.EOF after the end
// record, when everything was as it was written.
func (rd *reader) next() (record, error) {
	if rd.ended {
		return record{}, io.EOF
	}
	for rd.ready = nil; rd.left > 0; rd.ready = nil {
		if err := rd.load(); err != nil {
			return record{}, err
		}
	}
	var sum []byte
	if peek, _ := rd.r.Peek(1); len(peek) == 1 && peek[0] == kindEnd { // get reports an error
		sum = rd.hash.Sum(nil)
	}
	var kind [1]byte
	if err := rd.get(kind[:]); err != nil {
		return record{}, err
	}
	rd.crc = crc32.Checksum(kind[:], castagnoli)
	var r record
	var err error
	switch {
	case kind[0] == kindEnd:
		return record{}, rd.finish(sum)
	case kind[0] == kindKey, kind[0] == kindEnds && rd.Format > 1:
		r, err = rd.keyRecord(kind[0])
	case kind[0] == kindGrant && rd.Format > 1:
		r, err = rd.grantRecord()
	default:
		err = fmt.Errorf("%w: record of kind %#x at byte %d", ErrDamaged, kind[0], rd.offset-1)
	}
	if err != nil {
		return record{}, err
	}
	rd.record = r
	return r, nil
}

// keyRecord reads the record of a key up to the first bytes of its value, with which all of it was checked.
func (rd *reader) keyRecord(kind byte) (r record, err error) {
	if r.key, err = rd.text("key", keyLenMax); err != nil {
		return r, err
	}
	if kind == kindEnds {
		expires, err := rd.uvarint("expiry", math.MaxInt64)
		if err != nil {
			return r, err
		}
		worm, err := rd.uvarint("write-once end", math.MaxInt64)
		if err != nil {
			return r, err
		}
		r.expires, r.wormUntil = instant(expires), instant(worm)
	}
	n, err := rd.uvarint("value length", valueMax)
	if err != nil {
		return r, err
	}
	r.size, rd.left = int64(n), int64(n)
	if n > 0 {
		return r, rd.load()
	}
	if err := rd.check("record"); err != nil {
		return r, err
	}
	rd.Records++
	return r, nil
}

func (rd *reader) grantRecord() (r record, err error) {
	g := &client.Grant{}
	if g.Object, err = rd.text("object", keyLenMax); err != nil {
		return r, err
	}
	if g.Principal, err = rd.text("principal", principalLenMax); err != nil {
		return r, err
	}
	var letter [1]byte
	if err := rd.get(letter[:]); err != nil {
		return r, err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, letter[:])
	if err := rd.check("grant"); err != nil {
		return r, err
	}
	for perm, l := range permLetters {
		if l == letter[0] && (perm == "") == (g.Principal == "") {
			g.Perm = perm
			rd.Grants++
			return record{grant: g}, nil
		}
	}
	return r, fmt.Errorf("%w: permission %q of a grant before byte %d", ErrDamaged, letter[:], rd.offset)
}

// text reads a length and so many bytes.
func (rd *reader) text(what string, limit uint64) (string, error) {
	n, err := rd.uvarint(what+" length", limit)
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	if err := rd.get(b); err != nil {
		return "", err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, b)
	return string(b), nil
}

// load reads and checks the next piece of the value.
func (rd *reader) load() error {
	n := int(min(rd.left, chunkLen))
	if cap(rd.chunk) < n {
		rd.chunk = make([]byte, n)
	}
	piece := rd.chunk[:n]
	if err := rd.get(piece); err != nil {
		return err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, piece)
	if err := rd.check("record"); err != nil {
		return err
	}
	rd.ready = piece
	rd.left -= int64(n)
	rd.Bytes += uint64(n)
	if rd.left == 0 {
		rd.Records++
	}
	return nil
}

// Read reads the value of the record that next returned.
func (rd *reader) Read(p []byte) (int, error) {
	if len(rd.ready) == 0 {
		if rd.left == 0 {
			return 0, io.EOF
		}
		if err := rd.load(); err != nil {
			return 0, err
		}
	}
	n := copy(p, rd.ready)
	rd.ready = rd.ready[n:]
	return n, nil
}

// finish reads the end record; sum is the checksum of all before it.
func (rd *reader) finish(sum []byte) error {
	records, err := rd.uvarint("count of records", 1<<63)
	if err != nil {
		return err
	}
	bytes, err := rd.uvarint("count of bytes", 1<<63)
	if err != nil {
		return err
	}
	want := make([]byte, sha256.Size)
	if err := rd.get(want); err != nil {
		return err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, want)
	if err := rd.check("end"); err != nil {
		return err
	}
	if records != rd.Records || bytes != rd.Bytes {
		return fmt.Errorf("%w: it promises %d records of %d bytes and holds %d of %d", ErrDamaged, records, bytes, rd.Records, rd.Bytes)
	}
	if string(want) != string(sum) {
		return fmt.Errorf("%w: checksum of the whole file", ErrDamaged)
	}
	if _, err := rd.r.ReadByte(); err == nil {
		return fmt.Errorf("%w: bytes follow its end", ErrDamaged)
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	rd.ended = true
	return io.EOF
}

// position is a place between two records at which a writer can go on.
type position struct {
	offset  int64
	records uint64
	grants  uint64
	bytes   uint64
	lastKey string
	hash    []byte // state of the whole file's checksum
}

// resumeAt reads a file as far as its records are whole. complete says that the end record is there; damage is what stopped
// the reading otherwise, nil when the file just ends.
func resumeAt(r io.Reader) (rd *reader, at position, complete bool, damage, err error) {
	if rd, err = newReader(r); err != nil {
		return nil, at, false, nil, err
	}
	state, ok := rd.hash.(encoding.BinaryAppender)
	if !ok {
		return nil, at, false, nil, errors.ErrUnsupported
	}
	for {
		if rd.record.grant == nil { // grants at the end are written anew, with those that follow them
			at.offset, at.records, at.grants, at.bytes, at.lastKey = rd.offset, rd.Records, rd.Grants, rd.Bytes, rd.record.key
			if at.hash, err = state.AppendBinary(at.hash[:0]); err != nil {
				return nil, at, false, nil, err
			}
		}
		_, err := rd.next()
		if err == nil {
			_, err = io.Copy(io.Discard, rd)
		}
		switch {
		case errors.Is(err, io.EOF):
			return rd, at, true, nil, nil
		case errors.Is(err, ErrIncomplete):
			return rd, at, false, nil, nil
		case errors.Is(err, ErrDamaged):
			return rd, at, false, err, nil
		case err != nil:
			return nil, at, false, nil, err
		}
	}
}

// resumeWriter goes on at a position.
func resumeWriter(w io.Writer, at position) (*writer, error) {
	wr := &writer{w: bufio.NewWriterSize(w, chunkLen), hash: sha256.New(), records: at.records, grants: at.grants, bytes: at.bytes, written: at.offset}
	state, ok := wr.hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return wr, state.UnmarshalBinary(at.hash)
}
