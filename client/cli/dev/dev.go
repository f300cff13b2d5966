// SPDX-License-Identifier: AGPL-3.0-only

// Package dev runs a node for development as a child process, with a shell on it.
package dev

import (
	"context"
	"time"

	"github.com/atlas-edge/atlas/client/cli"
)

// Options configure Run.
type Options struct {
	// DataDir is where the node keeps everything; made (0700) when missing.
	DataDir string
	// Socket is the node's Unix socket; "": DataDir/socket.
	Socket string
	// HistoryPath is the shell's history file; "": none.
	HistoryPath string
	// Executable is run as `<Executable> run --config FILE --adapter caddyfile`; "": this program.
	Executable string
	// StartTimeout bounds the wait for the node to answer. Default 60 s.
	StartTimeout time.Duration
	// StopTimeout bounds the wait for it to stop before it is killed. Default 30 s.
	StopTimeout time.Duration
}

// Run starts a node (or finds the one that runs on DataDir), runs the shell or the script on s.In, and stops what it
// started. It returns an exit code of package cli.
func Run(ctx context.Context, o Options, s cli.Streams) int { return cli.ExitConnect }
