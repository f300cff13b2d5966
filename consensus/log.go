// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import "fmt"

// chainAt is the chain of the log at slot, if that can be said without reading the disk. From Applied on it always can.
func (c *Core) chainAt(slot Slot) (chain uint64, known bool) {
	switch {
	case slot == 0:
		return 0, true
	case slot > c.rec.Last:
		return 0, false
	case slot == c.rec.Last:
		return c.rec.LastChain, true
	case slot == c.rec.Applied:
		return c.rec.AppliedChain, true
	case slot >= c.tailFirst():
		return c.tail[slot-c.tailFirst()].Chain, true
	}
	return 0, false
}

// timeAt is the commit time of a slot of the log from Applied on; 0 before the first.
func (c *Core) timeAt(slot Slot) Timestamp {
	switch {
	case slot == c.rec.Last:
		return c.rec.LastTime
	case slot == c.rec.Applied:
		return c.rec.AppliedTime
	case slot >= c.tailFirst():
		return c.tail[slot-c.tailFirst()].Time
	}
	return 0
}

// tailFirst is the slot of the first entry in memory; Last+1 if there is none.
func (c *Core) tailFirst() Slot { return c.rec.Last + 1 - Slot(len(c.tail)) }

// overlap leaves out of m what lies at or below Commit, which both have: the rest follows on base, where m's chain is before.
func (c *Core) overlap(m *Message) (base Slot, before uint64, rest []Entry) {
	if m.Slot >= c.rec.Commit || len(m.Entries) == 0 {
		return m.Slot, m.Chain, m.Entries
	}
	n := min(c.rec.Commit-m.Slot, Slot(len(m.Entries)))
	return m.Slot + n, m.Entries[n-1].Chain, m.Entries[n:]
}

// replace makes the log after base that of the entries: what is equal stays as it is, what differs goes. What lies beyond the
// entries goes too if they are the whole log, or if they differ. Requires: the log and the entries agree at base, and
// base >= Commit.
func (c *Core) replace(base Slot, entries []Entry, whole bool) error {
	at := base
	for len(entries) > 0 && at < c.rec.Last {
		if have, _ := c.chainAt(at + 1); have != entries[0].Chain {
			break
		}
		at, entries = at+1, entries[1:]
	}
	if at < c.rec.Last && (len(entries) > 0 || whole) {
		if err := c.truncate(at); err != nil {
			return err
		}
	}
	return c.extend(entries)
}

// extend puts entries behind the log. Requires: they follow on it.
func (c *Core) extend(entries []Entry) error {
	if len(entries) > 0 && entries[0].Time <= c.rec.LastTime {
		return c.fail("slot %d of time %d follows time %d", entries[0].Slot, entries[0].Time, c.rec.LastTime)
	}
	for i := range entries {
		c.append(entries[i])
	}
	return nil
}

// truncate drops the log after slot. Requires: slot < Last.
func (c *Core) truncate(slot Slot) error {
	if slot < c.rec.Commit {
		return c.fail("log is to be cut after slot %d, and is committed to %d", slot, c.rec.Commit)
	}
	n := len(c.tail) - int(c.rec.Last-slot)
	// Entries were handed out and stay as they are: what is appended next must not land on them.
	for i := range c.tail[n:] {
		c.tailBytes -= len(c.tail[n+i].Payload)
	}
	c.tail = c.tail[:n:n]
	if slot+1 < c.unstable {
		c.unstable = slot + 1
		if c.truncateFrom == 0 || slot+1 < c.truncateFrom {
			c.truncateFrom = slot + 1
		}
	}
	c.rec.Last = slot
	if n > 0 {
		c.rec.LastTime, c.rec.LastChain = c.tail[n-1].Time, c.tail[n-1].Chain
	} else { // all of the tail went: what is left is applied
		c.rec.LastTime, c.rec.LastChain = c.rec.AppliedTime, c.rec.AppliedChain
	}
	if c.stop.slot > slot {
		c.findStop()
	}
	c.dirty, c.mustSync = true, true
	return nil
}

// keeps reports whether the log can be read from lo on, with the chain of the slot before.
func (c *Core) keeps(lo Slot) bool {
	_, known := c.chainAt(lo - 1)
	return lo >= c.rec.First && (known || lo > c.rec.First)
}

// keptFrom is the first slot from which the log can be read; Last+1 if none can.
func (c *Core) keptFrom() Slot {
	if c.keeps(c.rec.First) {
		return c.rec.First
	}
	return c.rec.First + 1
}

// read returns slots from lo on, at most to hi, about Tuning.MessageBytes of them, and the chain of the slot before. Requires:
// keeps(lo), lo <= hi <= Last.
func (c *Core) read(lo, hi Slot) (before uint64, entries []Entry, err error) {
	if before, err = c.chainBefore(lo); err != nil {
		return 0, nil, err
	}
	if first := c.tailFirst(); lo < first {
		entries, err = c.readLog(lo, min(hi, first-1))
		return before, entries, err
	}
	return before, cut(c.slots(lo, hi), c.tuning.MessageBytes), nil
}

// chainBefore is the chain of the slot before lo. Requires: keeps(lo).
func (c *Core) chainBefore(lo Slot) (uint64, error) {
	if have, known := c.chainAt(lo - 1); known {
		return have, nil
	}
	entries, err := c.readLog(lo-1, lo-1)
	if err != nil {
		return 0, err
	}
	return entries[0].Chain, nil
}

// readLog reads entries that are no longer in memory. Whatever is wrong with them stops the core.
func (c *Core) readLog(lo, hi Slot) ([]Entry, error) {
	if lo < c.rec.First {
		return nil, c.fail("slot %d is wanted of a log that is kept from %d", lo, c.rec.First)
	}
	hi = min(hi, lo+EntriesPerMessageMax/2-1)
	entries, err := c.log.Entries(lo, hi, c.tuning.MessageBytes)
	if err != nil {
		c.err = fmt.Errorf("read slots %d..%d: %w", lo, hi, err)
		return nil, c.err
	}
	if n := Slot(len(entries)); n == 0 || n > hi-lo+1 || entries[0].Slot != lo || entries[n-1].Slot != lo+n-1 {
		c.err = fmt.Errorf("%w: log has not slots %d..%d but %d others", ErrCorrupt, lo, hi, n)
		return nil, c.err
	}
	return entries, nil
}

// cut returns the entries up to and with the one at which their payloads pass bytesMax, and at most half of what a message
// may hold.
func cut(entries []Entry, bytesMax int) []Entry {
	size := 0
	for i := range entries {
		if size += len(entries[i].Payload); size > bytesMax || i+1 == EntriesPerMessageMax/2 {
			return entries[: i+1 : i+1]
		}
	}
	return entries
}
