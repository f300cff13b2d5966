// SPDX-License-Identifier: AGPL-3.0-only

package consensuspb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"
)

const (
	diskVersion = 2
	checksumLen = 4
)

// castagnoli is the polynomial that processors compute. The table is only read.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is what every error of DecodeOnDisk is.
var ErrCorrupt = errors.New("corrupt record")

// AppendOnDisk appends m as it lies on disk: version byte, canonical form, CRC-32C of both. It fails, with dst as it was, for a
// string that is not UTF-8.
func AppendOnDisk(dst []byte, m proto.Message) ([]byte, error) {
	b, err := proto.MarshalOptions{Deterministic: true}.MarshalAppend(append(dst, diskVersion), m)
	if err != nil {
		return dst, err
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b[len(dst):], castagnoli)), nil
}

// DecodeOnDisk reads into m what AppendOnDisk wrote, and nothing after it. It refuses more than lenMax bytes before it looks at
// them, and all that AppendOnDisk could not have written, fields that this program does not know among it. What m says is not
// looked at.
func DecodeOnDisk(src []byte, lenMax int, m proto.Message) error {
	what := m.ProtoReflect().Descriptor().Name()
	switch end := len(src) - checksumLen; {
	case len(src) > lenMax:
		return fmt.Errorf("%w: %s: %d bytes exceed limit %d", ErrCorrupt, what, len(src), lenMax)
	case end < 1:
		return fmt.Errorf("%w: %s: %d bytes, want at least %d", ErrCorrupt, what, len(src), 1+checksumLen)
	case crc32.Checksum(src[:end], castagnoli) != binary.LittleEndian.Uint32(src[end:]):
		return fmt.Errorf("%w: %s: checksum %x, computed %08x", ErrCorrupt, what, src[end:], crc32.Checksum(src[:end], castagnoli))
	case src[0] != diskVersion:
		return fmt.Errorf("%w: %s: version %d, this program reads %d", ErrCorrupt, what, src[0], diskVersion)
	}
	body := src[1 : len(src)-checksumLen]
	if err := (proto.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(body, m); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	again, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	if !bytes.Equal(again, body) {
		return fmt.Errorf("%w: %s: not in canonical form, or with a field that a newer program wrote", ErrCorrupt, what)
	}
	return nil
}
