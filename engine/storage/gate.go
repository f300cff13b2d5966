// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"sync"
	"sync/atomic"
	"time"
)

// gate counts what uses the database, so that Close can wait for it: Pebble panics, or reads freed memory, when it is
// used after it was closed.
type gate struct {
	users  atomic.Int64
	closed atomic.Bool
	once   sync.Once
	idle   chan struct{}
}

func newGate() *gate { return &gate{idle: make(chan struct{})} }

// enter must be answered by leave, unless it is false.
func (g *gate) enter() bool {
	g.users.Add(1)
	if g.closed.Load() {
		g.leave()
		return false
	}
	return true
}

func (g *gate) leave() {
	if g.users.Add(-1) == 0 && g.closed.Load() {
		g.once.Do(func() { close(g.idle) })
	}
}

// close lets nobody in and waits for those inside. It returns how many are still there at the end.
func (g *gate) close(wait time.Duration) int64 {
	g.users.Add(1) // so that the last leave, perhaps our own, sees closed
	g.closed.Store(true)
	g.leave()
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-g.idle:
		return 0
	case <-t.C:
		return g.users.Load()
	}
}
