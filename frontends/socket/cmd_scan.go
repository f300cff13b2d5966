// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"slices"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/key"
)

func (q *request) count() error {
	n, err := q.sess.Count(q.ctx, q.cmd.key)
	if err != nil {
		return err
	}
	b := q.c.out.begin()
	b = appendCount(b, q.tag, "COUNT:", uint64(n))
	q.end(appendOK(b, q.tag))
	return nil
}

// sample answers from memory, so it takes of the budget what its keys may need, and then what its lines do until they are
// sent: a client may ask for many samples at once, and read none.
func (q *request) sample() error {
	m := &q.c.srv.budget
	charged := min(int64(q.cmd.number)*key.LenMax, m.max/4) // a budget that is small shall not forbid samples
	if charged <= bufferSize {
		charged = 0
	}
	if !m.take(charged) {
		return errFrames
	}
	defer func() { m.give(charged) }()
	keys, err := q.sess.Sample(q.ctx, q.cmd.key, int(q.cmd.number))
	if err != nil {
		return err
	}
	lines := appendCount(nil, q.tag, "KEYS:", uint64(len(keys)))
	for _, k := range keys {
		lines = append(appendKey(append(lines, q.tag...), k), crlf...)
	}
	if held := int64(cap(lines)); held > charged && held <= m.max/4 {
		if !m.take(held - charged) {
			return errFrames
		}
		charged = held
	}
	return q.send(appendOK(lines, q.tag))
}

// send hands over whole lines of any length.
func (q *request) send(lines []byte) error {
	o := &q.c.out
	if len(lines) <= bufferSize {
		q.end(append(o.begin(), lines...))
		return nil
	}
	if o.claim(nil) == nil {
		o.release(o.write(lines))
	}
	return nil // a lost connection has no one to be told
}

func (q *request) scan() error {
	sc, err := q.sess.Scan(q.ctx, engine.ScanRequest{
		Prefix: q.cmd.key, After: q.cmd.after, Limit: int(q.cmd.number), Reverse: q.cmd.reverse, Values: q.cmd.values,
	})
	if err != nil {
		return err
	}
	s := scanReply{q: q, sc: sc}
	return errors.Join(s.run(), sc.Close())
}

// scanReply answers a SCAN. The count of keys stands before them, so the rows are read to the end first: a short answer is
// kept meanwhile, and of a long one only the count, after which the same snapshot is read again and sent as it is read.
type scanReply struct {
	q  *request
	sc scan
	b  lines // rows not sent yet
	n  uint64
}

// lines gathers an answer; values are written to it.
type lines []byte

func (l *lines) Write(p []byte) (int, error) {
	*l = append(*l, p...)
	return len(p), nil
}

func (s *scanReply) run() error {
	small := s.q.c.srv.bufs.get()
	defer s.q.c.srv.bufs.put(small)
	s.b = small.b[:0]
	held, charged, err := s.hold()
	defer s.q.c.srv.budget.give(charged)
	if err != nil {
		return err
	}
	head := appendCount(make([]byte, 0, 64+len(s.q.tag)), s.q.tag, "KEYS:", s.n)
	if !held {
		if err := s.q.send(head); err != nil {
			return err
		}
		return s.resend()
	}
	if len(head)+len(s.b) <= bufferSize {
		b := append(s.q.c.out.begin(), head...)
		s.q.end(appendOK(append(b, s.b...), s.q.tag))
		return nil
	}
	o := &s.q.c.out
	if o.claim(head) == nil {
		o.release(o.write(appendOK(s.b, s.q.tag)))
	}
	return nil
}

// hold reads all rows and keeps them if they are few; held says whether it did.
func (s *scanReply) hold() (held bool, charged int64, err error) {
	held = true
	most := bufferSize
	for s.sc.Next() {
		s.n++
		if !held {
			continue
		}
		var it item
		if s.q.cmd.values || s.q.cmd.meta {
			it = s.sc.Item()
		}
		if s.q.cmd.values && it.size > TextInlineMax {
			held = false
			continue
		}
		if err := s.appendRow(it); err != nil {
			return false, charged, err
		}
		if len(s.b) > most && charged == 0 && s.q.c.srv.budget.take(scanHeldMax) {
			most, charged = scanHeldMax, scanHeldMax
		}
		held = len(s.b) <= most
	}
	if !held {
		s.q.c.srv.budget.give(charged)
		s.b, charged = nil, 0
	}
	return held, charged, s.sc.Err()
}

// resend reads the rows again and sends them a chunk at a time. Other answers' lines may come between chunks, and a
// failure here can only end the connection: the count was a promise.
func (s *scanReply) resend() error {
	if err := s.sc.Rewind(); err != nil {
		return lost(err)
	}
	chunk := s.q.c.srv.chunks.get()
	defer s.q.c.srv.chunks.put(chunk)
	s.b = chunk.b[:0]
	sent := uint64(0)
	for s.sc.Next() {
		if sent++; sent > s.n {
			break // grants were widened meanwhile: the row was not counted, and the answer ends in failure
		}
		var it item
		var err error
		if s.q.cmd.values || s.q.cmd.meta {
			it = s.sc.Item()
		}
		if s.q.cmd.values && it.size > TextInlineMax {
			err = s.sendLarge(it)
		} else {
			err = s.appendRow(it)
		}
		if err != nil {
			return lost(err)
		}
		if len(s.b) >= scanChunk*3/4 {
			if !s.sendChunk() {
				return nil
			}
		}
	}
	if err := s.sc.Err(); err != nil {
		return lost(err)
	}
	if sent != s.n {
		return lost(engine.Errorf(engine.ClassUnavailable, "grants changed within the answer: %d keys could be read of %d that were counted", sent, s.n))
	}
	s.b = appendOK(s.b, s.q.tag)
	s.sendChunk()
	return nil
}

// lost is the end of an answer that cannot be completed.
func lost(err error) error { return &fatalError{err.Error()} }

// sendChunk sends what is gathered; false means that the connection is lost.
func (s *scanReply) sendChunk() bool {
	o := &s.q.c.out
	if o.claim(nil) != nil {
		return false
	}
	err := o.write(s.b)
	o.release(err)
	s.b = s.b[:0]
	return err == nil
}

// sendLarge sends what is gathered and a row whose value is streamed.
func (s *scanReply) sendLarge(it item) error {
	s.appendKeyLine(it)
	s.b = appendBlobHead(s.b, s.q.tag, it.size)
	err := s.q.stream(s.b, it, nil)
	s.b = s.b[:0]
	return err
}

// appendKeyLine appends what comes before a row's value.
func (s *scanReply) appendKeyLine(it item) {
	s.b = append(s.b, s.q.tag...)
	s.b = appendKey(s.b, s.sc.Key())
	s.b = append(s.b, crlf...)
	if s.q.cmd.meta {
		s.b = appendMeta(s.b, s.q.tag, it)
	}
}

// appendRow appends the row at hand, its value not larger than TextInlineMax. The value is written behind the head that it
// has as text, which is replaced when it turns out to be none.
func (s *scanReply) appendRow(it item) error {
	s.appendKeyLine(it)
	if !s.q.cmd.values {
		return nil
	}
	row := len(s.b)
	s.b = append(s.b, s.q.tag...)
	s.b = append(s.b, "VALUE:"...)
	value := len(s.b)
	if _, err := it.value.WriteTo(&s.b); err != nil {
		return err
	}
	if v := s.b[value:]; !isText(v) {
		head := appendBlobHead(nil, s.q.tag, int64(len(v)))
		s.b = slices.Replace(s.b, row, value, head...)
		return nil
	}
	s.b = append(s.b, crlf...)
	return nil
}
