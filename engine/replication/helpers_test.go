// SPDX-License-Identifier: AGPL-3.0-only

package replication

// recordOf is what is parked of a group.
func (r *registry) recordOf(name string) (stored, bool) {
	s, hash := r.shard(name)
	at, _, ok := s.record(name, hash)
	return at, ok
}

// bring has the loop bring a group into memory.
func (l *loop) bring(name string) (*group, error) {
	shard, hash := l.r.registry.shard(name)
	return l.enter(name, shard, hash)
}
