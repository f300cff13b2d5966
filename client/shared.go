// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// sharedConn carries the commands of many goroutines under request ids.
//
// An id is the number of a slot, of which there are InFlightMax. A command holds its slot until its last frame has come, or
// the connection is gone, also when nobody waits for it any longer: so an id is never used twice at a time, the server's
// bound is kept, and a late answer finds an abandoned call and is dropped.
//
// Callers append to pending; the writer goroutine takes what has gathered and writes it at once. The reader goroutine alone
// ends calls, also when the connection fails: the writer then only closes it.
type sharedConn struct {
	rc      *rawConn
	slots   chan uint16
	calls   []atomic.Pointer[call] // by slot
	wake    chan struct{}          // capacity 1: pending is not empty
	dead    chan struct{}          // closed when the connection is given up
	retired atomic.Bool            // closes when the last call has ended
	held    int64                  // bytes of replies that are not complete; the reader's

	mu        sync.Mutex
	failed    error  // set once; no call is added after
	pending   []byte // not yet handed to the writer
	enqueued  uint64 // bytes ever appended to pending
	attempted uint64 // of these, bytes that the writer has taken: they may have left
}

func newSharedConn(c *Client, rc *rawConn) *sharedConn {
	s := &sharedConn{
		rc: rc, slots: make(chan uint16, c.opts.InFlightMax), calls: make([]atomic.Pointer[call], c.opts.InFlightMax),
		wake: make(chan struct{}, 1), dead: make(chan struct{}),
	}
	for i := range c.opts.InFlightMax {
		s.slots <- uint16(i)
	}
	rc.r = wire.NewReader(rc.nc, true)
	c.wg.Go(func() { s.read(); c.drop(rc) })
	c.wg.Go(s.write)
	return s
}

// exec runs a call. Errors of the connection are *lostError.
func (s *sharedConn) exec(ctx context.Context, cl *call) error {
	var slot uint16
	select {
	case slot = <-s.slots:
	default:
		select {
		case slot = <-s.slots:
		case <-ctx.Done():
			return cancelled(ctx)
		case <-s.dead:
			return &lostError{cause: s.reason()}
		}
	}
	if err := ctx.Err(); err != nil {
		s.slots <- slot
		return cancelled(ctx)
	}
	if err := s.enqueue(slot, cl); err != nil {
		s.slots <- slot
		return err
	}
	if ctx.Done() == nil {
		return <-cl.done
	}
	select {
	case err := <-cl.done:
		return err
	case <-ctx.Done():
	}
	if cl.state.CompareAndSwap(callWaiting, callAbandoned) {
		return unanswered(cl, context.Cause(ctx))
	}
	return <-cl.done
}

func (s *sharedConn) enqueue(slot uint16, cl *call) error {
	s.mu.Lock()
	if s.failed != nil {
		err := s.failed
		s.mu.Unlock()
		return &lostError{cause: err}
	}
	before := len(s.pending)
	p := append(s.pending, "[ID:"...)
	p = strconv.AppendUint(p, uint64(slot), 10)
	p = append(p, "] "...)
	p = append(p, cl.out...)
	p = append(p, "\r\n"...)
	p = append(p, cl.body...)
	s.pending = p
	cl.offset = s.enqueued
	s.enqueued += uint64(len(p) - before)
	s.calls[slot].Store(cl)
	s.mu.Unlock()
	if before == 0 {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// write is the writer goroutine.
func (s *sharedConn) write() {
	var spare []byte
	for {
		select {
		case <-s.wake:
		case <-s.dead:
			return
		}
		runtime.Gosched() // let the goroutines that are about to send add theirs
		s.mu.Lock()
		batch := s.pending
		s.pending = spare[:0]
		s.attempted += uint64(len(batch))
		s.mu.Unlock()
		if _, err := s.rc.nc.Write(batch); err != nil {
			s.rc.close() // the reader sees it and ends the calls
			return
		}
		if cap(batch) > 8*sharedLenMax {
			batch = nil
		}
		spare = batch
	}
}

// read is the reader goroutine.
func (s *sharedConn) read() {
	for {
		if err := s.readFrame(); err != nil {
			s.end(err)
			return
		}
	}
}

func (s *sharedConn) readFrame() error {
	f, err := s.rc.r.Next()
	if err != nil {
		return unexpected(err)
	}
	if f.Tag == nil {
		if f.Kind == wire.KindError {
			return wire.ParseError(append([]byte(nil), f.Text...)) // about the connection itself
		}
		return fmt.Errorf("%w: an answer without a request id", wire.ErrProtocol)
	}
	slot, ok := parseSlot(f.Tag)
	if !ok || slot >= len(s.calls) {
		return fmt.Errorf("%w: an answer to a request id that was never sent", wire.ErrProtocol)
	}
	cl := s.calls[slot].Load()
	if cl == nil {
		return fmt.Errorf("%w: an answer to request id %d, which is not in use", wire.ErrProtocol, slot)
	}
	if !f.End() {
		if cl.state.Load() == callAbandoned {
			return nil
		}
		return s.keep(cl, f)
	}
	s.held -= cl.kept
	s.calls[slot].Store(nil)
	if cl.state.CompareAndSwap(callWaiting, callAnswered) {
		cl.done <- cl.finish(f)
	}
	s.slots <- uint16(slot)
	if s.retired.Load() {
		s.closeIfIdle()
	}
	return nil
}

// keep adds a frame to a reply, within what all replies under way may take.
func (s *sharedConn) keep(cl *call, f wire.Frame) error {
	if err := cl.add(f, s.rc.r); err != nil {
		return err
	}
	now := int64(len(cl.in)) + int64(len(cl.frames))*frameCost
	s.held += now - cl.kept
	cl.kept = now
	if s.held > heldMax {
		return fmt.Errorf("%w: replies under way exceed limit %d", wire.ErrProtocol, int64(heldMax))
	}
	return nil
}

// end gives the connection up and ends every call on it.
func (s *sharedConn) end(cause error) {
	s.mu.Lock()
	if s.failed == nil {
		s.failed = cause
	}
	attempted := s.attempted
	s.mu.Unlock()
	close(s.dead)
	s.rc.close()
	for i := range s.calls {
		cl := s.calls[i].Swap(nil)
		if cl != nil && cl.state.CompareAndSwap(callWaiting, callAnswered) {
			cl.done <- &lostError{sent: cl.offset < attempted, cause: cause}
		}
	}
}

func (s *sharedConn) reason() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

func (s *sharedConn) alive() bool {
	select {
	case <-s.dead:
		return false
	default:
		return !s.retired.Load()
	}
}

// retire lets the calls under way end and then closes.
func (s *sharedConn) retire() {
	s.retired.Store(true)
	s.closeIfIdle()
}

// closeIfIdle closes a retired connection that no call uses. One that has taken a slot keeps it open; one that takes a slot
// now finds it failed before anything of it is sent.
func (s *sharedConn) closeIfIdle() {
	s.mu.Lock()
	idle := len(s.slots) == cap(s.slots)
	if idle && s.failed == nil {
		s.failed = errRetired
	}
	s.mu.Unlock()
	if idle {
		s.rc.close()
	}
}

var errRetired = errors.New("the client's identity changed")

func parseSlot(tag []byte) (int, bool) {
	if len(tag) == 0 || len(tag) > 4 {
		return 0, false
	}
	n := 0
	for _, c := range tag {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}

// lane is the place of one shared connection, which it makes anew, with a growing pause, when it was lost.
type lane struct {
	client *Client

	mu        sync.Mutex
	conn      *sharedConn
	dialing   *dialing
	failures  int
	notBefore time.Time
}

// dialing is a dial that several callers may await.
type dialing struct {
	done chan struct{}
	conn *sharedConn
	err  error
}

// get returns the lane's connection, waiting for it to be made when there is none.
func (l *lane) get(ctx context.Context) (*sharedConn, error) {
	l.mu.Lock()
	if l.conn != nil && l.conn.alive() {
		conn := l.conn
		l.mu.Unlock()
		return conn, nil
	}
	if l.client.stop.Err() != nil {
		l.mu.Unlock()
		return nil, errClosed()
	}
	d := l.dialing
	if d == nil {
		d = &dialing{done: make(chan struct{})}
		l.dialing = d
		pause := time.Until(l.notBefore)
		l.client.wg.Go(func() { l.dial(d, pause) })
	}
	l.mu.Unlock()
	select {
	case <-d.done:
		return d.conn, d.err
	case <-ctx.Done():
		return nil, cancelled(ctx)
	}
}

func (l *lane) dial(d *dialing, pause time.Duration) {
	c := l.client
	if pause > 0 {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-c.stop.Done():
			timer.Stop()
		}
	}
	for {
		who := c.who.Load()
		rc, err := c.dial(c.stop, who)
		d.err = err
		if err == nil {
			d.conn = newSharedConn(c, rc)
		}
		if l.settle(d, who) {
			close(d.done)
			return
		}
	}
}

// settle makes what a dial came to the lane's, unless the client has become somebody else meanwhile: then nothing begun
// later may use it.
func (l *lane) settle(d *dialing, who *identity) bool {
	l.mu.Lock()
	current := l.client.who.Load() == who // it is changed before retire takes the lock
	switch {
	case !current:
	case d.err == nil:
		l.dialing, l.conn, l.failures = nil, d.conn, 0
	default:
		l.dialing, l.conn = nil, nil
		l.failures++
		back := min(backOffMin<<min(l.failures, 20), l.client.opts.BackOffMax)
		l.notBefore = time.Now().Add(back/2 + rand.N(back/2+1))
	}
	l.mu.Unlock()
	if !current && d.conn != nil {
		d.conn.retire()
		d.conn = nil
	}
	return current
}

func (l *lane) retire() {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		conn.retire()
	}
}
