// SPDX-License-Identifier: AGPL-3.0-only

//go:build unix

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Input reads a file, such as standard input, until a context ends: a read that waits for a terminal or a pipe then fails,
// which closing the file would not bring about.
type Input struct {
	f            *os.File
	wakeR, wakeW *os.File // wakeR is readable when reads shall end
	stop         func() bool
}

// NewInput returns an Input for f. Close it; f stays open.
func NewInput(ctx context.Context, f *os.File) (*Input, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("input: %w", err)
	}
	in := &Input{f: f, wakeR: r, wakeW: w}
	in.stop = context.AfterFunc(ctx, func() { _, _ = w.Write([]byte{0}) }) // a pipe that is closed needs no waking
	return in, nil
}

// Close frees what NewInput took.
func (in *Input) Close() error {
	in.stop()
	return errors.Join(in.wakeW.Close(), in.wakeR.Close())
}

// Read reads; its error is context.Canceled once the context has ended.
func (in *Input) Read(p []byte) (int, error) {
	fds := []unix.PollFd{{Fd: int32(in.f.Fd()), Events: unix.POLLIN}, {Fd: int32(in.wakeR.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return 0, fmt.Errorf("input: %w", err)
		}
		if fds[1].Revents != 0 {
			return 0, context.Canceled
		}
		if fds[0].Revents != 0 {
			n, err := in.f.Read(p)
			if n == 0 && err == nil {
				err = io.EOF
			}
			return n, err
		}
	}
}
