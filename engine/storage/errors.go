// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"syscall"
)

// What a caller decides on. Every error of this package that has one of these causes wraps it.
var (
	// ErrLocked: another process, or another store of this one, has the directory open.
	ErrLocked = errors.New("data directory is locked")
	// ErrNewerFormat: a later version of Atlas has written the directory, or begun to. Nothing was changed.
	ErrNewerFormat = errors.New("data directory has a newer format")
	// ErrForeignCluster: the directory belongs to another cluster than the one asked for. Nothing was changed.
	ErrForeignCluster = errors.New("data directory belongs to another cluster")
	// ErrForeignDir: the directory holds what Atlas did not write. Nothing was changed.
	ErrForeignDir = errors.New("directory is not an Atlas data directory")
	// ErrCorrupt: stored bytes fail their checksum, cannot be decoded or contradict one another.
	ErrCorrupt = errors.New("stored data is corrupt")
	// ErrReadOnly: the file system, its permissions or the options forbid writing.
	ErrReadOnly = errors.New("data directory is read-only")
	// ErrDiskFull: there is no room, or no file handle. Nothing of the batch was applied; reads go on; writes are taken again when
	// there is.
	ErrDiskFull = errors.New("disk is full")
	// ErrClosed: the store has been closed.
	ErrClosed = errors.New("store is closed")
	// ErrFatal: the disk failed in a way that is not retried past. The node must stop; whether the write that met it is
	// durable is unknown.
	ErrFatal = errors.New("storage failed for good")
	// ErrTooLarge: an argument exceeds a limit of limits.go. Nothing was applied.
	ErrTooLarge = errors.New("exceeds a storage limit")
)

// noHandlesError is an ErrDiskFull that says what is lacking.
type noHandlesError struct{}

// Error says it.
func (noHandlesError) Error() string { return "no file handles are left" }

// Is makes it an ErrDiskFull.
func (noHandlesError) Is(target error) bool { return target == ErrDiskFull }

func lacksHandles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}

// roomError names what err, for which lacksRoom holds, found missing.
func roomError(err error) error {
	if lacksHandles(err) {
		return noHandlesError{}
	}
	return ErrDiskFull
}
