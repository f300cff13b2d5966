// SPDX-License-Identifier: AGPL-3.0-only

package ownership

import (
	"cmp"
	"slices"
)

// A group whose owner is gone is stolen by who needs it. So that its nodes do not end each other's ballots, each group has an
// order of its own over the live nodes of its home; each node waits for those before it to have had their try.

// hashOf is FNV-1a of the name, with its bits spread.
func hashOf(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return mix(h)
}

// mix is the finalizer of MurmurHash3.
func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

// before reports whether a comes before o in the group's order: rendezvous hashing, so that a node that comes or goes moves
// no other.
func before(group uint64, a, o NodeID) bool {
	return rank(group, a, o) < 0
}

func rank(group uint64, a, o NodeID) int {
	ha, ho := mix(group^mix(uint64(a))), mix(group^mix(uint64(o)))
	return cmp.Or(cmp.Compare(ho, ha), cmp.Compare(a, o))
}

// Candidates is the nodes in the group's order: who may try to steal it first, and who next. It changes nothing in nodes.
func Candidates(group string, nodes []NodeID) []NodeID {
	h := hashOf(group)
	out := slices.Clone(nodes)
	slices.SortFunc(out, func(a, o NodeID) int { return rank(h, a, o) })
	return slices.Compact(out)
}

// StealDelay is how long this node waits before it campaigns for a group whose owner is gone: its place in the group's order
// over home, which is the live nodes of the home as far as known, times rtt, the round trip that one try takes; then, after
// `failed` campaigns that failed, Options.StealBackoff doubled each time, up to Options.StealBackoffMax; and of all that up
// to a half more by jitter, which is any number, best a random one. A node that is not in home comes after all that are.
func (p *Policy) StealDelay(group string, home []NodeID, rtt Timestamp, failed int, jitter uint64) Timestamp {
	order := Candidates(group, home)
	place := slices.Index(order, p.self)
	if place < 0 {
		place = len(order)
	}
	rtt = min(max(rtt, millisecond), RTTMax)
	wait := Timestamp(place) * rtt
	if failed > 0 {
		backoff := p.options.StealBackoff
		for range min(failed-1, 40) {
			backoff = min(2*backoff, p.options.StealBackoffMax)
		}
		wait += backoff
	}
	return wait + mix(jitter)%(max(wait, rtt)/2+1)
}
