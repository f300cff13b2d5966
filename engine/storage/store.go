// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/migrations"
)

// Format is the format that this version of Atlas writes.
const Format = migrations.Newest

// Store is an open data directory. Its methods may be called from any goroutine.
type Store struct {
	reader
	opts   Options
	base   vfs.FS // the disk
	db     *pebble.DB
	blocks *pebble.Cache
	health *health
	space  *space
	proof  *proof
	gate   *gate
	stalls stallClock
	lock   io.Closer

	id        Identity
	ceiling   durableTime
	swept     durableTime
	collect   collector
	orphans   orphans
	copying   sync.RWMutex // held for reading by commits until they are durable, and by Checkpoint across its copy
	flushedAt atomic.Int64 // by Sample, on the clock of health
	closing   sync.Once
	closeErr  error
}

// Open opens the directory, making it if it is missing, brings it to the current format and counts a start. Its errors
// are those of errors.go, with the path and what was found.
func Open(o Options) (*Store, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o.Dir = cleanDir(o.Dir)
	base := o.FS
	if base == nil {
		base = diskFS{vfs.Default}
	}
	s := &Store{opts: o, base: base, health: newHealth(o.Logger), gate: newGate()}
	m, err := s.claim()
	if err != nil {
		return nil, err
	}
	if err := s.open(m); err != nil {
		return nil, errors.Join(s.openError(err), s.abandon())
	}
	o.Logger.Info("store is open", "dir", o.Dir, "cluster", s.id.ClusterID, "node", s.id.NodeID, "starts", s.id.Starts)
	return s, nil
}

// claim checks, without writing, that the directory may be used, then locks it and writes the marker of a new one.
func (s *Store) claim() (marker, error) {
	o := &s.opts
	exists, err := surveyDir(s.base, o.Dir)
	if err != nil {
		return marker{}, err
	}
	if exists {
		if _, _, err := s.inspect(); err != nil {
			return marker{}, err
		}
	} else if o.ReadOnly {
		return marker{}, fmt.Errorf("%w: %s does not exist", ErrReadOnly, o.Dir)
	} else if err := makeDir(s.base, o.Dir); err != nil {
		return marker{}, err
	}
	if s.lock, err = lockDir(s.base, o.Dir); err != nil && !(o.ReadOnly && errors.Is(err, ErrReadOnly)) {
		return marker{}, err
	}
	m, found, err := s.inspect() // again, now that nobody else can change it
	if err == nil && !found {
		m, err = s.lay()
	}
	if err != nil {
		return marker{}, errors.Join(err, s.unlock())
	}
	return m, nil
}

// inspect reads the marker and refuses what this store must not touch.
func (s *Store) inspect() (m marker, found bool, err error) {
	o := &s.opts
	m, found, err = readMarker(s.base, o.Dir)
	switch {
	case err != nil:
		return m, found, err
	case !found:
		if o.ReadOnly {
			return m, false, fmt.Errorf("%w: %s has no %s file", ErrForeignDir, o.Dir, markerName)
		}
		return m, false, checkUnclaimed(s.base, o.Dir)
	case m.format > Format:
		return m, true, fmt.Errorf("%w: %s has format %d, this version of Atlas knows formats up to %d", ErrNewerFormat, o.Dir, m.format, Format)
	case o.ClusterID != "" && o.ClusterID != m.cluster:
		return m, true, fmt.Errorf("%w: %s belongs to cluster %s, wanted %s", ErrForeignCluster, o.Dir, m.cluster, o.ClusterID)
	case o.ReadOnly && m.format < Format:
		return m, true, fmt.Errorf("%w: %s has format %d and must be upgraded to %d first", ErrReadOnly, o.Dir, m.format, Format)
	}
	if !m.ready {
		return m, true, nil
	}
	desc, err := pebble.Peek(s.base.PathJoin(o.Dir, pebbleDirName), s.base)
	switch {
	case errors.Is(err, os.ErrNotExist) || err == nil && !desc.Exists:
		return m, true, fmt.Errorf("%w: %s is in use but its database is missing", ErrCorrupt, o.Dir)
	case err != nil:
		return m, true, fmt.Errorf("data directory %s: %w", o.Dir, err)
	case desc.FormatMajorVersion > pebbleFormat:
		return m, true, fmt.Errorf("%w: the database in %s has Pebble format %d, this version of Atlas knows formats up to %d",
			ErrNewerFormat, o.Dir, desc.FormatMajorVersion, pebbleFormat)
	}
	return m, true, nil
}

// lay writes the marker of a new directory.
func (s *Store) lay() (marker, error) {
	m := marker{format: Format, cluster: s.opts.ClusterID}
	if m.cluster == "" {
		m.cluster = newClusterID()
	}
	return m, writeMarker(s.base, s.opts.Dir, m)
}

// open opens the database of a claimed directory.
func (s *Store) open(m marker) error {
	o := &s.opts
	if _, ok := s.base.(diskFS); ok && !o.ReadOnly {
		if err := os.Chmod(o.Dir, dirMode); err != nil {
			return dirError(o.Dir, err)
		}
	}
	var total uint64
	if u, err := s.base.GetDiskUsage(o.Dir); err == nil {
		total = u.TotalBytes
	}
	o.fitDisk(total)
	s.space = newSpace(s.base, o, s.health)
	if err := s.readProof(m.ready); err != nil {
		return err
	}
	guard := newGuardFS(s.base, o.Dir, s.health, s.space, s.proof)
	po := pebbleOptions(o, guard, s.health, &s.stalls)
	// Pebble takes the memory of memtables out of the cache. Two are there in ordinary times.
	cache := pebble.NewCache(o.CacheBytes + 2*o.MemTableBytes)
	defer cache.Unref() // the database holds its own reference
	po.Cache, s.blocks = cache, cache
	db, err := pebble.Open(s.base.PathJoin(o.Dir, pebbleDirName), po)
	if err != nil {
		return err
	}
	s.db = db
	s.reader = reader{s: s, src: db, cache: new(iterCache)}
	if err := s.health.Err(); err != nil {
		return err
	}
	if err := s.adopt(&m); err != nil {
		return err
	}
	if o.ReadOnly {
		return nil
	}
	if err := s.sweepOrphans(); err != nil {
		return err
	}
	if err := s.health.Err(); err != nil {
		return err
	}
	s.space.start(func() {
		if err := s.cache.empty(); err != nil {
			o.Logger.Warn("an idle iterator did not close well", "error", err)
		}
	})
	return nil
}

// readProof reads what is known of the log and the MANIFEST, and refuses a database whose log is missing.
func (s *Store) readProof(ready bool) (err error) {
	dir := s.opts.Dir
	s.proof, err = readProof(s.base, dir, func(err error) {
		s.opts.Logger.Warn("what was synced cannot be noted, damage to the log may go unseen", "error", err)
	})
	if err != nil {
		return err
	}
	if ready {
		names, err := s.base.List(s.base.PathJoin(dir, pebbleDirName))
		if err != nil {
			return dirError(dir, err)
		}
		if s.proof.missing(names) {
			return fmt.Errorf("%w: log %06d of %s, which was synced, is missing", ErrCorrupt, s.proof.known[proofLog].number, dir)
		}
	}
	if s.opts.ReadOnly {
		return nil
	}
	return s.proof.begin()
}

// openError makes of what stopped Open one of the errors of this package.
func (s *Store) openError(err error) error {
	if ferr := s.health.Err(); ferr != nil {
		err = ferr
	}
	switch {
	case errors.Is(err, ErrDiskFull), errors.Is(err, ErrCorrupt):
	case lacksRoom(err):
		err = fmt.Errorf("%w: %w", roomError(err), err)
	case errors.Is(err, pebble.ErrCorruption):
		err = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("opening %s: %w", s.opts.Dir, err)
}

// abandon closes what a failed Open has opened.
func (s *Store) abandon() error {
	var err error
	if s.db != nil {
		err = errors.Join(s.cache.empty(), s.db.Close())
	}
	if s.proof != nil {
		err = errors.Join(err, s.proof.end())
	}
	return errors.Join(err, s.unlock())
}

func (s *Store) unlock() error {
	if s.lock == nil {
		return nil
	}
	return s.lock.Close()
}

// Close waits for what is under way and for open scans, snapshots and values, up to CloseWait, then closes the
// directory. If some are still open it leaves the database as it is, says so, and keeps the lock: closing would pull
// memory away from under them.
func (s *Store) Close() error {
	s.closing.Do(func() { s.closeErr = s.close() })
	return s.closeErr
}

func (s *Store) close() error {
	if n := s.gate.close(s.opts.CloseWait); n > 0 {
		return fmt.Errorf("closing %s: %d scans, snapshots or values are still open", s.opts.Dir, n)
	}
	if !s.opts.ReadOnly {
		s.space.close()
	}
	err := errors.Join(s.cache.empty(), s.db.Close(), s.proof.end(), s.unlock())
	if ferr := s.health.Err(); ferr != nil {
		return ferr
	}
	if !s.opts.ReadOnly && s.space.cutOff.Load() {
		return errors.Join(err, fmt.Errorf("%w: closing %s: what was committed without a sync is lost", ErrDiskFull, s.opts.Dir))
	}
	return err
}

// Identity says whose the directory is.
func (s *Store) Identity() Identity { return s.id }

// Err is nil while the disk is sound. Once it is not, it stays, every call returns it, and the node must stop: it wraps
// ErrFatal. A full disk is not such a failure.
func (s *Store) Err() error { return s.health.Err() }

// Failed is closed when Err becomes something.
func (s *Store) Failed() <-chan struct{} { return s.health.failed }

// SyncStall is how long the sync of the log that is under way has taken so far; 0 if there is none.
func (s *Store) SyncStall() time.Duration { return s.health.syncStall() }

// LimitCache keeps the block cache small until the function that it gives is called, once: for a walk over all that is stored, of which little
// is read again soon. Requires: the store is not closed before.
func (s *Store) LimitCache() (restore func()) {
	return s.blocks.Reserve(int(s.opts.CacheBytes - cacheLimited(s.opts.CacheBytes)))
}

// cacheLimited is what LimitCache leaves of a cache.
func cacheLimited(size int64) int64 { return max(size/16, 1<<20) }

// enter begins a use of the database.
func (s *Store) enter() error {
	if err := s.health.Err(); err != nil {
		return err
	}
	if !s.gate.enter() {
		return fmt.Errorf("%w: %s", ErrClosed, s.opts.Dir)
	}
	return nil
}

// durableTime is a node record that only rises.
type durableTime struct {
	mu  sync.Mutex // of raising; it is held across the commit, and nothing else waits for it
	now atomic.Uint64
}

// Ceiling is the time that the node's clock may not pass.
func (s *Store) Ceiling() (Timestamp, error) { return s.ceiling.now.Load(), s.health.Err() }

// SetCeiling raises the ceiling; it is durable when SetCeiling returns. A lower one is ignored. It is taken below the
// watermark of a full disk, too, because reads need the clock to go on.
func (s *Store) SetCeiling(t Timestamp) error {
	return s.raise(&s.ceiling, nodeCeiling, t, true)
}

// SweptTo is the time up to which old versions and change records have been collected, or begun to be: reads, watches
// and transactions below it may miss something.
func (s *Store) SweptTo() (Timestamp, error) { return s.swept.now.Load(), s.health.Err() }

// SetSweptTo raises SweptTo; CollectBefore does it too.
func (s *Store) SetSweptTo(t Timestamp) error {
	return s.raise(&s.swept, nodeSweptTo, t, true)
}

// Newest is the latest time that any batch was given by SetNewest; 0 if none was.
func (s *Store) Newest() (t Timestamp, err error) {
	lower := appendNodeKey(nil, nodeNewest)
	upper := appendNodeKey(nil, nodeNewest+"\xff")
	err = s.each(lower, upper, func(k, v []byte) error {
		name := string(k[1 : len(k)-sentinelLen])
		body, err := openNode(name, v)
		if err == nil && len(body) != 8 {
			err = fmt.Errorf("%w: node record %q of %d bytes", ErrCorrupt, name, len(body))
		}
		if err == nil {
			t = max(t, binary.BigEndian.Uint64(body))
		}
		return err
	})
	return t, err
}

func (s *Store) raise(d *durableTime, name string, t Timestamp, sync bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t <= d.now.Load() {
		return s.health.Err()
	}
	b := s.NewBatch()
	defer b.Close()
	b.urgency = urgent
	b.setNode(name, appendTime(nil, t))
	if err := b.Commit(sync); err != nil {
		return err
	}
	d.now.Store(t)
	return nil
}
