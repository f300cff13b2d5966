// SPDX-License-Identifier: AGPL-3.0-only

// Package conformance judges a running Atlas endpoint from outside: it speaks the native protocol over raw connections,
// compares answers byte for byte with transcripts, sends hostile input, and checks histories of concurrent operations.
//
// It uses its own small line client and nothing of package client, so that a fault of the one is seen by the other. It
// owns every goroutine that it starts and waits for it before Run returns. It writes only under keys of tables whose
// names begin with the run's own prefix.
package conformance

import (
	"context"
	"errors"
	"io"
)

// Options says what to judge and how.
type Options struct {
	// Network is "unix" or "tcp"; empty means "unix".
	Network string
	// Address is the socket's path or host:port.
	Address string
	// Out receives progress and the report; nil discards it.
	Out io.Writer
	// Filter is a regular expression over the names of cases; empty runs all.
	Filter string
	// Verbose prints each case as it passes, not only those that fail.
	Verbose bool
}

// Report counts what was tried.
type Report struct {
	// Cases is the number of cases run; Failed of them failed, Skipped did not apply to the endpoint.
	Cases, Failed, Skipped int
	// BadInputs is the number of designed bad inputs tried.
	BadInputs int
	// Operations is the number of operations that a history checker looked at.
	Operations int
	// Rounds is the number of crash rounds survived; zero for an endpoint that the suite did not start itself.
	Rounds int
}

// ErrFailed is returned by Run, wrapped, when a case failed.
var ErrFailed = errors.New("conformance cases failed")

// Run judges the endpoint and returns what was tried. The error is ErrFailed when a case failed, else says why the run
// could not be made.
func Run(ctx context.Context, o Options) (Report, error) {
	return Report{}, ctx.Err()
}
