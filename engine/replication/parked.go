// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/storage"
)

// parked remembers groups that are not in memory, so that bringing one in, or reading it, asks the disk for nothing: their acceptor
// records, whether versions may carry those, and that they have no group state. It is for the many that are alike: all applied, no grants, nothing write-once, and
// but for their slots, times, chains and rounds one of a few shapes. Of others it knows nothing, and they are read from the disk.
//
// An entry is 32 bytes and the name, in memory that is the garbage collector's no more than it must. It stays where it is
// when its group comes into memory, and is then not looked at; when the group leaves it is written anew.
//
// Entries lie in two generations. What is noted goes into the younger; when that is full the older is forgotten, and it takes its place. So what
// was not noted again for long goes first, and using an entry costs nothing.
type parked struct {
	young, old parkedTable
	turns      int  // how often the younger became the older
	lost       bool // something was forgotten
}

// parkedEntry is where a group was found, so that it need not be looked for again when it leaves. The zero value says nothing.
type parkedEntry struct {
	bytes []byte
	turns int
}

// parkedTable is one generation. An entry is
//
//	shape:1 len(name):1 round:4 last:8 time:8 chain:8 keys:1 carried:1 name; keys is one more than those of a small group, 0 of another
type parkedTable struct {
	seed     maphash.Seed
	bytesMax int
	memory   *arena
	shapes   []consensus.Record
	blocks   [][]byte // entries, none across two blocks
	used     int      // of the last block
	// slots is a hash table with open addressing, in blocks: (offset + 1) << 8 | 8 bits of the hash, 0 for none.
	slots [][]byte
	mask  uint64 // one less than their number
	count int    // of entries
	known int    // of those that know their group
}

const (
	parkedHead     = 1 + 1 + 4 + 8 + 8 + 8 + 1 + 1
	parkedBlockLen = arenaBlockLen
	parkedSlots    = parkedBlockLen / 4 // in a block
	// shapeUnknown is the shape of an entry that says: read the disk.
	shapeUnknown = 0
	shapesMax    = 32
)

func newParked(seed maphash.Seed, bytesMax int, memory *arena) parked {
	t := parkedTable{seed: seed, bytesMax: bytesMax / 2, memory: memory}
	return parked{young: t, old: t}
}

// find gives what is noted of the group of that name and hash, and where; false if the disk must be asked.
func (p *parked) find(name string, hash uint64) (stored, parkedEntry, bool) {
	if e := p.young.entry(name, hash); e != nil {
		s, ok := p.young.record(e)
		return s, parkedEntry{e, p.turns}, ok
	}
	if e := p.old.entry(name, hash); e != nil {
		s, ok := p.old.record(e)
		return s, parkedEntry{}, ok
	}
	return stored{}, parkedEntry{}, false
}

// knows says whether the disk need not be asked about a group.
func (p *parked) knows(name string, hash uint64) bool {
	e := p.young.entry(name, hash)
	if e == nil {
		e = p.old.entry(name, hash)
	}
	return e != nil && e[0] != shapeUnknown
}

// has says whether anything is noted of the group.
func (p *parked) has(name string, hash uint64) bool {
	return p.young.entry(name, hash) != nil || p.old.entry(name, hash) != nil
}

// known is the number of groups that need not be read.
func (p *parked) known() int { return p.young.known + p.old.known }

// room says whether another group can be noted with nothing forgotten.
func (p *parked) room(name string) bool { return p.young.room(name) || p.old.count == 0 }

// put notes what the disk holds of a group without state. at is where it was found, if it was.
func (p *parked) put(name string, hash uint64, s *stored, at parkedEntry) {
	e := at.bytes
	if e == nil || at.turns != p.turns {
		e = p.enter(name, hash)
	}
	p.young.note(e, s)
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
		p.turns++
		p.old.release()
		p.old, p.young = p.young, parkedTable{seed: p.young.seed, bytesMax: p.young.bytesMax, memory: p.young.memory}
	}
	if e := p.old.entry(name, hash); e != nil {
		p.old.mark(e, shapeUnknown)
	}
	return p.young.add(name, hash)
}

// record is what an entry knows; false if the disk must be asked.
func (t *parkedTable) record(e []byte) (s stored, ok bool) {
	if e[0] == shapeUnknown {
		return s, false
	}
	s.record = reshape(&t.shapes[e[0]-1], point{
		round: uint64(binary.LittleEndian.Uint32(e[2:])), slot: consensus.Slot(binary.LittleEndian.Uint64(e[6:])),
		time: binary.LittleEndian.Uint64(e[14:]), chain: binary.LittleEndian.Uint64(e[22:]),
	})
	if keys := e[30]; keys > 0 {
		s.small = storage.Smallness{Small: true, Keys: int(keys) - 1, Carried: int(e[31])}
	}
	return s, true
}

// note writes an entry.
func (t *parkedTable) note(e []byte, s *stored) {
	rec := &s.record
	t.mark(e, t.shape(rec))
	binary.LittleEndian.PutUint32(e[2:], uint32(rec.Accepted.Round))
	binary.LittleEndian.PutUint64(e[6:], uint64(rec.Last))
	binary.LittleEndian.PutUint64(e[14:], rec.LastTime)
	binary.LittleEndian.PutUint64(e[22:], rec.LastChain)
	e[30], e[31] = 0, 0
	if s.small.Small {
		e[30], e[31] = byte(s.small.Keys)+1, byte(s.small.Carried)
	}
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
	for i := hash & t.mask; ; i = (i + 1) & t.mask {
		s := t.slot(i)
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

func (t *parkedTable) slot(i uint64) uint32 {
	return binary.LittleEndian.Uint32(t.slots[i/parkedSlots][i%parkedSlots*4:])
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
		t.blocks, t.used = append(t.blocks, t.memory.get()), 0
	}
	if 4*(t.count+1) > 3*parkedSlots*len(t.slots) {
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
	i := hash & t.mask
	for t.slot(i) != 0 {
		i = (i + 1) & t.mask
	}
	binary.LittleEndian.PutUint32(t.slots[i/parkedSlots][i%parkedSlots*4:], slot)
}

// grow doubles the hash table.
func (t *parkedTable) grow() {
	old := *t
	t.slots = make([][]byte, max(1, 2*len(old.slots)))
	for i := range t.slots {
		t.slots[i] = t.memory.get()
	}
	t.mask = uint64(parkedSlots*len(t.slots) - 1)
	for i := range uint64(parkedSlots * len(old.slots)) {
		if s := old.slot(i); s != 0 {
			e := t.at(s)
			t.insert(s, parkedHash(maphash.Bytes(t.seed, e[parkedHead:parkedHead+int(e[1])])))
		}
	}
	t.memory.put(old.slots)
}

// release gives the memory back. The table must not be used any more, but to be replaced.
func (t *parkedTable) release() {
	t.memory.put(t.blocks)
	t.memory.put(t.slots)
}

// tagOf is of bits that do not choose the slot.
func tagOf(hash uint64) uint32 { return uint32(hash>>40) & 0xff }

// parkedHash is what is left of a name's hash once its shard is chosen.
func parkedHash(h uint64) uint64 { return h / registryShards }
