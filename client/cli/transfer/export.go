// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/progress"
)

// systemTable is not exported unless asked for: only the system may write it back.
const systemTable = "atlas"

// streamMin is the length of values from which on they are streamed rather than held, in bytes.
const streamMin = 1 << 20

func export(ctx context.Context, o ExportOptions, s cli.Streams) (err error) {
	if o.PageRows < 0 || o.Resume && o.Force {
		return fmt.Errorf("%w: --page-rows %d is negative, or --resume and --force exclude each other", errUsage, o.PageRows)
	}
	prefixes, err := normalize(o.Prefixes)
	if err != nil {
		return err
	}
	out, err := openOutput(o, s, prefixes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close()) }()
	if out.complete {
		note(s, o.Quiet, "%s is complete: %d records", o.Path, out.at.records)
		return nil
	}
	c, err := dial(ctx, &o.Target, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	todo := prefixes
	if len(todo) == 0 {
		if todo, err = allTables(ctx, c); err != nil {
			return err
		}
	}
	if err := out.begin(prefixes); err != nil {
		return err
	}
	began := time.Now()
	if err := exportAll(ctx, c, o, out, s, todo); err != nil {
		return err
	}
	if err := out.end(); err != nil {
		return err
	}
	note(s, o.Quiet, "exported %d records, %d bytes of values, in %v", out.w.records, out.w.bytes, time.Since(began).Round(time.Millisecond))
	return nil
}

// normalize makes `table.` of a table, sorts, and drops what another prefix covers.
func normalize(prefixes []string) ([]string, error) {
	out := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		if p == "" || len(p) > client.KeyLenMax || strings.HasPrefix(p, ".") {
			return nil, fmt.Errorf("%w: %q is no table or table.prefix", errUsage, p)
		}
		if !strings.Contains(p, ".") {
			p += "."
		}
		out = append(out, p)
	}
	slices.Sort(out)
	kept := out[:0]
	for _, p := range out {
		if len(kept) == 0 || !strings.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

func allTables(ctx context.Context, c *client.Client) ([]string, error) {
	tables, err := c.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	tables = slices.DeleteFunc(tables, func(t string) bool { return t == systemTable })
	return normalize(tables)
}

// output is the file under way.
type output struct {
	f        *os.File // nil: standard output
	to       io.Writer
	w        *writer
	at       position // where an earlier export stopped
	resumed  bool
	complete bool
}

func openOutput(o ExportOptions, s cli.Streams, prefixes []string) (*output, error) {
	if o.Path == "" || o.Path == "-" {
		if o.Resume {
			return nil, fmt.Errorf("%w: only a file can be continued", errUsage)
		}
		if cli.IsTerminal(s.Out) {
			return nil, fmt.Errorf("%w: an export is not for a terminal: name a file with --output", errUsage)
		}
		return &output{to: s.Out}, nil
	}
	flags := os.O_RDWR | os.O_CREATE
	switch {
	case o.Force:
		flags |= os.O_TRUNC
	case !o.Resume:
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(o.Path, flags, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("%w: %s exists: go on with it by --resume, or replace it by --force", errUsage, o.Path)
	}
	if err != nil {
		return nil, err
	}
	out := &output{f: f, to: f}
	if o.Resume {
		if err := out.find(o, s, prefixes); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return out, nil
}

// find finds out where to go on.
func (out *output) find(o ExportOptions, s cli.Streams, prefixes []string) error {
	info, err := out.f.Stat()
	if err != nil || info.Size() == 0 {
		return err
	}
	rd, at, complete, damage, err := resumeAt(out.f)
	if err != nil {
		return fmt.Errorf("%s: %w", o.Path, err)
	}
	if !slices.Equal(rd.Meta.Prefixes, prefixes) {
		return fmt.Errorf("%w: %s is an export of %q, not of %q", errUsage, o.Path, rd.Meta.Prefixes, prefixes)
	}
	out.at, out.resumed, out.complete = at, true, complete
	if damage != nil {
		note(s, o.Quiet, "%s: %v; going on before it", o.Path, damage)
	}
	if !complete {
		note(s, o.Quiet, "%s: going on after %d records", o.Path, at.records)
	}
	return nil
}

// begin writes the head, or goes to where an earlier export stopped.
func (out *output) begin(prefixes []string) (err error) {
	if !out.resumed {
		out.w, err = newWriter(out.to, Meta{Prefixes: prefixes, Created: time.Now().UTC().Format(time.RFC3339)})
		return err
	}
	if err := out.f.Truncate(out.at.offset); err != nil {
		return err
	}
	if _, err := out.f.Seek(out.at.offset, io.SeekStart); err != nil {
		return err
	}
	out.w, err = resumeWriter(out.to, out.at)
	return err
}

func (out *output) end() error {
	if err := out.w.end(); err != nil {
		return err
	}
	if out.f != nil {
		return out.f.Sync()
	}
	return nil
}

func (out *output) close() error {
	var err error
	if out.w != nil {
		err = out.w.w.Flush() // an interrupted export keeps what it has
	}
	if out.f != nil {
		err = errors.Join(err, out.f.Close())
	}
	return err
}

func exportAll(ctx context.Context, c *client.Client, o ExportOptions, out *output, s cli.Streams, todo []string) error {
	todo = slices.DeleteFunc(slices.Clone(todo), func(p string) bool {
		return out.at.lastKey != "" && p < out.at.lastKey && !strings.HasPrefix(out.at.lastKey, p)
	})
	var bar *progress.Bar
	if !o.Quiet && cli.IsTerminal(s.Err) {
		total := int64(out.at.records)
		for _, p := range todo {
			n, err := c.Count(ctx, p)
			if err != nil {
				return fmt.Errorf("count %s: %w", p, err)
			}
			total += n
		}
		bar = progress.Items(s.Err, "export", "rows", total)
		bar.Set(int64(out.at.records))
		defer bar.Done()
	}
	for _, p := range todo {
		options := client.ScanOptions{Values: true, PageRows: int64(o.PageRows), StreamMin: streamMin}
		if o.PageRows == 0 {
			options.PageRows = -1
		}
		if strings.HasPrefix(out.at.lastKey, p) {
			options.After = out.at.lastKey
		}
		bar.Label(p)
		before := out.w.records
		for row, err := range c.Scan(ctx, p, options) {
			if err != nil {
				return fmt.Errorf("scan %s: %w", p, err)
			}
			if err := out.row(row); err != nil {
				return fmt.Errorf("write %s: %w", row.Key, err)
			}
			bar.Add(1)
		}
		if out.w.records == before && options.After == "" && len(o.Prefixes) > 0 {
			note(s, false, "nothing begins with %s", p) // a name that was mistyped makes no backup
		}
	}
	return nil
}

func (out *output) row(row client.Row) error {
	if err := out.w.key(row.Key, row.Size); err != nil {
		return err
	}
	if row.Blob == nil {
		_, err := out.w.Write(row.Value)
		return err
	}
	n, err := io.Copy(out.w, row.Blob)
	if err == nil && n < row.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
