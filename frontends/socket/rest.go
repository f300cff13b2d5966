// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"time"
)

// A goroutine's stack grows to what its deepest command took, four times what waiting takes, and only collections of garbage let it
// shrink, by half each: an idle node has one every two minutes. So a connection that has run something and then nothing for
// restAfter goes on with a fresh goroutine. The janitor notices; what it costs is one more wakeup for each time that a connection falls idle.

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
