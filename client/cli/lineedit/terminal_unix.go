// SPDX-License-Identifier: AGPL-3.0-only

//go:build unix

package lineedit

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/term"

	"github.com/atlas-edge/atlas/client/cli"
)

// Terminal is a terminal's two files and the mode of it. Reading from it is cli.Input's.
type Terminal struct {
	*cli.Input
	in, out *os.File
	state   *term.State
}

// OpenTerminal makes a Terminal of in and out, which must be terminals. When ctx ends, a read from it fails. Close it.
func OpenTerminal(ctx context.Context, in, out *os.File) (*Terminal, error) {
	input, err := cli.NewInput(ctx, in)
	if err != nil {
		return nil, err
	}
	return &Terminal{Input: input, in: in, out: out}, nil
}

// Close restores the terminal's mode.
func (t *Terminal) Close() error {
	return errors.Join(t.Cooked(), t.Input.Close())
}

// Raw sets the mode in which an Editor reads; Cooked sets the one from before.
func (t *Terminal) Raw() error {
	if t.state != nil {
		return nil
	}
	state, err := term.MakeRaw(int(t.in.Fd()))
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	t.state = state
	_, err = t.out.WriteString("\x1b[?2004h") // mark pastes
	return err
}

// Cooked sets the mode from before Raw.
func (t *Terminal) Cooked() error {
	if t.state == nil {
		return nil
	}
	state := t.state
	t.state = nil
	_, err := t.out.WriteString("\x1b[?2004l")
	return errors.Join(err, term.Restore(int(t.in.Fd()), state))
}

// Width is the number of columns, 80 when it cannot be found out.
func (t *Terminal) Width() int {
	if w, _, err := term.GetSize(int(t.out.Fd())); err == nil && w > 0 {
		return w
	}
	return 80
}
