// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/cockroachkvs"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pebbleFormat is pinned: columnar tables, log chunks that tell a torn end from damage, and a checksum in each table's
// footer. Raising it is one-way, and is done by a format of ours. Value separation comes with a later one; v2.1.7 keeps
// its switch among the experimental options "which may change at any time", and our chunks keep large values apart.
const pebbleFormat = pebble.FormatTableFormatV6

const (
	memTablesMax     = 4 // writes stall past this many
	l0StopWrites     = 24
	l0Compaction     = 4 // sublevels: with memtables of 16 MiB as much goes down at once as with two of 32
	blockLen         = 32 << 10
	indexBlockLen    = 64 << 10
	bloomBitsPerKey  = 10
	backgroundErrMax = 16
)

// pebbleOptions translates o. The caller sets and releases the cache.
func pebbleOptions(o *Options, fs vfs.FS, h *health, stalls *stallClock) *pebble.Options {
	po := &pebble.Options{
		FS:                          fs,
		Comparer:                    &cockroachkvs.Comparer,
		KeySchema:                   cockroachkvs.KeySchema.Name,
		KeySchemas:                  sstable.MakeKeySchemas(&cockroachkvs.KeySchema),
		FormatMajorVersion:          pebbleFormat,
		MemTableSize:                uint64(o.MemTableBytes),
		MemTableStopWritesThreshold: memTablesMax,
		L0CompactionThreshold:       l0Compaction,
		L0CompactionFileThreshold:   500,
		L0StopWritesThreshold:       l0StopWrites,
		LBaseMaxBytes:               64 << 20,
		FlushSplitBytes:             4 << 20,
		MaxOpenFiles:                o.OpenFiles,
		BytesPerSync:                1 << 20, // spreads the writing of tables, so that a sync of the log does not wait for all of one
		CompactionConcurrencyRange:  func() (int, int) { return 1, o.CompactionWorkers },
		ReadOnly:                    o.ReadOnly,
		Logger:                      &pebbleLogger{log: o.Logger, health: h},
		EventListener:               listener(h, stalls),
	}
	po.TargetFileSizes[0] = 4 << 20
	po.Experimental.EnableColumnarBlocks = func() bool { return true }
	po.Experimental.L0CompactionConcurrency = 4
	for i := range po.Levels {
		l := &po.Levels[i]
		l.BlockSize, l.IndexBlockSize = blockLen, indexBlockLen
		// A filter on the lowest level too: every PUT of a new key asks for the version before it, and without the filter
		// each such question reads a block.
		l.FilterPolicy, l.FilterType = bloom.FilterPolicy(bloomBitsPerKey), pebble.TableFilter
		// Snappy throughout: zstd in Go costs more than the room it saves on a node that also serves.
		l.Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return po
}

// pebbleLogger is where Pebble's last resort ends: in the store's Err rather than in os.Exit. Behind guardFS it is only
// reached for damage that Pebble finds by itself, and for its own bugs.
type pebbleLogger struct {
	log    *slog.Logger
	health *health
}

func (l *pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", "text", fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", "text", fmt.Sprintf(format, args...))
}

func (l *pebbleLogger) Fatalf(format string, args ...any) {
	l.health.fail(fmt.Errorf("pebble: "+format, args...))
}

// listener watches for damage, for background work that fails again and again, and for stalls.
func listener(h *health, stalls *stallClock) *pebble.EventListener {
	succeeded := func(err error) {
		if err == nil {
			h.backgroundErrors.Store(0)
		}
	}
	return &pebble.EventListener{
		DataCorruption: func(i pebble.DataCorruptionInfo) {
			h.fail(fmt.Errorf("%w: %s", ErrCorrupt, i))
		},
		BackgroundError: func(err error) {
			if lacksRoom(err) || h.Err() != nil {
				return
			}
			h.log.Warn("background work of the store failed", "error", err)
			if h.backgroundErrors.Add(1) >= backgroundErrMax {
				h.fail(fmt.Errorf("background work failed %d times in a row: %w", backgroundErrMax, err))
			}
		},
		FlushEnd:        func(i pebble.FlushInfo) { succeeded(i.Err) },
		CompactionEnd:   func(i pebble.CompactionInfo) { succeeded(i.Err) },
		WriteStallBegin: func(i pebble.WriteStallBeginInfo) { stalls.begin(h, i.Reason) },
		WriteStallEnd:   func() { stalls.end(h) },
	}
}

// stallClock adds up the time in which Pebble makes writers wait for flushes and compactions. Its caller holds a mutex
// of Pebble's.
type stallClock struct {
	since atomic.Int64
	count atomic.Int64
	total atomic.Int64
}

func (s *stallClock) begin(h *health, reason string) {
	s.count.Add(1)
	s.since.Store(h.mono())
	h.log.Warn("writes stall", "reason", reason)
}

func (s *stallClock) end(h *health) {
	if began := s.since.Swap(0); began != 0 {
		d := timeSince(h, began)
		s.total.Add(int64(d))
		h.log.Info("writes go on", "after", d.Round(time.Millisecond))
	}
}
