// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Timestamp is nanoseconds since the Unix epoch, from the hybrid logical clock. 0 means none.
type Timestamp = uint64

// FS is a file system to keep a directory on. It is Pebble's, so that tests can bring the ones that crash, fail and fill up.
type FS = vfs.FS

// Options configure a store. The zero value of every field but Dir is usable.
type Options struct {
	// Dir is the data directory. Missing parents are made, with mode 0700.
	Dir string
	// FS is where Dir lives; nil is the disk.
	FS vfs.FS
	// Logger takes what happens to the store; nil discards it.
	Logger *slog.Logger
	// Now stamps the identity of a new directory and paces what the store does on its own; nil is the wall clock.
	Now func() time.Time

	// ClusterID, if not empty, must be that of the directory; a new directory takes it.
	ClusterID string
	// NewNodeID is the node's number in a new directory; 0 is 1, the first node of a cluster. With an empty ClusterID a
	// new directory gets a random one.
	NewNodeID uint64
	// ReadOnly opens an existing directory without writing to it: no migration, no new start counted, no commit. The lock
	// is taken where the file system allows it.
	ReadOnly bool

	// CacheBytes is the size of the block cache; default 64 MiB, at least 1 MiB. Too small and reads go to the file
	// system and are decompressed again each time.
	CacheBytes int64
	// MemTableBytes is the size of one memtable; default 16 MiB, 256 KiB to 1 GiB. Up to four exist, and each keeps as much
	// of Go's heap as it is large. Small ones flush and compact often; large ones make a restart replay more.
	MemTableBytes int64
	// CompactionWorkers is the most compactions at once; default 2.
	CompactionWorkers int
	// OpenFiles is the soft limit on open table files; default 1000.
	OpenFiles int

	// MinFreeBytes: writes are refused with ErrDiskFull while the file system has less free. Default 128 MiB or 5 % of the
	// file system, whichever is less; negative is none. It must cover what memtables still have to flush: too small and
	// the ballast is needed, too large and room is wasted.
	MinFreeBytes int64
	// BallastBytes is the size of a file that is given up when the disk is full all the same, so that what is on its way
	// can finish. Default 64 MiB or 1 % of the file system, whichever is less; negative is none.
	BallastBytes int64
	// SpaceRetry is how often the store looks whether space has returned; default 100 ms.
	SpaceRetry time.Duration
	// SpaceWait is how long a write that has already begun may wait for space before the store gives up for good; default
	// one minute.
	SpaceWait time.Duration
	// SlowSync is how long a sync of the log may take before the disk is reported as slow; default 500 ms.
	SlowSync time.Duration
	// CloseWait is how long Close waits for open scans, snapshots and values; default 10 s.
	CloseWait time.Duration
}

// EnsureDefaults fills what is zero. The two defaults that depend on the size of the file system are filled by Open.
func (o *Options) EnsureDefaults() {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.NewNodeID == 0 {
		o.NewNodeID = 1
	}
	setDefault(&o.CacheBytes, 64<<20)
	setDefault(&o.MemTableBytes, 16<<20)
	setDefault(&o.CompactionWorkers, 2)
	setDefault(&o.OpenFiles, 1000)
	setDefault(&o.SpaceRetry, 100*time.Millisecond)
	setDefault(&o.SpaceWait, time.Minute)
	setDefault(&o.SlowSync, 500*time.Millisecond)
	setDefault(&o.CloseWait, 10*time.Second)
}

func setDefault[T int | int64 | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

// Validate reports every field that is out of bounds. Requires: EnsureDefaults.
func (o *Options) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("storage options: "+format, args...))
		}
	}
	check(o.Dir != "", "Dir is empty")
	check(o.CacheBytes >= 1<<20, "CacheBytes %d is below %d", o.CacheBytes, 1<<20)
	check(o.MemTableBytes >= 256<<10 && o.MemTableBytes <= 1<<30, "MemTableBytes %d is not in %d..%d", o.MemTableBytes, 256<<10, 1<<30)
	check(o.CompactionWorkers >= 1 && o.CompactionWorkers <= 64, "CompactionWorkers %d is not in 1..64", o.CompactionWorkers)
	check(o.OpenFiles >= 64, "OpenFiles %d is below 64", o.OpenFiles)
	check(o.SpaceRetry > 0, "SpaceRetry %v is not positive", o.SpaceRetry)
	check(o.SpaceWait > 0, "SpaceWait %v is not positive", o.SpaceWait)
	check(o.SlowSync > 0, "SlowSync %v is not positive", o.SlowSync)
	check(o.CloseWait > 0, "CloseWait %v is not positive", o.CloseWait)
	if o.ClusterID != "" {
		err := CheckClusterID(o.ClusterID)
		check(err == nil, "ClusterID %w", err)
	}
	return errors.Join(errs...)
}

// fitDisk fills the defaults that depend on the file system's size; 0 is unknown.
func (o *Options) fitDisk(totalBytes uint64) {
	share := func(most int64, part uint64) int64 {
		if totalBytes == 0 {
			return most
		}
		return min(most, int64(min(totalBytes/part, 1<<40)))
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = share(128<<20, 20)
	}
	if o.BallastBytes == 0 {
		o.BallastBytes = share(64<<20, 100)
	}
	o.MinFreeBytes, o.BallastBytes = max(o.MinFreeBytes, 0), max(o.BallastBytes, 0)
}
