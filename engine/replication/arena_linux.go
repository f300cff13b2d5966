// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"syscall"

	"github.com/atlas-edge/atlas/internal/invariants"
)

// mapLargePages asks the kernel for n bytes, on large pages if it has any, none of which takes memory before it is written to. It returns nil if
// the kernel will not.
func mapLargePages(n int) []byte {
	b, err := syscall.Mmap(-1, 0, n, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		return nil
	}
	_ = syscall.Madvise(b, syscall.MADV_HUGEPAGE) // advice: without it all is as well, and slower
	return b
}

func unmapLargePages(b []byte) {
	err := syscall.Munmap(b)
	invariants.Check(err == nil, "memory that was mapped cannot be unmapped: %v", err)
}
