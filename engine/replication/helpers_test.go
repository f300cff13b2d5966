// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
)

// recordOf is what is parked of a group.
func (r *registry) recordOf(name string) (stored, bool) {
	s, hash := r.shard(name)
	at, _, ok := s.record(name, hash)
	return at, ok
}

// bound leaves each generation of what is parked the least room.
func (r *registry) bound() {
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		s.parked.young.bytesMax = parkedBlockLen
		s.mu.Unlock()
	}
}

// turn parks so many others beside a group that, if generations are bounded so, the younger becomes the older, and in the end is forgotten.
func (r *registry) turn(group string, rng *rand.Rand) {
	s, _ := r.shard(group)
	other := stored{record: soleRecord(1, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	for before := s.parked.turns; s.parked.turns == before; {
		name := fmt.Sprintf("other %d", rng.Uint64())
		s.parked.put(name, parkedHash(maphash.String(r.seed, name)), &other, parkedEntry{})
	}
}

// bring has the loop bring a group into memory.
func (l *loop) bring(name string) (*group, error) {
	shard, hash := l.r.registry.shard(name)
	return l.enter(name, shard, hash)
}
