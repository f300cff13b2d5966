// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"runtime"
	"time"
)

// janitor cuts connections whose client is too slow, lets those rest that are idle, and has given back what they leave. One goroutine looks at all of them now and
// then, so that the way of a command sets no timer.
func (s *Server) janitor(ctx context.Context) {
	tick := time.NewTicker(s.tick())
	defer tick.Stop()
	var conns []*conn
	var memory reclaim
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		conns = s.snapshot(conns[:0])
		now := time.Now()
		for _, c := range conns {
			c.checkTime(now)
		}
		clear(conns)
		s.m.memory.Set(float64(s.budget.used.Load()))
		if memory.due(s.ended.Load(), memory.collections()) {
			runtime.GC()
		}
	}
}

// tick is how often the janitor looks: often enough for the shortest timeout, at most every second.
func (s *Server) tick() time.Duration {
	least := min(s.opts.HandshakeTimeout, s.opts.FrameTimeout, s.opts.WriteTimeout)
	if s.opts.IdleTimeout > 0 {
		least = min(least, s.opts.IdleTimeout)
	}
	return min(max(least/4, time.Millisecond), time.Second)
}

// checkTime cuts the connection if one of its waits has been too long.
func (c *conn) checkTime(now time.Time) {
	o := &c.srv.opts
	past := func(since int64, allowed time.Duration) bool {
		return since != 0 && now.UnixNano()-since > int64(allowed)
	}
	if past(c.out.began.Load(), o.WriteTimeout) {
		c.cut("client does not read")
		return
	}
	if !c.ready.Load() {
		if past(c.opened.UnixNano(), o.HandshakeTimeout) {
			c.end(endHandshake)
		}
		return
	}
	if since := c.rd.since.Load(); since != 0 {
		if past(since, o.FrameTimeout+time.Duration(c.rd.got.Load()>>16)*time.Second) {
			c.end(endSlowFrame)
		}
		return
	}
	if o.IdleTimeout > 0 && len(c.slots) == 0 && past(c.active.Load(), o.IdleTimeout) {
		c.end(endIdle)
		return
	}
	c.tire(now, restAfter)
}
