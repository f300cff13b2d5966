// SPDX-License-Identifier: AGPL-3.0-only

package command

import "hash/maphash"

// index finds positions in a slice by a rest, with one allocation for any number of them and none per rest. The slice is
// the caller's, and so is the test for equality. The hash is seeded anew in each index: names that a client chooses
// cannot be made to collide, and no result depends on the order of the slots.
type index struct {
	seed  maphash.Seed
	slots []int32 // position + 1; 0 = free. A power of two long, at most half full
	used  int
}

// grow makes room for n positions. It forgets what was there: the caller sets it again.
func (x *index) grow(n int) {
	size := 16
	for size < 2*n {
		size *= 2
	}
	if x.slots == nil {
		x.seed = maphash.MakeSeed()
	}
	x.slots = make([]int32, size)
	x.used = 0
}

// full says that grow is due before the next find.
func (x *index) full() bool { return 2*(x.used+1) > len(x.slots) }

// find returns the slot of the position for which same holds, or the free slot where it belongs. Requires: not full.
func (x *index) find(rest []byte, same func(position int) bool) (slot int, found bool) {
	mask := len(x.slots) - 1
	for slot = int(maphash.Bytes(x.seed, rest)) & mask; x.slots[slot] != 0; slot = (slot + 1) & mask {
		if same(int(x.slots[slot] - 1)) {
			return slot, true
		}
	}
	return slot, false
}

// set puts a position into the slot that find gave.
func (x *index) set(slot, position int) {
	if x.slots[slot] == 0 {
		x.used++
	}
	x.slots[slot] = int32(position + 1)
}

// at is the position in a slot that find found.
func (x *index) at(slot int) int { return int(x.slots[slot] - 1) }

// clear frees all slots and keeps the memory.
func (x *index) clear() {
	clear(x.slots)
	x.used = 0
}
