// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// clock is the phases of a run, which all workers look at.
type clock struct {
	epoch  time.Time
	from   atomic.Int64 // requests that begin at or after this count; nanoseconds since epoch
	halted atomic.Bool  // send no more
	total  atomic.Int64 // replies that have come, over all workers
}

func newClock() *clock {
	c := &clock{epoch: time.Now()}
	c.from.Store(math.MaxInt64)
	return c
}

func (c *clock) now() int64 { return int64(time.Since(c.epoch)) }

// drive runs connections, each with a goroutine, until they are finished or the clock is halted and their replies have
// come. Cutting the network connections ends it at once.
func drive(cl *clock, conns []*conn, nets []net.Conn) []*stats {
	all := make([]*stats, len(conns))
	var wg sync.WaitGroup
	for i, c := range conns {
		all[i] = &stats{}
		wg.Go(func() { driveOne(cl, c, nets[i], all[i]) })
	}
	wg.Wait()
	return all
}

func driveOne(cl *clock, c *conn, nc net.Conn, st *stats) {
	buf := make([]byte, 64<<10)
	for {
		now := cl.now()
		c.finished = c.finished || cl.halted.Load()
		c.fill(now)
		if len(c.out) > 0 {
			st.sent(len(c.out), now, cl.from.Load())
			if _, err := nc.Write(c.out); err != nil {
				st.lose(cl, err)
				return
			}
			c.out = trimmed(c.out)
		}
		if c.running == 0 {
			if c.finished {
				return
			}
			time.Sleep(time.Duration(c.due - now))
			continue
		}
		if c.interval > 0 && c.running < c.depth && !c.finished {
			// Replies are awaited only until the next request is due.
			if err := nc.SetReadDeadline(cl.epoch.Add(time.Duration(c.due))); err != nil {
				st.lose(cl, err)
				return
			}
		}
		n, err := nc.Read(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) && !cl.halted.Load() {
			if err = nc.SetReadDeadline(time.Time{}); err == nil {
				continue
			}
		}
		if err == nil {
			var done int
			done, err = c.take(buf[:n], cl.now(), cl.from.Load(), st)
			cl.total.Add(int64(done))
		}
		if err != nil {
			st.lose(cl, err)
			return
		}
	}
}

// lose counts a connection that failed before the end.
func (s *stats) lose(cl *clock, err error) {
	if !cl.halted.Load() {
		s.lost++
		s.lostBy = err
	}
}

// trimmed empties a buffer, and does not keep one that has grown large.
func trimmed(b []byte) []byte {
	if cap(b) > 1<<20 {
		return nil
	}
	return b[:0]
}
