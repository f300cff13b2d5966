// SPDX-License-Identifier: AGPL-3.0-only

// Package storage keeps everything a node knows in one Pebble database: its identity, the acceptor record and log of every
// group, and versioned data. Layout, limits and failure rules are described here as they are built.
package storage

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Timestamp is nanoseconds since the Unix epoch, from the hybrid logical clock; 0 means none.
type Timestamp = uint64

// Errors that callers decide on.
var (
	ErrLocked         = errors.New("data directory is locked")
	ErrNewerFormat    = errors.New("data directory has a newer format")
	ErrForeignCluster = errors.New("data directory belongs to another cluster")
	ErrForeignDir     = errors.New("directory holds files that are not Atlas's")
	ErrCorrupt        = errors.New("stored data is corrupt")
	ErrReadOnly       = errors.New("data directory is read-only")
	ErrDiskFull       = errors.New("disk is full")
	ErrClosed         = errors.New("store is closed")
	ErrFatal          = errors.New("storage failed for good")
	ErrTooLarge       = errors.New("exceeds a storage limit")
)

// Options configure a store.
type Options struct {
	Dir               string
	FS                vfs.FS // nil = disk
	Logger            *slog.Logger
	ClusterID         string // "" = any; else must match
	NewClusterID      string // for a new directory: "" = a fresh random one
	NewNodeID         uint64 // for a new directory: 0 = 1
	ReadOnly          bool
	CacheBytes        int64
	MemTableBytes     int64
	MinFreeBytes      int64 // writes are refused while the file system has less free
	BallastBytes      int64
	CompactionWorkers int
	Now               func() Timestamp // stamps Identity.Created; nil = wall clock
}

func (o *Options) EnsureDefaults() {}
func (o *Options) Validate() error { return nil }

// Identity says who this node is.
type Identity struct {
	ClusterID string
	NodeID    uint64
	Created   Timestamp
	Starts    uint64
}

// Version is one version of a value.
type Version struct {
	Time               Timestamp
	Deleted            bool
	WormUntil, Expires Timestamp
	Value              []byte // nil when not loaded, deleted, or kept as chunks
	Size               int64  // full size
	Seq                uint32 // place among the mutations of its commit
}

type Store struct{}

func Open(o Options) (*Store, error)          { return nil, errors.New("stub") }
func (s *Store) Close() error                 { return nil }
func (s *Store) Identity() Identity           { return Identity{} }
func (s *Store) Err() error                   { return nil }
func (s *Store) Failed() <-chan struct{}      { return nil } // closed when Err becomes non-nil
func (s *Store) NewBatch() *Batch             { return &Batch{} }
func (s *Store) NewSnapshot() *Snapshot       { return &Snapshot{} }
func (s *Store) Metrics() Metrics             { return Metrics{} }
func (s *Store) Checkpoint(dir string) error  { return nil }
func (s *Store) Ceiling() (Timestamp, error)  { return 0, nil }
func (s *Store) SetCeiling(t Timestamp) error { return nil } // durable; never lowers

func (s *Store) SweptTo(group string) (Timestamp, error) { return 0, nil } // collected up to here: reads below may be incomplete
func (s *Store) DiskUsage(group string) (int64, error)   { return 0, nil }

// ApproxCount is a cheap estimate of the live keys with lower <= rest < upper.
func (s *Store) ApproxCount(group string, lower, upper []byte) (int64, error) { return 0, nil }

// CollectStats counts what one CollectBefore did.
type CollectStats struct {
	Changes, Versions, Chunks int
}

// CollectBefore removes what no read at or above floor can see. budget bounds the change records looked at.
func (s *Store) CollectBefore(ctx context.Context, group string, floor Timestamp, budget int) (CollectStats, bool, error) {
	return CollectStats{}, false, nil
}

// ExpiredKey is a version whose time to live has passed.
type ExpiredKey struct {
	Group   string
	Rest    []byte
	Time    Timestamp // version
	Expires Timestamp
}

// Expired lists at most limit index entries with Expires <= now, oldest first.
func (s *Store) Expired(now Timestamp, limit int) ([]ExpiredKey, error) { return nil, nil }

// Batch collects writes of many groups that become durable together.
type Batch struct{}

func (b *Batch) SetRecord(group string, rec []byte)                 {}
func (b *Batch) AppendEntry(group string, slot uint64, data []byte) {}
func (b *Batch) DeleteEntriesFrom(group string, slot uint64)        {}
func (b *Batch) DeleteEntriesBelow(group string, slot uint64)       {} // truncation
func (b *Batch) PutVersion(group string, rest []byte, at Timestamp, seq uint32, v Version) {
}

// DropExpiry removes a TTL index entry (the version was overwritten, deleted or expired).
func (b *Batch) DropExpiry(k ExpiredKey)                 {}
func (b *Batch) SetState(group, name string, val []byte) {}
func (b *Batch) DeleteState(group, name string)          {}
func (b *Batch) SetSweptTo(group string, t Timestamp)    {}
func (b *Batch) Len() int                                { return 0 } // bytes
func (b *Batch) Empty() bool                             { return true }
func (b *Batch) Commit(sync bool) error                  { return nil }
func (b *Batch) Reset()                                  {}
func (b *Batch) Close()                                  {}

// Reader is a view of a Pebble state: *Store (each call sees the newest) or *Snapshot.
type Reader interface {
	Record(group string) ([]byte, bool, error)
	Entry(group string, slot uint64) ([]byte, bool, error)
	EachEntry(group string, from, to uint64, fn func(slot uint64, data []byte) error) error
	State(group, name string) ([]byte, bool, error)
	EachState(group, prefix string, fn func(name string, val []byte) error) error
	Latest(group string, rest []byte) (Version, bool, error)
	GetAt(group string, rest []byte, at Timestamp) (*Value, bool, error)
	NewScan(ScanOptions) (*Scan, error)
	Changes(group string, after Timestamp) (*ChangeScan, error)
	Groups(after string) (*GroupScan, error)
	Tables(group string, after string, limit int) ([]string, error)
	Count(ctx context.Context, o ScanOptions) (int64, error)
	Sample(ctx context.Context, o ScanOptions, n int, seed uint64) ([][]byte, error)
}

var (
	_ Reader = (*Store)(nil)
	_ Reader = (*Snapshot)(nil)
)

type reader struct{}

func (r *reader) Record(group string) ([]byte, bool, error)             { return nil, false, nil }
func (r *reader) Entry(group string, slot uint64) ([]byte, bool, error) { return nil, false, nil }
func (r *reader) EachEntry(group string, from, to uint64, fn func(slot uint64, data []byte) error) error {
	return nil
}
func (r *reader) State(group, name string) ([]byte, bool, error) { return nil, false, nil }
func (r *reader) EachState(group, prefix string, fn func(name string, val []byte) error) error {
	return nil
}

func (r *reader) Latest(group string, rest []byte) (Version, bool, error) {
	return Version{}, false, nil
}

// GetAt finds the newest version <= at. A tombstone gives (handle, false); nothing at all (nil, false). The handle's methods accept nil.
func (r *reader) GetAt(group string, rest []byte, at Timestamp) (*Value, bool, error) {
	return nil, false, nil
}
func (r *reader) NewScan(o ScanOptions) (*Scan, error)                       { return nil, nil }
func (r *reader) Changes(group string, after Timestamp) (*ChangeScan, error) { return nil, nil }
func (r *reader) Groups(after string) (*GroupScan, error)                    { return nil, nil }
func (r *reader) Tables(group string, after string, limit int) ([]string, error) {
	return nil, nil
}
func (r *reader) Count(ctx context.Context, o ScanOptions) (int64, error) { return 0, nil }
func (r *reader) Sample(ctx context.Context, o ScanOptions, n int, seed uint64) ([][]byte, error) {
	return nil, nil
}

func (s *Store) Record(group string) ([]byte, bool, error) { return (&reader{}).Record(group) }
func (s *Store) Entry(group string, slot uint64) ([]byte, bool, error) {
	return (&reader{}).Entry(group, slot)
}

func (s *Store) EachEntry(group string, from, to uint64, fn func(slot uint64, data []byte) error) error {
	return nil
}
func (s *Store) State(group, name string) ([]byte, bool, error) { return nil, false, nil }
func (s *Store) EachState(group, prefix string, fn func(name string, val []byte) error) error {
	return nil
}

func (s *Store) Latest(group string, rest []byte) (Version, bool, error) {
	return Version{}, false, nil
}

func (s *Store) GetAt(group string, rest []byte, at Timestamp) (*Value, bool, error) {
	return nil, false, nil
}
func (s *Store) NewScan(o ScanOptions) (*Scan, error)                       { return nil, nil }
func (s *Store) Changes(group string, after Timestamp) (*ChangeScan, error) { return nil, nil }
func (s *Store) Groups(after string) (*GroupScan, error)                    { return nil, nil }
func (s *Store) Tables(group string, after string, limit int) ([]string, error) {
	return nil, nil
}
func (s *Store) Count(ctx context.Context, o ScanOptions) (int64, error) { return 0, nil }
func (s *Store) Sample(ctx context.Context, o ScanOptions, n int, seed uint64) ([][]byte, error) {
	return nil, nil
}

// Snapshot is a fixed state of the store; it must be closed.
type Snapshot struct{ reader }

func (s *Snapshot) Close() error { return nil }

// Value is a handle on one version; it must be closed.
type Value struct{}

func (v *Value) Version() Version                    { return Version{} } // Value field holds inline bytes, valid until Close
func (v *Value) Bytes() ([]byte, error)              { return nil, nil }  // copies or assembles; the caller's to keep
func (v *Value) WriteTo(w io.Writer) (int64, error)  { return 0, nil }    // streams
func (v *Value) AppendTo(dst []byte) ([]byte, error) { return dst, nil }
func (v *Value) Close() error                        { return nil }

// ScanOptions bound a scan of a group's keys; Lower and Upper are rests, nil = unbounded, Upper exclusive.
type ScanOptions struct {
	Group        string
	Lower, Upper []byte
	At           Timestamp
	Now          Timestamp // skip what expired at or before; 0 = keep all
	Reverse      bool
	KeysOnly     bool
}

// Scan walks keys in order; Rest and Version are valid until the next call.
type Scan struct{}

func (s *Scan) Next() bool                         { return false }
func (s *Scan) Rest() []byte                       { return nil }
func (s *Scan) Version() Version                   { return Version{} } // inline Value valid until Next; nil when chunked (Size says how long) or KeysOnly
func (s *Scan) Bytes() ([]byte, error)             { return nil, nil }
func (s *Scan) WriteTo(w io.Writer) (int64, error) { return 0, nil }
func (s *Scan) Err() error                         { return nil }
func (s *Scan) Close() error                       { return nil }

// ChangeKind says what a change did.
type ChangeKind byte

// Kinds of change.
const (
	ChangePut ChangeKind = iota + 1
	ChangeDelete
	ChangeExpire
)

// Change is one record of the change index.
type Change struct {
	Time Timestamp
	Seq  uint32
	Kind ChangeKind
	Rest []byte // valid until the next call
}

// ChangeScan walks a group's changes by (Time, Seq).
type ChangeScan struct{}

func (c *ChangeScan) Next() bool     { return false }
func (c *ChangeScan) Change() Change { return Change{} }
func (c *ChangeScan) Err() error     { return nil }
func (c *ChangeScan) Close() error   { return nil }

// GroupScan walks groups with an acceptor record, by name.
type GroupScan struct{}

func (g *GroupScan) Next() bool     { return false }
func (g *GroupScan) Group() string  { return "" }
func (g *GroupScan) Record() []byte { return nil }
func (g *GroupScan) Err() error     { return nil }
func (g *GroupScan) Close() error   { return nil }

// Metrics is a reading of the store's counters.
type Metrics struct {
	DiskBytes, DiskFreeBytes           int64
	CacheBytes, CacheHits, CacheMisses int64
	MemTableBytes                      int64
	WALBytes, WALBytesWritten          int64
	CompactionDebtBytes                int64
	Compactions, Flushes               int64
	L0Files, L0Sublevels               int64
	ReadAmplification                  int64
	WriteStalls                        int64
	WriteStallTime                     time.Duration
	Syncs                              int64
	SyncP50, SyncP99, SyncMax          time.Duration
	SlowDisk                           bool
	DiskFull                           bool
	DiskFullRefusals                   int64
}
