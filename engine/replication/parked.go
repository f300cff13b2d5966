// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"encoding/binary"
	"hash/maphash"
	"math"

	"github.com/atlas-edge/atlas/consensus"
)

// parked remembers groups that are not in memory, so that bringing one in, or reading it, asks the disk for nothing: their acceptor
// records, and that they have no group state. It is for the many that are alike: all applied, no grants, nothing write-once, and
// but for their slots, times, chains and rounds one of a few shapes. Of others it knows nothing, and they are read from the disk.
//
// An entry is some 30 bytes and the name, among bytes that the garbage collector need not look through. It stays where it is
// when its group comes into memory, and is then not looked at; when the group leaves it is written anew. At bytesMax all is forgotten,
// and what is used from then on comes back: that is a read for each, where an order of use would cost memory and time at every use.
//
//	shape:1 len(name):1 round:4 last:8 time:8 chain:8 name
type parked struct {
	seed     maphash.Seed
	bytesMax int
	shapes   []consensus.Record
	blocks   [][]byte // entries, none across two blocks
	used     int      // of the last block
	// slots is a hash table with open addressing: (offset + 1) << 8 | 8 bits of the hash, 0 for none.
	slots []uint32
	count int  // of entries
	known int  // of those that know their group
	lost  bool // something was forgotten
}

const (
	parkedHead     = 1 + 1 + 4 + 8 + 8 + 8
	parkedBlockLen = 4 << 10
	// shapeUnknown is the shape of an entry that says: read the disk.
	shapeUnknown = 0
	shapesMax    = 32
)

// shapeOf is the record without what differs from group to group; false if it has more than that to remember.
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

// find gives the record of the group of that name and hash; false if the disk must be asked.
func (p *parked) find(name string, hash uint64) (rec consensus.Record, ok bool) {
	e := p.entry(name, hash)
	if e == nil || e[0] == shapeUnknown {
		return rec, false
	}
	rec = p.shapes[e[0]-1]
	round := uint64(binary.LittleEndian.Uint32(e[2:]))
	rec.Promised.Round, rec.Accepted.Round = round, round
	rec.Last = consensus.Slot(binary.LittleEndian.Uint64(e[6:]))
	rec.Commit, rec.Applied, rec.First = rec.Last, rec.Last, rec.Last+1
	rec.LastTime = binary.LittleEndian.Uint64(e[14:])
	rec.LastChain = binary.LittleEndian.Uint64(e[22:])
	rec.AppliedTime, rec.AppliedChain = rec.LastTime, rec.LastChain
	return rec, true
}

// has says whether anything was noted of the group since the last time that all was forgotten.
func (p *parked) has(name string, hash uint64) bool { return p.entry(name, hash) != nil }

// put notes what the disk holds of a group without state.
func (p *parked) put(name string, hash uint64, rec *consensus.Record) {
	e := p.entry(name, hash)
	if e == nil {
		e = p.add(name, hash) // may forget all, shapes too
	}
	p.mark(e, p.shape(rec))
	binary.LittleEndian.PutUint32(e[2:], uint32(rec.Accepted.Round))
	binary.LittleEndian.PutUint64(e[6:], uint64(rec.Last))
	binary.LittleEndian.PutUint64(e[14:], rec.LastTime)
	binary.LittleEndian.PutUint64(e[22:], rec.LastChain)
}

// forget notes that the disk must be asked about a group.
func (p *parked) forget(name string, hash uint64) {
	e := p.entry(name, hash)
	if e == nil {
		e = p.add(name, hash)
	}
	p.mark(e, shapeUnknown)
}

// mark gives an entry its shape.
func (p *parked) mark(e []byte, shape byte) {
	if e[0] != shapeUnknown {
		p.known--
	}
	if shape != shapeUnknown {
		p.known++
	}
	e[0] = shape
}

// shape is the number of the record's shape.
func (p *parked) shape(rec *consensus.Record) byte {
	s, ok := shapeOf(rec)
	if !ok {
		return shapeUnknown
	}
	for i := range p.shapes {
		if p.shapes[i] == s {
			return byte(i + 1)
		}
	}
	if len(p.shapes) == shapesMax {
		return shapeUnknown
	}
	p.shapes = append(p.shapes, s)
	return byte(len(p.shapes))
}

// entry gives the bytes of the group's entry, nil if it has none.
func (p *parked) entry(name string, hash uint64) []byte {
	if len(p.slots) == 0 {
		return nil
	}
	tag := tagOf(hash)
	mask := uint64(len(p.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := p.slots[i]
		if s == 0 {
			return nil
		}
		if s&0xff != tag {
			continue
		}
		if e := p.at(s); string(e[parkedHead:parkedHead+int(e[1])]) == name {
			return e
		}
	}
}

// at gives the block from the entry of a slot on.
func (p *parked) at(slot uint32) []byte {
	offset := int(slot>>8) - 1
	return p.blocks[offset/parkedBlockLen][offset%parkedBlockLen:]
}

// room says whether there is room for another entry.
func (p *parked) room(name string) bool {
	return len(p.blocks) > 0 && p.used+parkedHead+len(name) <= parkedBlockLen || (len(p.blocks)+1)*parkedBlockLen <= p.bytesMax
}

// add gives the entry of a group that has none. It knows nothing yet.
func (p *parked) add(name string, hash uint64) []byte {
	if !p.room(name) {
		*p = parked{seed: p.seed, bytesMax: p.bytesMax, lost: true}
	}
	size := parkedHead + len(name)
	if len(p.blocks) == 0 || p.used+size > parkedBlockLen {
		p.blocks, p.used = append(p.blocks, make([]byte, parkedBlockLen)), 0
	}
	if 4*(p.count+1) > 3*len(p.slots) {
		p.grow()
	}
	offset := (len(p.blocks)-1)*parkedBlockLen + p.used
	p.insert(uint32(offset+1)<<8|tagOf(hash), hash)
	p.count++
	e := p.blocks[len(p.blocks)-1][p.used:]
	p.used += size
	e[1] = byte(len(name))
	copy(e[parkedHead:], name)
	return e
}

func (p *parked) insert(slot uint32, hash uint64) {
	mask := uint64(len(p.slots) - 1)
	i := hash & mask
	for p.slots[i] != 0 {
		i = (i + 1) & mask
	}
	p.slots[i] = slot
}

// grow doubles the hash table.
func (p *parked) grow() {
	old := p.slots
	p.slots = make([]uint32, max(16, 2*len(old)))
	for _, s := range old {
		if s != 0 {
			e := p.at(s)
			p.insert(s, parkedHash(maphash.Bytes(p.seed, e[parkedHead:parkedHead+int(e[1])])))
		}
	}
}

// tagOf is of bits that do not choose the slot.
func tagOf(hash uint64) uint32 { return uint32(hash>>40) & 0xff }

// parkedHash is what is left of a name's hash once its shard is chosen.
func parkedHash(h uint64) uint64 { return h / registryShards }
