// SPDX-License-Identifier: AGPL-3.0-only

// Package wire reads and writes the bytes of the native protocol from the client's side: the handshake, the frames of
// replies, request ids, and errors. It interprets no command.
//
// A reply is a run of frames: data lines and blobs, then `OK` or `ERROR WARN|FATAL <class>: <text>`. A line ends with CRLF
// (a bare LF is taken too); the line `BLOB <n>` is followed by exactly n bytes and then at once by the next line. On a
// connection that uses ids each line begins with `[ID:x] `.
//
// Nothing a server sends is trusted: lines, blobs and tags are bounded (limits.go) and memory grows with the bytes that
// came, never with a length that was claimed. The package starts no goroutine.
package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrProtocol is what the errors about bytes that no server may send are. The connection cannot be used further.
var ErrProtocol = errors.New("protocol violation")

// Kind tells frames apart.
type Kind uint8

// The kinds of frames.
const (
	// KindData is a line of data.
	KindData Kind = iota + 1
	// KindBlob is a `BLOB <n>` line; its n bytes are read from the Reader before the next frame.
	KindBlob
	// KindOK ends a reply that succeeded.
	KindOK
	// KindError ends a reply that failed.
	KindError
)

// Frame is one line of a reply. Its slices are valid until the next call to Next.
type Frame struct {
	Kind Kind
	Raw  []byte // the whole line without its end
	Tag  []byte // the request id, nil when there is none
	Text []byte // the line without id and line end
	Size int64  // of a blob, in bytes
}

// End tells whether the frame ends its reply.
func (f Frame) End() bool { return f.Kind == KindOK || f.Kind == KindError }

// Reader takes a stream apart into frames. An error of the source that is a timeout may be followed by another try: what
// was read before it is kept. Not for concurrent use.
type Reader struct {
	src      io.Reader
	tags     bool
	lineMax  int
	buf      []byte
	r, w     int   // buf[r:w] is unread
	blobLeft int64 // of the last blob frame
}

// NewReader returns a Reader of src. With tags, a leading `[ID:x] ` is taken as a request id; without, it is data.
func NewReader(src io.Reader, tags bool) *Reader {
	return &Reader{src: src, tags: tags, lineMax: LineLenMax, buf: make([]byte, bufLenBase)}
}

// Buffered is the count of bytes read from the source and not yet used.
func (r *Reader) Buffered() int { return r.w - r.r }

// BlobLeft is the count of bytes of the last blob frame that were not read yet.
func (r *Reader) BlobLeft() int64 { return r.blobLeft }

// Next returns the next frame, passing over what is left of a blob. At the end of the stream it returns io.EOF between
// lines and io.ErrUnexpectedEOF inside one; ErrProtocol for what breaks the protocol.
func (r *Reader) Next() (Frame, error) {
	if r.blobLeft > 0 {
		if err := r.Discard(); err != nil {
			return Frame{}, err
		}
	}
	line, err := r.line()
	if err != nil {
		return Frame{}, err
	}
	f := Frame{Kind: KindData, Raw: line, Text: line}
	if r.tags {
		f.Tag, f.Text = cutTag(line)
	}
	switch {
	case len(f.Text) == 2 && f.Text[0] == 'O' && f.Text[1] == 'K':
		f.Kind = KindOK
	case bytes.HasPrefix(f.Text, prefixError):
		f.Kind = KindError
	case bytes.HasPrefix(f.Text, prefixBlob):
		size, ok := parseSize(f.Text[len(prefixBlob):])
		if !ok {
			break // a line of text that happens to begin so
		}
		if size > BlobLenMax {
			return Frame{}, fmt.Errorf("%w: blob length %d exceeds limit %d", ErrProtocol, size, int64(BlobLenMax))
		}
		f.Kind, f.Size, r.blobLeft = KindBlob, size, size
	}
	return f, nil
}

var (
	prefixError = []byte("ERROR ")
	prefixBlob  = []byte("BLOB ")
	prefixTag   = []byte("[ID:")
)

// Read reads the bytes of the last blob frame; io.EOF after the last one.
func (r *Reader) Read(p []byte) (int, error) {
	if r.blobLeft == 0 {
		return 0, io.EOF
	}
	if int64(len(p)) > r.blobLeft {
		p = p[:r.blobLeft]
	}
	if r.r < r.w {
		n := copy(p, r.buf[r.r:r.w])
		r.r += n
		r.blobLeft -= int64(n)
		return n, nil
	}
	n, err := r.src.Read(p)
	r.blobLeft -= int64(n)
	if err == io.EOF && r.blobLeft > 0 {
		err = io.ErrUnexpectedEOF
	}
	if n > 0 {
		err = nil // it will come again
	}
	return n, err
}

// Discard passes over what is left of the last blob frame.
func (r *Reader) Discard() error {
	for r.blobLeft > 0 {
		if r.r == r.w {
			r.r, r.w = 0, 0
			if err := r.fill(); err != nil {
				return noEOF(err)
			}
		}
		n := min(int64(r.w-r.r), r.blobLeft)
		r.r += int(n)
		r.blobLeft -= n
	}
	return nil
}

// line returns the next line without its end.
func (r *Reader) line() ([]byte, error) {
	scanned := 0
	for {
		if i := bytes.IndexByte(r.buf[r.r+scanned:r.w], '\n'); i >= 0 {
			line := r.buf[r.r : r.r+scanned+i]
			r.r += scanned + i + 1
			if len(line) > r.lineMax {
				return nil, fmt.Errorf("%w: line length %d exceeds limit %d", ErrProtocol, len(line), r.lineMax)
			}
			if n := len(line); n > 0 && line[n-1] == '\r' {
				line = line[:n-1]
			}
			return line, nil
		}
		scanned = r.w - r.r
		if scanned > r.lineMax {
			return nil, fmt.Errorf("%w: line exceeds limit %d", ErrProtocol, r.lineMax)
		}
		r.makeRoom()
		if err := r.fill(); err != nil {
			if scanned > 0 {
				err = noEOF(err)
			}
			return nil, err
		}
	}
}

// makeRoom leaves space behind the unread bytes: by moving them to the front, by doubling the buffer, or, when nothing is
// unread, by going back to a small one after a long line.
func (r *Reader) makeRoom() {
	unread := r.w - r.r
	switch {
	case unread == 0:
		if len(r.buf) > bufLenKeep {
			r.buf = make([]byte, bufLenBase)
		}
	case len(r.buf)-r.w > len(r.buf)/4:
		return
	case r.r > 0:
		copy(r.buf, r.buf[r.r:r.w])
	case r.w == len(r.buf):
		grown := make([]byte, min(2*len(r.buf), r.lineMax+bufLenBase))
		copy(grown, r.buf[:r.w])
		r.buf = grown
	}
	r.r, r.w = 0, unread
}

// fill reads once. Requires: room behind w.
func (r *Reader) fill() error {
	for range emptyReadsMax {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		if n > 0 {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// cutTag takes `[ID:x] ` off line. A line that does not begin so is returned whole.
func cutTag(line []byte) (tag, text []byte) {
	if !bytes.HasPrefix(line, prefixTag) {
		return nil, line
	}
	rest := line[len(prefixTag):]
	end := bytes.IndexByte(rest[:min(len(rest), TagLenMax+1)], ']')
	if end < 0 || end+1 >= len(rest) || rest[end+1] != ' ' {
		return nil, line
	}
	return rest[:end], rest[end+2:]
}

// parseSize reads a decimal without sign or leading blanks, at most 18 digits long.
func parseSize(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	var n int64
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
