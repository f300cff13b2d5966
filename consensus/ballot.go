// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"cmp"
	"strconv"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

type (
	// NodeID names a node for ever; 0 is no node.
	NodeID = quorum.NodeID
	// Slot is a position in a group's log. The first is 1; 0 is before the first. At most SlotMax.
	Slot uint64
	// Timestamp is a commit time: nanoseconds since the Unix epoch, from a hybrid logical clock. 0 is none. At most TimeMax.
	Timestamp = uint64
)

// Ballot names one attempt at owning a group, and then that ownership: ballots are ordered by configuration, round, node. A
// ballot belongs to one node, and to one life of it: after a restart it takes a new round. The zero Ballot is none and below
// all others.
type Ballot struct {
	Cfg   uint64 // configuration: the version of the system log at which the group's configuration last changed
	Round uint64 // from 1, at most RoundMax
	Node  NodeID // whose ballot it is
}

// Compare is -1 if b < o, 0 if b = o, 1 if b > o.
func (b Ballot) Compare(o Ballot) int {
	switch {
	case b.Cfg != o.Cfg:
		return cmp.Compare(b.Cfg, o.Cfg)
	case b.Round != o.Round:
		return cmp.Compare(b.Round, o.Round)
	default:
		return cmp.Compare(b.Node, o.Node)
	}
}

// Less reports b < o.
func (b Ballot) Less(o Ballot) bool { return b.Compare(o) < 0 }

// IsZero reports whether b is no ballot.
func (b Ballot) IsZero() bool { return b == Ballot{} }

// String is `cfg.round.node`, or `-` for none.
func (b Ballot) String() string {
	if b.IsZero() {
		return "-"
	}
	dst := strconv.AppendUint(nil, b.Cfg, 10)
	dst = strconv.AppendUint(append(dst, '.'), b.Round, 10)
	return string(strconv.AppendUint(append(dst, '.'), uint64(b.Node), 10))
}
