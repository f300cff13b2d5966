// SPDX-License-Identifier: AGPL-3.0-only

//go:build !linux

package replication

// mapLargePages gives no memory beside the collector's, here.
func mapLargePages(int) []byte { return nil }

func unmapLargePages([]byte) {}
