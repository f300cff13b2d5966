// SPDX-License-Identifier: AGPL-3.0-only

package authz

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrCodec is what every error of DecodeGrants is: the stored list is damaged, or of a newer layout.
var ErrCodec = errors.New("bad list of grants")

// grantsVersion is the first byte of an encoded list.
const grantsVersion = 1

// Grants is the immutable list that stands on one object. A nil *Grants means that nothing was ever granted there; a
// list without entries is closed to all but admins.
//
// Encoded: version byte 1; uvarint count of entries; per entry uvarint length and bytes of the principal, then a byte
// of permissions (1 READ, 2 WRITE, 4 OWNER). Principals ascend strictly. Nothing follows.
type Grants struct {
	entries []Entry // ascending by principal; each holds at least one permission
}

// Entry is what one principal holds.
type Entry struct {
	Principal string
	Perms     Perm
}

// Len is the number of entries.
func (g *Grants) Len() int {
	if g == nil {
		return 0
	}
	return len(g.entries)
}

// Entries is a copy of the list, ascending by principal.
func (g *Grants) Entries() []Entry {
	if g == nil {
		return nil
	}
	return slices.Clone(g.entries)
}

// Perms is what the principal holds, without what it implies; nobody ("") holds nothing.
func (g *Grants) Perms(principal string) Perm {
	if g == nil || principal == "" {
		return 0
	}
	if i, ok := g.find(principal); ok {
		return g.entries[i].Perms
	}
	return 0
}

// owners counts the entries with PermOwner.
func (g *Grants) owners() int {
	n := 0
	for _, e := range g.entries {
		if e.Perms&PermOwner != 0 {
			n++
		}
	}
	return n
}

func (g *Grants) find(principal string) (int, bool) {
	return slices.BinarySearchFunc(g.entries, principal, func(e Entry, p string) int { return strings.Compare(e.Principal, p) })
}

// with is a copy in which the principal holds exactly perms.
func (g *Grants) with(principal string, perms Perm) *Grants {
	next := &Grants{}
	if g != nil {
		next.entries = slices.Clone(g.entries)
	}
	i, found := next.find(principal)
	switch {
	case found && perms == 0:
		next.entries = slices.Delete(next.entries, i, i+1)
	case found:
		next.entries[i].Perms = perms
	case perms != 0:
		next.entries = slices.Insert(next.entries, i, Entry{Principal: principal, Perms: perms})
	}
	return next
}

// AppendTo appends the encoding of the list. Requires: g is not nil.
func (g *Grants) AppendTo(dst []byte) []byte {
	dst = append(dst, grantsVersion)
	dst = binary.AppendUvarint(dst, uint64(len(g.entries)))
	for _, e := range g.entries {
		dst = binary.AppendUvarint(dst, uint64(len(e.Principal)))
		dst = append(dst, e.Principal...)
		dst = append(dst, byte(e.Perms))
	}
	return dst
}

// DecodeGrants reads what AppendTo wrote; it keeps no reference to b. Memory is bounded by the bytes that are there.
func DecodeGrants(b []byte) (*Grants, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrCodec)
	}
	if b[0] != grantsVersion {
		return nil, fmt.Errorf("%w: version %d, this program reads %d", ErrCodec, b[0], grantsVersion)
	}
	b = b[1:]
	count, b, err := takeUvarint(b)
	if err != nil {
		return nil, err
	}
	if count > GrantsMax || count > uint64(len(b)) {
		return nil, fmt.Errorf("%w: %d entries, limit %d, in %d bytes", ErrCodec, count, GrantsMax, len(b))
	}
	g := &Grants{entries: make([]Entry, 0, count)}
	for range count {
		var e Entry
		if e, b, err = takeEntry(b); err != nil {
			return nil, err
		}
		if n := len(g.entries); n > 0 && g.entries[n-1].Principal >= e.Principal {
			return nil, fmt.Errorf("%w: principals do not ascend", ErrCodec)
		}
		g.entries = append(g.entries, e)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes follow the list", ErrCodec, len(b))
	}
	return g, nil
}

func takeEntry(b []byte) (Entry, []byte, error) {
	n, b, err := takeUvarint(b)
	if err != nil {
		return Entry{}, nil, err
	}
	if n >= uint64(len(b)) { // the byte of permissions comes after
		return Entry{}, nil, fmt.Errorf("%w: principal of %d bytes, %d left", ErrCodec, n, len(b))
	}
	e := Entry{Principal: string(b[:n]), Perms: Perm(b[n])}
	if err := CheckPrincipal(e.Principal); err != nil {
		return Entry{}, nil, fmt.Errorf("%w: %w", ErrCodec, err)
	}
	if e.Perms == 0 || e.Perms&^permAll != 0 {
		return Entry{}, nil, fmt.Errorf("%w: permissions %#x", ErrCodec, byte(e.Perms))
	}
	return e, b[n+1:], nil
}

// takeUvarint reads a number in its shortest form only, so that a list has one encoding.
func takeUvarint(b []byte) (uint64, []byte, error) {
	v, n := binary.Uvarint(b)
	if n <= 0 || (n > 1 && b[n-1] == 0) {
		return 0, nil, fmt.Errorf("%w: bad number", ErrCodec)
	}
	return v, b[n:], nil
}
