// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"
)

// walk is an iterator over plain records with an error that stays.
type walk struct {
	r       *reader
	it      *pebble.Iterator
	started bool
	err     error
}

func (r *reader) newWalk(lower, upper []byte) (walk, error) {
	if err := r.enter(); err != nil {
		return walk{}, err
	}
	it, err := r.src.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err := r.settle(err); err != nil {
		if it != nil {
			_ = it.Close() // the store has failed
		}
		r.s.gate.leave()
		return walk{}, err
	}
	return walk{r: r, it: it}, nil
}

// next gives the next record, valid until the next call.
func (w *walk) next() (k, v []byte, ok bool) {
	if w.err != nil || w.it == nil {
		return nil, nil, false
	}
	if w.started {
		ok = w.it.Next()
	} else {
		w.started = true
		ok = w.it.First()
	}
	var err error
	if ok {
		v, err = w.it.ValueAndErr()
	} else {
		err = w.it.Error()
	}
	if w.err = w.r.settle(err); w.err != nil || !ok {
		return nil, nil, false
	}
	return w.it.Key(), v, true
}

// fail ends the walk with an error of the decoder.
func (w *walk) fail(err error) bool {
	w.err = w.r.settle(err)
	return false
}

// Err is what ended the walk early, or nil.
func (w *walk) Err() error { return w.err }

// Close gives the walk back. It repeats no error of Err.
func (w *walk) Close() error {
	if w.it == nil {
		return nil
	}
	err := w.it.Close()
	w.it = nil
	w.r.s.gate.leave()
	if w.err != nil {
		return nil
	}
	return w.r.settle(err)
}

// Change is a record of the change index: what a command did to a key.
type Change struct {
	Time Timestamp
	Seq  uint32
	Kind ChangeKind
	Rest []byte // valid until the next call of Next
}

// ChangeScan walks the changes of a group in the order of (Time, Seq). It must be closed.
type ChangeScan struct {
	walk
	group   string
	after   Timestamp
	record  changeRecord
	change  Change
	indexed bool     // all that the index holds was given
	carried []Change // then those that versions stand for
}

func (r *reader) Changes(group string, after Timestamp) (*ChangeScan, error) {
	if err := checkNames(group, nil); err != nil {
		return nil, err
	}
	after = max(after, r.s.swept.now.Load())
	// after is exclusive: from the largest key that it could have.
	lower := appendChangeKey(nil, group, after, ^uint32(0))
	lower = append(lower[:len(lower)-sentinelLen], 0, 0)
	w, err := r.newWalk(lower, appendGroupEnd(nil, kindChange, group))
	if err != nil {
		return nil, err
	}
	return &ChangeScan{walk: w, group: group, after: after}, nil
}

// Next moves to the next change; false at the end and on an error, which Err gives.
func (c *ChangeScan) Next() bool {
	for {
		change, ok, err := c.record.change()
		switch {
		case err != nil:
			return c.fail(err)
		case !ok:
			if c.indexed || !c.nextRecord() {
				return c.nextCarried()
			}
		case change.Time > c.after: // the first record may begin before
			c.change = change
			return true
		}
	}
}

func (c *ChangeScan) nextRecord() bool {
	k, v, ok := c.next()
	if !ok {
		return false
	}
	_, t, seq, err := splitTimedKey(k, kindChange)
	if err == nil {
		err = c.record.open(t, seq, v)
	}
	if err != nil {
		return c.fail(err)
	}
	return true
}

// nextCarried moves to the next change that the index lacks: all are later than those that it holds.
func (c *ChangeScan) nextCarried() bool {
	if c.err != nil || c.it == nil {
		return false
	}
	if !c.indexed {
		c.indexed = true
		c.it.SetBounds(nil, nil) // the same state, and now the whole of it
		a, after, _, err := acceptorAt(c.it, c.group)
		if err == nil && a.Small {
			c.carried, _, err = carriedChanges(c.it, c.group, max(after, c.after), 0)
		}
		if c.err = c.r.settle(err); c.err != nil {
			return false
		}
	}
	if len(c.carried) == 0 {
		return false
	}
	c.change, c.carried = c.carried[0], c.carried[1:]
	return true
}

// Change is the change at hand.
func (c *ChangeScan) Change() Change { return c.change }

// GroupScan walks the acceptor records. It must be closed.
type GroupScan struct {
	walk
	group  string
	stored []byte           // the record that is stored by itself
	stamp  []byte           // memory for one
	data   *pebble.Iterator // over versions, of the same view; nil before Acceptor met a small group
	states *pebble.Iterator // over the groups' state, of the same view; nil before HasState was asked
	key    []byte
}

func (r *reader) Groups(after string) (*GroupScan, error) {
	lower := []byte{kindRecord, 0}
	if after != "" {
		lower = append(appendRecordKey(nil, after), 0)
	}
	w, err := r.newWalk(lower, []byte{kindRecord + 1, 0})
	if err != nil {
		return nil, err
	}
	return &GroupScan{walk: w}, nil
}

// Next moves to the next group; false at the end and on an error, which Err gives.
func (g *GroupScan) Next() bool {
	k, v, ok := g.next()
	if !ok {
		return false
	}
	name, _, err := cutGroup(k, kindRecord)
	if err != nil {
		return g.fail(err)
	}
	if !bytes.Equal([]byte(g.group), name) {
		g.group = string(name)
	}
	g.stored = v
	return true
}

// Group is the name of the group at hand.
func (g *GroupScan) Group() string { return g.group }

// Acceptor is what is stored of its acceptor, valid until the next call of Next.
func (g *GroupScan) Acceptor() (Acceptor, error) {
	if g.it == nil || g.err != nil {
		return Acceptor{}, g.err
	}
	a, after, err := openAcceptor(g.stored)
	if err == nil && a.Small {
		if g.data == nil {
			g.data, err = g.it.Clone(pebble.CloneOptions{IterOptions: &pointOptions})
		}
		if err == nil {
			a.Stamp = g.stamp[:0]
			err = a.advance(g.data, g.group, after)
			if g.stamp = a.Stamp; a.Carried == 0 {
				a.Stamp = nil
			}
		}
	}
	if err != nil {
		g.fail(err)
		return Acceptor{}, g.err
	}
	return a, nil
}

// HasState says whether the group at hand has state of any name, in the view that the walk is of.
func (g *GroupScan) HasState() (bool, error) {
	if g.it == nil || g.err != nil {
		return false, g.err
	}
	g.key = appendGroup(g.key[:0], kindState, g.group)
	bare := g.key
	g.key = append(g.key, 0)
	if g.states == nil {
		states, err := g.it.Clone(pebble.CloneOptions{IterOptions: &pebble.IterOptions{
			LowerBound: bytes.Clone(g.key), UpperBound: []byte{kindState + 1, 0},
		}})
		if err != nil {
			g.fail(err)
			return false, g.err
		}
		g.states = states
		states.First()
	} else if g.states.Valid() && bytes.Compare(g.states.Key(), bare) < 0 {
		g.states.SeekGE(g.key)
	}
	if err := g.states.Error(); err != nil {
		g.fail(err)
		return false, g.err
	}
	return g.states.Valid() && bytes.HasPrefix(g.states.Key(), bare), nil
}

// Close gives the walk back. It repeats no error of Err.
func (g *GroupScan) Close() error {
	var err error
	for _, it := range []*pebble.Iterator{g.states, g.data} {
		if it != nil {
			err = errors.Join(err, it.Close())
		}
	}
	g.states, g.data = nil, nil
	if err != nil && g.err == nil {
		return errors.Join(g.r.settle(err), g.walk.Close())
	}
	return g.walk.Close()
}
