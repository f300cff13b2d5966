// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"encoding/binary"
	"fmt"

	"github.com/atlas-edge/atlas/engine/authz"
)

// StateName is the name of the encoded GroupState among a group's state records.
const StateName = "meta"

// stateVersion is the first byte of an encoded GroupState.
const stateVersion = 1

// wormStep is what WormUntilMax is rounded up to: with each write-once put a little later than the last, the state then
// changes every 73 minutes and not with every put.
const wormStep = Timestamp(1) << 42

// GroupState is the little that Apply keeps about a group as a whole: it tells which lookups can be left out, so that an
// unconditional put into a group without grants and write-once keys reads nothing but this. It is replicated state,
// stored under StateName; the zero value is that of a group that nothing special was written to, and is not stored.
//
// Encoded: version byte 1, then four uvarints in the order of the fields.
type GroupState struct {
	TableLists   uint64    // tables with a list of grants, empty ones included
	KeyLists     uint64    // keys with a list of grants, empty ones included
	ListsChanged Timestamp // commit time of the last change of any list
	WormUntilMax Timestamp // no key of the group is write-once at or after this
}

// AppendTo appends the encoding of the state.
func (s GroupState) AppendTo(dst []byte) []byte {
	dst = append(dst, stateVersion)
	dst = binary.AppendUvarint(dst, s.TableLists)
	dst = binary.AppendUvarint(dst, s.KeyLists)
	dst = binary.AppendUvarint(dst, s.ListsChanged)
	return binary.AppendUvarint(dst, s.WormUntilMax)
}

// DecodeGroupState reads what AppendTo wrote; nothing stored (no bytes) is the zero state.
func DecodeGroupState(b []byte) (GroupState, error) {
	if len(b) == 0 {
		return GroupState{}, nil
	}
	if b[0] != stateVersion {
		return GroupState{}, fmt.Errorf("%w: group state of version %d, this program reads %d", ErrCodec, b[0], stateVersion)
	}
	r := reader{left: b[1:]}
	s := GroupState{TableLists: r.uvarint(), KeyLists: r.uvarint(), ListsChanged: r.uvarint(), WormUntilMax: r.uvarint()}
	if err := r.end(); err != nil {
		return GroupState{}, fmt.Errorf("group state: %w", err)
	}
	return s, nil
}

// coverWorm raises the horizon over a write-once end.
func (s *GroupState) coverWorm(until Timestamp) {
	if until > s.WormUntilMax {
		s.WormUntilMax = (until + wormStep - 1) &^ (wormStep - 1)
	}
}

// countList notes a change of a list on an object of the kind: it came (1), went (-1) or stayed (0).
func (s *GroupState) countList(kind authz.Kind, added int, at Timestamp) {
	s.ListsChanged = at
	if kind == authz.KindTable {
		s.TableLists += uint64(added)
	} else {
		s.KeyLists += uint64(added)
	}
}
