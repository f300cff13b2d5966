// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Version is one version of a key's value, or the tombstone of a delete.
type Version struct {
	// Time is the commit time of the command that wrote it.
	Time Timestamp
	// Deleted marks a tombstone, Expired one that stands for a value whose time to live had passed.
	Deleted, Expired bool
	// WormUntil and Expires are 0 for none.
	WormUntil, Expires Timestamp
	// Value holds the bytes when they were asked for and are kept inline: at most InlineLenMax. It is nil for a large
	// value, which a handle streams.
	Value []byte
	// Size is the value's full length.
	Size int64
	// Seq is the place among the mutations of its command. Only that of a large value is stored and read back.
	Seq uint32

	checksum uint32 // CRC-32C of a large value
	chunked  bool
	carries  uint8 // where in its record the stamp stands that it carries; 0 for none
}

// Large says that the value is kept as chunks, outside the record.
func (v *Version) Large() bool { return v.chunked }

// The version record: recordMark, flags, the optional fields in the order of their flags, and for an inline value the
// value, to the end. The mark tells this encoding from format 1, whose records began with their flags.
const recordMark = 0xA2

const (
	flagDeleted = 1 << iota
	flagExpired
	flagWorm    // WormUntil:8
	flagExpires // Expires:8
	flagChunked // seq:4 size:8 crc:4, and no value
	flagCarries // nth:1 length:1 stamp (small.go), before an inline value
	flagsKnown  = flagDeleted | flagExpired | flagWorm | flagExpires | flagChunked | flagCarries
)

const chunkedLen = 4 + 8 + 4

// versionHeaderLen is the length of the record without an inline value.
func versionHeaderLen(v *Version) int {
	n := 2
	if v.WormUntil != 0 {
		n += 8
	}
	if v.Expires != 0 {
		n += 8
	}
	if v.chunked {
		n += chunkedLen
	}
	return n
}

// putVersion writes the record into dst. Requires: len(dst) = versionHeaderLen(v) + c.len() + the inline value's length, and no
// tombstone and no large value carries anything.
func putVersion(dst []byte, v *Version, c carried) {
	flags := byte(0)
	if v.Deleted {
		flags |= flagDeleted
	}
	if v.Expired {
		flags |= flagExpired
	}
	n := 2
	if v.WormUntil != 0 {
		flags |= flagWorm
		binary.BigEndian.PutUint64(dst[n:], v.WormUntil)
		n += 8
	}
	if v.Expires != 0 {
		flags |= flagExpires
		binary.BigEndian.PutUint64(dst[n:], v.Expires)
		n += 8
	}
	if v.chunked {
		flags |= flagChunked
		binary.BigEndian.PutUint32(dst[n:], v.Seq)
		binary.BigEndian.PutUint64(dst[n+4:], uint64(v.Size))
		binary.BigEndian.PutUint32(dst[n+12:], v.checksum)
	} else {
		if c.nth != 0 {
			flags |= flagCarries
			n += c.put(dst[n:])
		}
		copy(dst[n:], v.Value)
	}
	dst[0], dst[1] = recordMark, flags
}

// decodeVersion reads a record. Value aliases b.
func decodeVersion(b []byte, t Timestamp) (v Version, err error) {
	if len(b) < 2 || b[0] != recordMark {
		return v, corruptVersion(b, "does not begin with its mark")
	}
	flags := b[1]
	if flags&^flagsKnown != 0 {
		return v, corruptVersion(b, "has unknown flags")
	}
	v.Time = t
	rest := b[2:]
	if flags&flagWorm != 0 {
		if len(rest) < 8 {
			return v, corruptVersion(b, "is cut short")
		}
		v.WormUntil, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if flags&flagExpires != 0 {
		if len(rest) < 8 {
			return v, corruptVersion(b, "is cut short")
		}
		v.Expires, rest = binary.BigEndian.Uint64(rest), rest[8:]
	}
	if flags&flagWorm != 0 && v.WormUntil == 0 || flags&flagExpires != 0 && v.Expires == 0 {
		return v, corruptVersion(b, "holds a time that is zero")
	}
	v.Deleted, v.Expired = flags&flagDeleted != 0, flags&flagExpired != 0
	if flags&flagCarries != 0 {
		if flags&(flagDeleted|flagChunked) != 0 {
			return v, corruptVersion(b, "carries a stamp without a value")
		}
		_, n, ok := openCarried(rest)
		if !ok {
			return v, corruptVersion(b, "carries no whole stamp")
		}
		v.carries = uint8(len(b) - len(rest))
		rest = rest[n:]
	}
	switch {
	case flags&(flagDeleted|flagExpired) == flagExpired:
		return v, corruptVersion(b, "is expired and not deleted")
	case v.Deleted:
		if len(rest) != 0 || flags&flagChunked != 0 {
			return v, corruptVersion(b, "is a tombstone with a value")
		}
	case flags&flagChunked != 0:
		if len(rest) != chunkedLen {
			return v, corruptVersion(b, "names its chunks wrongly")
		}
		v.chunked = true
		v.Seq = binary.BigEndian.Uint32(rest)
		size := binary.BigEndian.Uint64(rest[4:])
		v.checksum = binary.BigEndian.Uint32(rest[12:])
		if size <= InlineLenMax || size > ValueLenMax {
			return v, corruptVersion(b, "claims a size out of bounds")
		}
		v.Size = int64(size)
	default:
		if len(rest) > InlineLenMax {
			return v, corruptVersion(b, "holds too long a value")
		}
		v.Value, v.Size = rest, int64(len(rest))
	}
	return v, nil
}

func corruptVersion(b []byte, what string) error {
	return fmt.Errorf("%w: version record of %d bytes %s", ErrCorrupt, len(b), what)
}

// castagnoli is the polynomial that processors have an instruction for. shared: a constant table.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A chunk is its CRC-32C (4 bytes) and its bytes, so that none is handed out before it was checked; the version record
// holds the checksum of the whole, so that a missing, doubled or swapped chunk is found as well.
const chunkHeaderLen = 4

func putChunk(dst, part []byte) {
	binary.BigEndian.PutUint32(dst, crc32.Checksum(part, castagnoli))
	copy(dst[chunkHeaderLen:], part)
}

// chunkPart checks a stored chunk and gives its bytes.
func chunkPart(b []byte) ([]byte, error) {
	if len(b) <= chunkHeaderLen || len(b) > chunkHeaderLen+ChunkLen {
		return nil, fmt.Errorf("%w: chunk of %d bytes", ErrCorrupt, len(b))
	}
	part := b[chunkHeaderLen:]
	if got, want := crc32.Checksum(part, castagnoli), binary.BigEndian.Uint32(b); got != want {
		return nil, fmt.Errorf("%w: chunk has checksum %08x, its record says %08x", ErrCorrupt, got, want)
	}
	return part, nil
}
