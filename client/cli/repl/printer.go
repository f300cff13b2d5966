// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/wire"
)

const (
	colorError = "\x1b[31m"
	colorNote  = "\x1b[2m"
	colorOff   = "\x1b[0m"
)

// previewLen is how much of a blob a terminal shows.
const previewLen = 256

// printer writes what the server says.
type printer struct {
	w        *bufio.Writer
	terminal bool
	color    bool
}

func newPrinter(w io.Writer, color bool) *printer {
	return &printer{w: bufio.NewWriterSize(w, 32<<10), terminal: cli.IsTerminal(w), color: color}
}

func (p *printer) flush() error { return p.w.Flush() }

// frame writes a line of an answer.
func (p *printer) frame(kind wire.Kind, text string) {
	if p.terminal {
		text = wire.Visible(text)
	}
	if p.color && kind == wire.KindError {
		text = colorError + text + colorOff
	}
	p.text(text + "\n")
}

func (p *printer) text(s string) { _, _ = p.w.WriteString(s) } // flush returns the error

// blob writes size bytes of r: verbatim, or, on a terminal, the beginning in hex.
func (p *printer) blob(r io.Reader, size int64) error {
	if !p.terminal {
		n, err := io.CopyN(p.w, r, size)
		if n < size && err == nil {
			err = io.ErrUnexpectedEOF
		}
		return noEOF(err)
	}
	head := make([]byte, min(size, previewLen))
	if _, err := io.ReadFull(r, head); err != nil {
		return noEOF(err)
	}
	p.text(hexDump(head))
	if size > previewLen {
		p.text(fmt.Sprintf("... %d more bytes; save them all with: KEY BLOB GET <key> > FILE\n", size-previewLen))
		_, err := io.CopyN(io.Discard, r, size-previewLen)
		return noEOF(err)
	}
	return nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// hexDump is offset, sixteen bytes in hex, and the same as text, a line each.
func hexDump(b []byte) string {
	var out strings.Builder
	for at := 0; at < len(b); at += 16 {
		row := b[at:min(at+16, len(b))]
		fmt.Fprintf(&out, "%08x ", at)
		for i := range 16 {
			if i%8 == 0 {
				out.WriteByte(' ')
			}
			if i < len(row) {
				fmt.Fprintf(&out, "%02x ", row[i])
			} else {
				out.WriteString("   ")
			}
		}
		out.WriteString(" |")
		for _, c := range row {
			if c < ' ' || c > '~' {
				c = '.'
			}
			out.WriteByte(c)
		}
		out.WriteString("|\n")
	}
	return out.String()
}

// sink is the file of `> FILE`. A regular file appears, whole, under its name only when the answer was.
type sink struct {
	path   string
	bare   bool   // of the answer the bytes of blobs alone go there
	real   string // path behind symbolic links
	f      *os.File
	temp   bool
	n      int64
	failed error
}

func (s *sink) active() bool { return s.path != "" }

// open makes the file when the first data comes: an answer without any makes none.
func (s *sink) open() error {
	if s.f != nil {
		return nil
	}
	var err error
	if s.real, err = filepath.EvalSymlinks(s.path); err != nil {
		s.real = s.path // there is nothing yet, or the directory is not there, which is found out below
	}
	info, serr := os.Stat(s.real)
	if serr == nil && !info.Mode().IsRegular() {
		s.f, err = os.OpenFile(s.real, os.O_WRONLY, 0)
		return reason(err)
	}
	s.f, err = os.CreateTemp(filepath.Dir(s.real), ".atlas-*") // mode 0600
	if err != nil {
		return reason(err)
	}
	s.temp = true
	if serr == nil {
		err = s.f.Chmod(info.Mode().Perm()) // it takes the place of that one
	}
	return err
}

// reason is an error without the name that it is about, which is not the user's.
func reason(err error) error {
	var about *fs.PathError
	if errors.As(err, &about) {
		return about.Err
	}
	return err
}

// take puts a frame into the file: the line, unless only bytes are wanted, and those of a blob. After an error the rest is
// passed over.
func (s *sink) take(sh *shell, f wire.Frame, text string) error {
	blob := f.Kind == wire.KindBlob
	switch {
	case s.failed != nil:
		return nil // the reader passes over a blob
	case !blob && (s.bare || string(f.Text) == "EMPTY" || string(f.Text) == "NOT_FOUND"):
		sh.print.frame(f.Kind, text)
		return nil
	}
	if s.failed = s.open(); s.failed == nil && !s.bare {
		n, err := s.f.WriteString(text + "\n")
		s.n, s.failed = s.n+int64(n), err
	}
	if s.failed != nil || !blob {
		return nil
	}
	w := &watchedWriter{w: s.f}
	n, err := io.Copy(w, io.LimitReader(sh.conn.Reader, f.Size))
	s.n += n
	if w.err != nil {
		s.failed = w.err
		return nil
	}
	if n < f.Size && err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// watchedWriter tells an error of writing from one of reading.
type watchedWriter struct {
	w   io.Writer
	err error
}

func (w *watchedWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.err = err
	return n, err
}

// close puts the file in place. note is what to tell the user, "" when there was no file.
func (s *sink) close(whole bool) (note string, err error) {
	if s.f == nil {
		return "", s.wrap(s.failed)
	}
	err = errors.Join(s.failed, s.f.Close())
	if s.temp && err == nil && whole {
		err = os.Rename(s.f.Name(), s.real)
	}
	if s.temp && (err != nil || !whole) {
		err = errors.Join(err, os.Remove(s.f.Name()))
	}
	if !whole {
		return "nothing saved to " + s.path, s.wrap(err)
	}
	return "saved " + strconv.FormatInt(s.n, 10) + " bytes to " + s.path, s.wrap(err)
}

func (s *sink) wrap(err error) error {
	if err != nil {
		err = fmt.Errorf("save to %s: %w", s.path, err)
	}
	return err
}
