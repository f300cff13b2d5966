// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"runtime"
	"testing"
	"unsafe"
)

// TestArena: blocks are zeroes, also those that were given back, none shares memory with another, and past the heap's they lie on large pages.
func TestArena(t *testing.T) {
	a := new(arena)
	const blocks = arenaHeapMax + 2*arenaChunkLen/arenaBlockLen + 1
	taken := make([][]byte, 0, blocks)
	take := func() {
		t.Helper()
		b := a.get()
		if len(b) != arenaBlockLen || cap(b) != arenaBlockLen {
			t.Fatalf("block %d has %d of %d bytes", len(taken), len(b), cap(b))
		}
		n := byte(len(taken)%255 + 1)
		for _, at := range []int{0, arenaBlockLen / 2, arenaBlockLen - 1} {
			if b[at] != 0 {
				t.Fatalf("block %d holds %d at %d", len(taken), b[at], at)
			}
			b[at] = n
		}
		taken = append(taken, b)
	}
	for range blocks {
		take()
	}
	starts := make(map[*byte]bool)
	for i, b := range taken {
		if b[0] != byte(i%255+1) || b[arenaBlockLen-1] != byte(i%255+1) || starts[unsafe.SliceData(b)] {
			t.Fatalf("block %d was written by another", i)
		}
		starts[unsafe.SliceData(b)] = true
	}
	if runtime.GOOS == "linux" {
		if a.heap != arenaHeapMax {
			t.Fatalf("%d blocks are of the heap, want %d", a.heap, arenaHeapMax)
		}
		if first := taken[arenaHeapMax]; uintptr(unsafe.Pointer(unsafe.SliceData(first)))%largePageLen != 0 {
			t.Fatal("a chunk does not begin on a large page")
		}
	}
	heap := a.heap
	a.put(taken[:10])
	for range 10 {
		take()
	}
	if len(a.free) != 0 || a.heap != heap {
		t.Fatalf("%d blocks lie there, %d are of the heap, and were %d: those given back were not used", len(a.free), a.heap, heap)
	}
	runtime.KeepAlive(a)
}

// TestParkedGivesBack: the memory of a generation that is forgotten goes to the next.
func TestParkedGivesBack(t *testing.T) {
	r := newRegistry(nil)
	for i := range r.shards {
		s := &r.shards[i]
		s.parked.young.bytesMax, s.parked.old.bytesMax = 2*parkedBlockLen, 2*parkedBlockLen
	}
	at := stored{record: soleRecord(4, 1)}
	for i := range 4 * registryShards * parkedBlockLen / parkedHead * 2 {
		s, hash := r.shard(string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)))
		s.parked.put(string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), hash, &at, parkedEntry{})
	}
	lost := 0
	for i := range r.shards {
		if r.shards[i].parked.lost {
			lost++
		}
	}
	if lost < registryShards {
		t.Fatalf("%d of %d shards forgot something: little was tested", lost, registryShards)
	}
	// Each shard has two generations of two blocks and one of slots, and was in want of one more.
	mapped := (arenaChunkLen - len(r.memory.chunk)) / arenaBlockLen
	if r.memory.chunk == nil {
		mapped = 0
	}
	if got := r.memory.heap + mapped; got > registryShards*(2*3+1) {
		t.Fatalf("%d blocks are in use", got)
	}
}
