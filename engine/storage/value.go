// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

func checksumOf(value []byte) uint32 { return crc32.Checksum(value, castagnoli) }

// Value is a handle on one version of a key. It must be closed. A nil Value is nothing: no version, no bytes.
type Value struct {
	s     *Store
	v     Version
	buf   []byte
	it    *pebble.Iterator // of a large value, on the state that it was found in
	group string
}

// values spares reads the allocation of their handle and of the copy of a small value. shared: a pool holds no state.
var values = sync.Pool{New: func() any { return new(Value) }}

// bufKept is the largest buffer that goes back to the pool.
const bufKept = 4 << 10

// Version describes the value. Its Value field holds a small value's bytes until Close, and is nil for a large one.
func (v *Value) Version() Version {
	if v == nil {
		return Version{}
	}
	return v.v
}

// Bytes gives the whole value; it is the caller's to keep.
func (v *Value) Bytes() ([]byte, error) {
	if v == nil {
		return nil, nil
	}
	return v.AppendTo(make([]byte, 0, v.v.Size))
}

// AppendTo appends the whole value to dst.
func (v *Value) AppendTo(dst []byte) ([]byte, error) {
	if v == nil {
		return dst, nil
	}
	if !v.v.chunked {
		return append(dst, v.buf...), nil
	}
	err := eachChunk(v.s, v.it, v.group, &v.v, func(part []byte) error {
		dst = append(dst, part...)
		return nil
	})
	return dst, err
}

// WriteTo writes the value, a large one chunk by chunk, each checked before it is written. An error of the store after
// the first chunk leaves w with a part of the value.
func (v *Value) WriteTo(w io.Writer) (int64, error) {
	if v == nil {
		return 0, nil
	}
	if !v.v.chunked {
		n, err := w.Write(v.buf)
		return int64(n), err
	}
	return writeChunksTo(w, v.s, v.it, v.group, &v.v)
}

func writeChunksTo(w io.Writer, s *Store, it *pebble.Iterator, group string, v *Version) (int64, error) {
	var total int64
	err := eachChunk(s, it, group, v, func(part []byte) error {
		n, err := w.Write(part)
		total += int64(n)
		return err
	})
	return total, err
}

// Close gives the handle back. Its bytes must not be used afterwards.
func (v *Value) Close() error {
	if v == nil || v.s == nil {
		return nil
	}
	var err error
	if v.it != nil {
		err = v.it.Close()
		v.s.gate.leave()
	}
	buf := v.buf[:0]
	if cap(buf) > bufKept {
		buf = nil
	}
	*v = Value{buf: buf}
	values.Put(v)
	return err
}

// eachChunk calls fn with the parts of a large value in order and checks that they make up the whole.
func eachChunk(s *Store, it *pebble.Iterator, group string, v *Version, fn func(part []byte) error) error {
	fail := func(format string, args ...any) error {
		return s.readError(fmt.Errorf("%w: large value of version %d: "+format, append([]any{ErrCorrupt, v.Time}, args...)...))
	}
	k := keyBufs.Get().(*keyBuf)
	defer keyBufs.Put(k)
	var done int64
	var sum uint32
	for n := uint32(0); done < v.Size; n++ {
		k.b = appendChunkKey(k.b[:0], group, v.Time, v.Seq, n)
		found := false
		if n == 0 {
			it.SetBounds(nil, nil)
			found = it.SeekGE(k.b)
		} else {
			found = it.Next()
		}
		if !found || !bytes.Equal(it.Key(), k.b) {
			if err := it.Error(); err != nil {
				return s.readError(err)
			}
			return fail("chunk %d is missing", n)
		}
		b, err := it.ValueAndErr()
		if err != nil {
			return s.readError(err)
		}
		part, err := chunkPart(b)
		if err != nil {
			return s.readError(err)
		}
		if want := min(ChunkLen, v.Size-done); int64(len(part)) != want {
			return fail("chunk %d has %d bytes, want %d", n, len(part), want)
		}
		done += int64(len(part))
		sum = crc32.Update(sum, castagnoli, part)
		if done == v.Size && sum != v.checksum {
			return fail("checksum %08x, its record says %08x", sum, v.checksum)
		}
		if err := fn(part); err != nil {
			return err
		}
	}
	if err := s.health.Err(); err != nil {
		return err
	}
	return nil
}
