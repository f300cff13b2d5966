// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"bytes"
	"strings"

	"github.com/atlas-edge/atlas/engine/authz"
)

// Overlay is a View and a Writer: it passes writes on, to a storage batch, and remembers them, so that the later commands
// of the batch see them above a base that does not have them yet. What it shows equals, method by method, what the base
// will show once the batch is committed: how a log was cut into batches must never decide a command.
//
// Reset it when the batch is committed or dropped. It keeps the rests it is given, so these must stay unchanged until
// then. One goroutine uses it.
type Overlay struct {
	base View
	next Writer

	state      GroupState
	stateKnown bool
	written    []written // by (time, seq)
	index      index     // of the newest written[:indexed] per rest
	indexed    int
	lists      map[string]*authz.Grants // by StateName; nil = removed
}

// written is one change of the batch.
type written struct {
	rest []byte
	meta Meta
	kind ChangeKind
}

// recentMax is how many changes of a batch are searched one by one before they are indexed: many batches are that small.
const recentMax = 16

// writtenKeptMax is the number of changes up to which Reset keeps the memory for the next batch.
const writtenKeptMax = 16 << 10

var (
	_ View   = (*Overlay)(nil)
	_ Writer = (*Overlay)(nil)
)

// NewOverlay returns an empty overlay over a base, which passes writes on to next.
func NewOverlay(base View, next Writer) *Overlay { return &Overlay{base: base, next: next} }

// Reset forgets all that was remembered and takes a base and a writer for the next batch.
func (o *Overlay) Reset(base View, next Writer) {
	o.base, o.next = base, next
	o.state, o.stateKnown = GroupState{}, false
	if o.indexed > 0 {
		o.index.clear()
		o.indexed = 0
	}
	clear(o.written)
	o.written = o.written[:0]
	if cap(o.written) > writtenKeptMax {
		o.written, o.index = nil, index{}
	}
	o.lists = nil
}

// Len is the number of changes of keys remembered.
func (o *Overlay) Len() int { return len(o.written) }

// Group is the base's.
func (o *Overlay) Group() string { return o.base.Group() }

// State is what SetState set last, here or in the base, which is asked once.
func (o *Overlay) State() (GroupState, error) {
	if !o.stateKnown {
		s, err := o.base.State()
		if err != nil {
			return GroupState{}, err
		}
		o.state, o.stateKnown = s, true
	}
	return o.state, nil
}

// Latest is the newest version, of this batch or of the base.
func (o *Overlay) Latest(rest []byte) (Meta, error) {
	if len(o.written)-o.indexed > recentMax {
		o.reindex()
	}
	for i := len(o.written) - 1; i >= o.indexed; i-- {
		if bytes.Equal(o.written[i].rest, rest) {
			return o.written[i].meta, nil
		}
	}
	if o.indexed > 0 {
		if slot, found := o.index.find(rest, func(j int) bool { return bytes.Equal(o.written[j].rest, rest) }); found {
			return o.written[o.index.at(slot)].meta, nil
		}
	}
	return o.base.Latest(rest)
}

// reindex takes all changes into the index.
func (o *Overlay) reindex() {
	for ; o.indexed < len(o.written); o.indexed++ {
		if o.index.full() {
			o.index.grow(max(2*o.indexed, 4*recentMax))
			for i := range o.indexed {
				o.addToIndex(i)
			}
		}
		o.addToIndex(o.indexed)
	}
}

func (o *Overlay) addToIndex(i int) {
	slot, _ := o.index.find(o.written[i].rest, func(j int) bool { return bytes.Equal(o.written[j].rest, o.written[i].rest) })
	o.index.set(slot, i)
}

// EachChange gives the base's changes, then the batch's, which are all newer.
func (o *Overlay) EachChange(after Timestamp, fn func(Change) bool) error {
	more := true
	err := o.base.EachChange(after, func(c Change) bool {
		more = fn(c)
		return more
	})
	if err != nil || !more {
		return err
	}
	for i := range o.written {
		w := &o.written[i]
		if w.meta.Version > after && !fn(Change{Time: w.meta.Version, Kind: w.kind, Rest: w.rest}) {
			return nil
		}
	}
	return nil
}

// Grants is the list on an object, as this batch or the base has it.
func (o *Overlay) Grants(obj authz.Object) (*authz.Grants, error) {
	if len(o.lists) > 0 {
		if g, ok := o.lists[obj.StateName()]; ok {
			return g, nil
		}
	}
	return o.base.Grants(obj)
}

// EachKeyList gives the keys with lists that the base has and the batch has not removed, and those the batch has set.
func (o *Overlay) EachKeyList(tableRest []byte, fn func(rest []byte) bool) error {
	prefix := authz.KeyStatePrefix(tableRest)
	for name, g := range o.lists {
		if g != nil && strings.HasPrefix(name, prefix) && !fn([]byte(name[1:])) {
			return nil
		}
	}
	return o.base.EachKeyList(tableRest, func(rest []byte) bool {
		if _, here := o.lists["k"+string(rest)]; here {
			return true
		}
		return fn(rest)
	})
}

// Put passes on and remembers.
func (o *Overlay) Put(rest []byte, at Timestamp, seq uint32, v Version) {
	o.next.Put(rest, at, seq, v)
	meta := Meta{Version: at, Expires: v.Expires, WormUntil: v.WormUntil}
	o.written = append(o.written, written{rest: rest, meta: meta, kind: ChangePut})
}

// Delete passes on and remembers.
func (o *Overlay) Delete(rest []byte, at Timestamp, seq uint32, kind ChangeKind) {
	o.next.Delete(rest, at, seq, kind)
	o.written = append(o.written, written{rest: rest, meta: Meta{Version: at, Deleted: true}, kind: kind})
}

// SetGrants passes on and remembers.
func (o *Overlay) SetGrants(obj authz.Object, g *authz.Grants) {
	o.next.SetGrants(obj, g)
	if o.lists == nil {
		o.lists = make(map[string]*authz.Grants)
	}
	o.lists[obj.StateName()] = g
}

// SetState passes on and remembers.
func (o *Overlay) SetState(s GroupState) {
	o.next.SetState(s)
	o.state, o.stateKnown = s, true
}
