// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// outbox is the writing side of a connection. Commands that run side by side answer through it, and no answer's lines are
// torn by another's:
//
//   - begin/end add whole lines to what is pending, without waiting for the network;
//   - flush writes what is pending; while one goroutine writes, others only add, and the writer takes that along;
//   - claim/release give one goroutine the connection for a payload of any size.
//
// At most pendingMax bytes wait; past that, begin waits for the writer, which is how a client that does not read slows
// down the commands of its own connection, and of no other. The mutex is never held during a write.
type outbox struct {
	nc   net.Conn
	bufs *buffers
	m    *metrics
	// fail is called once, without the mutex, when a write failed.
	fail func()
	// began is when the write in progress began, in nanoseconds since the epoch, or 0: for the janitor.
	began atomic.Int64

	mu      sync.Mutex
	changed sync.Cond // busy, err or pending changed
	pending *buffer   // whole lines to be written; its slice is b[:fill]
	fill    int
	busy    bool  // a goroutine writes, or holds a claim
	claims  int   // goroutines that wait for a claim
	err     error // of a write; final
}

func (o *outbox) init(nc net.Conn, bufs *buffers, m *metrics, fail func()) {
	o.nc, o.bufs, o.m, o.fail = nc, bufs, m, fail
	o.changed.L = &o.mu
}

// begin locks the outbox and gives what is pending, to append whole lines to. end must follow at once: nothing in between
// may wait for anything.
func (o *outbox) begin() []byte {
	o.mu.Lock()
	for o.fill >= pendingMax && o.err == nil {
		if o.busy {
			o.changed.Wait()
		} else {
			o.writePending()
		}
	}
	if o.pending == nil {
		o.pending = o.bufs.get()
	}
	return o.pending.b[:o.fill]
}

// end unlocks the outbox with what is now pending, and says whether it should be flushed although more will come.
func (o *outbox) end(b []byte) (full bool) {
	if o.err != nil {
		b = b[:0]
	}
	o.pending.b, o.fill = b[:cap(b)], len(b)
	full = len(b) >= flushAt
	o.mu.Unlock()
	return full
}

// flush writes what is pending, or leaves it to the one who is writing.
func (o *outbox) flush() {
	o.mu.Lock()
	if !o.busy {
		o.drain()
	}
	o.mu.Unlock()
}

// drain writes until nothing is pending or somebody waits for a claim, who then writes it. Requires: mu held, not busy.
func (o *outbox) drain() {
	for o.fill > 0 && o.err == nil {
		o.writePending()
		if o.claims > 0 {
			break
		}
	}
	if o.fill == 0 && o.pending != nil {
		o.bufs.put(o.pending)
		o.pending = nil
	}
}

// writePending writes what is pending and unlocks the mutex meanwhile. Requires: mu held, not busy.
func (o *outbox) writePending() {
	b, n := o.pending, o.fill
	o.pending, o.fill, o.busy = nil, 0, true
	o.mu.Unlock()
	err := o.write(b.b[:n])
	o.bufs.put(b)
	o.mu.Lock()
	o.busy = false
	o.done(err)
}

// done notes the end of a turn of writing. Requires: mu held.
func (o *outbox) done(err error) {
	if err != nil && o.err == nil {
		o.err = err
		o.fill = 0
		o.mu.Unlock()
		o.fail()
		o.mu.Lock()
	}
	o.changed.Broadcast()
}

// claim waits until the connection is free, writes what is pending and head, and leaves the caller alone with write until
// release. After an error there is nothing to release.
func (o *outbox) claim(head []byte) error {
	o.mu.Lock()
	o.claims++
	for o.busy && o.err == nil {
		o.changed.Wait()
	}
	o.claims--
	if o.err != nil {
		defer o.mu.Unlock()
		return o.err
	}
	b := o.pending
	if b == nil {
		b = o.bufs.get()
	}
	all := append(b.b[:o.fill], head...)
	o.pending, o.fill, o.busy = nil, 0, true
	o.mu.Unlock()
	err := o.write(all)
	o.bufs.put(b)
	if err != nil {
		o.release(err)
	}
	return err
}

// release ends a claim; err is what its writes came to.
func (o *outbox) release(err error) {
	o.mu.Lock()
	o.busy = false
	o.done(err)
	if !o.busy {
		o.drain()
	}
	o.mu.Unlock()
}

// Write is for the holder of a claim.
func (o *outbox) Write(p []byte) (int, error) {
	if err := o.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

var _ io.Writer = (*outbox)(nil)

// write hands the bytes to the connection in pieces, each of which the client must take within the write timeout: the
// janitor cuts the connection otherwise. Requires: busy was set by the caller.
func (o *outbox) write(p []byte) error {
	for len(p) > 0 {
		piece := p[:min(len(p), writePiece)]
		o.began.Store(time.Now().UnixNano())
		n, err := o.nc.Write(piece)
		o.began.Store(0)
		o.m.sent.Add(float64(n))
		if err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}
