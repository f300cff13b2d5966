// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Metrics is a reading of the store's counters. Byte counts that end in Written, and counts of events, only rise while
// the store is open.
type Metrics struct {
	DiskBytes     int64 // tables, log and the rest
	DiskFreeBytes int64 // -1 if the file system does not say
	DiskFull      bool  // writes are refused
	Refusals      int64 // of batches, for want of space

	CacheBytes, CacheHits, CacheMisses int64
	MemTableBytes                      int64
	TableBytes, Tables                 int64

	WALBytes, WALBytesWritten int64
	Syncs                     int64
	SyncP50, SyncP99, SyncMax time.Duration // upper bounds, since the store was opened
	SyncStall                 time.Duration // of the sync under way
	SlowDisk                  bool          // it has taken longer than SlowSync

	Flushes, Compactions int64
	CompactionDebtBytes  int64
	L0Sublevels          int64
	ReadAmplification    int64
	WriteStalls          int64
	WriteStallTime       time.Duration

	Iterators, Snapshots int64
	BackgroundErrors     int64 // in a row
	RemoveErrors         int64 // files of no more use that could not be removed
}

// Metrics reads the counters; zero for a store that is closed or has failed.
func (s *Store) Metrics() Metrics {
	if s.enter() != nil {
		return Metrics{}
	}
	defer s.gate.leave()
	p := s.db.Metrics()
	h := s.health
	m := Metrics{
		DiskBytes:     int64(p.DiskSpaceUsage()),
		DiskFreeBytes: -1,
		DiskFull:      s.space.full(),
		Refusals:      s.space.refusals.Load(),

		CacheBytes: p.BlockCache.Size, CacheHits: p.BlockCache.Hits, CacheMisses: p.BlockCache.Misses,
		MemTableBytes: int64(p.MemTable.Size),

		WALBytes: int64(p.WAL.Size), WALBytesWritten: int64(p.WAL.BytesWritten),
		Syncs:   h.syncs.count.Load(),
		SyncP50: h.syncs.quantile(0.5), SyncP99: h.syncs.quantile(0.99), SyncMax: time.Duration(h.syncs.max.Load()),
		SyncStall: h.syncStall(),

		Flushes: p.Flush.Count, Compactions: p.Compact.Count,
		CompactionDebtBytes: int64(p.Compact.EstimatedDebt),
		L0Sublevels:         int64(p.Levels[0].Sublevels),
		ReadAmplification:   int64(p.ReadAmp()),
		WriteStalls:         s.stalls.count.Load(), WriteStallTime: time.Duration(s.stalls.total.Load()),

		Iterators: p.TableIters, Snapshots: int64(p.Snapshots.Count),
		BackgroundErrors: h.backgroundErrors.Load(), RemoveErrors: h.removeErrors.Load(),
	}
	m.SlowDisk = m.SyncStall > s.opts.SlowSync
	for i := range p.Levels {
		m.TableBytes += p.Levels[i].TablesSize
		m.Tables += p.Levels[i].TablesCount
	}
	if u, err := s.base.GetDiskUsage(s.opts.Dir); err == nil {
		m.DiskFreeBytes = int64(min(u.AvailBytes, 1<<62))
	}
	return m
}

// Checkpoint makes a data directory at dir that holds what the store holds now: by hard links where the file system
// has them. It is durable on return. The directory must not exist; its parent must. Commits wait meanwhile.
//
// The copy has this node's identity. It is for backups and for taking this node's place, not for a second node.
func (s *Store) Checkpoint(dir string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.gate.leave()
	dir = cleanDir(dir)
	if dir == s.opts.Dir || strings.HasPrefix(dir, s.opts.Dir+"/") {
		return fmt.Errorf("checkpoint: %s lies in the data directory", dir)
	}
	if _, err := s.base.Stat(dir); err == nil {
		return fmt.Errorf("checkpoint: %s exists", dir)
	}
	if err := makeDir(s.base, dir); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	m := marker{format: Format, cluster: s.id.ClusterID}
	if err := writeMarker(s.base, dir, m); err != nil { // not ready, until it is
		return fmt.Errorf("checkpoint: %w", err)
	}
	// Pebble copies the log as it is being written, over zeroes or an older log: a copy that a write falls into may not open.
	s.copying.Lock()
	err := s.db.Checkpoint(s.base.PathJoin(dir, pebbleDirName), pebble.WithFlushedWAL())
	s.copying.Unlock()
	if err != nil {
		return fmt.Errorf("checkpoint: %w", dirError(dir, err))
	}
	if err := s.settle(nil); err != nil {
		return err
	}
	m.ready = true
	if err := writeMarker(s.base, dir, m); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	return s.settle(nil)
}
