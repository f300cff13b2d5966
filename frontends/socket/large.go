// SPDX-License-Identifier: AGPL-3.0-only

package socket

// large is the memory of a frame that does not fit a pooled buffer. The zero value is none. Its owner frees it once.
type large struct {
	mem    *budget
	taken  int64  // of the budget
	mapped []byte // memory that is not the collector's, laid out as engine.NewUpload wants it
}

// grow charges up to n bytes in all; false if the budget has no more.
func (l *large) grow(mem *budget, n int64) bool {
	if n > l.taken && !mem.take(n-l.taken) {
		return false
	}
	l.mem, l.taken = mem, max(l.taken, n)
	return true
}

// free gives the memory back. Nobody may hold a slice of it any more.
func (l *large) free() {
	if l.mapped != nil {
		unmapMemory(l.mapped)
	}
	if l.taken != 0 {
		l.mem.give(l.taken)
	}
	*l = large{}
}
