// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"math"
	"math/rand/v2"
)

// stream is a source of randomness for one concern. Each concern has its own, so that a fault that is switched off leaves the
// draws of the others as they were: what the shrinker lives from.
type stream struct{ *rand.Rand }

// The streams of a world.
const (
	streamOptions = iota + 1
	streamNetwork
	streamDisk
	streamClock
	streamClient
	streamFault
	streamOwner
	streamNode
	streamReconfig
	streamLater // of options and faults that came later, so that older seeds stay what they were
	streamClosed
	streamClosedOptions
)

func newStream(seed, concern uint64) stream {
	return stream{rand.New(rand.NewPCG(seed, 0x41544c4153<<8|concern))}
}

// ppm is true in n of a million cases. It draws nothing when n is 0.
func (s stream) ppm(n int64) bool { return n > 0 && s.Int64N(1_000_000) < n }

// upTo is between 0 and most, both included.
func (s stream) upTo(most Time) Time { return Time(s.Int64N(int64(most) + 1)) }

// between is between lo and hi, both included.
func (s stream) between(lo, hi int64) int64 { return lo + s.Int64N(hi-lo+1) }

// spread is between lo and hi with all orders of magnitude alike. Requires: 0 < lo <= hi.
func (s stream) spread(lo, hi Time) Time {
	return Time(float64(lo) * math.Exp(s.Float64()*math.Log(float64(hi)/float64(lo))))
}

// about is exponential with this mean, but bounded: when the next of some rare events comes.
func (s stream) about(mean Time) Time {
	return Time(min(s.ExpFloat64(), 8)*float64(mean)) + 1
}

// chance is true once in n.
func (s stream) chance(n int) bool { return s.IntN(n) == 0 }
