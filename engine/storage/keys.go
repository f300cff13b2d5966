// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// The first byte of a key says what the record is. Every key then goes through the encoding of cockroachkvs: a 0x00
// sentinel after it, and after the sentinel of versioned data the version (8 bytes, big endian) and the length byte 9.
const (
	kindNode    = 0x01 // name
	kindRecord  = 0x02 // group
	kindEntry   = 0x03 // group 00 slot:8
	kindData    = 0x04 // group 00 rest @version
	kindState   = 0x05 // group 00 name
	kindChunk   = 0x06 // group 00 time:8 seq:4 chunk:4
	kindChange  = 0x07 // group 00 time:8 seq:4
	kindExpiry  = 0x08 // expires:8 group 00 rest 00 time:8
	kindPending = 0x09 // group 00 time:8 seq:4
)

const (
	sentinelLen = 1
	versionLen  = 9 // the version and its length byte
)

func appendGroup(dst []byte, kind byte, group string) []byte {
	dst = append(dst, kind)
	dst = append(dst, group...)
	return append(dst, 0)
}

// groupLen is the length of what appendGroup writes.
func groupLen(group string) int { return 1 + len(group) + 1 }

func appendNodeKey(dst []byte, name string) []byte {
	dst = append(dst, kindNode)
	dst = append(dst, name...)
	return append(dst, 0)
}

// appendRecordKey: the NUL after a group's name is the sentinel here, as nothing follows.
func appendRecordKey(dst []byte, group string) []byte { return appendGroup(dst, kindRecord, group) }

func appendEntryKey(dst []byte, group string, slot uint64) []byte {
	dst = appendGroup(dst, kindEntry, group)
	dst = binary.BigEndian.AppendUint64(dst, slot)
	return append(dst, 0)
}

func appendStateKey(dst []byte, group, name string) []byte {
	dst = appendGroup(dst, kindState, group)
	dst = append(dst, name...)
	return append(dst, 0)
}

// appendDataPrefix is a key's bare form: before all of its versions.
func appendDataPrefix(dst []byte, group string, rest []byte) []byte {
	dst = appendGroup(dst, kindData, group)
	dst = append(dst, rest...)
	return append(dst, 0)
}

func appendVersion(dst []byte, t Timestamp) []byte {
	dst = binary.BigEndian.AppendUint64(dst, t)
	return append(dst, versionLen)
}

func appendDataKey(dst []byte, group string, rest []byte, t Timestamp) []byte {
	return appendVersion(appendDataPrefix(dst, group, rest), t)
}

func appendTimed(dst []byte, kind byte, group string, t Timestamp, seq uint32) []byte {
	dst = appendGroup(dst, kind, group)
	dst = binary.BigEndian.AppendUint64(dst, t)
	return binary.BigEndian.AppendUint32(dst, seq)
}

func appendChangeKey(dst []byte, group string, t Timestamp, seq uint32) []byte {
	return append(appendTimed(dst, kindChange, group, t, seq), 0)
}

func appendPendingKey(dst []byte, group string, t Timestamp, seq uint32) []byte {
	return append(appendTimed(dst, kindPending, group, t, seq), 0)
}

func appendChunkKey(dst []byte, group string, t Timestamp, seq, chunk uint32) []byte {
	dst = appendTimed(dst, kindChunk, group, t, seq)
	dst = binary.BigEndian.AppendUint32(dst, chunk)
	return append(dst, 0)
}

// appendChunkEnd is above every chunk of the value and below those of the next.
func appendChunkEnd(dst []byte, group string, t Timestamp, seq uint32) []byte {
	dst = appendTimed(dst, kindChunk, group, t, seq)
	return append(dst, 0xff, 0xff, 0xff, 0xff, 0xff, 0)
}

func appendExpiryKey(dst []byte, expires Timestamp, group string, rest []byte, t Timestamp) []byte {
	dst = append(dst, kindExpiry)
	dst = binary.BigEndian.AppendUint64(dst, expires)
	dst = append(dst, group...)
	dst = append(dst, 0)
	dst = append(dst, rest...)
	dst = append(dst, 0)
	dst = binary.BigEndian.AppendUint64(dst, t)
	return append(dst, 0)
}

// appendGroupEnd is above all records of the group of that kind: the NUL after the name turned into 0x01.
func appendGroupEnd(dst []byte, kind byte, group string) []byte {
	dst = appendGroup(dst, kind, group)
	dst[len(dst)-1] = 1
	return append(dst, 0)
}

// splitDataKey takes a stored key of versioned data apart; prefixLen is groupLen of its group.
func splitDataKey(k []byte, prefixLen int) (rest []byte, t Timestamp, err error) {
	n := len(k)
	if n < prefixLen+sentinelLen+versionLen || k[n-1] != versionLen || k[n-versionLen-sentinelLen] != 0 {
		return nil, 0, fmt.Errorf("%w: data key of %d bytes has no version", ErrCorrupt, n)
	}
	return k[prefixLen : n-versionLen-sentinelLen], binary.BigEndian.Uint64(k[n-versionLen:]), nil
}

// cutGroup takes the group off a stored key of the kind: kind, group, NUL.
func cutGroup(k []byte, kind byte) (group, tail []byte, err error) {
	if len(k) < 2 || k[0] != kind {
		return nil, nil, fmt.Errorf("%w: key of %d bytes is not of kind %d", ErrCorrupt, len(k), kind)
	}
	i := bytes.IndexByte(k[1:], 0)
	if i < 0 {
		return nil, nil, fmt.Errorf("%w: key of %d bytes has no group", ErrCorrupt, len(k))
	}
	return k[1 : 1+i], k[2+i:], nil
}

// splitTimedKey reads the tail of a change or pending key.
func splitTimedKey(k []byte, kind byte) (group []byte, t Timestamp, seq uint32, err error) {
	group, tail, err := cutGroup(k, kind)
	if err != nil {
		return nil, 0, 0, err
	}
	if len(tail) != 8+4+sentinelLen || tail[12] != 0 {
		return nil, 0, 0, fmt.Errorf("%w: key of kind %d has a tail of %d bytes", ErrCorrupt, kind, len(tail))
	}
	return group, binary.BigEndian.Uint64(tail), binary.BigEndian.Uint32(tail[8:]), nil
}

// splitExpiryKey reads a key of the TTL index.
func splitExpiryKey(k []byte) (expires Timestamp, group, rest []byte, t Timestamp, err error) {
	const fixed = 1 + 8 + 1 + 1 + 8 + sentinelLen
	bad := func() (Timestamp, []byte, []byte, Timestamp, error) {
		return 0, nil, nil, 0, fmt.Errorf("%w: TTL key of %d bytes", ErrCorrupt, len(k))
	}
	if len(k) < fixed || k[0] != kindExpiry || k[len(k)-1] != 0 {
		return bad()
	}
	body := k[9 : len(k)-sentinelLen-8]
	i := bytes.IndexByte(body, 0)
	if i < 0 || i == len(body)-1 || body[len(body)-1] != 0 {
		return bad()
	}
	return binary.BigEndian.Uint64(k[1:]), body[:i], body[i+1 : len(body)-1],
		binary.BigEndian.Uint64(k[len(k)-sentinelLen-8:]), nil
}

// checkNames says whether the names of a record are storable.
func checkNames(group string, rest []byte) error {
	switch {
	case len(group) == 0 || len(group) > GroupLenMax:
		return fmt.Errorf("%w: group name length %d is not in 1..%d", ErrTooLarge, len(group), GroupLenMax)
	case indexNUL(group) >= 0:
		return fmt.Errorf("%w: group name holds a NUL", ErrTooLarge)
	case len(rest) > RestLenMax:
		return fmt.Errorf("%w: key length %d exceeds %d", ErrTooLarge, len(rest), RestLenMax)
	}
	return nil
}

func indexNUL(s string) int {
	for i := range len(s) {
		if s[i] == 0 {
			return i
		}
	}
	return -1
}

// entrySlot reads the slot of a log entry's key of that length.
func entrySlot(k []byte, keyLen int) (uint64, error) {
	if len(k) != keyLen {
		return 0, fmt.Errorf("%w: log entry key of %d bytes, want %d", ErrCorrupt, len(k), keyLen)
	}
	return binary.BigEndian.Uint64(k[keyLen-sentinelLen-8:]), nil
}
