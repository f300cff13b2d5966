// SPDX-License-Identifier: AGPL-3.0-only

package sim

import "github.com/atlas-edge/atlas/consensus"

// wallBase is the wall time at which worlds begin: some day of 2023.
const wallBase = 1_700_000_000_000_000_000

// clock is what a node sees of time: a monotonic clock that is to run on in suspend (CLOCK_BOOTTIME), and a wall clock. Both run at
// a rate of their own; the wall clock is off besides, and is stepped.
type clock struct {
	// The monotonic clock is base at true time since, and runs 1+ppm/1e6 times as fast as true time.
	base, since Time
	ppm         int64
	wallOff     Time
	hlc         consensus.Timestamp
}

func (c *clock) mono(now Time) consensus.Timestamp {
	d := max(0, now-c.since)
	return consensus.Timestamp(c.base + d + Time(float64(d)*float64(c.ppm)/1e6))
}

// setRate goes on from here at another rate.
func (c *clock) setRate(now Time, ppm int64) {
	c.base, c.since, c.ppm = Time(c.mono(now)), now, ppm
}

// freeze lets the monotonic clock stand still for a time. The wall clock goes on, which is how a node can notice.
func (c *clock) freeze(now, d Time) {
	c.base, c.since = Time(c.mono(now)), max(now, c.since)+d
}

// reboot begins the monotonic clock again: boot time counts from the boot.
func (c *clock) reboot(now, base Time) { c.base, c.since = base, now }

func (c *clock) wall(now Time) consensus.Timestamp {
	return consensus.Timestamp(int64(wallBase) + int64(now) + int64(float64(now)*float64(c.ppm)/1e6) + int64(c.wallOff))
}

// time is the node's hybrid logical clock: the wall clock, never backwards.
func (c *clock) time(now Time) consensus.Timestamp {
	c.hlc = max(c.hlc+1, c.wall(now))
	return c.hlc
}
