// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"io"
	"iter"

	"github.com/atlas-edge/atlas/client/wire"
)

// ScanOptions say what a scan returns.
type ScanOptions struct {
	// Values: with the values, else the keys alone.
	Values bool
	// Meta: with what is known of the values beside their bytes.
	Meta bool
	// Limit bounds the rows in all; 0: none.
	Limit int64
	// After: only keys that follow this one in the scan's direction.
	After string
	// Reverse: from the last key to the first.
	Reverse bool
	// PageRows is how many rows are asked for at a time; each page is one snapshot. 0: a default of 10,000 (in a session
	// or transaction 1,000). Negative: all in one page.
	PageRows int64
	// StreamMin, when positive, makes values that come as blobs of at least this many bytes arrive in Row.Blob rather than
	// Row.Value. A scan in a session or transaction ignores it.
	StreamMin int64
}

// Row is a row of a scan.
type Row struct {
	Key string
	// Value is the value, nil without ScanOptions.Values. It is the caller's own.
	Value []byte
	// Blob, when not nil, stands for Value and streams Size bytes. It is valid until the next row is asked for.
	Blob io.Reader
	// Size is the value's length in bytes; 0 without ScanOptions.Values and Meta.
	Size int64
	// Meta is the zero Meta without ScanOptions.Meta.
	Meta Meta
}

// Scan iterates over the keys of a table, or of table.prefix, in order. The rows stream on a connection of their own; a
// slow consumer slows the server's sending and holds up nobody else. An error ends the iteration.
func (c *Client) Scan(ctx context.Context, prefix string, o ScanOptions) iter.Seq2[Row, error] {
	return scanPages(prefix, o, scanPageRows, func(cl *call, p *page) error {
		defer cl.release()
		return c.stream(ctx, cl, func(rc *rawConn) error { return rc.streamPage(cl, p) })
	})
}

// stream runs a call whose answer is handed on while it comes, on a connection of its own.
func (c *Client) stream(ctx context.Context, cl *call, run func(*rawConn) error) error {
	if cl.err != nil {
		return cl.err
	}
	rc, err := c.acquire(ctx)
	if err != nil {
		return err
	}
	defer c.giveBack(rc)
	release := rc.guard(ctx)
	err = run(rc)
	return settle(cl, err, release())
}

// Scan iterates over the keys of a table, or of table.prefix, in order. A page is read before its first row is given, so
// other commands of the session may run in the loop.
func (s *Session) Scan(ctx context.Context, prefix string, o ScanOptions) iter.Seq2[Row, error] {
	return scanBuffered(ctx, s, prefix, o)
}

// Scan iterates as Session.Scan does, over what the transaction sees.
func (t *Txn) Scan(ctx context.Context, prefix string, o ScanOptions) iter.Seq2[Row, error] {
	return scanBuffered(ctx, t, prefix, o)
}

func scanBuffered(ctx context.Context, x executor, prefix string, o ScanOptions) iter.Seq2[Row, error] {
	o.StreamMin = 0
	return scanPages(prefix, o, sessionPageRows, func(cl *call, p *page) error {
		defer cl.release()
		if err := x.exec(ctx, cl); err != nil {
			return err
		}
		for i, f := range cl.frames {
			kind := wire.KindData
			if f.blob {
				kind = wire.KindBlob
			}
			value := cl.text(i)
			if err := p.frame(wire.Frame{Kind: kind, Text: value, Size: int64(len(value))}, func(int64) ([]byte, error) {
				return append([]byte{}, value...), nil
			}); err != nil {
				return err
			}
			if p.stopped {
				return nil
			}
		}
		return p.finish()
	})
}

// scanPages asks for page after page.
func scanPages(prefix string, o ScanOptions, pageRows int64, run func(*call, *page) error) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		if o.PageRows != 0 {
			pageRows = o.PageRows
		}
		after, left := o.After, o.Limit
		for {
			ask := max(pageRows, 0)
			if left > 0 && (ask == 0 || left < ask) {
				ask = left
			}
			p := &page{values: o.Values, meta: o.Meta, streamMin: o.StreamMin, yield: yield}
			if err := run(scanCall(prefix, o, ask, after), p); err != nil {
				if !p.stopped {
					yield(Row{}, err)
				}
				return
			}
			if p.stopped || ask == 0 || p.rows < ask || left > 0 && left == p.rows {
				return
			}
			if left > 0 {
				left -= p.rows
			}
			after = p.last
		}
	}
}

func scanCall(prefix string, o ScanOptions, limit int64, after string) *call {
	cl := newCall("SCAN")
	cl.key(prefix)
	if o.Values {
		cl.literal(" VALUES")
	}
	if o.Meta {
		cl.literal(" META")
	}
	if limit > 0 {
		cl.literal(" LIMIT")
		cl.number(limit)
	}
	if after != "" {
		cl.literal(" AFTER")
		cl.key(after)
	}
	if o.Reverse {
		cl.literal(" REVERSE")
	}
	return cl
}

// page takes the frames of one answer to SCAN apart: KEYS:<n>, then n times a key and, with meta, its META line
// and, with values, its value.
type page struct {
	values    bool
	meta      bool
	streamMin int64
	yield     func(Row, error) bool

	started  bool
	promised uint64
	rows     int64
	last     string // the key of the last row
	metaOpen bool   // last awaits its META line
	keyOpen  bool   // last awaits its value
	stopped  bool   // the consumer wants no more
	row      Row
}

// frame takes the next frame. blob returns the bytes of a blob frame; nil from it means that the row's reader is used.
func (p *page) frame(f wire.Frame, blob func(size int64) ([]byte, error)) error {
	if !p.started {
		n, ok := cutNumber(f.Text, "KEYS:")
		if !ok {
			return protocolError("SCAN answered with %q", wire.Visible(shorten(string(f.Text))))
		}
		p.started, p.promised = true, n
		return nil
	}
	if !p.metaOpen && !p.keyOpen {
		if f.Kind == wire.KindBlob {
			return protocolError("SCAN answered with a blob before its key")
		}
		if len(f.Text) == 0 {
			return nil
		}
		if uint64(p.rows) == p.promised {
			return protocolError("SCAN promised %d keys and sends more", p.promised)
		}
		key, ok := wire.ParseKey(f.Text)
		if !ok {
			return protocolError("SCAN answered with key %q", wire.Visible(shorten(string(f.Text))))
		}
		p.last, p.row = key, Row{Key: key}
		p.metaOpen, p.keyOpen = p.meta, p.values
		return p.give()
	}
	if p.metaOpen {
		p.metaOpen = false
		meta, ok := parseMeta(f.Text)
		if f.Kind == wire.KindBlob || !ok {
			return protocolError("SCAN answered with %q for a META line", wire.Visible(shorten(string(f.Text))))
		}
		p.row.Meta, p.row.Size = meta, meta.Size
		return p.give()
	}
	p.keyOpen = false
	if f.Kind == wire.KindBlob {
		value, err := blob(f.Size)
		if err != nil {
			return err
		}
		p.row.Value, p.row.Size = value, f.Size
		return p.give()
	}
	text, ok := cutPrefix(f.Text, "VALUE:")
	if !ok {
		return protocolError("SCAN answered with %q for a value", wire.Visible(shorten(string(f.Text))))
	}
	p.row.Value, p.row.Size = append([]byte{}, text...), int64(len(text))
	return p.give()
}

// give hands the row out when nothing of it is missing.
func (p *page) give() error {
	if p.metaOpen || p.keyOpen {
		return nil
	}
	p.rows++
	if !p.yield(p.row, nil) {
		p.stopped = true
	}
	return nil
}

// finish checks that the answer was whole.
func (p *page) finish() error {
	if !p.started || uint64(p.rows) != p.promised || p.metaOpen || p.keyOpen {
		return protocolError("SCAN promised %d keys and sent %d", p.promised, p.rows)
	}
	return nil
}

// streamPage sends a SCAN and hands its rows out as they come.
func (rc *rawConn) streamPage(cl *call, p *page) error {
	if err := rc.send(cl); err != nil {
		return err
	}
	blob := func(size int64) ([]byte, error) {
		if p.streamMin > 0 && size >= p.streamMin {
			p.row.Blob = rc.r
			return nil, nil
		}
		return rc.readBlob(size)
	}
	for {
		f, err := rc.next()
		if err != nil {
			return err
		}
		if f.End() {
			if err := rc.finish(cl, f); err != nil {
				return err
			}
			return p.finish()
		}
		if err := p.frame(f, blob); err != nil {
			rc.spoil(err)
			return err
		}
		if p.stopped {
			rc.spoil(ErrClosed) // the rest is on its way: closing is the only way to stop it
			return nil
		}
	}
}

// readBlob reads a blob's bytes; memory grows as they come.
func (rc *rawConn) readBlob(size int64) ([]byte, error) {
	cl := &call{}
	if err := cl.add(wire.Frame{Kind: wire.KindBlob, Size: size}, rc.r); err != nil {
		return nil, rc.lost(err)
	}
	return cl.in, nil
}
