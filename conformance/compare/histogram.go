// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"math/bits"
	"time"
)

// histogram counts durations in buckets that are at most 1/16 of their value wide: bucket i below 16 holds i ns, and the
// others the four bits that follow the highest. The zero value is empty.
type histogram struct {
	counts [60 * 16]uint32
}

func bucketOf(ns uint64) int {
	if ns < 16 {
		return int(ns)
	}
	exp := bits.Len64(ns) // 5..63 for a duration
	return (exp-4)<<4 | int(ns>>(exp-5)&15)
}

// bucketMiddle is the value that stands for a bucket, in nanoseconds.
func bucketMiddle(i int) float64 {
	if i < 16 {
		return float64(i)
	}
	width := float64(uint64(1) << (i>>4 - 1))
	return (float64(16+i&15) + 0.5) * width
}

func (h *histogram) record(d time.Duration) { h.counts[bucketOf(uint64(max(d, 0)))]++ }

func (h *histogram) add(o *histogram) {
	for i, n := range o.counts {
		h.counts[i] += n
	}
}

// quantile is the latency, in nanoseconds, that a share q of all is not above; 0 when there is none.
func (h *histogram) quantile(q float64) float64 {
	total := uint64(0)
	for _, n := range h.counts {
		total += uint64(n)
	}
	if total == 0 {
		return 0
	}
	rest := int64(q*float64(total) + 0.5)
	for i, n := range h.counts {
		if rest -= int64(n); rest <= 0 && n > 0 {
			return bucketMiddle(i)
		}
	}
	return bucketMiddle(len(h.counts) - 1)
}
