// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"slices"
	"strings"
	"time"
)

// overlay is what a transaction has written and not committed, by rest of key, in order.
//
// Every write gets the next number. A key's writes form a chain, newest first, so that a reader may be held at an earlier number (a
// statement must not see its own writes) and a rollback only pops. The log holds the keys in the order of their writes.
type overlay struct {
	keys   []string // sorted; those with at least one write in the chain
	newest map[string]*pending
	log    []string
	bytes  int
}

// pending is one uncommitted write.
type pending struct {
	number  int // its place in the log, from 1
	earlier *pending
	deleted bool
	value   []byte
	ttl     time.Duration
	expires uint64
	wormTTL time.Duration
	worm    uint64
}

// writeOnce says whether the write, if there is one, is to stay as it is, until it is taken back. Its time has yet to begin.
func (p *pending) writeOnce() bool { return p != nil && (p.wormTTL != 0 || p.worm != 0) }

func newOverlay() *overlay { return &overlay{newest: make(map[string]*pending)} }

// put adds a write and takes the value over.
func (o *overlay) put(rest string, p pending) {
	p.number = len(o.log) + 1
	p.earlier = o.newest[rest]
	if p.earlier == nil {
		at, _ := slices.BinarySearch(o.keys, rest)
		o.keys = slices.Insert(o.keys, at, rest)
	}
	o.newest[rest] = &p
	o.log = append(o.log, rest)
	o.bytes += len(rest) + len(p.value)
}

// get gives the newest write of the key with a number of at most limit.
func (o *overlay) get(rest string, limit int) *pending {
	p := o.newest[rest]
	for p != nil && p.number > limit {
		p = p.earlier
	}
	return p
}

// mark is the number of the newest write.
func (o *overlay) mark() int { return len(o.log) }

// rollback takes every write above the mark back.
func (o *overlay) rollback(mark int) {
	for len(o.log) > mark {
		rest := o.log[len(o.log)-1]
		o.log = o.log[:len(o.log)-1]
		p := o.newest[rest]
		o.bytes -= len(rest) + len(p.value)
		if p.earlier != nil {
			o.newest[rest] = p.earlier
			continue
		}
		delete(o.newest, rest)
		if at, ok := slices.BinarySearch(o.keys, rest); ok {
			o.keys = slices.Delete(o.keys, at, at+1)
		}
	}
}

// seek gives the index of the first key at or above rest, in the order of the keys.
func (o *overlay) seek(rest string) int {
	at, _ := slices.BinarySearchFunc(o.keys, rest, strings.Compare)
	return at
}
