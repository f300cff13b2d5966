// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// iterCache keeps a few iterators between point reads: making one, and letting it find its tables again, costs as much as
// the seek itself. An iterator sees the state of the moment at which it was made, so it may serve another read only while
// no commit has ended since.
//
// gen counts the commits that have ended. It is read before an iterator is made, so an iterator of generation g sees all
// commits counted in g; a read that finds gen still at g has begun before any later one ended, and misses nothing that it
// must see. Each commit empties the cache, and so does a tick once a second, because an idle iterator keeps memtables and
// tables alive that have been flushed or compacted away.
//
// A snapshot has none (nil): it may be open for as long as a client leaves its transaction idle, each would keep the memtables of
// its own time in memory, and no tick comes by there.
type iterCache struct {
	gen   atomic.Uint64
	slots [4]atomic.Pointer[cachedIter]
}

// cachedIter is an iterator with pointOptions.
type cachedIter struct {
	*pebble.Iterator
	gen uint64
}

// take gives an iterator over src as it is now.
func (c *iterCache) take(src pebble.Reader) (*cachedIter, error) {
	if c == nil {
		it, err := src.NewIter(&pointOptions)
		return &cachedIter{Iterator: it}, err
	}
	gen := c.gen.Load()
	for i := range c.slots {
		if c.slots[i].Load() == nil {
			continue
		}
		if it := c.slots[i].Swap(nil); it != nil {
			if it.gen == gen {
				return it, nil
			}
			if err := it.Close(); err != nil {
				return nil, err
			}
		}
	}
	it, err := src.NewIter(&pointOptions)
	if err != nil {
		return nil, err
	}
	return &cachedIter{Iterator: it, gen: gen}, nil
}

// give takes an iterator back. It must not be used afterwards.
func (c *iterCache) give(it *cachedIter) error {
	if c != nil && it.Error() == nil && it.gen == c.gen.Load() {
		for i := range c.slots {
			if c.slots[i].CompareAndSwap(nil, it) {
				if it.gen == c.gen.Load() {
					return nil
				}
				// A commit has ended, and may have emptied the cache before.
				if it = c.slots[i].Swap(nil); it == nil {
					return nil
				}
				break
			}
		}
	}
	return it.Close()
}

// committed notes that a commit has ended.
func (c *iterCache) committed() error {
	c.gen.Add(1)
	return c.empty()
}

// empty closes what is kept.
func (c *iterCache) empty() (err error) {
	for i := range c.slots {
		if c.slots[i].Load() == nil {
			continue
		}
		if it := c.slots[i].Swap(nil); it != nil {
			if cerr := it.Close(); err == nil {
				err = cerr
			}
		}
	}
	return err
}
