// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"time"
)

// exchange writes depth requests at once and reads as many answers. All requests have one length and so have the
// answers, as keys and values do: nothing need be parsed to find where an answer ends.
type exchange struct {
	conn    net.Conn
	out, in []byte
	shape   keyShape
	// requestLen and answerLen are the lengths of one; a key stands at keyAt of a request, a value at valueAt, if not 0.
	requestLen, answerLen int
	keyAt, valueAt        int
	head, tail            []byte // how each answer begins and ends
}

// requestText is what a request is made of: before key between value after. Without a value, between is the end.
type requestText struct {
	before, between, after string
	value                  bool
}

func newExchange(conn net.Conn, shape keyShape, depth int, r requestText, head, tail string, answerLen int) *exchange {
	x := &exchange{
		conn: conn, shape: shape, answerLen: answerLen, keyAt: len(r.before), head: []byte(head), tail: []byte(tail),
		in: make([]byte, depth*answerLen),
	}
	request := slices.Concat([]byte(r.before), make([]byte, shape.len), []byte(r.between))
	if r.value {
		x.valueAt = len(request)
		request = slices.Concat(request, make([]byte, valueLen), []byte(r.after))
	}
	x.requestLen = len(request)
	x.out = bytes.Repeat(request, depth)
	return x
}

func (x *exchange) step(s *source) (int, error) {
	n := 0
	for at := 0; at < len(x.out); at += x.requestLen {
		request := x.out[at : at+x.requestLen]
		x.shape.put(request[x.keyAt:x.keyAt+x.shape.len], s.key())
		if x.valueAt != 0 {
			s.value(request[x.valueAt : x.valueAt+valueLen])
		}
		n++
	}
	if _, err := x.conn.Write(x.out); err != nil {
		return 0, err
	}
	got, err := readAtLeast(x.conn, x.in, x.head)
	if err != nil {
		return 0, err
	}
	for ; len(got) > 0; got = got[x.answerLen:] {
		answer := got[:x.answerLen]
		if !bytes.HasPrefix(answer, x.head) || !bytes.HasSuffix(answer, x.tail) {
			return 0, unexpected(answer)
		}
	}
	return n, nil
}

// readAtLeast fills in. An answer that does not begin like head may be shorter: it is an error at once.
func readAtLeast(conn net.Conn, in, head []byte) ([]byte, error) {
	have := 0
	for have < len(in) {
		n, err := conn.Read(in[have:])
		have += n
		if begun := min(have, len(head)); !bytes.Equal(in[:begun], head[:begun]) {
			return nil, unexpected(in[:have], rest(conn)...)
		}
		if err != nil {
			return nil, fmt.Errorf("answer ended after %d of %d bytes: %w", have, len(in), err)
		}
	}
	return in, nil
}

func unexpected(answer []byte, more ...byte) error {
	answer = slices.Concat(answer[:min(len(answer), 200)], more)
	return fmt.Errorf("unexpected answer %q", answer)
}

// rest is what else comes at once on a connection that is of no more use: the words of an error.
func rest(conn net.Conn) []byte {
	more := make([]byte, 200)
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		return nil
	}
	n, _ := io.ReadFull(conn, more) // the deadline ends it
	return more[:n]
}

func (x *exchange) close() error { return x.conn.Close() }

// stream sends one request again and again and counts what comes back piece by piece, so that a long answer does not
// make the end of a slot coarse.
type stream struct {
	conn    net.Conn
	request []byte
	head    []byte // how the answer begins
	tail    []byte // how it ends
	buf     []byte
	// left is how much of the answer is still to come: bytes, or lines when perLine is set.
	size, left int64
	// linesPerUnit is 0 when bytes are counted.
	linesPerUnit int64
	lines        int64 // counted and not yet reported
	last         []byte
}

// streamBuffer is what one read may bring.
const streamBuffer = 256 << 10

func newStream(conn net.Conn, request, head, tail string, size, linesPerUnit int64) *stream {
	return &stream{
		conn: conn, request: []byte(request), head: []byte(head), tail: []byte(tail), size: size, linesPerUnit: linesPerUnit,
		buf: make([]byte, streamBuffer), last: make([]byte, 0, 2*len(tail)),
	}
}

func (t *stream) step(*source) (int, error) {
	begins := t.left == 0
	if begins {
		if _, err := t.conn.Write(t.request); err != nil {
			return 0, err
		}
		t.left = t.size
	}
	room := int64(len(t.buf))
	if t.linesPerUnit == 0 {
		room = min(room, t.left)
	}
	n, err := t.conn.Read(t.buf[:room])
	if err != nil {
		return 0, fmt.Errorf("answer ended %d of %d before its end: %w", t.left, t.size, err)
	}
	got := t.buf[:n]
	if begun := min(n, len(t.head)); begins && !bytes.Equal(got[:begun], t.head[:begun]) {
		return 0, unexpected(got)
	}
	units := n
	if t.linesPerUnit == 0 {
		t.left -= int64(n)
	} else {
		found := int64(bytes.Count(got, []byte{'\n'}))
		t.left -= found
		t.lines += found
		units = int(t.lines / t.linesPerUnit)
		t.lines %= t.linesPerUnit
	}
	return units, t.checkEnd(got)
}

// checkEnd keeps the last bytes and compares them when the answer should be over.
func (t *stream) checkEnd(got []byte) error {
	t.last = append(t.last, got[max(0, len(got)-len(t.tail)):]...)
	t.last = append(t.last[:0], t.last[max(0, len(t.last)-len(t.tail)):]...)
	switch {
	case t.left < 0:
		return fmt.Errorf("answer is %d lines longer than %d", -t.left, t.size)
	case t.left == 0 && !bytes.Equal(t.last, t.tail):
		return unexpected(t.last)
	}
	return nil
}

func (t *stream) close() error { return t.conn.Close() }

// dialAtlas connects and shakes hands.
func dialAtlas(socket string) (net.Conn, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	// The node says no more after READY until it is asked, so that the reader holds nothing back.
	r := bufio.NewReaderSize(conn, 512)
	if err := greet(r, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

func greet(r *bufio.Reader, w io.Writer) error {
	if err := wantLine(r, "WELCOME 1.0 "); err != nil {
		return err
	}
	if _, err := io.WriteString(w, "HELLO 1.0 clientId=compare\r\n"); err != nil {
		return err
	}
	return wantLine(r, "READY\r\n")
}

func wantLine(r *bufio.Reader, head string) error {
	line, err := r.ReadSlice('\n')
	if err != nil {
		return err
	}
	if !bytes.HasPrefix(line, []byte(head)) {
		return unexpected(line)
	}
	return nil
}

// atlasStepper is a connection to a node that does what l says.
func atlasStepper(socket string, l load, shape keyShape, keys int) (stepper, error) {
	conn, err := dialAtlas(socket)
	if err != nil {
		return nil, err
	}
	switch l.Kind {
	case kindPut:
		r := requestText{before: "KEY PUT ", between: " ", after: "\r\n", value: true}
		return newExchange(conn, shape, l.Depth, r, "OK\r\n", "", len("OK\r\n")), nil
	case kindGet:
		r := requestText{before: "KEY GET ", between: "\r\n"}
		return newExchange(conn, shape, l.Depth, r, "VALUE:", "\r\nOK\r\n", len("VALUE:\r\nOK\r\n")+valueLen), nil
	case kindScan:
		count := "KEYS:" + strconv.Itoa(keys) + "\r\n"
		return newStream(conn, "SCAN "+benchTable+" VALUES\r\n", count, "\r\nOK\r\n", int64(2*keys+2), 2), nil
	case kindBlob:
		head := "BLOB " + strconv.Itoa(l.Size) + "\r\n"
		size := int64(len(head) + l.Size + len("OK\r\n"))
		return newStream(conn, "KEY BLOB GET "+blobKey(l.Size)+"\r\n", head, "OK\r\n", size, 0), nil
	}
	return nil, errors.Join(fmt.Errorf("atlas has no %s", l.Kind), conn.Close())
}

// putAtlasBlob stores a blob of random text.
func putAtlasBlob(socket string, size int, text []byte) error {
	conn, err := dialAtlas(socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	return sendBlob(conn, "KEY BLOB SET "+blobKey(size)+" "+strconv.Itoa(size)+"\r\n", size, "", text, "OK\r\n")
}

// sendBlob writes before, size bytes cut from text, and after, and wants answer.
func sendBlob(conn net.Conn, before string, size int, after string, text []byte, answer string) error {
	w := bufio.NewWriterSize(conn, streamBuffer)
	if _, err := w.WriteString(before); err != nil {
		return err
	}
	for left := size; left > 0; {
		n, err := w.Write(text[:min(left, len(text))])
		if err != nil {
			return err
		}
		left -= n
	}
	if _, err := w.WriteString(after); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := readAtLeast(conn, make([]byte, len(answer)), []byte(answer))
	return err
}

func blobKey(size int) string { return "blobs.b" + strconv.Itoa(size) }
