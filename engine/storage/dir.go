// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The data directory:
//
//	ATLAS     says that the directory is Atlas's, whose, and in which format (marker.go)
//	LOCK      locked while a store is open
//	ballast   room held in reserve (space.go); probe, ATLAS.new: there for moments
//	synced    how much of the log and the MANIFEST was synced (proof.go)
//	pebble/   the database
//	caddy/    not the store's: what the process around the node keeps
//
// Sockets, lost+found and the names in the list below may stand beside them; anything else in a directory without ATLAS
// means that it is somebody else's.
const (
	pebbleDirName = "pebble"
	lockName      = "LOCK"
	hostDirName   = "caddy" // what the process around the node keeps, such as certificates: made before the store is
	dirMode       = 0o700
	fileMode      = 0o600
)

// diskFS makes every file private, whatever the umask; the directory is private before the first of them exists.
type diskFS struct{ vfs.FS }

func private(f vfs.File, name string, err error) (vfs.File, error) {
	if err != nil {
		return f, err
	}
	if err := os.Chmod(name, fileMode); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d diskFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, c)
	return private(f, name, err)
}

func (d diskFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := d.FS.OpenReadWrite(name, c, opts...)
	return private(f, name, err)
}

func (d diskFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, c)
	return private(f, newname, err)
}

func (d diskFS) MkdirAll(dir string, _ os.FileMode) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	if err := d.FS.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	return os.Chmod(dir, dirMode)
}

func (d diskFS) Lock(name string) (io.Closer, error) {
	locks.mu.Lock()
	defer locks.mu.Unlock()
	if info, err := os.Stat(name); err == nil && slices.ContainsFunc(locks.files, sameAs(info)) {
		return nil, errors.New(heldHere)
	}
	c, err := d.FS.Lock(name)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err = errors.Join(err, os.Chmod(name, fileMode)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	locks.files = append(locks.files, info)
	return lock{c, info}, nil
}

// locks are those that this process holds. The locks of the system are the process's: they do not part two stores of one process,
// and closing any file that is locked gives the lock away. Pebble knows its locks by name, and a link or a second mount gives
// one file two. That a file is open keeps its identity from another. The mutex is held while a lock is taken: of two that look for
// the same one at once, both would find nothing.
var locks struct { // shared: so are those of the system
	mu    sync.Mutex
	files []os.FileInfo // guarded by mu
}

func sameAs(info os.FileInfo) func(os.FileInfo) bool {
	return func(other os.FileInfo) bool { return os.SameFile(info, other) }
}

// heldHere is what Pebble's file systems say of a lock that the process has.
const heldHere = "lock held by current process"

type lock struct {
	held io.Closer
	info os.FileInfo
}

// Close gives the lock away.
func (l lock) Close() error {
	locks.mu.Lock()
	defer locks.mu.Unlock()
	locks.files = slices.DeleteFunc(locks.files, sameAs(l.info))
	return l.held.Close()
}

func (d diskFS) Unwrap() vfs.FS { return d.FS }

// surveyDir looks at the directory without changing it: whether it exists, and whether it may be used for a new store.
func surveyDir(fs vfs.FS, dir string) (exists bool, err error) {
	fi, err := fs.Stat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("data directory %s: %w", dir, err)
	}
	if !fi.IsDir() {
		return false, fmt.Errorf("%w: %s is not a directory", ErrForeignDir, dir)
	}
	return true, nil
}

// checkUnclaimed refuses a directory without a marker that holds anything of anybody's.
func checkUnclaimed(fs vfs.FS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return fmt.Errorf("data directory %s: %w", dir, err)
	}
	var foreign []string
	for _, n := range names {
		switch n {
		case lockName, markerTemp, hostDirName, "lost+found":
			continue
		}
		if fi, err := fs.Stat(fs.PathJoin(dir, n)); err == nil && fi.Mode()&os.ModeSocket != 0 {
			continue
		}
		foreign = append(foreign, n)
	}
	if len(foreign) == 0 {
		return nil
	}
	slices.Sort(foreign)
	shown := foreign[:min(len(foreign), 3)]
	return fmt.Errorf("%w: %s has no %s file but holds %d other entries (%q); name an empty or a new directory",
		ErrForeignDir, dir, markerName, len(foreign), shown)
}

// makeDir makes the directory and syncs the parents that were made with it.
func makeDir(fs vfs.FS, dir string) error {
	var made []string
	for d := dir; ; d = fs.PathDir(d) {
		made = append(made, d)
		_, err := fs.Stat(d)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return dirError(dir, err)
		}
		if err == nil || fs.PathDir(d) == d {
			break
		}
	}
	for i := len(made) - 2; i >= 0; i-- {
		if err := fs.MkdirAll(made[i], dirMode); err != nil {
			return dirError(dir, err)
		}
	}
	for _, d := range made[1:] {
		if err := syncDir(fs, d); err != nil {
			return dirError(dir, err)
		}
	}
	return nil
}

func syncDir(fs vfs.FS, dir string) error {
	f, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// dirError says what an error of the file system means to whoever starts the node.
func dirError(dir string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EROFS) || errors.Is(err, os.ErrPermission):
		return fmt.Errorf("%w: %s: %w", ErrReadOnly, dir, err)
	case lacksRoom(err):
		return fmt.Errorf("%w: %s: %w", roomError(err), dir, err)
	}
	return fmt.Errorf("data directory %s: %w", dir, err)
}

// lockDir takes the lock of the directory.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	c, err := fs.Lock(fs.PathJoin(dir, lockName))
	switch {
	case err == nil:
		return c, nil
	case strings.Contains(err.Error(), heldHere):
		return nil, fmt.Errorf("%w: %s: this process has it open, perhaps by another name", ErrLocked, dir)
	case errors.Is(err, syscall.EAGAIN):
		return nil, fmt.Errorf("%w: %s: another process holds it (%w)", ErrLocked, dir, err)
	}
	return nil, dirError(dir, err)
}

// cleanDir makes two names of one directory equal, so that a store is not opened twice under both.
func cleanDir(dir string) string { return filepath.Clean(dir) }
