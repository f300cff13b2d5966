// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	gometrics "runtime/metrics"
	"time"
)

// A goroutine's stack grows to what its deepest command took, four times what waiting takes, and only collections of garbage let it
// shrink, by half each: an idle node has one every two minutes. So a connection that has run something and then nothing for
// restAfter goes on with a fresh goroutine. The janitor notices; what it costs is one more wakeup for each time that a connection falls idle.
//
// The runtime keeps what stacks were made of until it next looks how much memory the heap is to have, which is with a collection, too.
// So once many goroutines have ended, and none more do, the janitor has garbage collected.

// restAfter is how long a connection is idle before it rests, at least.
const restAfter = time.Second

// errRest ends the reading goroutine of a connection that goes on with another.
var errRest = errors.New("connection rests")

// What conn.used says, other than when the janitor first found the connection unused, in nanoseconds since the epoch.
const (
	usedNot int64 = iota // since it rested
	usedNow              // since the janitor last looked
)

// use notes that the reading goroutine has run something.
func (c *conn) use() {
	if c.used.Load() != usedNow { // nearly always it is, and a load is cheaper
		c.used.Store(usedNow)
	}
}

// tire wakes the reading goroutine to rest, if it has run something and nothing for as long as after. The janitor calls it. Where the
// goroutine is busy after all it does as it was asked, or goes on, when it is done.
func (c *conn) tire(now time.Time, after time.Duration) {
	if c.rd.raw == nil {
		return // as with TLS, where a read that is given up may be the connection's last
	}
	switch since := c.used.Load(); {
	case since == usedNot:
	case since == usedNow:
		c.used.CompareAndSwap(usedNow, now.UnixNano())
	case now.UnixNano()-since >= int64(after) && c.used.CompareAndSwap(since, usedNot):
		_ = c.nc.SetReadDeadline(time.Unix(1, 0)) // it fails on a closed connection alone
	}
}

// woken says whether a read that ran into its deadline was woken to rest, and takes the deadline off then. Else it is to end: end sets the
// reason before the deadline, so that one of the two is there to be seen.
func (c *conn) woken() bool {
	return c.nc.SetReadDeadline(time.Time{}) == nil && c.ending.Load() == endNone
}

// reclaimAfter is how many goroutines of connections end before a collection is asked for: at 8 to 16 KiB each, some 16 MiB.
const reclaimAfter = 1_024

// reclaim decides when a collection is worth its while.
type reclaim struct {
	cycles  uint64 // collections so far, at the last look
	done    uint64 // goroutines that had ended by then, whose memory is free or will be
	ended   uint64 // at the last look
	sampled [1]gometrics.Sample
}

// due says whether the janitor is to have garbage collected now, given how many goroutines have ended and how many collections there were.
func (r *reclaim) due(ended, cycles uint64) bool {
	if cycles != r.cycles {
		// Those that had ended at the last look did so before this collection.
		r.cycles, r.done = cycles, r.ended
	}
	quiet := ended == r.ended
	r.ended = ended
	if !quiet || ended-r.done < reclaimAfter {
		return false
	}
	r.done = ended
	return true
}

// collections is how many there were.
func (r *reclaim) collections() uint64 {
	r.sampled[0].Name = "/gc/cycles/total:gc-cycles"
	gometrics.Read(r.sampled[:])
	return r.sampled[0].Value.Uint64()
}
