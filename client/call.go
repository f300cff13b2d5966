// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"io"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/atlas-edge/atlas/client/wire"
)

// executor runs a command and waits for its answer: a Client on any connection, a Session on its own.
type executor interface {
	exec(ctx context.Context, cl *call) error
}

// frame is a part of a reply: call.in[start:end].
type frame struct {
	blob       bool
	start, end int
}

// call is a command on its way and the reply to it. Calls are pooled: get one with newCall, build its line, exec it, read
// the frames, and release it.
//
// On a shared connection two goroutines know a call. Its state decides who goes on with it: the reader moves it from
// waiting to answered, the waiter, when its context ends first, from waiting to abandoned. An abandoned call is left to the
// reader, which drops it; it never returns to the pool.
type call struct {
	out   []byte // the command, without id and line end
	body  []byte // bytes after it
	write bool   // it may change something
	err   error  // of building it

	in       []byte
	frames   []frame
	overflow bool // the reply is past ReplyLenMax

	kept   int64 // bytes of memory that the reply takes; the reader's
	state  atomic.Int32
	done   chan error // capacity 1: how it ended
	offset uint64     // where it begins among the bytes of its connection
}

const (
	callWaiting int32 = iota
	callAnswered
	callAbandoned
)

// shared: a pool holds nothing that outlives a call.
var callPool = sync.Pool{New: func() any { return &call{done: make(chan error, 1)} }}

func newCall(verb string) *call {
	cl := callPool.Get().(*call)
	cl.out = append(cl.out[:0], verb...)
	cl.body, cl.write, cl.err = nil, false, nil
	cl.clearReply()
	return cl
}

func newWrite(verb string) *call {
	cl := newCall(verb)
	cl.write = true
	return cl
}

func (cl *call) clearReply() {
	cl.in, cl.frames, cl.overflow, cl.kept = cl.in[:0], cl.frames[:0], false, 0
	cl.state.Store(callWaiting)
}

// release gives the call back, unless it was abandoned. Its reply is not valid afterwards.
func (cl *call) release() {
	if cl.state.Load() == callAbandoned {
		return
	}
	cl.body = nil
	if cap(cl.in) > callKeepMax || cap(cl.out) > callKeepMax || cap(cl.frames) > callKeepMax/16 {
		return
	}
	callPool.Put(cl)
}

// word adds a blank and a word that comes from the caller.
func (cl *call) word(what, s string) {
	if !validWord(s) && cl.err == nil {
		cl.err = &Error{Class: wire.Invalid, Text: what + " " + strconv.Quote(shorten(s)) + " is empty, or holds blanks or control characters"}
	}
	cl.out = append(append(cl.out, ' '), s...)
}

// key adds a blank and a key, a table or a prefix.
func (cl *call) key(s string) {
	switch {
	case s == "":
		cl.fail(&Error{Class: wire.Invalid, Text: "key is empty"})
	case len(s) > KeyLenMax:
		cl.fail(&Error{Class: wire.TooLarge, Text: "key length " + strconv.Itoa(len(s)) + " exceeds limit " + strconv.Itoa(KeyLenMax)})
	}
	cl.out = wire.AppendKey(append(cl.out, ' '), s)
}

// literal adds a word of the protocol, with its leading blank.
func (cl *call) literal(s string) { cl.out = append(cl.out, s...) }

func (cl *call) number(n int64)    { cl.out = strconv.AppendInt(append(cl.out, ' '), n, 10) }
func (cl *call) unsigned(n uint64) { cl.out = strconv.AppendUint(append(cl.out, ' '), n, 10) }

func (cl *call) fail(err error) {
	if cl.err == nil {
		cl.err = err
	}
}

// add keeps a frame of the reply, and the bytes of a blob, which it reads from r.
func (cl *call) add(f wire.Frame, r *wire.Reader) error {
	size := int64(len(f.Text))
	if f.Kind == wire.KindBlob {
		size = f.Size
	}
	if cl.overflow || int64(len(cl.in))+size+int64(len(cl.frames))*frameCost > ReplyLenMax {
		cl.overflow = true
		cl.in, cl.frames = nil, nil
		return nil // the reader passes over the rest
	}
	start := len(cl.in)
	if f.Kind != wire.KindBlob {
		cl.in = append(cl.in, f.Text...)
		cl.frames = append(cl.frames, frame{start: start, end: len(cl.in)})
		return nil
	}
	for left := f.Size; left > 0; {
		cl.in = slices.Grow(cl.in, int(min(left, max(copyLen/8, int64(len(cl.in)-start)))))
		n, err := r.Read(cl.in[len(cl.in):min(cap(cl.in), len(cl.in)+int(left))])
		cl.in = cl.in[:len(cl.in)+n]
		left -= int64(n)
		if err != nil {
			return unexpected(err)
		}
	}
	cl.frames = append(cl.frames, frame{blob: true, start: start, end: len(cl.in)})
	return nil
}

const frameCost = 24

// finish is how the call ended, given the last frame of its reply.
func (cl *call) finish(f wire.Frame) error {
	if f.Kind == wire.KindError {
		return wire.ParseError(append([]byte(nil), f.Text...))
	}
	if cl.overflow {
		return &Error{Class: wire.TooLarge, Text: "reply exceeds limit " + strconv.Itoa(ReplyLenMax)}
	}
	return nil
}

func (cl *call) text(i int) []byte { return cl.in[cl.frames[i].start:cl.frames[i].end] }

// own returns frame i from byte skip on as the caller's own: a copy, or, when the buffer is not kept anyhow, the buffer.
func (cl *call) own(i, skip int) []byte {
	value := cl.text(i)[skip:]
	if cap(cl.in) > callKeepMax && 2*len(value) > cap(cl.in) {
		cl.in = nil
		return value
	}
	return append(make([]byte, 0, len(value)), value...)
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// validWord tells whether s can stand as one word of a command's line: not empty, no blanks, no control characters.
func validWord(s string) bool {
	if s == "" {
		return false
	}
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f {
			return false
		}
	}
	return true
}

func shorten(s string) string {
	if len(s) > 64 {
		return s[:64] + "..."
	}
	return s
}
