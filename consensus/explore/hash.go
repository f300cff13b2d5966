// SPDX-License-Identifier: AGPL-3.0-only

package explore

import (
	"encoding/binary"
	"math/bits"
	"slices"
)

// hash128 is what states are told apart by. With n states the odds that any two of them share it are about n²/2^129: 10^-22
// for a hundred million. Two multiply-fold lanes with different constants; the input is no adversary's.
type hash128 struct{ hi, lo uint64 }

func hashOf(data []byte) hash128 {
	const (
		k0, k1 = 0x9e3779b97f4a7c15, 0xd6e8feb86659fd93
		k2, k3 = 0xa0761d6478bd642f, 0xe7037ed1a0b428db
	)
	a, b := uint64(len(data))*k0, uint64(len(data))*k2^k3
	for len(data) >= 8 {
		v := binary.LittleEndian.Uint64(data)
		a = fold(a^v, k1) + k2
		b = fold(b+v, k3) ^ bits.RotateLeft64(v, 29)
		data = data[8:]
	}
	if len(data) > 0 {
		var tail [8]byte
		copy(tail[:], data)
		v := binary.LittleEndian.Uint64(tail[:])
		a = fold(a^v, k1) + k2
		b = fold(b+v, k3) ^ bits.RotateLeft64(v, 29)
	}
	a, b = mix(a), mix(b)
	return hash128{mix(a + b*k0), mix(b ^ bits.RotateLeft64(a, 32))}
}

func fold(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo ^ a
}

func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// visited numbers the states that were seen, in the order in which they were, and remembers how each was reached.
type visited struct {
	table []hash128 // open addressing; zero is free
	mask  uint64
	steps []step
}

// step says how a state was reached first.
type step struct {
	parent uint32
	action uint32
}

func newVisited() *visited {
	const size = 1 << 16
	return &visited{table: make([]hash128, size), mask: size - 1}
}

func (v *visited) len() int { return len(v.steps) }

// add numbers the state, unless it was there.
func (v *visited) add(h hash128, parent, action uint32) (fresh bool) {
	if h == (hash128{}) {
		h.lo = 1
	}
	if !v.put(h) {
		return false
	}
	v.steps = append(v.steps, step{parent, action})
	if len(v.steps)*3 > len(v.table)*2 {
		old := v.table
		v.table = make([]hash128, 2*len(old))
		v.mask = uint64(len(v.table) - 1)
		for _, h := range old {
			if h != (hash128{}) {
				v.put(h)
			}
		}
	}
	return true
}

func (v *visited) put(h hash128) (fresh bool) {
	at := h.lo & v.mask
	for v.table[at] != (hash128{}) {
		if v.table[at] == h {
			return false
		}
		at = (at + 1) & v.mask
	}
	v.table[at] = h
	return true
}

// path is the actions that lead to state number i.
func (v *visited) path(i uint32) []uint32 {
	var actions []uint32
	for ; i != 0; i = v.steps[i].parent {
		actions = append(actions, v.steps[i].action)
	}
	slices.Reverse(actions)
	return actions
}
