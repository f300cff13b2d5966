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
)

// An export file, format 1. Integers are little-endian; a uvarint is encoding/binary's.
//
//	file    = head record* end
//	head    = magic[8] format:u16 length:u32 meta[length] crc:u32      meta is a JSON object, see Meta; crc is of all before it
//	record  = 'K' key-length:uvarint key value-length:uvarint value, with checksums
//	end     = 'E' records:uvarint value-bytes:uvarint sha256[32] crc:u32
//
// A record's checksums are its running CRC-32C, the checksums themselves not counted: one after each 256 KiB of its value,
// and one at its end, unless one was just written. So no more than 256 KiB must be held to hand out only bytes that were
// checked. sha256 is of all bytes of the file before the end record; the end's crc is of the end record. A file without an
// end is an export that was interrupted.
const (
	// FormatVersion is the format written here, and the newest that is read.
	FormatVersion = 1

	magic      = "\x89ATLAS\r\n" // as in PNG: shows transfers that changed line ends or cut the top bit
	kindKey    = 'K'
	kindEnd    = 'E'
	chunkLen   = 256 << 10
	metaLenMax = 1 << 20
	keyLenMax  = 4 << 10
	valueMax   = 128 << 20
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
	left    int64 // of the value under way
	chunk   int   // bytes of it since the last checksum
	records uint64
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

// key begins a record whose value has size bytes.
func (wr *writer) key(key string, size int64) error {
	b := append(wr.buf[:0], kindKey)
	b = binary.AppendUvarint(b, uint64(len(key)))
	b = append(b, key...)
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
	Records uint64 // whole records read
	Bytes   uint64 // of their values
	key     string
	size    int64
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
	if v := binary.LittleEndian.Uint16(head[len(magic):]); v != FormatVersion {
		return nil, fmt.Errorf("%w: format %d, this version reads up to %d", ErrFormat, v, FormatVersion)
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

// next passes over what is left of the value and reads the next record's key and size. It returns io.EOF after the end
// record, when everything was as it was written.
func (rd *reader) next() (key string, size int64, err error) {
	if rd.ended {
		return "", 0, io.EOF
	}
	for rd.ready = nil; rd.left > 0; rd.ready = nil {
		if err := rd.load(); err != nil {
			return "", 0, err
		}
	}
	var sum []byte
	if peek, _ := rd.r.Peek(1); len(peek) == 1 && peek[0] == kindEnd { // get reports an error
		sum = rd.hash.Sum(nil)
	}
	var kind [1]byte
	if err := rd.get(kind[:]); err != nil {
		return "", 0, err
	}
	rd.crc = crc32.Checksum(kind[:], castagnoli)
	switch kind[0] {
	case kindEnd:
		return "", 0, rd.finish(sum)
	case kindKey:
	default:
		return "", 0, fmt.Errorf("%w: record of kind %#x at byte %d", ErrDamaged, kind[0], rd.offset-1)
	}
	n, err := rd.uvarint("key length", keyLenMax)
	if err != nil {
		return "", 0, err
	}
	name := make([]byte, n)
	if err := rd.get(name); err != nil {
		return "", 0, err
	}
	rd.crc = crc32.Update(rd.crc, castagnoli, name)
	if n, err = rd.uvarint("value length", valueMax); err != nil {
		return "", 0, err
	}
	rd.key, rd.size, rd.left = string(name), int64(n), int64(n)
	if n == 0 {
		if err := rd.check("record"); err != nil {
			return "", 0, err
		}
		rd.Records++
	} else if err := rd.load(); err != nil {
		return "", 0, err // the key is only given out once it was checked, with the first bytes of the value
	}
	return rd.key, rd.size, nil
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
	for {
		at.offset, at.records, at.bytes, at.lastKey = rd.offset, rd.Records, rd.Bytes, rd.key
		state, ok := rd.hash.(encoding.BinaryAppender)
		if !ok {
			return nil, at, false, nil, errors.ErrUnsupported
		}
		if at.hash, err = state.AppendBinary(at.hash[:0]); err != nil {
			return nil, at, false, nil, err
		}
		_, _, err := rd.next()
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
	wr := &writer{w: bufio.NewWriterSize(w, chunkLen), hash: sha256.New(), records: at.records, bytes: at.bytes, written: at.offset}
	state, ok := wr.hash.(encoding.BinaryUnmarshaler)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return wr, state.UnmarshalBinary(at.hash)
}
