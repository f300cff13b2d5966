// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// unixSocket is a Unix socket that this process bound.
type unixSocket struct {
	*net.UnixListener
	path string
	made fs.FileInfo
}

// listenUnix binds the socket at path, an absolute path. What stands there already is removed only if it is a socket of our
// own user to which nobody listens any more. The directory is locked meanwhile, so that of two servers that find the same
// stale socket one cannot remove what the other has just bound.
func listenUnix(path string, mode fs.FileMode) (*unixSocket, error) {
	dir := filepath.Dir(path)
	if err := makeDirectory(dir); err != nil {
		return nil, err
	}
	unlock, err := lockDirectory(dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := clearPath(path); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		if runtime.GOOS != "linux" {
			return nil
		}
		// On Linux a socket is bound with the mode that its descriptor has, less the umask: nobody else gets in before Chmod.
		var modeErr error
		err := raw.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), uint32(mode.Perm())) })
		return errors.Join(err, modeErr)
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, fmt.Errorf("listen on socket %q: %w", path, err)
	}
	ul := l.(*net.UnixListener)
	ul.SetUnlinkOnClose(false) // removed by remove, if it is still ours
	s := &unixSocket{UnixListener: ul, path: path}
	if err := s.setMode(mode); err != nil {
		return nil, errors.Join(err, ul.Close(), os.Remove(path))
	}
	return s, nil
}

// setMode adds what the umask took away, and checks the outcome.
func (s *unixSocket) setMode(mode fs.FileMode) error {
	if err := os.Chmod(s.path, mode.Perm()); err != nil {
		return fmt.Errorf("set mode of socket %q: %w", s.path, err)
	}
	info, err := os.Lstat(s.path)
	if err != nil {
		return fmt.Errorf("look at socket %q: %w", s.path, err)
	}
	if info.Mode().Type() != fs.ModeSocket || info.Mode().Perm() != mode.Perm() {
		return fmt.Errorf("socket %q has mode %v after it was set to %v", s.path, info.Mode(), mode.Perm())
	}
	s.made = info
	return nil
}

// inPlace is nil while the socket is where it was made. Programs that tidy /tmp remove old ones.
func (s *unixSocket) inPlace() error {
	info, err := os.Lstat(s.path)
	switch {
	case err != nil:
		return fmt.Errorf("look at its socket: %w", err)
	case !os.SameFile(info, s.made):
		return fmt.Errorf("socket %q is gone: something else has taken its place", s.path)
	}
	return nil
}

// Close stops listening and removes the socket, unless something else has taken its place.
func (s *unixSocket) Close() error {
	var removed error
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.made) {
		removed = os.Remove(s.path)
	}
	return errors.Join(s.UnixListener.Close(), removed)
}

// checkUnixPath makes the path absolute and refuses what the kernel would cut or misread.
func checkUnixPath(path string) (string, error) {
	if strings.IndexByte(path, 0) >= 0 {
		return "", fmt.Errorf("socket path %q holds a NUL byte", path)
	}
	if strings.HasPrefix(path, "@") {
		return "", fmt.Errorf("socket path %q begins with @: abstract sockets have no permissions", path)
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("socket path %q: %w", path, err)
	}
	if len(abs) > UnixPathMax {
		return "", fmt.Errorf("socket path %q of %d bytes exceeds the limit of %d", abs, len(abs), UnixPathMax)
	}
	return abs, nil
}

// makeDirectory makes the missing part of a directory's path, with mode 0700 whatever the umask is. What exists stays as
// it is.
func makeDirectory(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case err == nil && info.IsDir():
		return nil
	case err == nil:
		return fmt.Errorf("socket directory %q is not a directory", dir)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("socket directory: %w", err)
	}
	if err := makeDirectory(filepath.Dir(dir)); err != nil {
		return err
	}
	switch err := os.Mkdir(dir, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return makeDirectory(dir) // somebody else made it just now
	case err != nil:
		return fmt.Errorf("make socket directory: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("make socket directory: %w", err)
	}
	return nil
}

// lockDirectory takes an advisory lock on the directory itself, which leaves no file behind.
func lockDirectory(dir string) (unlock func(), err error) {
	const patience = 5 * time.Second
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = d.Close() }, nil // closing what was only read cannot lose anything; it unlocks
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) || time.Since(begin) > patience {
			return nil, errors.Join(fmt.Errorf("lock socket directory %q: %w", dir, err), d.Close())
		}
	}
}

// clearPath makes sure that nothing stands at path, or says what does.
func clearPath(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("look at socket path: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("socket path %q is taken by a %s: not removed", path, kindOf(info.Mode()))
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("socket %q belongs to another user: not removed", path)
	}
	nc, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		return errors.Join(fmt.Errorf("socket %q is in use by a running process", path), nc.Close())
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("socket %q may be in use: %w", path, err)
	}
	again, err := os.Lstat(path)
	if err != nil || !os.SameFile(info, again) {
		return fmt.Errorf("socket %q changed while it was looked at", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove stale socket: %w", err)
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "file"
	case mode.IsDir():
		return "directory"
	case mode.Type() == fs.ModeSymlink:
		return "symbolic link"
	}
	return "special file"
}
