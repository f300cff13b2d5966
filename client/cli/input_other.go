// SPDX-License-Identifier: AGPL-3.0-only

//go:build !unix

package cli

import (
	"context"
	"os"
)

// Input reads a file. On this system a read that waits is not ended with the context.
type Input struct{ *os.File }

// NewInput returns an Input for f. Close it; f stays open.
func NewInput(_ context.Context, f *os.File) (*Input, error) { return &Input{f}, nil }

// Close does nothing.
func (in *Input) Close() error { return nil }
