// SPDX-License-Identifier: AGPL-3.0-only

//go:build !unix

package lineedit

import (
	"context"
	"errors"
	"os"
)

// Terminal is a terminal whose mode can be set; there is none on this system.
type Terminal struct{ *os.File }

// OpenTerminal always fails: lines are then read without editing.
func OpenTerminal(context.Context, *os.File, *os.File) (*Terminal, error) {
	return nil, errors.ErrUnsupported
}

// Raw does nothing.
func (t *Terminal) Raw() error { return nil }

// Cooked does nothing.
func (t *Terminal) Cooked() error { return nil }

// Width is 80.
func (t *Terminal) Width() int { return 80 }
