// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/atlas-edge/atlas/consensus/quorum"
)

// image is what a disk holds of the group: the record, the log, and the applied commands of the state machine.
type image struct {
	record  []byte
	log     map[Slot][]byte
	applied []Entry
}

func (im *image) clone() image {
	return image{record: im.record, log: maps.Clone(im.log), applied: slices.Clip(im.applied)}
}

// batch is one atomic write.
type batch struct {
	record    []byte
	truncate  Slot
	compact   Slot
	state     []Entry // unless nil: of a snapshot, instead of what was applied
	entries   [][]byte
	slots     []Slot
	committed []Entry
}

func (im *image) write(b *batch) {
	if b.truncate != 0 {
		maps.DeleteFunc(im.log, func(s Slot, _ []byte) bool { return s >= b.truncate })
	}
	if b.compact != 0 {
		maps.DeleteFunc(im.log, func(s Slot, _ []byte) bool { return s <= b.compact })
	}
	if b.state != nil {
		im.applied = b.state
	}
	for i, e := range b.entries {
		im.log[b.slots[i]] = e
	}
	im.applied = append(im.applied, b.committed...)
	if b.record != nil {
		im.record = b.record
	}
}

// stage is how far the node has got with the Ready that is out.
type stage uint8

const (
	idle    stage = iota
	written       // the batch is written, MsgsNow are sent
	synced        // the batch is durable, MsgsAfterSync are sent
)

// testNode is a core with a disk that keeps synced batches and, in a crash, a beginning of the others. It does a Ready in the
// stages that a caller may do it in, with the clumsiest order of duties that the contract allows.
type testNode struct {
	id      NodeID
	configs []Configuration
	home    []quorum.Region
	minCfg  uint64
	fabric  Fabric
	tuning  *Tuning
	core    *Core
	staged  []Entry // the state that came with the last Snapshot
	disk    image   // durable
	view    image   // durable and what was written since
	pending []batch
	stage   stage
	ready   Ready
	life    int

	send func(Message)
	// onDurable is told when disk has changed; onReady what the core handed out. Either may be nil.
	onDurable func(*testNode)
	onReady   func(*testNode, *Ready)
}

func newTestNode(id NodeID, q *quorum.Config, tuning *Tuning, send func(Message)) *testNode {
	return &testNode{id: id, configs: configs(1, q), tuning: tuning, send: send, disk: image{log: map[Slot][]byte{}}}
}

// start makes the core from the disk.
func (n *testNode) start() error {
	n.view, n.pending, n.stage, n.ready = n.disk.clone(), nil, idle, Ready{}
	n.life++
	var rec Record
	if n.disk.record != nil {
		var err error
		if rec, err = DecodeRecord(n.disk.record); err != nil {
			return err
		}
	}
	var tail []Entry
	for s := rec.Applied + 1; s <= rec.Last; s++ {
		e, err := DecodeEntry(n.disk.log[s])
		if err != nil {
			return fmt.Errorf("slot %d: %w", s, err)
		}
		tail = append(tail, e)
	}
	var err error
	n.core, err = New(Options{
		Self: n.id, Configurations: n.configs, MinCfg: n.minCfg, Home: n.home, Record: rec, Tail: tail, Log: n, Fabric: n.fabric, Tuning: n.tuning,
	})
	return err
}

// Entries implements Log.
func (n *testNode) Entries(lo, hi Slot, maxBytes int) ([]Entry, error) {
	var entries []Entry
	size := 0
	for s := lo; s <= hi && size <= maxBytes; s++ {
		e, err := DecodeEntry(n.view.log[s])
		if err != nil {
			return nil, fmt.Errorf("slot %d: %w", s, err)
		}
		entries = append(entries, e)
		size += len(e.Payload)
	}
	return entries, nil
}

// crash loses what was not synced, except the first `keep` batches of it.
func (n *testNode) crash(keep int) {
	for i := range n.pending[:keep] {
		n.disk.write(&n.pending[i])
	}
	n.core, n.pending, n.stage, n.staged = nil, nil, idle, nil
	if keep > 0 && n.onDurable != nil {
		n.onDurable(n)
	}
}

func (n *testNode) busy() bool { return n.core != nil && (n.stage != idle || n.core.HasReady()) }

// progress does the next stage of the Ready that is out, or takes one. With lazy, a batch that need not be durable is not.
func (n *testNode) progress(lazy bool) error {
	switch n.stage {
	case idle:
		n.ready = n.core.Ready()
		if err := n.core.Err(); err != nil {
			return err
		}
		n.write()
		for _, m := range n.ready.MsgsNow {
			n.send(m)
		}
		n.stage = written
	case written:
		if n.ready.MustSync || !lazy {
			n.sync()
		}
		for _, m := range n.ready.MsgsAfterSync {
			n.send(m)
		}
		n.stage = synced
	case synced:
		n.core.Advance()
		n.stage = idle
	}
	return n.core.Err()
}

func (n *testNode) write() {
	r := &n.ready
	if n.onReady != nil {
		n.onReady(n, r)
	}
	b := batch{truncate: r.TruncateFrom, compact: r.CompactTo}
	if r.Snapshot != nil {
		b.state = n.staged[:r.Snapshot.Slot:r.Snapshot.Slot]
	}
	if r.Record != nil {
		b.record = r.Record.Append(nil)
	}
	for i := range r.Entries {
		b.entries, b.slots = append(b.entries, r.Entries[i].AppendTo(nil)), append(b.slots, r.Entries[i].Slot)
	}
	for _, e := range r.Committed {
		e.Payload = bytes.Clone(e.Payload)
		b.committed = append(b.committed, e)
	}
	n.pending = append(n.pending, b)
	n.view.write(&b)
}

func (n *testNode) sync() {
	for i := range n.pending {
		n.disk.write(&n.pending[i])
	}
	n.pending = nil
	if n.onDurable != nil {
		n.onDurable(n)
	}
}

func (n *testNode) record() Record {
	if n.disk.record == nil {
		return Record{}
	}
	rec, err := DecodeRecord(n.disk.record)
	if err != nil {
		panic(err)
	}
	return rec
}

// layout names a configuration: one word per region, the number of its voters; `3 fn=1`, `1,1,1 fz=1`. Nodes count from 1.
func layout(regions []int, fn, fz int) *quorum.Config {
	var voters []quorum.Voter
	for z, n := range regions {
		for range n {
			voters = append(voters, quorum.Voter{Node: NodeID(len(voters) + 1), Region: quorum.Region(rune('a' + z))})
		}
	}
	q, err := quorum.New(voters, fn, fz)
	if err != nil {
		panic(err)
	}
	return q
}

func describeEntries(entries []Entry) string {
	var words []string
	for _, e := range entries {
		word := fmt.Sprintf("%d@%s:%s", e.Slot, e.Ballot, e.Payload)
		if e.Kind == StopSign {
			word += fmt.Sprintf("STOP->%d", e.Next)
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

// configs is one configuration.
func configs(version uint64, q *quorum.Config) []Configuration {
	return []Configuration{{Version: version, Quorums: q}}
}

// state is what is applied up to a slot, as it travels beside a Snapshot.
func (n *testNode) state(upTo Slot) []Entry { return slices.Clone(n.view.applied[:upTo]) }
