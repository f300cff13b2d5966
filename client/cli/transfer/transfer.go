// SPDX-License-Identifier: AGPL-3.0-only

// Package transfer moves tables to and from files.
package transfer

import (
	"context"

	"github.com/atlas-edge/atlas/client/cli"
)

// ExportOptions configure Export.
type ExportOptions struct {
	cli.Target
	// Prefixes are tables or table.prefix; none: all tables but the system's.
	Prefixes []string
	// Path is the file to write; "-" or "": standard output.
	Path string
	// Resume continues a file that an interrupted export left; without it an existing file is refused.
	Resume bool
	// Force replaces an existing file.
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
	// Resume goes on from the position in StatePath.
	Resume bool
	// IfAbsent leaves keys that exist as they are.
	IfAbsent bool
	// Verify writes nothing: it compares the file with what the server holds.
	Verify bool
	// CheckOnly reads the file and checks its checksums; no server is asked.
	CheckOnly bool
	// InFlight bounds the writes under way. Default 256.
	InFlight int
	// Quiet shows no progress.
	Quiet bool
}

// Export writes tables to a file. It returns an exit code of package cli.
func Export(ctx context.Context, o ExportOptions, s cli.Streams) int { return cli.ExitConnect }

// Import reads a file into tables, or checks it. It returns an exit code of package cli.
func Import(ctx context.Context, o ImportOptions, s cli.Streams) int { return cli.ExitConnect }
