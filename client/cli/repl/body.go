// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli/progress"
)

// body is what follows a KEY BLOB SET line.
type body struct {
	r      io.Reader
	size   int64
	label  string
	closer io.Closer
	sent   bool // all of it has left
}

// progressMin is how long a body must be for its progress to be shown, in bytes.
const progressMin = 1 << 20

// body finds the bytes that a command sends: of a file, or of the script. It completes the command with their length.
func (sh *shell) body(c *command) (*body, error) {
	if c.from == "-" {
		return sh.spool(c)
	}
	if c.from != "" {
		return openBody(c)
	}
	n, ok := c.blobLen()
	switch {
	case sh.interactive && c.setsBlob(): // without a length, too: that would cost the connection
		return nil, errors.New("to send a file: KEY BLOB SET <key> [options] < FILE")
	case !ok:
		return nil, nil //nolint:nilnil // most commands have none
	case n > client.ValueLenMax:
		return nil, fmt.Errorf("length %d exceeds limit %d", n, int64(client.ValueLenMax))
	case sh.stdin == nil:
		return nil, errors.New("no input to read the blob from")
	}
	return &body{r: io.LimitReader(sh.stdin, n), size: n}, nil
}

func openBody(c *command) (*body, error) {
	f, err := os.Open(c.from)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = fmt.Errorf("%s is not a regular file", c.from)
	case info.Size() > client.ValueLenMax:
		err = fmt.Errorf("%s: length %d exceeds limit %d", c.from, info.Size(), int64(client.ValueLenMax))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c.setLen(info.Size())
	return &body{r: f, size: info.Size(), label: c.from, closer: f}, nil
}

// spool copies standard input into a file that has no name, to learn its length.
func (sh *shell) spool(c *command) (*body, error) {
	if sh.stdin == nil || sh.interactive {
		return nil, errors.New("standard input is not free for @-")
	}
	f, err := os.CreateTemp("", "atlas-*")
	if err != nil {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(sh.stdin, client.ValueLenMax+1))
	if err == nil && n > client.ValueLenMax {
		err = fmt.Errorf("standard input exceeds limit %d", int64(client.ValueLenMax))
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err = errors.Join(err, os.Remove(f.Name())); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	c.setLen(n)
	return &body{r: f, size: n, closer: f}, nil
}

var errShort = errors.New("it was not applied")

// send writes the bytes. When there are fewer than announced (errShort) the connection is of no use any more.
func (b *body) send(w, terminal io.Writer) error {
	var bar *progress.Bar
	if b.size >= progressMin && b.label != "" {
		bar = progress.Bytes(terminal, b.label, b.size)
		defer bar.Done()
	}
	src := &watchedReader{r: bar.Reader(b.r)}
	n, err := io.CopyN(w, src, b.size)
	switch {
	case n == b.size:
		b.sent = true
		return nil
	case src.err != nil && !errors.Is(src.err, io.EOF):
		return fmt.Errorf("read the blob's bytes: %w; %w", src.err, errShort)
	case src.err != nil || err == nil:
		return fmt.Errorf("the blob's bytes end after %d of %d; %w", n, b.size, errShort)
	}
	return err
}

// skip passes over bytes of a script that will not be sent.
func (b *body) skip() error {
	if b.closer != nil {
		return nil
	}
	_, err := io.CopyN(io.Discard, b.r, b.size)
	return err
}

func (b *body) close() {
	if b.closer != nil {
		_ = b.closer.Close() // only read
	}
}

// watchedReader tells an error of reading from one of writing.
type watchedReader struct {
	r   io.Reader
	err error
}

func (w *watchedReader) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.err = err
	return n, err
}
