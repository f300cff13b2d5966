// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"encoding/binary"
	"math"

	"github.com/atlas-edge/atlas/consensus"
)

// point is what of an acceptor record is different in each group and after each command, where all is applied and accepted. What is left of the
// record is its shape, which a record seldom changes and most groups share.
type point struct {
	round uint64
	slot  consensus.Slot
	time  Timestamp
	chain uint64
}

// shapeOf is the record without its point; false if it has more than a point and a shape.
func shapeOf(rec *consensus.Record) (consensus.Record, bool) {
	if rec.Last == 0 || rec.Applied != rec.Last || rec.First != rec.Last+1 || rec.Accepted != rec.Promised || rec.Accepted.Round > math.MaxUint32 {
		return consensus.Record{}, false
	}
	s := *rec
	s.Last, s.Commit, s.Applied, s.First = 0, 0, 0, 0
	s.LastTime, s.AppliedTime, s.LastChain, s.AppliedChain = 0, 0, 0, 0
	s.Promised.Round, s.Accepted.Round = 0, 0
	return s, true
}

// reshape is the record of that shape and point.
func reshape(shape *consensus.Record, at point) consensus.Record {
	rec := *shape
	rec.Promised.Round, rec.Accepted.Round = at.round, at.round
	rec.Last, rec.Commit, rec.Applied, rec.First = at.slot, at.slot, at.slot, at.slot+1
	rec.LastTime, rec.LastChain = at.time, at.chain
	rec.AppliedTime, rec.AppliedChain = at.time, at.chain
	return rec
}

// shapes are those that groups in memory point to, each once.
type shapes []*consensus.Record

// keep gives a shape that stays, and equals this one.
func (s *shapes) keep(shape *consensus.Record) *consensus.Record {
	for _, known := range *s {
		if *known == *shape {
			return known
		}
	}
	kept := *shape
	if len(*s) < shapesMax {
		*s = append(*s, &kept)
	}
	return &kept
}

// A stamp (storage.Acceptor) is v(round) chain:8. Its slot follows from how many there were since the record was stored, and its time is that of
// the version that carries it.
func appendStamp(dst []byte, rec *consensus.Record) []byte {
	return binary.LittleEndian.AppendUint64(binary.AppendUvarint(dst, rec.Accepted.Round), rec.LastChain)
}

// stamped is the record that the nth stamp since base, of a version of that time, stands for; false if it cannot be one.
func stamped(base *consensus.Record, stamp []byte, nth int, at Timestamp) (consensus.Record, bool) {
	shape, ok := shapeOf(base)
	round, n := binary.Uvarint(stamp)
	if !ok || n <= 0 || len(stamp) != n+8 || at <= base.LastTime || round < base.Accepted.Round || round > math.MaxUint32 {
		return consensus.Record{}, false
	}
	return reshape(&shape, point{
		round: round, slot: base.Last + consensus.Slot(nth), time: at, chain: binary.LittleEndian.Uint64(stamp[n:]),
	}), true
}
