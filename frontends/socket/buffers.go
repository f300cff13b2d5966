// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"sync"
	"sync/atomic"
)

// buffer is a pooled piece of memory.
type buffer struct{ b []byte }

// buffers lends buffers of one size, so that connections hold memory only while something is in it.
type buffers struct {
	size int
	pool sync.Pool
}

func (p *buffers) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, p.size)}
}

// put takes a buffer back; one that has grown is dropped, as is nil.
func (p *buffers) put(b *buffer) {
	if b == nil || cap(b.b) != p.size {
		return
	}
	b.b = b.b[:p.size]
	p.pool.Put(b)
}

// budget bounds the memory of frames that do not fit a pooled buffer, over all connections. What is taken follows what was
// received: a claim takes nothing.
type budget struct {
	max  int64
	used atomic.Int64
}

func (m *budget) take(n int64) bool {
	if m.used.Add(n) > m.max {
		m.used.Add(-n)
		return false
	}
	return true
}

func (m *budget) give(n int64) {
	if n != 0 {
		m.used.Add(-n)
	}
}
