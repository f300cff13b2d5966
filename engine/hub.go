// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"hash/maphash"
	"sync"
)

// hub tells watchers that a group's durable state has moved on. It carries no events: a watcher reads them from the change
// index, from where it stands up to what is durable. So history and what happens live are one path, a watcher that
// does not read costs nothing but its place in the map, and nothing can be lost, doubled or reordered between the two.
type hub struct {
	seed   maphash.Seed
	shards [64]hubShard
}

type hubShard struct {
	mu     sync.RWMutex
	topics map[string]*topic
}

// topic is the watchers of one group. The channel is closed and replaced at every advance.
type topic struct {
	watchers int
	moved    chan struct{}
}

func newHub() *hub {
	h := &hub{seed: maphash.MakeSeed()}
	for i := range h.shards {
		h.shards[i].topics = make(map[string]*topic)
	}
	return h
}

func (h *hub) shard(group string) *hubShard {
	return &h.shards[maphash.String(h.seed, group)%uint64(len(h.shards))]
}

// subscribe counts a watcher of the group in; each needs one unsubscribe.
func (h *hub) subscribe(group string) {
	s := h.shard(group)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[group]
	if t == nil {
		t = &topic{moved: make(chan struct{})}
		s.topics[group] = t
	}
	t.watchers++
}

func (h *hub) unsubscribe(group string) {
	s := h.shard(group)
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.topics[group]
	if t.watchers--; t.watchers == 0 {
		delete(s.topics, group)
	}
}

// moved gives the channel that the next advance closes. Ask for it before looking at the state, then wait.
// Requires: the caller is subscribed.
func (h *hub) moved(group string) <-chan struct{} {
	s := h.shard(group)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.topics[group].moved
}

// advance wakes the group's watchers. It is called by an event loop for every group of every batch, so that nobody watching
// must be cheap.
func (h *hub) advance(group string) {
	s := h.shard(group)
	s.mu.RLock()
	t := s.topics[group]
	s.mu.RUnlock()
	if t == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t = s.topics[group]; t != nil {
		close(t.moved)
		t.moved = make(chan struct{})
	}
}
