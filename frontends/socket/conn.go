// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// conn is one client. Its goroutine reads commands and runs those without a request id, and those with one that are over at
// once; the others run on workers. What belongs to the reading goroutine has no lock.
type conn struct {
	srv *Server
	m   *metrics
	nc  net.Conn
	rd  frameReader
	out outbox

	peer   peerCredentials
	source string
	opened time.Time

	sess    session
	req     request // of untagged commands, and of tagged ones that run at once
	later   *later  // nil when no write is on its way
	tagBuf  []byte
	watches map[string]*watching

	// slots has an element for each tagged command that runs aside; jobs waits for them.
	slots chan struct{}
	jobs  sync.WaitGroup

	// cancel stops what runs for the connection.
	cancel context.CancelFunc
	// ready: the handshake is over. ending: why the reading goroutine is to stop. active: since when nothing runs, for the
	// idle timeout; 0 while something does, or when there is none.
	ready  atomic.Bool
	ending atomic.Uint32
	// unread: when it was asked to end, the reading goroutine was busy, so that the client may have sent more.
	unread bool
	active atomic.Int64
	// used: see rest.go.
	used atomic.Int64
}

// Why a connection ends before its client ends it.
const (
	endNone      uint32 = iota
	endDrain            // the server stops
	endHandshake        // took too long, or was wrong
	endSlowFrame        // a frame took too long
	endIdle             // nothing happened for too long
	endFatal            // a tagged command ended it; its line is written
)

// end asks the reading goroutine to stop; the first reason counts.
func (c *conn) end(why uint32) {
	if c.ending.CompareAndSwap(endNone, why) {
		if err := c.nc.SetReadDeadline(time.Unix(1, 0)); err != nil {
			c.cut("read deadline cannot be set")
		}
	}
}

// cut closes the connection at once, whatever runs.
func (c *conn) cut(why string) {
	c.m.cuts.Inc()
	c.srv.opts.Logger.Debug("connection cut", "remote", c.source, "reason", why)
	c.abort()
}

// abort closes the connection under everything that uses it.
func (c *conn) abort() {
	c.cancel()
	if err := c.nc.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.srv.opts.Logger.Debug("closing a connection", "error", err)
	}
}

var errQuit = errors.New("client quits")

// serve runs the connection until its end, or until it rests: then it is to be called again, on a fresh goroutine.
func (c *conn) serve() (rests bool) {
	var err error
	if !c.ready.Load() {
		err = c.handshake()
	}
	if err == nil {
		err = c.commands()
	}
	if errors.Is(err, errRest) {
		c.m.rests.Inc()
		return true
	}
	c.finish(err)
	return false
}

const (
	welcome = "WELCOME 1.0 Chronalys/1.0"
	ready   = "READY"
)

var (
	// errHandshake is the whole of what a client is told that does not begin as the protocol says.
	errHandshake = &fatalError{"invalid handshake"}
	errLine      = &fatalError{"command exceeded maximum length"}
)

// handshake greets the client and reads its HELLO.
func (c *conn) handshake() error {
	b := c.out.begin()
	c.out.end(appendLine(b, nil, welcome))
	for {
		line, err := c.rd.line(HandshakeLineMax)
		switch {
		case errors.Is(err, errLineTooLong):
			return errHandshake
		case err != nil:
			return err
		}
		w := cursor{line}
		if w.done() {
			continue // an empty line
		}
		hello, version, id := w.next(), w.next(), w.next()
		if !isWord(hello, "HELLO") || string(version) != "1.0" || id == nil || !isPrintable(id) || !w.done() {
			return errHandshake
		}
		break
	}
	c.sess = c.srv.backend.NewSession(engine.SessionOptions{
		Trusted: c.peer.trusted(), Frontend: Name, Remote: c.source,
	})
	c.req.sess = c.sess
	c.idle()
	c.use() // what greeting took of the stack counts, too
	c.ready.Store(true)
	b = c.out.begin()
	c.out.end(appendLine(b, nil, ready))
	return nil
}

// beforeWait answers what is to be answered, before the reading goroutine waits for the client.
func (c *conn) beforeWait() {
	c.settle()
	c.out.flush()
}

// idle notes that the reading goroutine runs nothing, if somebody wants to know.
func (c *conn) idle() {
	if c.srv.opts.IdleTimeout > 0 {
		c.active.Store(time.Now().UnixNano())
	}
}

// idleAside notes that a command aside has ended: if the reading goroutine runs nothing, idling begins anew.
func (c *conn) idleAside() {
	if since := c.active.Load(); since != 0 {
		c.active.CompareAndSwap(since, time.Now().UnixNano())
	}
}

// commands reads and runs commands until the client or the server ends it.
func (c *conn) commands() error {
	for {
		line, err := c.rd.line(LineMax)
		switch {
		case errors.Is(err, errNoMemory):
			err = c.refuseLine()
		case errors.Is(err, errLineTooLong):
			return errLine
		case err == nil:
			if c.ending.Load() == endNone {
				c.active.Store(0)
				err = c.command(line)
				c.use()
				c.idle()
			}
			if err == nil && c.ending.Load() != endNone {
				c.unread = true
				return os.ErrDeadlineExceeded
			}
		}
		if err != nil {
			return err
		}
	}
}

// command runs one line. An error ends the connection.
func (c *conn) command(line []byte) error {
	id, rest, err := splitID(line)
	if err != nil {
		return err
	}
	if id == nil {
		if w := (cursor{rest}); w.done() {
			return nil // an empty line
		}
	}
	q := c.begin(id)
	err = parse(rest, &q.cmd)
	if err == nil && id == nil && (q.cmd.verb == verbKeyPut || q.cmd.verb == verbKeyWrite) && c.putLater(q) {
		return nil
	}
	c.settle()
	if err == nil && q.cmd.verb == verbBlobSet {
		return c.upload(id, rest)
	}
	if fatal, ok := errors.AsType[*fatalError](err); ok {
		return fatal
	}
	if err == nil && id != nil {
		err = c.mayRunTagged(q, id)
	}
	switch {
	case err != nil:
		return q.finish(err)
	case q.cmd.verb == verbQuit:
		return errQuit
	case id == nil && q.cmd.verb == verbWatch:
		return q.finish(usageError(watchUsage))
	case id != nil && !runsAtOnce(q.cmd.verb):
		return c.runAside(id, rest)
	}
	return q.run()
}

// begin prepares the connection's own request for a command.
func (c *conn) begin(id []byte) *request {
	q := &c.req
	q.began = time.Now()
	q.tag = nil
	if id != nil {
		c.tagBuf = append(append(append(c.tagBuf[:0], idOpen...), id...), "] "...)
		q.tag = c.tagBuf
	}
	return q
}

// mayRunTagged refuses what a request id cannot have.
func (c *conn) mayRunTagged(q *request, id []byte) error {
	v := q.cmd.verb
	switch {
	case v == verbBegin || v == verbCommit || v == verbRollback:
		return invalid("a transaction is a matter of the connection: its commands take no request id")
	case v == verbUnwatch || v == verbQuit:
	case c.sess.InTxn():
		return invalid("a transaction is open on this connection: its commands take no request id")
	}
	if v == verbUnwatch && (len(q.cmd.name) == 0 || bytes.Equal(q.cmd.name, id)) || len(c.watches) == 0 {
		return nil
	}
	if w := c.watches[string(id)]; w != nil && !w.ended() {
		return invalid("request id %s belongs to a running WATCH", show(id))
	}
	return nil
}

// runsAtOnce says whether a tagged command is run by the reading goroutine: what changes the session must be over before
// the next command is read, and what is short costs less here than handing it over.
func runsAtOnce(v verb) bool {
	switch v {
	case verbKeyGet, verbKeyMeta, verbWhoAmI, verbAssume, verbAuth, verbConsistency, verbUnwatch, verbHelp, verbQuit, verbElsewhere,
		verbNodeInfo, verbNodeList:
		return true
	}
	return false
}

// runAside hands a tagged command to a worker, waiting while TaggedMax run.
func (c *conn) runAside(id, rest []byte) error {
	c.takeSlot()
	q := c.aside()
	if err := c.keepLine(q, rest); err != nil {
		return c.refuseAside(q, err)
	}
	if err := parse(q.line, &q.cmd); err != nil {
		return c.refuseAside(q, err) // it parsed before
	}
	if q.cmd.verb == verbWatch {
		c.dropEnded()
		if err := c.startWatch(q, id); err != nil {
			return c.refuseAside(q, err)
		}
		q.dropLine()
	}
	c.srv.workers.run(q)
	return nil
}

// keepLine gives a request aside the line that its command points into. A small one is copied, also out of a large buffer, which
// other frames have filled: a command may run for long, and shall not hold what it does not need.
func (c *conn) keepLine(q *request, rest []byte) error {
	if len(rest) > bufferSize {
		if mem, ok := c.rd.detach(); ok {
			q.line, q.mem = rest, mem
			return nil
		}
		if !q.mem.grow(&c.srv.budget, int64(len(rest))) {
			return errFrames
		}
	}
	q.line = append(q.line[:0], rest...)
	return nil
}

// takeSlot waits until fewer than TaggedMax tagged commands run.
func (c *conn) takeSlot() {
	select {
	case c.slots <- struct{}{}:
	default:
		c.out.flush()
		c.slots <- struct{}{} // each that runs ends with its connection at the latest, and makes room
	}
	c.jobs.Add(1)
}

// aside is a request of its own with the tag, the time and the session of the one at hand.
func (c *conn) aside() *request {
	q := c.srv.requests()
	q.c, q.ctx, q.sess, q.began = c, c.req.ctx, c.sess.Fork(), c.req.began
	q.tag = append(q.tag[:0], c.req.tag...)
	return q
}

// refuseAside answers a request that is not handed to a worker after all.
func (c *conn) refuseAside(q *request, err error) error {
	err = q.finish(err)
	if closing := q.sess.Close(); closing != nil {
		c.srv.opts.Logger.Debug("closing a tagged command's session", "error", closing)
	}
	q.mem.free()
	c.srv.recycle(q)
	<-c.slots
	c.jobs.Done()
	return err
}

// errFrames refuses a frame for want of memory.
var errFrames = engine.Errorf(engine.ClassUnavailable, "the server's memory for large frames is in use, try again later")

// refusal is errFrames, or says that the frame can never fit.
func (c *conn) refusal(size int64) error {
	if size > c.srv.budget.max {
		return engine.Errorf(engine.ClassTooLarge, "frame exceeds the server's memory for large frames, %d bytes", c.srv.budget.max)
	}
	return errFrames
}

// refuseLine answers a line for which there is no memory, and skips it.
func (c *conn) refuseLine() error {
	c.settle()
	head := c.rd.head()
	size := int64(len(head)) * frameGrowth
	id, rest, err := splitID(head)
	if err != nil {
		return err
	}
	if mayBeUpload(rest) {
		return &fatalError{c.refusal(size).Error()} // its length is not known, nor how much of what follows is payload
	}
	q := c.begin(id)
	if parse(rest[:min(len(rest), bufferSize)], &q.cmd) != nil {
		q.cmd.verb = verbInvalid
	}
	if err := c.rd.skipLine(LineMax); err != nil {
		if errors.Is(err, errLineTooLong) {
			return errLine
		}
		return err
	}
	return q.finish(c.refusal(size))
}

// mayBeUpload says whether a line that begins so, its request id taken off, may be a KEY BLOB SET.
func mayBeUpload(head []byte) bool {
	w := cursor{head}
	for _, word := range []string{"KEY", "BLOB", "SET"} {
		if rest := bytes.TrimLeft(w.rest, " \t"); len(rest) <= len(word) {
			return isWord(rest, word[:len(rest)])
		}
		if !w.take(word) {
			return false
		}
	}
	return true
}

// upload reads the payload of KEY BLOB SET and runs the command. A refusal that the line alone decides is answered before
// its payload is skipped, so that a client that listens need not send it all in vain.
func (c *conn) upload(id, rest []byte) error {
	q := &c.req
	n, refused := q.cmd.length, q.cmd.refused
	if refused == nil && id != nil {
		refused = c.mayRunTagged(q, id)
	}
	if refused == nil && len(rest) > bufferSize {
		refused = invalid("line of %d bytes is too long for an upload", len(rest))
	}
	if refused != nil {
		if err := q.finish(refused); err != nil {
			return err
		}
		return c.rd.skip(n, 0)
	}
	line := c.srv.bufs.get()
	defer c.srv.bufs.put(line)
	header := line.b[:copy(line.b, rest)] // the payload overwrites the line
	payload, mem, err := c.rd.payload(int(n))
	if err == nil {
		err = parse(header, &q.cmd)
	}
	switch {
	case errors.Is(err, errNoMemory):
		return q.finish(c.refusal(n))
	case err != nil:
		mem.free()
		return err
	case id == nil:
		q.payload, q.mem = payload, mem
		err := q.run()
		q.payload = nil
		q.mem.free()
		return err
	}
	c.takeSlot()
	q = c.aside()
	q.line = append(q.line[:0], header...)
	if q.payload, q.mem = payload, mem; mem.taken == 0 {
		q.body = append(q.body[:0], payload...)
		q.payload = q.body
	}
	if err := parse(q.line, &q.cmd); err != nil {
		return c.refuseAside(q, err) // it parsed before
	}
	c.srv.workers.run(q)
	return nil
}

// finish ends the connection: what runs gets to its end if the client can still be told, then all is closed.
func (c *conn) finish(err error) {
	fatal, isFatal := errors.AsType[*fatalError](err)
	why, lost := c.ending.Load(), false
	switch {
	case isFatal, errors.Is(err, errTold), errors.Is(err, errQuit), errors.Is(err, io.EOF):
	case errors.Is(err, os.ErrDeadlineExceeded) && why == endHandshake:
		fatal = errHandshake
	case errors.Is(err, os.ErrDeadlineExceeded) && why == endSlowFrame:
		fatal = &fatalError{"unavailable: command was not complete in time"}
	case errors.Is(err, os.ErrDeadlineExceeded) && why == endIdle:
		fatal = &fatalError{"unavailable: connection was idle for too long"}
	case errors.Is(err, os.ErrDeadlineExceeded):
	default:
		lost = true
		c.cancel()
	}
	c.settle()
	for _, w := range c.watches {
		if why != endDrain && !lost {
			w.asked.Store(true)
		}
		w.cancel()
	}
	unread := isFatal || errors.Is(err, errQuit) || errors.Is(err, errTold) || c.unread || len(c.slots) > 0 || !c.rd.waited
	c.jobs.Wait()
	if why == endHandshake || why == endSlowFrame || why == endIdle {
		c.m.cuts.Inc()
	}
	if fatal != nil {
		c.m.fatal.Inc()
		b := c.out.begin()
		c.out.end(appendError(b, nil, fatal))
	}
	if errors.Is(err, errQuit) {
		b := c.out.begin()
		c.out.end(appendOK(b, c.req.tag))
	}
	c.out.flush()
	if !lost && (fatal != nil || why == endFatal || unread && !errors.Is(err, io.EOF)) {
		c.linger()
	}
	if c.sess != nil {
		if err := c.sess.Close(); err != nil {
			c.srv.opts.Logger.Debug("closing a session", "error", err)
		}
	}
	c.rd.release()
	c.abort()
}

// linger closes the writing side and reads on for a while, so that the client can read its last answers and why it is cut:
// closing with unread input would reset the connection, and drop what the client has not received yet.
func (c *conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	scratch := c.srv.bufs.get()
	defer c.srv.bufs.put(scratch)
	// Again where the janitor's wish that the connection rest came in between.
	for end := time.Now().Add(lingerTime); time.Now().Before(end) && c.nc.SetReadDeadline(end) == nil; {
		var err error
		for err == nil {
			_, err = c.nc.Read(scratch.b)
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}
