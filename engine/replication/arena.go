// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"runtime"
	"sync"
	"unsafe"
)

const (
	arenaBlockLen = 16 << 10
	// largePageLen is the length and the alignment of the kernel's large pages.
	largePageLen = 2 << 20
	// arenaChunkLen is what is asked of the kernel at once. None of it takes memory before it is used.
	arenaChunkLen = 8 * largePageLen
	// arenaHeapMax is the number of blocks up to which they are of the heap: large pages pay where there are many.
	arenaHeapMax = largePageLen / arenaBlockLen
)

// arena has blocks of memory for tables in which every access goes to another place. They lie on large pages where the kernel has them: to find a
// small page of a table of 60 MiB costs a processor as much as to read what is there. The collector has nothing to do with them,
// so that it does not let garbage of their size pile up either.
//
// Blocks that are not given back are freed when nobody has the arena any more: it must not be lost before them. A nil arena has blocks of the heap.
type arena struct {
	mu    sync.Mutex // of what follows; nothing waits for it but another block
	free  [][]byte
	chunk []byte // the rest of the last one
	heap  int    // blocks of the heap
}

// get gives a block of zeroes.
func (a *arena) get() []byte {
	if a == nil {
		return make([]byte, arenaBlockLen)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.free) - 1; n >= 0 {
		b := a.free[n]
		a.free[n], a.free = nil, a.free[:n]
		clear(b)
		return b
	}
	if a.heap < arenaHeapMax || len(a.chunk) < arenaBlockLen && !a.grow() {
		a.heap++
		return make([]byte, arenaBlockLen)
	}
	b := a.chunk[:arenaBlockLen:arenaBlockLen]
	a.chunk = a.chunk[arenaBlockLen:]
	return b
}

// put takes blocks back. Nobody may use them any more.
func (a *arena) put(blocks [][]byte) {
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free = append(a.free, blocks...)
}

// grow gets another chunk; false if there is none.
func (a *arena) grow() bool {
	mapped := mapLargePages(arenaChunkLen + largePageLen)
	if mapped == nil {
		return false
	}
	runtime.AddCleanup(a, unmapLargePages, mapped)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(mapped))) % largePageLen
	a.chunk = mapped[skip:][:arenaChunkLen]
	return true
}
