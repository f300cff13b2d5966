// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// rawConn is one connection, used by one goroutine at a time: an exclusive one, or, before its goroutines run, a shared one.
type rawConn struct {
	nc         net.Conn
	r          *wire.Reader
	out        []byte
	server     string // how it greeted
	generation uint64 // of the identity it was told
	broken     error  // set once; the stream can no longer be told apart
	stateful   bool   // it differs from a new one: another principal, a transaction

	closeOnce sync.Once
}

func (rc *rawConn) close() {
	rc.closeOnce.Do(func() { _ = rc.nc.Close() }) // nothing is buffered here that could be lost
}

// spoil marks the connection as not usable further.
func (rc *rawConn) spoil(err error) {
	if rc.broken == nil {
		rc.broken = err
	}
	rc.close()
}

// guard makes reads and writes fail when ctx ends. The returned function must be called when they are done; it returns why
// ctx ended when it did meanwhile, and then the connection is spoilt.
func (rc *rawConn) guard(ctx context.Context) (release func() error) {
	if ctx.Done() == nil {
		return func() error { return nil }
	}
	stop := context.AfterFunc(ctx, func() { _ = rc.nc.SetDeadline(time.Unix(1, 0)) }) // a closed connection fails anyhow
	return func() error {
		if stop() {
			return nil
		}
		rc.spoil(context.Cause(ctx))
		return context.Cause(ctx)
	}
}

// settle makes of the error of an exchange what the caller is told; ended is what guard's function returned.
func settle(cl *call, err, ended error) error {
	var lost *lostError
	if !errors.As(err, &lost) {
		return err
	}
	if ended != nil {
		lost.cause = ended
	}
	return lost.classify(cl)
}

// greet is the handshake and the identity.
func (rc *rawConn) greet(ctx context.Context, clientID string, who *identity) (err error) {
	release := rc.guard(ctx)
	defer func() {
		if ended := release(); ended != nil && err != nil {
			err = errors.Join(ended, err)
		}
	}()
	if rc.server, err = wire.Handshake(rc.nc, rc.r, clientID); err != nil {
		return err
	}
	var lines []string
	switch {
	case who.principal != "" && who.secret != "":
		lines = append(lines, "PRINCIPAL AUTH "+who.principal+" "+who.secret)
	case who.principal != "":
		lines = append(lines, "PRINCIPAL ASSUME "+who.principal)
	}
	if who.consistency != "" {
		lines = append(lines, "CONSISTENCY "+who.consistency)
	}
	for _, line := range lines {
		cl := newCall(line)
		err := rc.transact(cl)
		cl.release()
		if err != nil {
			return err
		}
	}
	return nil
}

// roundTrip runs a command and keeps its reply in cl.
func (rc *rawConn) roundTrip(ctx context.Context, cl *call) error {
	if cl.err != nil {
		return cl.err
	}
	if rc.broken != nil {
		return &Error{Class: wire.Unavailable, Text: "not sent", Cause: &lostError{cause: rc.broken}}
	}
	if ctx.Err() != nil {
		return cancelled(ctx)
	}
	release := rc.guard(ctx)
	err := rc.transact(cl)
	return settle(cl, err, release())
}

// transact sends a command and reads its reply to the end. Errors of the connection are *lostError.
func (rc *rawConn) transact(cl *call) error {
	if err := rc.send(cl); err != nil {
		return err
	}
	return rc.await(cl)
}

// await reads the reply to a command that was sent.
func (rc *rawConn) await(cl *call) error {
	for {
		f, err := rc.next()
		if err != nil {
			return err
		}
		if f.End() {
			return rc.finish(cl, f)
		}
		if err := cl.add(f, rc.r); err != nil {
			return rc.lost(err)
		}
	}
}

// next reads a frame of a reply.
func (rc *rawConn) next() (wire.Frame, error) {
	f, err := rc.r.Next()
	if err != nil {
		return f, rc.lost(err)
	}
	return f, nil
}

// finish is how a call ended, given its last frame.
func (rc *rawConn) finish(cl *call, f wire.Frame) error {
	err := cl.finish(f)
	var e *Error
	if errors.As(err, &e) && e.Fatal {
		rc.spoil(err)
	}
	return err
}

// lost spoils the connection because of an error of reading.
func (rc *rawConn) lost(err error) error {
	err = unexpected(err)
	rc.spoil(err)
	return &lostError{sent: true, cause: err}
}

// send writes the command and its body.
func (rc *rawConn) send(cl *call) error {
	rc.out = append(append(rc.out[:0], cl.out...), "\r\n"...)
	var err error
	if len(cl.body) <= sharedLenMax {
		rc.out = append(rc.out, cl.body...)
		_, err = rc.nc.Write(rc.out)
	} else {
		parts := net.Buffers{rc.out, cl.body}
		_, err = parts.WriteTo(rc.nc)
	}
	if cap(rc.out) > 8*sharedLenMax {
		rc.out = nil
	}
	if err != nil {
		return rc.writeFailed(err)
	}
	return nil
}

// writeFailed is the error of a command of which bytes may have left.
func (rc *rawConn) writeFailed(err error) error {
	var timeout net.Error
	if !errors.As(err, &timeout) || !timeout.Timeout() {
		err = rc.lastWord(err)
	}
	rc.spoil(err)
	return &lostError{sent: true, cause: err}
}

// ended is the error of a command that was not sent, because the server had ended the connection, or spoken unasked, before.
func (rc *rawConn) ended() *lostError {
	err := rc.broken
	if err == nil {
		err = rc.lastWord(errEnded)
		rc.spoil(err)
	}
	return &lostError{cause: err}
}

// lastWord adds the reason that the server may have given before it closed.
func (rc *rawConn) lastWord(err error) error {
	_ = rc.nc.SetReadDeadline(time.Now().Add(lastWordWait)) // without it the read below ends with the connection
	if f, rerr := rc.r.Next(); rerr == nil && f.Kind == wire.KindError {
		err = errors.Join(wire.ParseError(append([]byte(nil), f.Text...)), err)
	}
	return err
}

// upload sends a command and size bytes of body after it, and reads the reply. whole tells whether the server can have got
// all of it.
func (rc *rawConn) upload(cl *call, body io.Reader, size int64) (whole bool, err error) {
	if err := rc.send(cl); err != nil {
		return false, err
	}
	src := &watchedReader{r: io.LimitReader(body, size)}
	n, err := io.CopyBuffer(struct{ io.Writer }{rc.nc}, src, make([]byte, min(copyLen, size+1)))
	switch {
	case n == size && src.err == nil && err == nil:
		return true, rc.await(cl)
	case src.err != nil || err == nil:
		err = &Error{Class: wire.Invalid, Text: fmt.Sprintf("body ended after %d of %d bytes", n, size), Cause: src.err}
		rc.spoil(err) // the server drops what is incomplete
		return false, err
	default:
		return false, rc.writeFailed(err)
	}
}

// watchedReader tells an error of reading from one of writing.
type watchedReader struct {
	r   io.Reader
	err error // nil or io.EOF as nil
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}
