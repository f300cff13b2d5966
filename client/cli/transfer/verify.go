// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/progress"
	"github.com/atlas-edge/atlas/client/wire"
)

// namedMax is how many differences are named; all are counted.
const namedMax = 20

// comparison goes through a file and through the server's tables side by side, for both are in the same order.
type comparison struct {
	c    *client.Client
	s    cli.Streams
	scan string // the table being scanned, with its dot
	next func() (client.Row, error, bool)
	stop func()
	row  client.Row // the server's next row
	more bool

	same, missing, different, extra uint64
	ours, theirs                    [32 << 10]byte // of the values being compared
}

// verify compares the file with the server. Keys that only the server has are counted but are no failure.
func verify(ctx context.Context, o ImportOptions, s cli.Streams, rd *reader, bar *progress.Bar) (err error) {
	c, err := dial(ctx, &o.Target, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	v := &comparison{c: c, s: s, stop: func() {}}
	defer func() { v.stop() }()
	for {
		key, size, err := rd.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := v.record(ctx, rd.Meta.Prefixes, key, size, rd); err != nil {
			return err
		}
	}
	if err := v.drain(); err != nil {
		return err
	}
	bar.Done()
	text := fmt.Sprintf("%d records are the same, %d missing, %d different; %d keys are only at the server", v.same, v.missing, v.different, v.extra)
	if v.missing+v.different > 0 {
		return errors.New(text)
	}
	note(s, o.Quiet, "%s", text)
	return nil
}

func (v *comparison) record(ctx context.Context, prefixes []string, key string, size int64, value io.Reader) error {
	if p := covering(prefixes, key); p != v.scan {
		if err := v.drain(); err != nil {
			return err
		}
		v.begin(ctx, p)
		if err := v.step(); err != nil {
			return err
		}
	}
	for v.more && v.row.Key < key {
		v.extra++
		if err := v.step(); err != nil {
			return err
		}
	}
	if !v.more || v.row.Key > key {
		v.missing++
		v.name(v.missing, "missing", key)
		return nil
	}
	same, err := v.equal(size, value)
	if err != nil {
		return err
	}
	if same {
		v.same++
	} else {
		v.different++
		v.name(v.different, "different", key)
	}
	return v.step()
}

// covering is the prefix under which key was exported.
func covering(prefixes []string, key string) string {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return p
		}
	}
	table, _, _ := strings.Cut(key, ".")
	return table + "."
}

func (v *comparison) begin(ctx context.Context, prefix string) {
	v.stop()
	v.scan = prefix
	v.next, v.stop = iter.Pull2(v.c.Scan(ctx, prefix, client.ScanOptions{Values: true, PageRows: -1, StreamMin: streamMin}))
}

func (v *comparison) step() error {
	row, err, ok := v.next()
	if err != nil {
		return fmt.Errorf("scan %s: %w", v.scan, err)
	}
	v.row, v.more = row, ok
	return nil
}

// drain counts what is left of the scan.
func (v *comparison) drain() error {
	for v.more {
		v.extra++
		if err := v.step(); err != nil {
			return err
		}
	}
	return nil
}

func (v *comparison) equal(size int64, value io.Reader) (bool, error) {
	if v.row.Size != size {
		return false, nil
	}
	theirs := v.row.Blob
	if theirs == nil {
		theirs = bytes.NewReader(v.row.Value)
	}
	for {
		n, err := io.ReadFull(value, v.ours[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if n == 0 {
			return true, nil
		}
		if _, err := io.ReadFull(theirs, v.theirs[:n]); err != nil {
			return false, fmt.Errorf("scan %s: %w", v.scan, err)
		}
		if !bytes.Equal(v.ours[:n], v.theirs[:n]) {
			return false, nil
		}
	}
}

func (v *comparison) name(count uint64, what, key string) {
	if count <= namedMax {
		note(v.s, false, "%s: %s", what, wire.Visible(key))
	}
}
