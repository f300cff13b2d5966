// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"errors"
	"fmt"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
)

// What a disk does to a node.
var (
	errFull = errors.New("disk is full")
	errSync = errors.New("sync failed")
)

// logged is one entry as it lies on a disk.
type logged struct {
	bytes []byte
	entry consensus.Entry // what bytes say
}

// image is what a disk holds of one group: a record, a log without gaps, and the state.
type image struct {
	record  []byte // nil: none was ever written
	rec     consensus.Record
	first   consensus.Slot // of log
	log     []logged
	machine *machine
}

func (im *image) clone() *image {
	c := *im
	c.log = slices.Clone(im.log)
	c.machine = im.machine.clone()
	return &c
}

// last is the slot of the last entry in the log; first-1 if there is none.
func (im *image) last() consensus.Slot { return im.first + consensus.Slot(len(im.log)) - 1 }

// at is the entry in a slot, nil if the log has none.
func (im *image) at(s consensus.Slot) *logged {
	if s < im.first || s > im.last() {
		return nil
	}
	return &im.log[s-im.first]
}

// groupWrite is the part of a batch that one group asked for.
type groupWrite struct {
	group        int
	record       []byte
	rec          consensus.Record
	snapshot     *machine // replaces state and log
	truncateFrom consensus.Slot
	compactTo    consensus.Slot
	entries      []logged
	committed    []consensus.Entry
}

// batch is written whole or not at all, but for Options.Torn. Fields of the node itself are absolute, and kept if they are higher.
type batch struct {
	groups    []groupWrite
	epoch     uint64
	minCfg    uint64
	minEpochs []minEpoch
	clock     consensus.Timestamp
}

// minEpoch says that a node is not supported at an epoch below this.
type minEpoch struct {
	node  consensus.NodeID
	epoch uint64
}

func (b *batch) empty() bool {
	return len(b.groups) == 0 && b.epoch == 0 && b.minCfg == 0 && len(b.minEpochs) == 0 && b.clock == 0
}

// nodeImage is what a disk holds of the node itself.
type nodeImage struct {
	epoch     uint64
	minCfg    uint64
	minEpochs []minEpoch          // by node
	clock     consensus.Timestamp // the hybrid logical clock is never below, once it was started again
}

func (ni *nodeImage) clone() nodeImage {
	c := *ni
	c.minEpochs = slices.Clone(ni.minEpochs)
	return c
}

func (ni *nodeImage) raise(m minEpoch) {
	i, found := slices.BinarySearchFunc(ni.minEpochs, m.node, func(a minEpoch, n consensus.NodeID) int {
		return int(a.node) - int(n)
	})
	if !found {
		ni.minEpochs = slices.Insert(ni.minEpochs, i, m)
		return
	}
	ni.minEpochs[i].epoch = max(ni.minEpochs[i].epoch, m.epoch)
}

// contents is one view of a disk.
type contents struct {
	node   nodeImage
	groups []*image // nil: no key of the group was ever written
}

// write does a batch. applied is told the result of each entry that the batch applies; it may be nil.
func (c *contents) write(w *World, b *batch, applied func(g int, e *consensus.Entry, r result, effective bool)) error {
	c.node.epoch = max(c.node.epoch, b.epoch)
	c.node.minCfg = max(c.node.minCfg, b.minCfg)
	c.node.clock = max(c.node.clock, b.clock)
	for _, m := range b.minEpochs {
		c.node.raise(m)
	}
	for i := range b.groups {
		gw := &b.groups[i]
		im := c.groups[gw.group]
		if im == nil {
			im = &image{first: 1, machine: newMachine(w.o.sessionLife())}
			c.groups[gw.group] = im
		}
		if err := im.write(gw, applied); err != nil {
			return fmt.Errorf("group %d: %w", gw.group, err)
		}
	}
	return nil
}

func (im *image) write(gw *groupWrite, applied func(g int, e *consensus.Entry, r result, effective bool)) error {
	if gw.snapshot != nil {
		im.machine = gw.snapshot.clone()
		im.log, im.first = nil, gw.rec.First
	}
	if s := gw.truncateFrom; s != 0 && s <= im.last() {
		im.log = im.log[:max(s, im.first)-im.first]
	}
	if n := len(gw.entries); n > 0 {
		if lo := gw.entries[0].entry.Slot; len(im.log) == 0 {
			im.first = lo
		} else if lo != im.last()+1 {
			return fmt.Errorf("log %d..%d is continued at slot %d", im.first, im.last(), lo)
		}
		im.log = append(im.log, gw.entries...)
	}
	if s := gw.compactTo; s >= im.first {
		im.log = slices.Clone(im.log[min(s-im.first+1, consensus.Slot(len(im.log))):])
		im.first = s + 1
	}
	for i := range gw.committed {
		r, effective, err := im.machine.apply(&gw.committed[i])
		if err != nil {
			return err
		}
		if applied != nil {
			applied(gw.group, &gw.committed[i], r, effective)
		}
	}
	if gw.record != nil {
		im.record, im.rec = gw.record, gw.rec
	}
	return nil
}

// disk is the model of a disk: what is written is seen at once, and is sure to outlive a crash only once it is synced. A crash
// keeps a beginning of what was not.
type disk struct {
	durable, view contents
	pending       []batch
	fullUntil     Time
	slowUntil     Time
	failNext      bool // the next sync fails
}

func newDisk(groups int) *disk {
	d := &disk{}
	d.durable.groups, d.view.groups = make([]*image, groups), make([]*image, groups)
	return d
}

// crashDisk keeps the first `keep` batches of what was not synced, and of the next what it wrote of the node and of its first `torn`
// groups: what one group wrote is there whole or not at all (duty 1), and what it rests on with it. It returns how many batches
// it lost. Requires: keep <= len(pending), and keep < len(pending) if torn > 0.
func (n *node) crashDisk(keep, torn int) (lost int, err error) {
	d := n.disk
	for i := range d.pending[:keep] {
		if err := n.harden(&d.pending[i]); err != nil {
			return 0, err
		}
	}
	if torn > 0 {
		part := d.pending[keep]
		part.groups = part.groups[:torn]
		if err := n.harden(&part); err != nil {
			return 0, err
		}
	}
	gone := d.pending[keep:]
	for i := range gone {
		for _, gw := range gone[i].groups {
			d.view.groups[gw.group] = nil
		}
	}
	for g, im := range d.durable.groups {
		if im != nil && d.view.groups[g] == nil {
			d.view.groups[g] = im.clone()
		}
	}
	d.view.node = d.durable.node.clone()
	d.pending = nil
	return len(gone), nil
}

// harden makes one batch durable, and tells the checker.
func (n *node) harden(b *batch) error {
	sealed := n.disk.durable.node.minCfg // what this batch seals, its votes may have come before
	if err := n.disk.durable.write(n.w, b, nil); err != nil {
		return err
	}
	for i := range b.groups {
		n.w.check.durable(n, sealed, &b.groups[i], n.disk.durable.groups[b.groups[i].group])
	}
	return nil
}

// write puts a batch on the disk, unsynced.
func (n *node) write(b batch, applied func(g int, e *consensus.Entry, r result, effective bool)) error {
	d := n.disk
	if n.w.now < d.fullUntil {
		n.w.stats.DiskFull++
		return errFull
	}
	if err := d.view.write(n.w, &b, applied); err != nil {
		return err
	}
	d.pending = append(d.pending, b)
	return nil
}

// sync makes all that is written durable, or fails: then the node must stop, since nobody knows what is on the disk.
func (n *node) sync() error {
	d := n.disk
	if d.failNext {
		d.failNext = false
		n.w.stats.SyncsFailed++
		return errSync
	}
	for i := range d.pending {
		if err := n.harden(&d.pending[i]); err != nil {
			return err
		}
	}
	d.pending = d.pending[:0]
	return nil
}

// syncTime is how long a sync takes now.
func (n *node) syncTime() Time {
	t := n.w.o.SyncTime/2 + n.w.rndDisk.upTo(n.w.o.SyncTime)
	if n.w.now < n.disk.slowUntil {
		t *= 200
	}
	return t
}
