// SPDX-License-Identifier: AGPL-3.0-only

package wan

import "slices"

// Result is what a run saw.
type Result struct {
	Options Options
	// Latency of each region's requests that were sent and answered while it was measured, in microseconds, rising.
	Latency [][]uint32
	// Unanswered is, by region, how many were sent while it was measured, more than AnswerTail before its end, and not answered by
	// then. They are in no other figure, which would hold only what went well.
	Unanswered []int
	// Local is how many of them were answered from the region that asked.
	Local int
	// Slices is the same by when they were sent, in steps of SliceLen.
	Slices []Slice
	// Moves is how often an object was released to another node, the time before the measuring included; Pause is the sum of
	// the times from a release that has arrived to the ballot that was won.
	Moves int
	Pause Time
	// Again is how often a request was sent again because another entry was chosen in its slot.
	Again int
	// Snapshots is how often a log was replaced by state.
	Snapshots int
	Messages  uint64
	Events    uint64
}

// AnswerTail is how long a request that is sent before it may take until it counts as not answered.
const AnswerTail = 10 * Second

// SliceLen is the length of a Slice.
const SliceLen = 20 * Second

// Slice is the requests that were sent in one piece of the time that is measured.
type Slice struct {
	Requests, Local int
	Sum             Time // of latencies
}

// All is the latencies of all regions, rising.
func (r *Result) All() []uint32 {
	var all []uint32
	for _, l := range r.Latency {
		all = append(all, l...)
	}
	slices.Sort(all)
	return all
}

// Mean of latencies, in milliseconds; 0 of none.
func Mean(latency []uint32) float64 {
	sum := 0.0
	for _, l := range latency {
		sum += float64(l)
	}
	return sum / 1000 / float64(max(1, len(latency)))
}

// Quantile of latencies that rise, in milliseconds; 0 of none. q is between 0 and 1.
func Quantile(latency []uint32, q float64) float64 {
	if len(latency) == 0 {
		return 0
	}
	return float64(latency[min(len(latency)-1, int(q*float64(len(latency))))]) / 1000
}
