// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// What reading a frame can come to, besides errors of the connection.
var (
	errLineTooLong = errors.New("line exceeds its limit")
	errNoMemory    = errors.New("memory for large frames is used up")
)

// frameReader takes a connection apart into lines and payloads. It reads into a pooled buffer that it only has while there
// are bytes in it: a connection that waits for its client holds none. A frame that outgrows the buffer gets a larger one,
// at most frameGrowth times what has arrived, charged to the budget.
//
//	buf  [ done | r: not yet given out ... seen: no line end before here ... | w: free ]
type frameReader struct {
	nc     net.Conn
	raw    syscall.RawConn // nil where the connection has none, as with TLS
	onRead func(fd uintptr) bool
	bufs   *buffers
	budget *budget
	m      *metrics
	// beforeWait is called before a read that may wait, so that answers do not wait with it.
	beforeWait func()
	// woken says of a read that ran into its deadline that the connection is to rest, not to end.
	woken func() bool

	buf        *buffer
	mem        large // what buf takes of the budget: nothing for a pooled one
	r, seen, w int

	// inPayload: the bytes wanted next belong to a frame whose line is done.
	inPayload bool
	// waited: the last read found nothing there.
	waited bool
	// Of the read in progress: where it reads to instead of buf, how much of the frame had arrived before, its outcome.
	into []byte
	have int64
	n    int
	err  error

	// since is when waiting for the rest of a frame began, in nanoseconds since the epoch, or 0; got is how much of the
	// frame had arrived then. For the janitor.
	since, got atomic.Int64
	tiny       [64]byte // the first bytes after idling, where there is no raw
}

func (f *frameReader) init(nc net.Conn, bufs *buffers, m *budget, mt *metrics, beforeWait func(), woken func() bool) {
	f.nc, f.bufs, f.budget, f.m, f.beforeWait, f.woken = nc, bufs, m, mt, beforeWait, woken
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			f.raw = raw
			f.onRead = f.readable
		}
	}
}

// line gives the next line without its LF or CR LF. It is valid until the next call. errLineTooLong leaves the reader where
// nothing can be read any more; after errNoMemory, head has the begin of the line and skipLine must come next.
func (f *frameReader) line(limit int) ([]byte, error) {
	for {
		if f.buf != nil {
			if i := bytes.IndexByte(f.buf.b[f.seen:f.w], '\n'); i >= 0 {
				line := f.buf.b[f.r : f.seen+i]
				f.seen += i + 1
				f.r = f.seen
				f.frameDone()
				if n := len(line); n > 0 && line[n-1] == '\r' {
					line = line[:n-1]
				}
				if len(line) > limit {
					return nil, errLineTooLong
				}
				return line, nil
			}
			f.seen = f.w
			if f.w-f.r > limit+1 {
				return nil, errLineTooLong
			}
		}
		if err := f.fill(limit + len("\r\n")); err != nil {
			return nil, err
		}
	}
}

// more says whether the next line is there already.
func (f *frameReader) more() bool {
	return f.buf != nil && bytes.IndexByte(f.buf.b[f.seen:f.w], '\n') >= 0
}

// head is what has arrived of a line that errNoMemory stopped.
func (f *frameReader) head() []byte { return f.buf.b[f.r:f.w] }

// skipLine throws the line away whose begin is in the buffer, up to limit bytes of it.
func (f *frameReader) skipLine(limit int) error {
	skipped := 0
	for {
		if i := bytes.IndexByte(f.buf.b[f.r:f.w], '\n'); i >= 0 {
			f.r += i + 1
			f.seen = f.r
			f.frameDone()
			return nil
		}
		skipped += f.w - f.r
		if skipped > limit+1 {
			return errLineTooLong
		}
		f.r, f.seen, f.w = 0, 0, 0
		if err := f.read(nil, int64(skipped)); err != nil {
			return err
		}
	}
}

// payload gives the next n bytes, in the buffer, where they are valid until the next call, or in memory that is the
// caller's to free. After errNoMemory they have been skipped.
func (f *frameReader) payload(n int) (p []byte, mem large, err error) {
	f.inPayload = true
	if n <= bufferSize {
		for f.w-f.r < n {
			if err := f.fill(bufferSize); err != nil {
				return nil, large{}, err
			}
		}
		if n > 0 {
			p = f.buf.b[f.r : f.r+n]
		}
		f.take(n)
		f.frameDone()
		return p, large{}, nil
	}
	defer func() {
		if err != nil {
			mem.free()
		}
	}()
	if n >= mapMin {
		if mem.mapped = mapMemory(engine.UploadRoom + n); mem.mapped != nil {
			p = mem.mapped[engine.UploadRoom:]
		}
	}
	charged := 0 // how much of p is charged to the budget
	for have := 0; have < n; {
		if have == charged {
			if charged = f.room(&p, &mem, have, n); charged == have {
				mem.free()
				if err := f.skip(int64(n-have), int64(have)); err != nil {
					return nil, large{}, err
				}
				return nil, large{}, errNoMemory
			}
		}
		if f.w > f.r {
			k := copy(p[have:charged], f.buf.b[f.r:f.w])
			f.take(k)
			have += k
			continue
		}
		if err := f.read(p[have:charged], int64(have)); err != nil {
			return nil, mem, err
		}
		have += f.n
	}
	f.frameDone()
	return p, mem, nil
}

// room charges for more of a payload of which have bytes are there, and makes p that long if it is not mapped. It returns how
// much of p may be filled now: no more than before if the budget is used up.
func (f *frameReader) room(p *[]byte, mem *large, have, n int) int {
	size := min(n, frameGrowth*max(have, bufferSize))
	if mem.mapped != nil {
		if !mem.grow(f.budget, int64(size)) {
			return have
		}
		return size
	}
	if have >= frameEvidence {
		size = n
	}
	if !mem.grow(f.budget, int64(size)) {
		return have
	}
	larger := make([]byte, size)
	copy(larger, (*p)[:have])
	*p = larger
	return size
}

// take moves behind n bytes of the buffer.
func (f *frameReader) take(n int) {
	f.r += n
	f.seen = f.r
}

// skip throws n bytes away; got is what had arrived of the frame before.
func (f *frameReader) skip(n, got int64) error {
	f.inPayload = true
	for n > 0 {
		if f.r == f.w {
			f.r, f.seen, f.w = 0, 0, 0
			if err := f.read(nil, got); err != nil {
				return err
			}
		}
		k := min(n, int64(f.w-f.r))
		f.take(int(k))
		n -= k
		got += k
	}
	f.frameDone()
	return nil
}

// detach makes a line that line just gave outlive the next call: a line in a large buffer takes that along, if what
// follows it fits a pooled one. ok is false when the line must be copied.
func (f *frameReader) detach() (mem large, ok bool) {
	if f.mem.taken == 0 || f.w-f.r > bufferSize {
		return large{}, false
	}
	small := f.bufs.get()
	n := copy(small.b, f.buf.b[f.r:f.w])
	mem = f.mem
	f.buf, f.mem = small, large{}
	f.r, f.seen, f.w = 0, 0, n
	return mem, true
}

// fill reads more, after making room for a frame of at most limit bytes.
func (f *frameReader) fill(limit int) error {
	if f.mem.taken != 0 && f.w-f.r <= bufferSize/2 {
		f.shrink()
	}
	switch {
	case f.r == f.w:
		f.r, f.seen, f.w = 0, 0, 0
	case f.w < len(f.buf.b):
	case f.r > 0:
		n := copy(f.buf.b, f.buf.b[f.r:f.w])
		f.seen -= f.r
		f.r, f.w = 0, n
	default:
		if err := f.grow(limit); err != nil {
			return err
		}
	}
	return f.read(nil, int64(f.w-f.r))
}

// grow gives a frame that fills the buffer a larger one. Requires: r is 0.
func (f *frameReader) grow(limit int) error {
	size := min(limit, frameGrowth*len(f.buf.b))
	if !f.mem.grow(f.budget, int64(size)) {
		return errNoMemory
	}
	larger := &buffer{make([]byte, size)}
	copy(larger.b, f.buf.b[:f.w])
	f.bufs.put(f.buf)
	f.buf = larger
	return nil
}

// shrink leaves a large buffer whose frame is done.
func (f *frameReader) shrink() {
	var small *buffer
	n := 0
	if f.r < f.w {
		small = f.bufs.get()
		n = copy(small.b, f.buf.b[f.r:f.w])
	}
	f.mem.free()
	f.seen -= f.r
	f.buf = small
	f.r, f.w = 0, n
}

// release gives all memory back; the reader is not used any more.
func (f *frameReader) release() {
	f.mem.free()
	f.bufs.put(f.buf)
	f.buf = nil
	f.r, f.seen, f.w = 0, 0, 0
}

func (f *frameReader) frameDone() {
	f.inPayload = false
	if f.since.Load() != 0 {
		f.since.Store(0)
	}
}

// read reads at least one byte: into p, or behind w in the buffer. got is how much of a frame has arrived before. Between frames it
// may end with errRest, having read nothing.
func (f *frameReader) read(p []byte, got int64) error {
	f.beforeWait()
	f.into, f.have, f.n, f.err, f.waited = p, got, 0, nil, false
	if f.raw == nil {
		f.readPlain()
	} else if err := f.readRaw(); err != nil {
		return err
	}
	if f.n == 0 {
		if f.err == nil {
			f.err = io.EOF
		}
		return f.err
	}
	f.m.received.Add(float64(f.n))
	if p == nil {
		f.w += f.n
	}
	return nil
}

// readRaw waits for the client and reads what has come, by readable.
func (f *frameReader) readRaw() error {
	for {
		err := f.raw.Read(f.onRead)
		switch {
		case err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !f.woken():
			return err
		case f.have == 0 && !f.inPayload:
			return errRest
		}
		f.waited = false
	}
}

// readable reads what is there; false waits for more. With nothing to keep, the buffer goes back before waiting.
func (f *frameReader) readable(fd uintptr) bool {
	p := f.into
	if p == nil {
		p = f.space()
	}
	for {
		n, err := syscall.Read(int(fd), p)
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			f.waits()
			return false
		}
		f.n, f.err = max(n, 0), err
		return true
	}
}

// readPlain is the same without a raw connection: the first bytes after idling go to a small array, since a buffer would be
// held while waiting for them.
func (f *frameReader) readPlain() {
	f.waits()
	p := f.into
	switch {
	case p != nil:
	case f.buf != nil:
		p = f.space()
	default:
		p = f.tiny[:]
	}
	for tries := 0; f.n == 0 && f.err == nil; tries++ {
		if f.n, f.err = f.nc.Read(p); tries == noProgressMax && f.n == 0 && f.err == nil {
			f.err = io.ErrNoProgress
		}
	}
	if f.n > 0 {
		f.err = nil // it comes again
		if f.into == nil {
			copy(f.space(), p[:f.n])
		}
	}
}

// space is the free end of the buffer.
func (f *frameReader) space() []byte {
	if f.buf == nil {
		f.buf = f.bufs.get()
	}
	return f.buf.b[f.w:]
}

// waits is called before waiting for the client. In the middle of a frame it notes when that began, so that the janitor can
// tell a slow client; between frames it gives the buffer back.
func (f *frameReader) waits() {
	f.waited = true
	switch {
	case f.have > 0 || f.inPayload:
		f.got.Store(f.have)
		if f.since.Load() == 0 {
			f.since.Store(time.Now().UnixNano())
		}
	case f.w == 0:
		f.bufs.put(f.buf)
		f.buf = nil
	}
}
