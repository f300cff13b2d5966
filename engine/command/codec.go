// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
)

// ErrCodec is what every error about bytes that this package should have written is.
var ErrCodec = errors.New("bad command encoding")

const codecVersion = 1

// The bits of the flags byte.
const (
	flagAdmin = 1 << iota
	flagSystem
	flagReads

	flagsKnown = flagAdmin | flagSystem | flagReads
)

// The bits of a Put's fields byte.
const (
	fieldTTL = 1 << iota
	fieldExpires
	fieldWormTTL
	fieldWormUntil

	fieldsKnown = fieldTTL | fieldExpires | fieldWormTTL | fieldWormUntil
)

// reusedMax is the number of mutations and conditions up to which DecodeFrom keeps the memory for the next command.
const reusedMax = 1024

// EncodedSize is the exact length of what AppendTo appends.
func (c *Command) EncodedSize() int {
	n := 2 + bytesSize(len(c.Principal)) + uvarintSize(uint64(len(c.Conditions))) + uvarintSize(uint64(len(c.Mutations)))
	for i := range c.Conditions {
		n += 1 + bytesSize(len(c.Conditions[i].Rest))
		if c.Conditions[i].Kind == VersionIs {
			n += uvarintSize(c.Conditions[i].Version)
		}
	}
	for i := range c.Mutations {
		n += c.Mutations[i].encodedSize()
	}
	if c.Reads != nil {
		n += c.Reads.encodedSize()
	}
	return n
}

func (m *Mutation) encodedSize() int {
	n := 1 + bytesSize(len(m.Rest))
	switch m.Kind {
	case Put:
		n += 1 + bytesSize(len(m.Value))
		for _, v := range m.times() {
			if v != 0 {
				n += uvarintSize(v)
			}
		}
	case Expire:
		n += uvarintSize(m.Version)
	case Grant, Revoke:
		n += 2 + bytesSize(len(m.Principal))
	case ResetGrants:
		n++
	}
	return n
}

// times are a Put's optional fields in the order of their bits.
func (m *Mutation) times() [4]uint64 {
	return [4]uint64{uint64(m.TTL), m.Expires, uint64(m.WormTTL), m.WormUntil}
}

func (s *ReadSet) encodedSize() int {
	n := uvarintSize(s.Snapshot) + uvarintSize(s.ValidUntil) + uvarintSize(uint64(len(s.Keys))) + uvarintSize(uint64(len(s.Ranges)))
	for _, k := range s.Keys {
		n += bytesSize(len(k))
	}
	for _, r := range s.Ranges {
		n += bytesSize(len(r.Lower)) + bytesSize(len(r.Upper))
	}
	return n
}

// AppendTo appends the encoding; give it a dst with room for EncodedSize bytes. A Put's value that lies where it is to go, in the room
// behind dst, is not copied: with a value at the end of a buffer, and dst empty and beginning as far before it as the rest of the
// encoding takes, only that is written. Requires: Validate returned nil.
func (c *Command) AppendTo(dst []byte) []byte {
	var flags byte
	if c.Admin {
		flags |= flagAdmin
	}
	if c.System {
		flags |= flagSystem
	}
	if c.Reads != nil {
		flags |= flagReads
	}
	dst = append(dst, codecVersion, flags)
	dst = appendBytes(dst, c.Principal)
	dst = binary.AppendUvarint(dst, uint64(len(c.Conditions)))
	for i := range c.Conditions {
		dst = c.Conditions[i].appendTo(dst)
	}
	dst = binary.AppendUvarint(dst, uint64(len(c.Mutations)))
	for i := range c.Mutations {
		dst = c.Mutations[i].appendTo(dst)
	}
	if c.Reads != nil {
		dst = c.Reads.appendTo(dst)
	}
	return dst
}

func (c *Condition) appendTo(dst []byte) []byte {
	dst = append(dst, byte(c.Kind))
	dst = appendBytes(dst, c.Rest)
	if c.Kind == VersionIs {
		dst = binary.AppendUvarint(dst, c.Version)
	}
	return dst
}

func (m *Mutation) appendTo(dst []byte) []byte {
	dst = append(dst, byte(m.Kind))
	switch m.Kind {
	case Put:
		times := m.times()
		var fields byte
		for i, v := range times {
			if v != 0 {
				fields |= 1 << i
			}
		}
		dst = append(dst, fields)
		dst = appendBytes(dst, m.Rest)
		for _, v := range times {
			if v != 0 {
				dst = binary.AppendUvarint(dst, v)
			}
		}
		return appendValue(dst, m.Value)
	case Expire:
		return binary.AppendUvarint(appendBytes(dst, m.Rest), m.Version)
	case Grant, Revoke:
		dst = append(dst, byte(m.Object), byte(m.Perms))
		return appendBytes(appendBytes(dst, m.Rest), m.Principal)
	case ResetGrants:
		return appendBytes(append(dst, byte(m.Object)), m.Rest)
	default: // Delete
		return appendBytes(dst, m.Rest)
	}
}

func (s *ReadSet) appendTo(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, s.Snapshot)
	dst = binary.AppendUvarint(dst, s.ValidUntil)
	dst = binary.AppendUvarint(dst, uint64(len(s.Keys)))
	for _, k := range s.Keys {
		dst = appendBytes(dst, k)
	}
	dst = binary.AppendUvarint(dst, uint64(len(s.Ranges)))
	for _, r := range s.Ranges {
		dst = appendBytes(appendBytes(dst, r.Lower), r.Upper)
	}
	return dst
}

// Decode reads an encoding whole; the command aliases b. What it returns passes Validate and encodes to b again.
func Decode(b []byte) (*Command, error) {
	c := new(Command)
	if err := c.DecodeFrom(b); err != nil {
		return nil, err
	}
	return c, nil
}

// DecodeFrom is Decode into a command whose memory is used again. After an error the command holds nothing of use.
func (c *Command) DecodeFrom(b []byte) error {
	c.reset()
	if len(b) > EncodedLenMax {
		return fmt.Errorf("%w: length %d exceeds limit %d", ErrCodec, len(b), EncodedLenMax)
	}
	r := reader{left: b}
	if v := r.byte(); v != codecVersion {
		return fmt.Errorf("%w: version %d, this program reads %d", ErrCodec, v, codecVersion)
	}
	flags := r.byte()
	if flags&^flagsKnown != 0 {
		r.fail("unknown flags")
	}
	c.Admin = flags&flagAdmin != 0
	c.System = flags&flagSystem != 0
	if p := r.bytes(); string(p) != c.Principal { // mostly it is the last command's: no copy
		c.Principal = string(p[:min(len(p), authz.PrincipalLenMax+1)])
	}
	for range r.count(ConditionsMax, 2) {
		c.Conditions = append(c.Conditions, r.condition())
	}
	for range r.count(MutationsMax, 2) {
		c.Mutations = append(c.Mutations, r.mutation())
	}
	if flags&flagReads != 0 {
		c.Reads = r.readSet()
	}
	if err := r.end(); err != nil {
		return err
	}
	if err := c.Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrCodec, err)
	}
	return nil
}

// reset empties the command but for its memory and its principal; nothing of the last encoding stays reachable.
func (c *Command) reset() {
	clear(c.Conditions)
	clear(c.Mutations)
	c.Conditions, c.Mutations, c.Reads = c.Conditions[:0], c.Mutations[:0], nil
	if cap(c.Conditions) > reusedMax {
		c.Conditions = nil
	}
	if cap(c.Mutations) > reusedMax {
		c.Mutations = nil
	}
}

// reader takes an encoding apart. After the first thing wrong it yields zeros and nothing more; end tells what it was.
type reader struct {
	left  []byte
	wrong string
}

func (r *reader) fail(what string) {
	if r.wrong == "" {
		r.wrong = what
	}
	r.left = nil
}

// end is the error of the whole reading; bytes left over are one.
func (r *reader) end() error {
	if r.wrong == "" && len(r.left) != 0 {
		return fmt.Errorf("%w: %d bytes follow the end", ErrCodec, len(r.left))
	}
	if r.wrong != "" {
		return fmt.Errorf("%w: %s", ErrCodec, r.wrong)
	}
	return nil
}

func (r *reader) byte() byte {
	if len(r.left) == 0 {
		r.fail("cut short")
		return 0
	}
	b := r.left[0]
	r.left = r.left[1:]
	return b
}

func (r *reader) uvarint() uint64 {
	if len(r.left) > 0 && r.left[0] < 0x80 {
		return uint64(r.byte())
	}
	v, n := binary.Uvarint(r.left)
	if n <= 0 || r.left[n-1] == 0 {
		r.fail("bad number")
		return 0
	}
	r.left = r.left[n:]
	return v
}

// bytes aliases the encoding; its capacity ends where it ends.
func (r *reader) bytes() []byte {
	n := r.uvarint()
	if n > uint64(len(r.left)) {
		r.fail("cut short")
		return nil
	}
	b := r.left[:n:n]
	r.left = r.left[n:]
	return b
}

// count reads how many items follow: no more than the limit, and none that cannot be there.
func (r *reader) count(limit, itemLenMin uint64) uint64 {
	n := r.uvarint()
	if n > limit {
		r.fail("too many items")
		return 0
	}
	if n*itemLenMin > uint64(len(r.left)) {
		r.fail("cut short")
		return 0
	}
	return n
}

// duration reads what must fit a time.Duration.
func (r *reader) duration() time.Duration {
	v := r.uvarint()
	if v > uint64(TimestampMax) {
		r.fail("duration out of range")
		return 0
	}
	return time.Duration(v)
}

func (r *reader) condition() Condition {
	c := Condition{Kind: ConditionKind(r.byte()), Rest: r.bytes()}
	if c.Kind == VersionIs {
		c.Version = r.uvarint()
	}
	return c
}

func (r *reader) mutation() Mutation {
	m := Mutation{Kind: MutationKind(r.byte())}
	switch m.Kind {
	case Put:
		r.put(&m)
	case Delete:
		m.Rest = r.bytes()
	case Expire:
		m.Rest, m.Version = r.bytes(), r.uvarint()
	case Grant, Revoke:
		m.Object, m.Perms = authz.Kind(r.byte()), authz.Perm(r.byte())
		m.Rest = r.bytes()
		p := r.bytes()
		m.Principal = string(p[:min(len(p), authz.PrincipalLenMax+1)])
	case ResetGrants:
		m.Object, m.Rest = authz.Kind(r.byte()), r.bytes()
	default:
		r.fail("unknown kind of mutation")
	}
	return m
}

func (r *reader) put(m *Mutation) {
	fields := r.byte()
	if fields&^fieldsKnown != 0 {
		r.fail("unknown fields of a put")
	}
	m.Rest = r.bytes()
	if fields&fieldTTL != 0 {
		m.TTL = r.duration()
	}
	if fields&fieldExpires != 0 {
		m.Expires = r.uvarint()
	}
	if fields&fieldWormTTL != 0 {
		m.WormTTL = r.duration()
	}
	if fields&fieldWormUntil != 0 {
		m.WormUntil = r.uvarint()
	}
	m.Value = r.bytes()
	times := m.times()
	for i, v := range times {
		if (v != 0) != (fields&(1<<i) != 0) {
			r.fail("field of a put is given as zero")
		}
	}
}

func (r *reader) readSet() *ReadSet {
	s := &ReadSet{Snapshot: r.uvarint(), ValidUntil: r.uvarint()}
	if n := r.count(ReadKeysMax, 1); n > 0 {
		s.Keys = make([][]byte, n)
		for i := range s.Keys {
			s.Keys[i] = r.bytes()
		}
	}
	if n := r.count(ReadRangesMax, 2); n > 0 {
		s.Ranges = make([]Range, n)
		for i := range s.Ranges {
			s.Ranges[i] = Range{Lower: r.bytes(), Upper: r.bytes()}
		}
	}
	return s
}

func appendBytes[T string | []byte](dst []byte, b T) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(b)))
	return append(dst, b...)
}

// appendValue is appendBytes, but for a value that lies there already.
func appendValue(dst, value []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(value)))
	end := len(dst) + len(value)
	if end > len(dst) && end <= cap(dst) && &dst[:end][len(dst)] == &value[0] {
		return dst[:end]
	}
	return append(dst, value...)
}

func bytesSize(n int) int { return uvarintSize(uint64(n)) + n }

func uvarintSize(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }
