// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"errors"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// largeValue is a value that goes into chunks at Commit.
type largeValue struct {
	group string
	at    Timestamp
	seq   uint32
	value []byte
}

// addLarge plans the chunks of a value and gives its checksum.
func (b *Batch) addLarge(group string, at Timestamp, seq uint32, value []byte) uint32 {
	b.large = append(b.large, largeValue{group, at, seq, value})
	op := b.b.DeleteDeferred(groupLen(group) + 8 + 4 + sentinelLen)
	appendPendingKey(op.Key[:0], group, at, seq)
	b.finish(op)
	return checksumOf(value)
}

// writeLarge stores the chunks ahead of the records that name them, a little at a time, so that a value of 128 MiB is
// never copied whole. A pending record goes before the first chunk, and is removed by the batch itself: what a crash or
// a full disk leaves of a value that was not committed is found by it and removed (sweepOrphans).
func (b *Batch) writeLarge() error {
	for i := range b.large {
		if err := b.s.writeChunks(&b.large[i]); err != nil {
			b.s.dropChunks(b.large[:i+1])
			return err
		}
	}
	return nil
}

func (s *Store) writeChunks(l *largeValue) error {
	s.orphans.claim(l.id())
	c := s.db.NewBatchWithSize(chunkCommitLen+2*ChunkLen, pebble.WithMaxRetainedSizeBytes(2*chunkCommitLen))
	defer c.Close() //nolint:errcheck // frees memory
	if err := c.Set(appendPendingKey(nil, l.group, l.at, l.seq), nil, nil); err != nil {
		return err
	}
	unsynced := 0
	for n, at := uint32(0), 0; at < len(l.value); n++ {
		part := l.value[at:min(at+ChunkLen, len(l.value))]
		at += len(part)
		op := c.SetDeferred(groupLen(l.group)+8+4+4+sentinelLen, chunkHeaderLen+len(part))
		appendChunkKey(op.Key[:0], l.group, l.at, l.seq, n)
		putChunk(op.Value, part)
		if err := op.Finish(); err != nil {
			return err
		}
		if c.Len() < chunkCommitLen && at < len(l.value) {
			continue
		}
		if err := s.space.admit(c.Len(), ordinary); err != nil {
			return err
		}
		unsynced += c.Len()
		sync := unsynced >= chunkSyncLen
		if err := s.apply(c, sync); err != nil {
			return err
		}
		if sync {
			unsynced = 0
		}
		c.Reset()
	}
	return nil
}

// dropChunks removes the chunks of values whose commit was refused, or leaves that to a later time.
func (s *Store) dropChunks(values []largeValue) {
	for i := range values {
		if err := s.dropOrphan(values[i].id()); err != nil && !errors.Is(err, ErrFatal) {
			s.orphans.add(values[i].id())
		}
	}
}

// orphan names the chunks of a value that was not committed.
type orphan struct {
	group string
	at    Timestamp
	seq   uint32
}

func (l *largeValue) id() orphan { return orphan{l.group, l.at, l.seq} }

// orphans waits for room on the disk. A refused batch may be committed again, with the same chunks, at any time.
type orphans struct {
	mu   sync.Mutex
	list map[orphan]struct{}
}

func (o *orphans) add(x orphan) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.list == nil {
		o.list = map[orphan]struct{}{}
	}
	o.list[x] = struct{}{}
}

// claim takes chunks out that are being written again.
func (o *orphans) claim(x orphan) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.list, x)
}

// retry calls drop for each. It holds the mutex meanwhile, against the rule, so that chunks are either claimed before
// they are dropped or written again after; the drop does not wait for a sync.
func (o *orphans) retry(drop func(orphan) error) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	for x := range o.list {
		if err := drop(x); err != nil {
			return err
		}
		delete(o.list, x)
	}
	return nil
}

// dropOrphan removes chunks.
func (s *Store) dropOrphan(x orphan) error {
	if err := s.space.admit(0, reclaims); err != nil {
		return err
	}
	c := s.db.NewBatch()
	defer c.Close() //nolint:errcheck // frees memory
	err := errors.Join(
		c.DeleteRange(appendChunkKey(nil, x.group, x.at, x.seq, 0), appendChunkEnd(nil, x.group, x.at, x.seq), nil),
		c.Delete(appendPendingKey(nil, x.group, x.at, x.seq), nil))
	if err != nil {
		return err
	}
	return s.apply(c, false)
}

// sweepOrphans removes what was left of large values whose commit never came. Requires: nothing is being committed.
func (s *Store) sweepOrphans() (err error) {
	var list []orphan
	err = s.each([]byte{kindPending, 0}, []byte{kindPending + 1, 0}, func(k, _ []byte) error {
		group, at, seq, err := splitTimedKey(k, kindPending)
		list = append(list, orphan{string(group), at, seq})
		return err
	})
	for _, x := range list {
		if err == nil {
			err = s.dropOrphan(x)
		}
	}
	return err
}
