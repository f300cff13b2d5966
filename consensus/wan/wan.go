// SPDX-License-Identifier: AGPL-3.0-only

// Package wan is a model of an atlas whose regions lie far apart: the real cores and the real ownership policy, in virtual
// time, with the round-trip times between five regions, many objects and one population of clients in each region. It prints
// what latency each region sees. It looks for no faults: consensus/sim does.
//
// What is modelled: each message takes half a round trip; what must be durable before it is sent waits for Options.Sync; a
// node, a link and a disk have no limit to what they do at once. So the figures are of distance and of the protocol's steps,
// not of load. A client sends to the owner's node as far as its region knows it, is told when it was wrong only by the answer
// coming from elsewhere, and a node that is not the owner passes the request on.
//
// One goroutine, one event heap, all randomness from one seed: the same options give the same result, byte for byte.
//
// The package leaves out: lost messages, clocks, leases that end (support is always given), reconfiguration, snapshots.
package wan

import (
	"math"
	"math/rand/v2"

	"github.com/atlas-edge/atlas/consensus/ownership"
	"github.com/atlas-edge/atlas/consensus/quorum"
)

// Time is a virtual time or span, in nanoseconds.
type Time = uint64

// Units of Time.
const (
	Microsecond Time = 1_000
	Millisecond      = 1_000 * Microsecond
	Second           = 1_000 * Millisecond
)

// Regions are the five of the WPaxos paper's evaluation, by name.
// shared: only read.
var Regions = []quorum.Region{"california", "ireland", "oregon", "tokyo", "virginia"}

// roundTrip is between the regions, in milliseconds: typical public inter-region round-trip times of these five AWS regions,
// rounded, and 1 ms between two zones of a region. They are not the paper's own measurements.
// shared: only read.
var roundTrip = [][]Time{
	{1, 138, 21, 108, 62},
	{138, 1, 124, 205, 68},
	{21, 124, 1, 98, 66},
	{108, 205, 98, 1, 148},
	{62, 68, 66, 148, 1},
}

// Mode says where owners stand.
type Mode uint8

// The modes.
const (
	// Adaptive: owners begin anywhere, and move as the ownership policy says.
	Adaptive Mode = iota
	// Scattered: owners begin anywhere, and stay.
	Scattered
	// Placed: each owner begins in the region that asks for the object most, and stays: what a partition by hand would be.
	Placed
	// Leader: one node owns everything, and all nodes are one quorum system with majorities: the plain baseline.
	Leader
)

// String is the mode in a word.
func (m Mode) String() string {
	return [...]string{"adaptive", "scattered", "placed", "leader"}[m]
}

// Options are one run.
type Options struct {
	Seed uint64
	Mode Mode
	// LeaderRegion of mode Leader.
	LeaderRegion int
	Objects      int
	Nodes        int // in each region
	Fn, Fz       int
	// Owners is how many nodes of each region own objects; 0 means all.
	Owners int
	// WideHome lets all regions vote, as in the paper; else an owner's home is the policy's: its region and the Fz nearest.
	WideHome bool
	// Locality is the share of a region's requests that are for the objects around its own mean, which no other region is
	// nearer to. 0 is random: every region asks for every object alike.
	Locality float64
	// Rate is the requests a second of each region, with exponential gaps. All are writes.
	Rate float64
	// Warm is not measured; Measure is.
	Warm, Measure Time
	// Sync is how long a disk takes to make a batch durable.
	Sync   Time
	Policy ownership.Options
	// Shift moves the mean of each region to where the next one's was, when Warm ends.
	Shift bool
	// Kill is nodes that die, for good, when Warm ends.
	Kill []quorum.NodeID
}

// NodeOf is the i-th node of a region.
func (o *Options) NodeOf(region, i int) quorum.NodeID { return quorum.NodeID(region*o.Nodes + i + 1) }

// load draws requests.
type load struct {
	rng     *rand.Rand
	objects int
	sigma   float64 // of the normal distribution, in objects; 0: uniform
	shift   int     // by how many regions the means have moved
}

// newLoad finds the width of the distributions: the means of the regions lie evenly on a circle of all objects, and the share
// of each that falls nearer to its own mean than to any other is the locality.
func newLoad(o *Options) *load {
	l := &load{rng: rand.New(rand.NewPCG(o.Seed, 10)), objects: o.Objects}
	if o.Locality > 0 {
		half := float64(o.Objects) / float64(2*len(Regions))
		l.sigma = half / (math.Sqrt2 * math.Erfinv(o.Locality))
	}
	return l
}

// object is the next one that a region asks for.
func (l *load) object(region int) int {
	if l.sigma == 0 {
		return l.rng.IntN(l.objects)
	}
	region = (region + l.shift) % len(Regions)
	mean := (float64(region) + 0.5) * float64(l.objects) / float64(len(Regions))
	at := int(math.Floor(mean + l.rng.NormFloat64()*l.sigma))
	return ((at % l.objects) + l.objects) % l.objects
}

// homeOf is the region whose mean is nearest to an object.
func (l *load) homeOf(object int) int { return object * len(Regions) / l.objects }

// gap is the time to a region's next request.
func (l *load) gap(rate float64) Time {
	return Time(l.rng.ExpFloat64() / rate * float64(Second))
}
