// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds every wait for the endpoint. No case measures time: it only keeps a dead endpoint from hanging the run.
const patience = 30 * time.Second

const (
	welcome   = "WELCOME 1.0 Chronalys/1.0"
	handshake = "HELLO 1.0 clientId=conformance\r\n"
)

// conn is one raw connection: bytes out, lines and blobs in. One goroutine reads and one writes.
type conn struct {
	nc       net.Conn
	r        *bufio.Reader
	patience time.Duration
}

// dial opens a connection and says nothing.
func (e *env) dial(ctx context.Context) (*conn, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(e.DialTimeout, patience))
	defer cancel()
	var d interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = new(net.Dialer)
	if e.TLS != nil {
		d = &tls.Dialer{Config: e.TLS}
	}
	nc, err := d.DialContext(ctx, e.network, e.address)
	if err != nil {
		return nil, err
	}
	c := &conn{nc: nc, r: bufio.NewReaderSize(nc, 64<<10), patience: patience}
	if e.patience > 0 {
		c.patience = e.patience
	}
	return c, nil
}

// session opens a connection, shakes hands and proves who we are.
func (e *env) session(ctx context.Context) (*conn, error) {
	c, err := e.unproven(ctx)
	if err != nil {
		return nil, err
	}
	if err := e.prove(c); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// unproven opens a connection and shakes hands.
func (e *env) unproven(ctx context.Context) (*conn, error) {
	c, err := e.dial(ctx)
	if err != nil {
		return nil, err
	}
	if err := c.shake(); err != nil {
		return nil, errors.Join(err, c.close())
	}
	return c, nil
}

// prove authenticates the connection, where the run has a secret to do so.
func (e *env) prove(c *conn) error {
	if e.Principal == "" {
		return nil
	}
	return c.want("PRINCIPAL AUTH "+e.Principal+" "+e.Secret, "OK")
}

func (c *conn) shake() error {
	if err := c.expect(welcome); err != nil {
		return err
	}
	if err := c.send(handshake); err != nil {
		return err
	}
	return c.expect("READY")
}

func (c *conn) close() error { return c.nc.Close() }

// closeWrite tells the server that nothing more comes.
func (c *conn) closeWrite() error {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		return errors.New("connection cannot be closed by halves")
	}
	return half.CloseWrite()
}

// send writes the bytes as they are.
func (c *conn) send(s string) error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	_, err := io.WriteString(c.nc, s)
	return err
}

// line reads one line and returns it without its CRLF. A line that ends in a bare LF is an error.
func (c *conn) line() (string, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return "", err
	}
	s, err := c.r.ReadString('\n')
	if err != nil {
		if s != "" {
			return "", fmt.Errorf("%w within the line %.200q", err, s)
		}
		return "", err
	}
	bare, ok := strings.CutSuffix(s, "\r\n")
	if !ok {
		return "", fmt.Errorf("line %.200q does not end in CRLF", s)
	}
	return bare, nil
}

func (c *conn) expect(want string) error {
	got, err := c.line()
	if err != nil {
		return fmt.Errorf("want line %.200q: %w", want, err)
	}
	if got != want {
		return fmt.Errorf("got line %.200q, want %.200q", got, want)
	}
	return nil
}

// bytes reads exactly n bytes.
func (c *conn) bytes(n int) ([]byte, error) {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return nil, err
	}
	b := make([]byte, n)
	got, err := io.ReadFull(c.r, b)
	if err != nil {
		return nil, fmt.Errorf("%d of %d bytes: %w", got, n, err)
	}
	return b, nil
}

// eof expects the server to close, with nothing more said.
func (c *conn) eof() error {
	if err := c.nc.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return err
	}
	rest, err := io.ReadAll(io.LimitReader(c.r, 1<<10))
	if len(rest) > 0 {
		return fmt.Errorf("got %.200q, want the end of the connection", rest)
	}
	// A server that closes with bytes of ours unread resets the connection: that is an end as well.
	if isTimeout(err) {
		return errors.New("connection is still open, want its end")
	}
	return nil
}

// isEnd says whether the other side has gone.
func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) }

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}

// reply is the answer to one command.
type reply struct {
	lines []string // data frames; a blob's line is among them
	blobs [][]byte
	// fail is what follows `ERROR WARN ` or `ERROR FATAL `; empty when the answer was OK.
	fail  string
	fatal bool
}

// word is the stable word of a failure; empty when there was none.
func (r reply) word() string {
	w, _, _ := strings.Cut(r.fail, ":")
	return w
}

// do sends a command without an id and reads its answer.
func (c *conn) do(command string) (reply, error) {
	if err := c.send(command + "\r\n"); err != nil {
		return reply{}, err
	}
	return c.answer("")
}

// answer reads the answer to a command; tag is what each of its lines begins with. Requires: no other answer comes now.
func (c *conn) answer(tag string) (r reply, err error) {
	for {
		line, err := c.line()
		if err != nil {
			return r, err
		}
		line, ok := strings.CutPrefix(line, tag)
		if !ok {
			return r, fmt.Errorf("line %.200q does not begin with %q", line, tag)
		}
		switch {
		case line == "OK":
			return r, nil
		case strings.HasPrefix(line, "ERROR WARN "):
			r.fail = strings.TrimPrefix(line, "ERROR WARN ")
			return r, nil
		case strings.HasPrefix(line, "ERROR FATAL "):
			r.fail, r.fatal = strings.TrimPrefix(line, "ERROR FATAL "), true
			return r, nil
		}
		r.lines = append(r.lines, line)
		if size, ok := strings.CutPrefix(line, "BLOB "); ok {
			n, err := strconv.Atoi(size)
			if err != nil {
				return r, err
			}
			b, err := c.bytes(n)
			if err != nil {
				return r, fmt.Errorf("blob: %w", err)
			}
			r.blobs = append(r.blobs, b)
		}
	}
}

// must sends a command that has to succeed, and returns its data lines.
func (c *conn) must(command string) ([]string, error) {
	r, err := c.do(command)
	if err != nil {
		return nil, fmt.Errorf("%.100q: %w", command, err)
	}
	if r.fail != "" {
		return nil, fmt.Errorf("%.100q: refused with %.200q", command, r.fail)
	}
	return r.lines, nil
}

// want sends a command and compares its whole answer with the lines given, the final one included.
func (c *conn) want(command string, lines ...string) error {
	if err := c.send(command + "\r\n"); err != nil {
		return err
	}
	for _, l := range lines {
		if err := c.expect(l); err != nil {
			return fmt.Errorf("%.100q: %w", command, err)
		}
	}
	return nil
}

// refused sends a command that has to fail with the stable word given.
func (c *conn) refused(command, word string) error {
	r, err := c.do(command)
	if err != nil {
		return fmt.Errorf("%.100q: %w", command, err)
	}
	if r.word() != word {
		return fmt.Errorf("%.100q: got %v %.200q, want %s", command, r.lines, r.fail, word)
	}
	return nil
}

// versionIn finds the `VERSION:<v>` line of an answer; 0 when there is none.
func versionIn(lines []string) uint64 {
	for _, l := range lines {
		if s, ok := strings.CutPrefix(l, "VERSION:"); ok {
			if v, err := strconv.ParseUint(s, 10, 64); err == nil {
				return v
			}
		}
	}
	return 0
}
