// SPDX-License-Identifier: AGPL-3.0-only

package bench

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/atlas-edge/atlas/client/wire"
)

// latencyMax is the longest latency that is told apart from longer ones.
const latencyMax = 2 * time.Minute

// stats are the counts of one worker.
type stats struct {
	latency [opKinds]*hdrhistogram.Histogram // in nanoseconds; nil until used
	missing uint64                           // NOT_FOUND and EMPTY
	rows    uint64                           // of scans and samples
	in, out uint64                           // bytes
	errs    map[string]uint64                // by class
	example map[string]string                // an error line of each class
	lost    int                              // connections
	lostBy  error
}

func (s *stats) done(kind op, took time.Duration) {
	h := s.latency[kind]
	if h == nil {
		h = hdrhistogram.New(1_000, int64(latencyMax), 3)
		s.latency[kind] = h
	}
	_ = h.RecordValue(int64(max(min(took, latencyMax), 1))) // within the histogram's bounds
}

// miss counts what done counts.
func (s *stats) miss(start, from int64) {
	if start >= from {
		s.missing++
	}
}

// sent counts bytes that were written.
func (s *stats) sent(n int, now, from int64) {
	if now >= from {
		s.out += uint64(n)
	}
}

func (s *stats) failed(line []byte) {
	e := wire.ParseError(line)
	class := string(e.Class)
	if class == "" {
		class = "other"
	}
	if s.errs == nil {
		s.errs, s.example = make(map[string]uint64), make(map[string]string)
	}
	s.errs[class]++
	if s.example[class] == "" {
		s.example[class] = e.Error()
	}
}

// flight is a request under way.
type flight struct {
	kind  op
	start int64 // when it was sent or, with a rate, due; nanoseconds since the run's epoch
}

// conn is a connection's state: which requests are under way, and how far the reply at hand was read. It does no I/O.
//
// Without ids, flights is a ring in the order of sending; with ids, id i is flights[i] and free lists the unused.
type conn struct {
	gen     *generator
	depth   int
	tagged  bool
	flights []flight
	head    int // of the ring
	running int
	free    []int

	out     []byte // requests not yet written
	skip    int64  // bytes of a blob still to come
	partial []byte // the beginning of a line whose end has not come

	interval int64 // nanoseconds between requests; 0: no rate
	due      int64 // when the next one is
	quota    int64 // requests still to send; negative: no bound
	finished bool  // nothing more is sent
}

func newConn(g *generator, depth int, tagged bool) *conn {
	c := &conn{gen: g, depth: depth, tagged: tagged, flights: make([]flight, depth), quota: -1}
	if tagged {
		for i := range depth {
			c.free = append(c.free, depth-1-i)
		}
	}
	return c
}

// fill adds the requests that may be sent now to out.
func (c *conn) fill(now int64) {
	for c.running < c.depth && !c.finished {
		start := now
		if c.interval > 0 {
			if c.due > now {
				return
			}
			start = c.due
		}
		if c.quota == 0 {
			c.finished = true
			return
		}
		slot := 0
		out := c.out
		if c.tagged {
			slot = c.free[len(c.free)-1]
			out = strconv.AppendInt(append(out, "[ID:"...), int64(slot), 10)
			out = append(out, "] "...)
		} else if slot = c.head + c.running; slot >= c.depth {
			slot -= c.depth
		}
		out, kind, ok := c.gen.request(out)
		if !ok {
			c.finished = true
			return
		}
		if c.tagged {
			c.free = c.free[:len(c.free)-1]
		}
		c.out = out
		c.flights[slot] = flight{kind, start}
		c.running++
		if c.quota > 0 {
			c.quota--
		}
		if c.interval > 0 {
			c.due += c.interval
		}
	}
}

var errReply = errors.New("the reply makes no sense")

// take reads what has come and counts the replies that are complete in st, those that began at from or later.
func (c *conn) take(in []byte, now, from int64, st *stats) (completed int, err error) {
	if now >= from {
		st.in += uint64(len(in))
	}
	for len(in) > 0 {
		if c.skip > 0 {
			n := min(c.skip, int64(len(in)))
			in = in[n:]
			c.skip -= n
			continue
		}
		end := bytes.IndexByte(in, '\n')
		if end < 0 {
			if len(c.partial)+len(in) > wire.LineLenMax {
				return completed, fmt.Errorf("%w: line exceeds limit %d", errReply, wire.LineLenMax)
			}
			c.partial = append(c.partial, in...)
			return completed, nil
		}
		line := in[:end]
		in = in[end+1:]
		if len(c.partial) > 0 {
			c.partial = append(c.partial, line...)
			line = c.partial
		}
		ended, err := c.line(line, now, from, st)
		if err != nil {
			return completed, err
		}
		if ended {
			completed++
		}
		c.partial = c.partial[:0]
	}
	return completed, nil
}

// line reads a line of a reply; ended says that it ends the reply.
func (c *conn) line(line []byte, now, from int64, st *stats) (ended bool, err error) {
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	slot := c.head
	if c.tagged && len(line) > 4 && line[0] == '[' {
		close := bytes.IndexByte(line, ']')
		if close < 4 || close+2 > len(line) {
			return false, fmt.Errorf("%w: %.40q", errReply, line)
		}
		slot = 0
		for _, d := range line[4:close] {
			slot = slot*10 + int(d-'0')
			if d < '0' || d > '9' || slot >= c.depth {
				return false, fmt.Errorf("%w: %.40q", errReply, line)
			}
		}
		line = line[close+2:]
	}
	if len(line) == 0 {
		return false, nil
	}
	switch line[0] {
	case 'O':
		if string(line) == "OK" {
			return true, c.land(slot, now, from, st, true)
		}
	case 'E':
		if bytes.HasPrefix(line, []byte("ERROR ")) {
			if c.running == 0 {
				return false, fmt.Errorf("%w: %.200q", errReply, line)
			}
			if c.flights[slot].start >= from || from == math.MaxInt64 {
				st.failed(line)
			}
			return true, c.land(slot, now, from, st, false)
		}
		if string(line) == "EMPTY" {
			st.miss(c.flights[slot].start, from)
		}
	case 'N':
		if string(line) == "NOT_FOUND" {
			st.miss(c.flights[slot].start, from)
		}
	case 'B':
		if bytes.HasPrefix(line, []byte("BLOB ")) {
			if c.skip, err = strconv.ParseInt(string(line[5:]), 10, 64); err != nil || c.skip < 0 {
				return false, fmt.Errorf("%w: %.40q", errReply, line)
			}
		}
	case 'K':
		if bytes.HasPrefix(line, []byte("KEYS:")) {
			n, err := strconv.ParseUint(string(line[5:]), 10, 40)
			if err == nil && now >= from {
				st.rows += n
			}
		}
	}
	return false, nil
}

// land ends a flight.
func (c *conn) land(slot int, now, from int64, st *stats, ok bool) error {
	if c.running == 0 {
		return fmt.Errorf("%w: an answer that nothing asked for", errReply)
	}
	f := c.flights[slot]
	c.running--
	if c.tagged {
		c.free = append(c.free, slot)
		if len(c.free) > c.depth {
			return fmt.Errorf("%w: an id answered twice", errReply)
		}
	} else if c.head++; c.head == c.depth {
		c.head = 0
	}
	if ok && f.start >= from {
		st.done(f.kind, time.Duration(now-f.start))
	}
	return nil
}
