// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// castagnoli is the polynomial that processors compute. The table is only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

const checksumLen = 4

// writer appends the fields of a layout.
type writer struct{ buf []byte }

func (w *writer) uvarint(v uint64) { w.buf = binary.AppendUvarint(w.buf, v) }
func (w *writer) fixed64(v uint64) { w.buf = binary.LittleEndian.AppendUint64(w.buf, v) }

func (w *writer) ballot(b Ballot) {
	w.uvarint(b.Cfg)
	w.uvarint(b.Round)
	w.uvarint(uint64(b.Node))
}

// checksum ends the layout that began at start.
func (w *writer) checksum(start int) []byte {
	return binary.LittleEndian.AppendUint32(w.buf, crc32.Checksum(w.buf[start:], castagnoli))
}

// reader takes the fields of a layout from its front. The first thing that is wrong stays in err, and every field after it
// is zero.
type reader struct {
	src  []byte
	what string
	err  error
}

// newReader checks the checksum and the version.
func newReader(src []byte, version byte, what string) reader {
	r := reader{what: what}
	if len(src) < 1+checksumLen {
		r.fail("%d bytes, want at least %d", len(src), 1+checksumLen)
		return r
	}
	body, sum := src[:len(src)-checksumLen], binary.LittleEndian.Uint32(src[len(src)-checksumLen:])
	if got := crc32.Checksum(body, castagnoli); got != sum {
		r.fail("checksum %08x, computed %08x", sum, got)
		return r
	}
	if body[0] != version {
		r.fail("version %d, this program reads %d", body[0], version)
		return r
	}
	r.src = body[1:]
	return r
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s: %s", ErrCorrupt, r.what, fmt.Sprintf(format, args...))
	}
	r.src = nil
}

// uvarint refuses a longer form than is needed: a layout has one encoding.
func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.src)
	if n <= 0 || n > 1 && r.src[n-1] == 0 {
		r.fail("bad varint")
		return 0
	}
	r.src = r.src[n:]
	return v
}

func (r *reader) fixed64() uint64 {
	if len(r.src) < 8 {
		r.fail("ends in a field")
		return 0
	}
	v := binary.LittleEndian.Uint64(r.src)
	r.src = r.src[8:]
	return v
}

func (r *reader) byte() byte {
	if len(r.src) < 1 {
		r.fail("ends in a field")
		return 0
	}
	v := r.src[0]
	r.src = r.src[1:]
	return v
}

func (r *reader) ballot() Ballot {
	return Ballot{Cfg: r.uvarint(), Round: r.uvarint(), Node: NodeID(r.uvarint())}
}

// bytes takes n bytes, which alias the source.
func (r *reader) bytes(n, limit uint64) []byte {
	if n > limit {
		r.fail("length %d exceeds limit %d", n, limit)
		return nil
	}
	if n > uint64(len(r.src)) {
		r.fail("length %d exceeds the %d bytes left", n, len(r.src))
		return nil
	}
	v := r.src[:n:n]
	r.src = r.src[n:]
	return v
}

// close checks that nothing is left.
func (r *reader) close() error {
	if r.err == nil && len(r.src) > 0 {
		r.fail("%d bytes too many", len(r.src))
	}
	return r.err
}
