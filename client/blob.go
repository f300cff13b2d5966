// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/atlas-edge/atlas/client/wire"
)

// Blob is a value that streams. Read it to io.EOF or close it; either gives its connection back. Only after io.EOF was the
// whole value there. Not for concurrent use.
type Blob struct {
	// Size is the value's length in bytes.
	Size int64

	client  *Client
	rc      *rawConn
	cl      *call
	release func() error
	err     error // what Read returns from now on
}

// GetBlob opens the value of key for streaming, and is ErrNotFound when there is none. ctx bounds the reading as well. The
// value takes an exclusive connection until it is read or closed.
func (c *Client) GetBlob(ctx context.Context, key string) (*Blob, error) {
	cl := newCall("KEY BLOB GET")
	cl.key(key)
	if cl.err != nil {
		defer cl.release()
		return nil, cl.err
	}
	rc, err := c.acquire(ctx)
	if err != nil {
		cl.release()
		return nil, err
	}
	b := &Blob{client: c, rc: rc, cl: cl, release: rc.guard(ctx)}
	if err := b.open(key); err != nil {
		b.end(err)
		return nil, b.err
	}
	return b, nil
}

func (b *Blob) open(key string) error {
	if err := b.rc.send(b.cl); err != nil {
		return err
	}
	f, err := b.rc.next()
	switch {
	case err != nil:
		return err
	case f.End():
		if err := b.rc.finish(b.cl, f); err != nil {
			return err
		}
		return b.violated("KEY BLOB GET answered with nothing")
	case f.Kind == wire.KindBlob:
		b.Size = f.Size
		return nil
	case string(f.Text) == "EMPTY":
		if err := b.rc.await(b.cl); err != nil {
			return err
		}
		return notFound(key)
	default:
		return b.violated("KEY BLOB GET answered with %q", wire.Visible(shorten(string(f.Text))))
	}
}

func (b *Blob) violated(format string, args ...any) error {
	err := protocolError(format, args...)
	b.rc.spoil(err)
	return err
}

// Read reads on.
func (b *Blob) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if b.rc.r.BlobLeft() == 0 {
		f, err := b.rc.next()
		switch {
		case err == nil && !f.End():
			err = b.violated("a frame follows the blob")
		case err == nil:
			if err = b.rc.finish(b.cl, f); err == nil {
				err = io.EOF
			}
		}
		b.end(err)
		return 0, b.err
	}
	n, err := b.rc.r.Read(p)
	if err != nil {
		b.end(b.rc.lost(err))
		return n, b.err
	}
	return n, nil
}

// Close gives up what was not read.
func (b *Blob) Close() error {
	if b.err != nil {
		return nil
	}
	if b.rc.r.BlobLeft() > drainMax {
		b.rc.spoil(ErrClosed)
	} else if err := b.rc.await(b.cl); err != nil {
		b.rc.spoil(err)
	}
	b.end(fmt.Errorf("blob: %w", ErrClosed))
	return nil
}

// end gives the connection back and settles what Read returns.
func (b *Blob) end(err error) {
	b.err = settle(b.cl, err, b.release())
	b.client.giveBack(b.rc)
	b.cl.release()
}

// PutBlob writes size bytes of body as the value of key, streaming them. It returns the value's version. When
// body ends early or fails, nothing is applied.
func (c *Client) PutBlob(ctx context.Context, key string, body io.Reader, size int64) (version uint64, err error) {
	return c.WriteBlob(ctx, WriteRequest{Key: key}, body, size)
}

// WriteBlob is as PutBlob, with the conditions and options of r, whose Value is not used.
func (c *Client) WriteBlob(ctx context.Context, r WriteRequest, body io.Reader, size int64) (version uint64, err error) {
	cl := newWrite("KEY BLOB SET")
	defer cl.release()
	cl.key(r.Key)
	cl.number(size)
	r.options(cl)
	cl.literal(" VERSION")
	switch {
	case cl.err != nil:
		return 0, cl.err
	case size < 0:
		return 0, &Error{Class: wire.Invalid, Text: fmt.Sprintf("size %d is negative", size)}
	case size > ValueLenMax:
		return 0, &Error{Class: wire.TooLarge, Text: fmt.Sprintf("value length %d exceeds limit %d", size, ValueLenMax)}
	}
	rc, err := c.acquire(ctx)
	if err != nil {
		return 0, err
	}
	defer c.giveBack(rc)
	release := rc.guard(ctx)
	whole, err := rc.upload(cl, body, size)
	var lost *lostError
	if errors.As(err, &lost) {
		lost.sent = whole // an upload that is not whole is not applied
	}
	if err = settle(cl, err, release()); err != nil {
		return 0, err
	}
	return optionalVersion(cl)
}
