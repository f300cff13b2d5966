// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"hash/maphash"
	"io"
	"sync"

	"github.com/atlas-edge/atlas/engine/storage"
)

const (
	// hotBytesMax bounds the memory of the hot values of a node, and hotValueMax the value that is kept among them.
	hotBytesMax = 32 << 20
	hotValueMax = 4 << 10
	hotShards   = 64
	// hotOverhead is what an entry takes besides its key and value, about.
	hotOverhead = 160
)

// hot keeps the newest versions of small values that were read, in front of storage: a point read there walks several memtables.
//
// A reader comes with the time At that it reads at, taken from replication before. What it may be given is the newest version not later
// than At. The cache holds at most one version of a key, and keeps this true of it: no reader who finds it, and whose At is at or
// above it, could have found a newer one in storage.
//
//   - Before a commit becomes visible, that is before any reader has an At at or above its time, its keys are dropped, and
//     the floor of their shards is raised to its time, both under the shard's lock.
//   - A value that was read at At is put in only if At is at or above the floor of its shard. So one who read before a commit, and puts in
//     after it, is refused; one who reads after it has read the commit.
//
// Whether the version has expired, and whether the reader may see it, is asked after a find as after a read.
type hot struct {
	seed   maphash.Seed
	shards [hotShards]hotShard
}

type hotShard struct {
	mu    sync.RWMutex
	items map[string]*hotValue // by whole key
	floor uint64
	bytes int
}

// hotValue is one version of one key. It never changes, so readers keep it without a lock.
type hotValue struct {
	version storage.Version
	size    int // of the entry, in memory
}

var _ itemValue = (*hotValue)(nil)

func newHot() *hot {
	h := &hot{seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].items = make(map[string]*hotValue)
	}
	return h
}

func (h *hot) shard(key []byte) *hotShard {
	return &h.shards[maphash.Bytes(h.seed, key)%hotShards]
}

// get gives the version that a reader at At may be given, nil if it is not here.
func (h *hot) get(key []byte, at uint64) *hotValue {
	s := h.shard(key)
	s.mu.RLock()
	v := s.items[string(key)]
	s.mu.RUnlock()
	if v == nil || v.version.Time > at {
		return nil
	}
	return v
}

// put takes in what was read at At as the newest version not later than it. The value is copied.
func (h *hot) put(key []byte, at uint64, v storage.Version) {
	if v.Large() || len(v.Value) > hotValueMax {
		return
	}
	size := len(key) + len(v.Value) + hotOverhead
	v.Value = bytes.Clone(v.Value)
	s := h.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if at < s.floor {
		return
	}
	if old := s.items[string(key)]; old != nil {
		if old.version.Time >= v.Time {
			return
		}
		s.bytes -= old.size
	}
	for name, other := range s.items { // in no order: any of them may go
		if s.bytes+size <= hotBytesMax/hotShards {
			break
		}
		delete(s.items, name)
		s.bytes -= other.size
	}
	s.items[string(key)] = &hotValue{version: v, size: size}
	s.bytes += size
}

// drop forgets a key that a commit changed. Requires: the commit is not visible yet.
func (h *hot) drop(key []byte, at uint64) {
	s := h.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.floor = max(s.floor, at)
	if old := s.items[string(key)]; old != nil {
		delete(s.items, string(key))
		s.bytes -= old.size
	}
}

// Bytes gives the value, which must not be changed.
func (v *hotValue) Bytes() ([]byte, error) { return v.version.Value, nil }

// WriteTo writes the value.
func (v *hotValue) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.version.Value)
	return int64(n), err
}

// Close does nothing: the value is the collector's.
func (v *hotValue) Close() error { return nil }
