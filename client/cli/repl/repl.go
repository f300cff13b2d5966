// SPDX-License-Identifier: AGPL-3.0-only

// Package repl is the interactive shell, and the script runner, of the native protocol.
package repl

import (
	"context"

	"github.com/atlas-edge/atlas/client/cli"
)

// Options configure Run.
type Options struct {
	cli.Target
	// HistoryPath is the file that keeps typed lines (mode 0600). Empty: none is kept. See DefaultHistoryPath.
	HistoryPath string
}

// DefaultHistoryPath is the per-user history file, or "" when there is no home directory.
func DefaultHistoryPath() string { return "" }

// Run is the shell when s.In is a terminal, else it runs s.In as a script. It returns an exit code of package cli.
func Run(ctx context.Context, o Options, s cli.Streams) int { return cli.ExitConnect }

// Exec runs one command, its words in args, and prints what the server answers. It returns an exit code of package cli.
func Exec(ctx context.Context, o Options, args []string, s cli.Streams) int { return cli.ExitConnect }
