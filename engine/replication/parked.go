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
// when its group comes into memory, and is then not looked at; when the group leaves it is written anew.
//
// Entries lie in two generations. What is noted goes into the younger; when that is full the older is forgotten, and it takes its place. So what
// was not noted again for long goes first, and using an entry costs nothing.
type parked struct {
	young, old parkedTable
	lost       bool // something was forgotten
}

// parkedTable is one generation. An entry is
//
//	shape:1 len(name):1 round:4 last:8 time:8 chain:8 name
type parkedTable struct {
	seed     maphash.Seed
	bytesMax int
	shapes   []consensus.Record
	blocks   [][]byte // entries, none across two blocks
	used     int      // of the last block
	// slots is a hash table with open addressing: (offset + 1) << 8 | 8 bits of the hash, 0 for none.
	slots []uint32
	count int // of entries
	known int // of those that know their group
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

func newParked(seed maphash.Seed, bytesMax int) parked {
	t := parkedTable{seed: seed, bytesMax: bytesMax / 2}
	return parked{young: t, old: t}
}

// find gives the record of the group of that name and hash; false if the disk must be asked.
func (p *parked) find(name string, hash uint64) (consensus.Record, bool) {
	if e := p.young.entry(name, hash); e != nil {
		return p.young.record(e)
	}
	if e := p.old.entry(name, hash); e != nil {
		return p.old.record(e)
	}
	return consensus.Record{}, false
}

// has says whether anything is noted of the group.
func (p *parked) has(name string, hash uint64) bool {
	return p.young.entry(name, hash) != nil || p.old.entry(name, hash) != nil
}

// known is the number of groups that need not be read.
func (p *parked) known() int { return p.young.known + p.old.known }

// room says whether another group can be noted with nothing forgotten.
func (p *parked) room(name string) bool { return p.young.room(name) || p.old.count == 0 }

// put notes what the disk holds of a group without state.
func (p *parked) put(name string, hash uint64, rec *consensus.Record) {
	p.young.note(p.enter(name, hash), rec)
}

// forget notes that the disk must be asked about a group.
func (p *parked) forget(name string, hash uint64) { p.young.mark(p.enter(name, hash), shapeUnknown) }

// enter gives the group's entry in the younger generation, to be written; one in the older says nothing from now on.
func (p *parked) enter(name string, hash uint64) []byte {
	if e := p.young.entry(name, hash); e != nil {
		return e
	}
	if !p.young.room(name) {
		p.lost = p.lost || p.old.count > 0
		p.old, p.young = p.young, parkedTable{seed: p.young.seed, bytesMax: p.young.bytesMax}
	}
	if e := p.old.entry(name, hash); e != nil {
		p.old.mark(e, shapeUnknown)
	}
	return p.young.add(name, hash)
}

// record is what an entry knows; false if the disk must be asked.
func (t *parkedTable) record(e []byte) (rec consensus.Record, ok bool) {
	if e[0] == shapeUnknown {
		return rec, false
	}
	rec = t.shapes[e[0]-1]
	round := uint64(binary.LittleEndian.Uint32(e[2:]))
	rec.Promised.Round, rec.Accepted.Round = round, round
	rec.Last = consensus.Slot(binary.LittleEndian.Uint64(e[6:]))
	rec.Commit, rec.Applied, rec.First = rec.Last, rec.Last, rec.Last+1
	rec.LastTime = binary.LittleEndian.Uint64(e[14:])
	rec.LastChain = binary.LittleEndian.Uint64(e[22:])
	rec.AppliedTime, rec.AppliedChain = rec.LastTime, rec.LastChain
	return rec, true
}

// note writes an entry.
func (t *parkedTable) note(e []byte, rec *consensus.Record) {
	t.mark(e, t.shape(rec))
	binary.LittleEndian.PutUint32(e[2:], uint32(rec.Accepted.Round))
	binary.LittleEndian.PutUint64(e[6:], uint64(rec.Last))
	binary.LittleEndian.PutUint64(e[14:], rec.LastTime)
	binary.LittleEndian.PutUint64(e[22:], rec.LastChain)
}

// mark gives an entry its shape.
func (t *parkedTable) mark(e []byte, shape byte) {
	if e[0] != shapeUnknown {
		t.known--
	}
	if shape != shapeUnknown {
		t.known++
	}
	e[0] = shape
}

// shape is the number of the record's shape.
func (t *parkedTable) shape(rec *consensus.Record) byte {
	s, ok := shapeOf(rec)
	if !ok {
		return shapeUnknown
	}
	for i := range t.shapes {
		if t.shapes[i] == s {
			return byte(i + 1)
		}
	}
	if len(t.shapes) == shapesMax {
		return shapeUnknown
	}
	t.shapes = append(t.shapes, s)
	return byte(len(t.shapes))
}

// entry gives the bytes of the group's entry, nil if it has none.
func (t *parkedTable) entry(name string, hash uint64) []byte {
	if len(t.slots) == 0 {
		return nil
	}
	tag := tagOf(hash)
	mask := uint64(len(t.slots) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		s := t.slots[i]
		if s == 0 {
			return nil
		}
		if s&0xff != tag {
			continue
		}
		if e := t.at(s); string(e[parkedHead:parkedHead+int(e[1])]) == name {
			return e
		}
	}
}

// at gives the block from the entry of a slot on.
func (t *parkedTable) at(slot uint32) []byte {
	offset := int(slot>>8) - 1
	return t.blocks[offset/parkedBlockLen][offset%parkedBlockLen:]
}

// room says whether there is room for another entry.
func (t *parkedTable) room(name string) bool {
	return len(t.blocks) > 0 && t.used+parkedHead+len(name) <= parkedBlockLen || (len(t.blocks)+1)*parkedBlockLen <= t.bytesMax
}

// add gives the entry of a group that has none, and knows nothing yet. Requires: there is room.
func (t *parkedTable) add(name string, hash uint64) []byte {
	size := parkedHead + len(name)
	if len(t.blocks) == 0 || t.used+size > parkedBlockLen {
		t.blocks, t.used = append(t.blocks, make([]byte, parkedBlockLen)), 0
	}
	if 4*(t.count+1) > 3*len(t.slots) {
		t.grow()
	}
	offset := (len(t.blocks)-1)*parkedBlockLen + t.used
	t.insert(uint32(offset+1)<<8|tagOf(hash), hash)
	t.count++
	e := t.blocks[len(t.blocks)-1][t.used:]
	t.used += size
	e[1] = byte(len(name))
	copy(e[parkedHead:], name)
	return e
}

func (t *parkedTable) insert(slot uint32, hash uint64) {
	mask := uint64(len(t.slots) - 1)
	i := hash & mask
	for t.slots[i] != 0 {
		i = (i + 1) & mask
	}
	t.slots[i] = slot
}

// grow doubles the hash table.
func (t *parkedTable) grow() {
	old := t.slots
	t.slots = make([]uint32, max(16, 2*len(old)))
	for _, s := range old {
		if s != 0 {
			e := t.at(s)
			t.insert(s, parkedHash(maphash.Bytes(t.seed, e[parkedHead:parkedHead+int(e[1])])))
		}
	}
}

// tagOf is of bits that do not choose the slot.
func tagOf(hash uint64) uint32 { return uint32(hash>>40) & 0xff }

// parkedHash is what is left of a name's hash once its shard is chosen.
func parkedHash(h uint64) uint64 { return h / registryShards }
