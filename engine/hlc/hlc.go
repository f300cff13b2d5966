// SPDX-License-Identifier: AGPL-3.0-only

// Package hlc is the node's hybrid logical clock: wall time in nanoseconds since the Unix epoch that never repeats and
// never goes back, not even over a restart with a wall clock that was set back.
//
// A reading is max(wall, last reading + 1): the logical part of the clock is a borrowed nanosecond. Every reading stays
// below a ceiling that is made durable before the clock passes it. After a restart the clock begins at the wall clock, or
// at the ceiling if that is lower; where the wall clock stands below the ceiling, at what is known to have been reached: the
// newest commit time on the disk, and the ceiling less Headroom. So every time given out after a restart is at or above
// every commit time before it, which is what lets a reader that finds a group not in memory read it at Read. It does not
// begin at the ceiling itself: that lies ahead of the wall clock, ends what is write-once too early, and lets what is written
// then live until the wall clock has caught up, by as much again with each restart.
//
// The ceiling is raised ahead of need by the goroutine that is about to pass half of the headroom, and only one at a time.
// The package starts no goroutine.
package hlc

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// Timestamp is nanoseconds since the Unix epoch; 0 is none.
type Timestamp = uint64

// Headroom is how far ahead of the clock the ceiling is stored: one small synced write per half of it while the node is in use.
const Headroom = Timestamp(10 * time.Second)

// Ceiling stores the ceiling. SetCeiling returns only when it is durable.
type Ceiling interface {
	Ceiling() (Timestamp, error)
	SetCeiling(Timestamp) error
}

// Clock gives strictly rising readings. It is safe for concurrent use.
type Clock struct {
	wall    func() time.Time
	store   Ceiling
	last    atomic.Uint64
	ceiling atomic.Uint64
	seen    atomic.Uint64 // of Wall

	mu sync.Mutex // serialises raise; held over the store's write, which is why no reader takes it while the ceiling is far
}

// Open makes a clock that goes on from what is stored: see the package comment. wall reads the wall clock; nil is the system's.
// newest gives the newest commit time on the disk, and is asked only when the wall clock stands below the ceiling; nil
// lets the clock begin at the ceiling then.
func Open(store Ceiling, wall func() time.Time, newest func() (Timestamp, error)) (*Clock, error) {
	if wall == nil {
		wall = time.Now
	}
	stored, err := store.Ceiling()
	if err != nil {
		return nil, fmt.Errorf("read clock ceiling: %w", err)
	}
	c := &Clock{wall: wall, store: store}
	c.ceiling.Store(stored)
	last := stored
	if newest != nil && c.shown() < stored {
		if last, err = newest(); err != nil {
			return nil, fmt.Errorf("read newest commit time: %w", err)
		}
		last = max(last, stored-min(stored, Headroom))
	}
	c.last.Store(last)
	return c, nil
}

// shown is what the wall clock shows; 0, as if it stood, where that is no time that nanoseconds since 1970 can say: taken as it is, it
// would be later than any other.
func (c *Clock) shown() Timestamp {
	t := c.wall()
	if s := t.Unix(); s < 0 || s >= math.MaxInt64/int64(time.Second) {
		return 0
	}
	return Timestamp(t.UnixNano())
}

// Now gives a reading above every earlier one and every commit time of this directory, and not before what Wall has given: what a
// reader was told has expired is gone for the commands that come after. It fails when the ceiling has to rise and the store
// cannot make that durable; nothing was given out then.
func (c *Clock) Now() (Timestamp, error) {
	for {
		last := c.last.Load()
		now := max(c.shown(), last+1, c.seen.Load())
		if ceiling := c.ceiling.Load(); now+Headroom/2 > ceiling {
			if err := c.raise(now, now > ceiling); err != nil {
				return 0, err
			}
		}
		if c.last.CompareAndSwap(last, now) {
			return now, nil
		}
	}
}

// Read gives a time for reading only: at or above every reading given out so far, and at or below every one to come. It never fails and
// never waits, so that reads go on while the disk is full.
func (c *Clock) Read() Timestamp {
	for {
		last := c.last.Load()
		now := max(c.shown(), last)
		// Past the ceiling the clock stands still for readers: a reading given out may not exceed what is durable.
		now = max(min(now, c.ceiling.Load()), last)
		if now == last || c.last.CompareAndSwap(last, now) {
			return now
		}
	}
}

// Wall gives a time to judge by what has expired: the wall clock, which within one process never goes back, and never stands
// behind a reading given out. Unlike Read it goes on while the ceiling cannot rise; nothing is ordered by it.
func (c *Clock) Wall() Timestamp {
	for {
		seen := c.seen.Load()
		now := max(c.shown(), c.last.Load(), seen)
		if now == seen || c.seen.CompareAndSwap(seen, now) {
			return now
		}
	}
}

// Observe lifts the clock to t, so that later readings are above it. Used for times found on disk or received from peers.
func (c *Clock) Observe(t Timestamp) error {
	if t > c.ceiling.Load() {
		if err := c.raise(t, true); err != nil {
			return err
		}
	}
	for {
		last := c.last.Load()
		if t <= last || c.last.CompareAndSwap(last, t) {
			return nil
		}
	}
}

// raise stores a ceiling above now. When the caller can do without (must is false) and another goroutine is at it, or
// the store fails, the caller goes on.
func (c *Clock) raise(now Timestamp, must bool) error {
	if !must {
		if !c.mu.TryLock() {
			return nil
		}
	} else {
		c.mu.Lock()
	}
	defer c.mu.Unlock()
	target := now + Headroom
	if target <= c.ceiling.Load() || (now+Headroom/2 <= c.ceiling.Load()) {
		return nil
	}
	if err := c.store.SetCeiling(target); err != nil {
		if !must {
			return nil // the old ceiling still covers this reading
		}
		return fmt.Errorf("raise clock ceiling to %d: %w", target, err)
	}
	c.ceiling.Store(target)
	return nil
}
