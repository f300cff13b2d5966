// SPDX-License-Identifier: AGPL-3.0-only

// Package transfer moves tables to and from files, with a constant amount of memory.
//
// A file (its layout is in format.go) holds keys, values with the instants at which they expire and cease to be write-once, and
// grants, checked record by record and as a whole. It does not hold versions, nor principals and their secrets. Each prefix is read
// with one SCAN, which is one snapshot; its grants are read before, and different prefixes, and the parts of an export that was continued, are snapshots of different times.
//
// An export is written beside the file asked for, which is replaced when the new one is whole. An interrupted one is continued
// after its last whole record. An interrupted import is continued from the position in its state file, up to which every
// record was acknowledged; it does no harm to import a record twice, and one whose outcome is
// unknown is written again: a write-once one that is there already, as the file has it, counts as written. An import leaves out what has
// expired, by the clock here, and grants before it writes the keys that follow, so that nothing is public in between. Either is continued with the node of its beginning alone, which file and state file name.
//
// Import's goroutines, the writers, end before it returns. Export starts none.
package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
)

// ExportOptions configure Export.
type ExportOptions struct {
	cli.Target
	// Prefixes are tables or table.prefix; none: all tables but the system's.
	Prefixes []string
	// Path is the file to write (mode 0600, or that of the file it replaces); "-" or "": standard output. Until it is whole
	// it is Path.partial.
	Path string
	// Resume continues the file that an interrupted export of the same node left; without it an existing file is refused.
	Resume bool
	// Force replaces an existing file, once the new one is whole.
	Force bool
	// PageRows splits scans into pages of this many rows, each its own snapshot; 0: one scan, one snapshot, for each prefix.
	PageRows int
	// Quiet shows no progress.
	Quiet bool
}

// ImportOptions configure Import.
type ImportOptions struct {
	cli.Target
	// Path is the file to read; "-" or "": standard input.
	Path string
	// StatePath keeps how far an import has come, for Resume; "": Path + ".import-state"; unused for standard input.
	StatePath string
	// Resume goes on from the position in StatePath, into the node that it is of and no other.
	Resume bool
	// IfAbsent leaves keys that exist as they are.
	IfAbsent bool
	// Verify writes nothing: it compares the file with what the server holds.
	Verify bool
	// NoGrants leaves out what was granted.
	NoGrants bool
	// CheckOnly reads the file and checks its checksums; no server is asked.
	CheckOnly bool
	// InFlight bounds the writes under way, 1 to 1,024. Default 256.
	InFlight int
	// Quiet shows no progress.
	Quiet bool
}

// Export writes tables to a file. It returns an exit code of package cli.
func Export(ctx context.Context, o ExportOptions, s cli.Streams) int {
	return report(ctx, s, &o.Target, export(ctx, o, s))
}

// Import reads a file into tables, or checks it. It returns an exit code of package cli.
func Import(ctx context.Context, o ImportOptions, s cli.Streams) int {
	return report(ctx, s, &o.Target, importFile(ctx, o, s))
}

var errUsage = errors.New("usage")

// report says what went wrong and makes an exit code of it.
func report(ctx context.Context, s cli.Streams, t *cli.Target, err error) int {
	code := cli.ExitOK
	text := ""
	var unreachable *connectError
	switch {
	case err == nil:
		return code
	case errors.As(err, &unreachable):
		code, text = cli.ExitConnect, t.Explain(unreachable.cause)
	case errors.Is(err, errUsage):
		code, text = cli.ExitUsage, strings.TrimPrefix(err.Error(), errUsage.Error()+": ")
	case errors.Is(err, client.ErrUnavailable), errors.Is(err, client.ErrUnknown):
		code, text = cli.ExitConnect, err.Error()
	default:
		code, text = cli.ExitError, err.Error()
	}
	if ctx.Err() != nil {
		code = cli.ExitInterrupted
	}
	_, _ = fmt.Fprintln(s.Err, text) // there is nowhere else to say it
	return code
}

// reason is why work ended that failed with err: that it was interrupted, if it was.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// connectError keeps the reason for Explain.
type connectError struct{ cause error }

func (e *connectError) Error() string { return e.cause.Error() }
func (e *connectError) Unwrap() error { return e.cause }

func dial(ctx context.Context, t *cli.Target, change func(*client.Options)) (*client.Client, error) {
	o, err := t.ClientOptions()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUsage, err)
	}
	if change != nil {
		change(&o)
	}
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, &connectError{err}
	}
	return c, nil
}

// note tells the user something that is no error.
func note(s cli.Streams, quiet bool, format string, args ...any) {
	if !quiet {
		_, _ = fmt.Fprintf(s.Err, format+"\n", args...) // there is nowhere else to say it
	}
}

// nopCloser is a standard stream, which is not ours to close.
type nopCloser struct{ io.Reader }

func (nopCloser) Close() error { return nil }

// identity is what a node can be known by when work goes on; "" when it does not show it. The protocol has no name for a
// cluster. But the row of its first node in the system table is written when the data directory is set up, and then only
// when the node is given another address or region. So the row's version, the time of that write, tells one node from every
// other, and from itself after its data was removed, which a configured cluster id would not.
func identity(ctx context.Context, c *client.Client) (string, error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return "", fmt.Errorf("list the nodes: %w", err)
	}
	if len(nodes) == 0 {
		return "", nil
	}
	first := nodes[0].ID
	for _, n := range nodes {
		first = min(first, n.ID)
	}
	key := fmt.Sprintf("%s.nodes.%d", systemTable, first)
	item, err := c.GetVersion(ctx, key)
	switch {
	case errors.Is(err, client.ErrNotFound), errors.Is(err, client.ErrDenied):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("read %s: %w", key, err)
	}
	return fmt.Sprintf("%s@%d", key, item.Version), nil
}
