// SPDX-License-Identifier: AGPL-3.0-only

// Package cli holds what the command-line programs of the client share: the streams they talk to, the endpoint they reach,
// their exit codes, and how bytes from a server are shown on a terminal. The programs are its subpackages (repl, bench,
// transfer, dev); each takes an options struct, Streams and a context and returns an exit code, having said on Streams.Err
// what went wrong. Nothing here or below knows a command-line parser: the caller maps flags to options.
//
// The package starts no goroutine and keeps no state.
package cli

import (
	"io"
	"os"

	"golang.org/x/term"
)

// Exit codes of every program.
const (
	// ExitOK says that everything was done.
	ExitOK = 0
	// ExitError says that the server refused something, or that a check failed.
	ExitError = 1
	// ExitConnect says that the server could not be reached, or that the connection was lost.
	ExitConnect = 2
	// ExitUsage says that the options make no sense.
	ExitUsage = 64
	// ExitInterrupted says that Ctrl-C, or a request to end, came before everything was done.
	ExitInterrupted = 130
)

// Streams are the three streams of a program. Whether one is a terminal is found out from its type: an *os.File that is one.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// OSStreams are the streams of this process.
func OSStreams() Streams { return Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr} }

// IsTerminal tells whether stream is a terminal.
func IsTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && f != nil && term.IsTerminal(int(f.Fd()))
}
