// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"time"
)

// later is writes of a client that pipelines: they were handed to the engine in their order, without waiting for each, so
// that they share syncs. To the client they run one at a time: they take effect and are answered in order, and whatever is
// not a write to the same group waits until all of them are answered. Across groups the engine keeps no order, so that a
// write to another group waits, too. It belongs to the reading goroutine.
type later struct {
	group []byte
	puts  [laterMax]laterPut
	first int
	n     int
}

// laterPut is one of them. err is what handing it over came to.
type laterPut struct {
	w       write
	err     error
	began   time.Time
	verb    verb
	version bool
}

// groupOf is the group of a key, if it is one.
func groupOf(key []byte) []byte {
	if i := bytes.IndexAny(key, "./"); i >= 0 {
		return key[:i]
	}
	return key
}

// putLater hands the write at hand over without waiting, if there is something to gain: another command is there already,
// or earlier writes are on their way. It returns false if the write is to be run as any command.
func (c *conn) putLater(q *request) bool {
	if c.sess.InTxn() {
		return false
	}
	group := groupOf(q.cmd.key)
	l := c.later
	if l != nil && !bytes.Equal(l.group, group) {
		c.settle()
		l = nil
	}
	if l == nil {
		if !c.rd.more() {
			return false
		}
		l = c.srv.laters()
		l.group = append(l.group[:0], group...)
		c.later = l
	}
	if l.n == laterMax {
		c.settleOne(l)
	}
	p := &l.puts[(l.first+l.n)%laterMax]
	l.n++
	p.verb, p.version, p.began = q.cmd.verb, q.cmd.version, q.began
	p.w, p.err = q.sess.PutLater(q.ctx, q.putRequest(q.cmd.value))
	return true
}

// settle answers all writes that are on their way.
func (c *conn) settle() {
	l := c.later
	if l == nil {
		return
	}
	for l.n > 0 {
		c.settleOne(l)
	}
	c.later = nil
	c.srv.laterPool.Put(l)
}

// settleOne waits for the oldest write and answers it.
func (c *conn) settleOne(l *later) {
	p := &l.puts[l.first]
	version, err := uint64(0), p.err
	if err == nil {
		version, err = p.w.Wait(c.req.ctx)
	}
	c.m.command(p.verb, time.Since(p.began), err)
	b := c.out.begin()
	switch {
	case err != nil:
		b = appendError(b, nil, err)
	case p.version && version != 0:
		b = appendOK(appendCount(b, nil, "VERSION:", version), nil)
	default:
		b = appendOK(b, nil)
	}
	if c.out.end(b) {
		c.out.flush()
	}
	*p = laterPut{}
	l.first = (l.first + 1) % laterMax
	l.n--
}

// laters lends the room for writes that are on their way.
func (s *Server) laters() *later {
	if l, ok := s.laterPool.Get().(*later); ok {
		return l
	}
	return new(later)
}
