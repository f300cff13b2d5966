// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"io"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/engine/storage"
)

// Options configure an engine. The zero value of a field takes its default in EnsureDefaults.
type Options struct {
	// Dir is the data directory; missing parents are made. Required.
	Dir string
	// FS is the file system that the directory is on; nil is the disk.
	FS storage.FS
	// ClusterID, when set, is the only cluster whose directory may be opened. A new directory gets it, or a random one.
	ClusterID string
	// Region is the failure domain of this node, 1-64 printable bytes. Default "local".
	Region string
	// Advertise is host:port under which other nodes and QUORUM INFO know this node. Default "localhost:4444".
	Advertise string
	// Retention is how long old versions stay readable, 1 s to 365 days. Default 10 min. Longer costs disk for every overwrite.
	Retention time.Duration
	// SweepInterval is the pause between two collections of old versions and expired keys, 100 ms to 1 h. Default 1 s. While more has
	// expired than one takes, the next follows sooner.
	SweepInterval time.Duration
	// CacheBytes is the block cache, 1 MiB to 1 TiB. Default 64 MiB.
	CacheBytes int64
	// Loops is the number of event loops, 1-64. Default 2. More only help with more cores and many groups.
	Loops int
	// GroupIdle is how long an idle group stays in memory, 1 s to 1 h. Default 30 s.
	GroupIdle time.Duration
	// TxnIdle is how long a transaction may go unused before it is rolled back, 100 ms to TxnAgeMax. Default 60 s. Shorter cuts
	// clients that think between two commands; longer keeps what their snapshots hold on the disk.
	TxnIdle time.Duration
	// TxnMemory is what all open transactions together may hold of writes and reads, 1 MiB to 1 TiB. Default 512 MiB. Past it they
	// are refused more.
	TxnMemory int64
	// MinFreeBytes is the free disk space below which writes are refused. Default 64 MiB; negative turns the check off, and the reserve.
	MinFreeBytes int64
	// Logger receives structured logs. Default: discarded.
	Logger *slog.Logger
	// Registry receives the metrics. Default: none.
	Registry prometheus.Registerer
	// Now reads the wall clock; nil is the system's.
	Now func() time.Time
}

// SessionOptions describe who a session's client is.
type SessionOptions struct {
	// Trusted clients (the server's own uid, or root, on the Unix socket) may assume any principal without a secret.
	Trusted bool
	// Frontend and Remote are for logs.
	Frontend, Remote string
}

// Consistency is a session's setting for reads.
type Consistency struct {
	// Level is what reads promise. MaxStaleness bounds Bounded reads.
	Level        ConsistencyLevel
	MaxStaleness time.Duration
}

// ConsistencyLevel is what a read promises.
type ConsistencyLevel uint8

// The levels. On a single node all of them read the newest acknowledged state.
const (
	Strong ConsistencyLevel = iota
	Bounded
	Local
)

// PutRequest asks for one value to be stored.
type PutRequest struct {
	Key   []byte
	Value []byte
	// Upload, when set, is given away with the request and stands for Value.
	Upload *Upload
	// IfAbsent and IfVersion are conditions, judged when the command is applied. At most one may be set.
	IfAbsent  bool
	IfVersion *uint64
	// TTL, when positive, lets the value expire that long after its commit; Expires, when set, then. At most one may be set.
	TTL     time.Duration
	Expires time.Time
	// WormTTL (from the commit) or WormUntil make the key write-once until then.
	WormTTL   time.Duration
	WormUntil time.Time
	// Principal, when set, is assumed for this request alone, by the rules of Session.Assume.
	Principal string
}

// DeleteRequest asks for one key to be deleted.
type DeleteRequest struct {
	Key       []byte
	IfVersion *uint64
}

// ScanRequest asks for the keys of `table` or `table.prefix`, in byte order, from one snapshot.
type ScanRequest struct {
	Prefix []byte
	// After is a whole key: the scan begins behind it, in its direction.
	After []byte
	// Limit bounds the keys given; 0 is no limit.
	Limit   int
	Reverse bool
	// Values asks for the values too; without it Scan.Item has none.
	Values bool
}

// WatchRequest asks for the changes of `table` or `table.prefix`.
type WatchRequest struct {
	Prefix []byte
	// From, when set, is a version: events with a version above it come first, from history.
	// nil begins with what changes after the call.
	From *uint64
}

// EventKind says what happened to a key.
type EventKind uint8

// The kinds of events.
const (
	EventPut EventKind = iota + 1
	EventDelete
)

// Event is one change of one key.
type Event struct {
	Kind    EventKind
	Version uint64
	Key     []byte
}

// Perm is what a grant allows.
type Perm uint8

// The permissions. PermOwner is both others and the right to grant.
const (
	PermRead Perm = iota + 1
	PermWrite
	PermOwner
)

// NodeInfo describes a node of the cluster.
type NodeInfo struct {
	ID      uint64
	Region  string
	Status  string // ACTIVE
	RTT     time.Duration
	Host    string
	Port    int
	Version string
	Started time.Time
	Groups  int // in memory
}

// QuorumInfo is the smallest quorums that this node would use for a group, and what the shape survives.
type QuorumInfo struct {
	Q1, Q2 []NodeInfo
	// Survives says, a line each, which losses the shape survives and where it is degraded.
	Survives []string
}

// TableInfo describes a table.
type TableInfo struct {
	Table, Group string
	Owner        uint64
	// Rows counts the rows that the caller may read, up to RowsMax of it: RowsAtLeast tells that it stopped there.
	Rows        int64
	RowsAtLeast bool
	// SizeBytes is an estimate of the disk space.
	SizeBytes int64
	// Reads and Writes are served requests since the group came into memory.
	Reads, Writes int64
}

// GroupInfo describes a group.
type GroupInfo struct {
	Group     string
	Owner     uint64
	Ballot    string
	Committed uint64 // slot
	Applied   uint64 // slot
	Version   uint64 // commit time of the newest command
	Tables    []string
	TablesAll bool // Tables is the whole list
}

// Item is one version of one key. Close it when done; the value is read from storage only when asked for.
type Item struct {
	Version   uint64
	Expires   time.Time // zero: never
	WormUntil time.Time // zero: not write-once
	Size      int64     // of the value, bytes

	value itemValue
}

// itemValue is where an Item's value comes from: storage, or a transaction's own writes.
type itemValue interface {
	Bytes() ([]byte, error)
	WriteTo(w io.Writer) (int64, error)
	Close() error
}

// Bytes gives the value. It is valid until Close and must not be changed.
func (i *Item) Bytes() ([]byte, error) { return i.value.Bytes() }

// WriteTo streams the value in pieces, without holding all of a large one.
func (i *Item) WriteTo(w io.Writer) (int64, error) { return i.value.WriteTo(w) }

// Close lets the storage go. It may be called twice.
func (i *Item) Close() error {
	value := i.value
	i.value = closedValue{} // the handle is somebody else's from now on
	return value.Close()
}

// closedValue is the value of an Item that was closed.
type closedValue struct{}

func (closedValue) Bytes() ([]byte, error) { return nil, Errorf(ClassInvalid, "the item is closed") }

func (v closedValue) WriteTo(io.Writer) (int64, error) {
	_, err := v.Bytes()
	return 0, err
}

func (closedValue) Close() error { return nil }
