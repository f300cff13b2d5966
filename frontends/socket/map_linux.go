// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"syscall"

	"github.com/atlas-edge/atlas/internal/invariants"
)

// mapMemory asks the kernel for n bytes, none of which takes memory before it is written to. The collector has nothing to do
// with them, so that they are gone when they are freed, and not at some later time: it lets garbage of the size of what is
// alive pile up, which with values of 128 MiB is a lot. It returns nil if the kernel will not.
func mapMemory(n int) []byte {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	return b
}

func unmapMemory(b []byte) {
	err := syscall.Munmap(b)
	invariants.Check(err == nil, "memory that was mapped cannot be unmapped: %v", err)
}
