// SPDX-License-Identifier: AGPL-3.0-only

package migrations

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
)

// Format 1 to 2. In format 1 a version record was
//
//	flags:1 (1 deleted, 2 expired, 4 chunked)  worm:8  expires:8  then the value, or seq:4 size:8 crc:4 when chunked
//
// and nothing told which values had a time to live but the records themselves, so that expiry had to read them all.
// Format 2 begins the record with a mark, leaves out the times that are zero, and keeps the TTL index:
//
//	A2 flags:1 (1 deleted, 2 expired, 4 worm, 8 expires, 16 chunked)  [worm:8] [expires:8]  value or seq:4 size:8 crc:4
//	08 expires:8 group 00 rest 00 time:8 -> empty, for each version with a time to live
const (
	kindData2   = 0x04
	kindExpiry2 = 0x08
	mark2       = 0xA2

	headerLen1   = 1 + 8 + 8
	chunkedLen1  = 4 + 8 + 4
	inlineMax1   = 64 << 10
	batchLen2    = 1 << 20
	batchRecords = 4096
)

// markVersions rewrites the version records in the order of their keys. Its position is the last key that it has done
// with.
func markVersions(ctx context.Context, s Store, position []byte, progress func(int64)) error {
	lower := []byte{kindData2}
	if position != nil {
		lower = append(bytes.Clone(position), 0)
	}
	for done := int64(0); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var writes []Write
		var last []byte
		size := 0
		err := s.Each(lower, []byte{kindData2 + 1}, func(r Record) (bool, error) {
			if !bytes.Equal(r.Key, last) {
				// Only between keys: a position tells keys apart, not versions.
				if size >= batchLen2 || len(writes) >= batchRecords {
					return false, nil
				}
				last = bytes.Clone(r.Key)
			}
			more, err := markVersion(r)
			if err != nil {
				return false, err
			}
			for _, w := range more {
				size += len(w.Key) + len(w.Value)
			}
			writes = append(writes, more...)
			done++
			return true, nil
		})
		if err != nil {
			return err
		}
		if last == nil {
			progress(done)
			return nil
		}
		if err := s.Write(writes, last); err != nil {
			return err
		}
		progress(done)
		lower = append(bytes.Clone(last), 0)
	}
}

// markVersion gives the writes that turn one record into format 2; none if it is in it already.
func markVersion(r Record) ([]Write, error) {
	v := r.Value
	if len(v) > 0 && v[0] == mark2 {
		return nil, nil
	}
	if r.Version == 0 || len(v) < headerLen1 || v[0]&^7 != 0 {
		return nil, fmt.Errorf("version record of %d bytes is not of format 1", len(v))
	}
	deleted, expired, chunked := v[0]&1 != 0, v[0]&2 != 0, v[0]&4 != 0
	worm, expires, tail := binary.BigEndian.Uint64(v[1:]), binary.BigEndian.Uint64(v[9:]), v[headerLen1:]
	if deleted && (len(tail) > 0 || chunked) || expired && !deleted || chunked && len(tail) != chunkedLen1 || !chunked && len(tail) > inlineMax1 {
		return nil, fmt.Errorf("version record of %d bytes with flags %d is not of format 1", len(v), v[0])
	}
	flags := v[0] & 3
	out := []byte{mark2, 0}
	if worm != 0 {
		flags |= 4
		out = binary.BigEndian.AppendUint64(out, worm)
	}
	if expires != 0 {
		flags |= 8
		out = binary.BigEndian.AppendUint64(out, expires)
	}
	if chunked {
		flags |= 16
	}
	out[1] = flags
	writes := []Write{{Record: Record{Key: bytes.Clone(r.Key), Version: r.Version, Value: append(out, tail...)}}}
	if expires != 0 && !deleted {
		key := binary.BigEndian.AppendUint64([]byte{kindExpiry2}, expires)
		key = append(append(key, r.Key[1:]...), 0) // group 00 rest 00
		key = binary.BigEndian.AppendUint64(key, r.Version)
		writes = append(writes, Write{Record: Record{Key: key}})
	}
	return writes, nil
}
