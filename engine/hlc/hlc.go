// SPDX-License-Identifier: AGPL-3.0-only

// Package hlc is the node's hybrid logical clock: wall time in nanoseconds since the Unix epoch that never repeats and
// never goes back, not even over a restart with a wall clock that was set back.
//
// A reading is max(wall, last reading + 1): the logical part of the clock is a borrowed nanosecond. Every reading stays
// below a ceiling that is made durable before the clock passes it; after a restart the clock begins at the stored ceiling.
// So every time that was ever given out before a restart is below every time given out after it, which is what lets a
// reader that finds a group not in memory read it at Now.
//
// The ceiling is raised ahead of need by the goroutine that is about to pass half of the headroom, and only one at a time.
// The package starts no goroutine.
package hlc

import (
	"fmt"
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

// Open makes a clock that begins at the stored ceiling. wall reads the wall clock; nil is the system's.
func Open(store Ceiling, wall func() time.Time) (*Clock, error) {
	if wall == nil {
		wall = time.Now
	}
	stored, err := store.Ceiling()
	if err != nil {
		return nil, fmt.Errorf("read clock ceiling: %w", err)
	}
	c := &Clock{wall: wall, store: store}
	c.last.Store(stored)
	c.ceiling.Store(stored)
	return c, nil
}

// Now gives a reading above every earlier one of this directory's clock. It fails when the ceiling has to rise and the store
// cannot make that durable; nothing was given out then.
func (c *Clock) Now() (Timestamp, error) {
	for {
		last := c.last.Load()
		now := max(Timestamp(c.wall().UnixNano()), last+1)
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
		now := max(Timestamp(c.wall().UnixNano()), last)
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
		now := max(Timestamp(c.wall().UnixNano()), c.last.Load(), seen)
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
