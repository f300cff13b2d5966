// SPDX-License-Identifier: AGPL-3.0-only

//go:build unix

package lineedit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Terminal is a terminal's two files and the mode of it.
type Terminal struct {
	in, out *os.File
	wakeR   *os.File // readable when reads shall end
	wakeW   *os.File
	stop    func() bool
	state   *term.State
}

// OpenTerminal makes a Terminal of in and out, which must be terminals. When ctx ends, a read from it fails with the
// context's error. Close it.
func OpenTerminal(ctx context.Context, in, out *os.File) (*Terminal, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("terminal: %w", err)
	}
	t := &Terminal{in: in, out: out, wakeR: r, wakeW: w}
	t.stop = context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) }) // a pipe that is closed already needs no waking
	return t, nil
}

// Close restores the terminal's mode.
func (t *Terminal) Close() error {
	t.stop()
	return errors.Join(t.Cooked(), t.wakeW.Close(), t.wakeR.Close())
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

// Read reads what is typed.
func (t *Terminal) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(t.in.Fd()), Events: unix.POLLIN}, {Fd: int32(t.wakeR.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("terminal: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, context.Canceled
		}
		if fds[0].Revents != 0 {
			n, err := t.in.Read(p)
			if n == 0 && err == nil {
				err = io.EOF
			}
			return n, err
		}
	}
}
