// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"bytes"
	"slices"

	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/storage"
	"github.com/atlas-edge/atlas/internal/failpoint"
	"github.com/atlas-edge/atlas/internal/invariants"
)

// writer puts the effects of a round's commands in a group into a batch. Where versions of the group may carry stamps the first effect waits
// in sole, if it is a put, until it is known whether there is another.
type writer struct {
	batch   *storage.Batch
	g       *group
	changed []change
	err     error

	effects  int
	sole     pending
	waits    bool // sole is the only effect so far, and not in the batch yet
	unfolded bool
	counted  bool // keys is the number of the group's keys on the disk
	keys     int
}

// change is a key of the batch at hand, by its rest, which is part of the command's encoding.
type change struct {
	rest []byte
	at   Timestamp
}

// pending is a version to be stored.
type pending struct {
	rest    []byte
	at      Timestamp
	version storage.Version
}

var _ command.Writer = (*writer)(nil)

func (w *writer) Put(rest []byte, at Timestamp, seq uint32, v command.Version) {
	w.changed = append(w.changed, change{rest, at})
	p := pending{rest: rest, at: at, version: storage.Version{
		Time: at, Seq: seq, Value: v.Value, Size: int64(len(v.Value)), Expires: v.Expires, WormUntil: v.WormUntil,
	}}
	if w.effects == 0 && w.g.crowd == 0 && w.g.small.Small && w.g.small.Carried < storage.CarriedMax {
		invariants.Check(seq == 0, "the first effect of a round has seq %d", seq) // as a version with a stamp says
		w.effects, w.sole, w.waits = 1, p, true
		return
	}
	w.effect()
	w.store(&p)
}

func (w *writer) Delete(rest []byte, at Timestamp, seq uint32, kind command.ChangeKind) {
	w.changed = append(w.changed, change{rest, at})
	w.effect()
	w.batch.PutVersion(w.g.name, rest, at, seq, storage.Version{Time: at, Seq: seq, Deleted: true, Expired: kind == command.ChangeExpire})
}

func (w *writer) SetGrants(o authz.Object, g *authz.Grants) {
	w.effect()
	if g == nil {
		w.batch.DeleteState(o.Group, o.StateName())
		return
	}
	w.batch.SetState(o.Group, o.StateName(), g.AppendTo(nil))
}

func (w *writer) SetState(s command.GroupState) {
	w.effect()
	w.g.state = s
	w.batch.SetState(w.g.name, command.StateName, s.AppendTo(nil))
}

// effect counts an effect that no stamp can stand for.
func (w *writer) effect() {
	w.effects++
	w.unfold()
}

// unfold prepares the batch for a record that is stored by itself: the index gets what it lacks, and then the batch the effect that waits.
func (w *writer) unfold() {
	if w.unfolded {
		return
	}
	w.unfolded = true
	if w.g.small.Carried > 0 && !failpoint.Enabled(failpoint.ReplicationForgetIndex) {
		w.keys, w.err = w.batch.IndexCarried(w.g.name)
		w.counted = true
	}
	if w.waits {
		w.waits = false
		w.store(&w.sole)
	}
}

func (w *writer) store(p *pending) {
	w.batch.PutVersion(w.g.name, p.rest, p.at, p.version.Seq, p.version)
}

// keysWritten is the number of different keys that were written; one more than a small group may have if there are more.
func (w *writer) keysWritten() (n int) {
	var keys [storage.SmallKeysMax + 1][]byte
	for i := range w.changed {
		rest := w.changed[i].rest
		if slices.ContainsFunc(keys[:n], func(k []byte) bool { return bytes.Equal(k, rest) }) {
			continue
		}
		keys[n] = rest
		if n++; n == len(keys) {
			break
		}
	}
	return n
}

// crowdRounds is for how many rounds no stamp is given to a group that had more than one effect in a round: to enter what stamps stood for into the
// index takes a read, which does not pay for a stamp or two.
const crowdRounds = 8

// recountEvery is after how many commands a group that is not small is looked at again.
const recountEvery = 256

// settle writes the group's acceptor record, or with the only version that was written a stamp instead.
func (l *loop) settle(in *inRound, w *writer) error {
	g, rec := in.g, in.ready.Record
	if rec == nil {
		w.unfold()
		return w.err
	}
	shape, like := shapeOf(rec)
	alone := len(in.ready.Committed) == 1 || failpoint.Enabled(failpoint.ReplicationStampSeveral)
	if w.waits && like && alone && shape == *g.shape && storage.MayCarry(&w.sole.version) {
		g.small.Carried++
		l.record = appendStamp(l.record[:0], rec)
		w.batch.PutCarrying(g.name, w.sole.rest, w.sole.at, w.sole.version, l.record, g.small.Carried)
		l.r.metrics.Carried.Add(1)
		return nil
	}
	if w.unfold(); w.err != nil {
		return w.err
	}
	g.crowd = max(g.crowd-1, 0)
	if w.effects > 1 {
		g.crowd = crowdRounds
	}
	small, err := storage.Smallness{}, error(nil)
	if like {
		small, err = l.smallness(rec, len(in.ready.Committed), w)
	}
	if err != nil {
		return err
	}
	l.record = rec.Append(l.record[:0])
	if g.small = small; small.Small {
		g.shape = l.shapes.keep(&shape)
		w.batch.SetSmallRecord(g.name, l.record, rec.LastTime, small.Keys)
	} else {
		w.batch.SetRecord(g.name, l.record)
	}
	return nil
}

// smallness says what becomes of a group whose record is stored by itself, after so many commands.
func (l *loop) smallness(rec *consensus.Record, commands int, w *writer) (storage.Smallness, error) {
	store, before := l.r.opts.Store, rec.Last-consensus.Slot(commands)
	count := func() (int, error) { return store.CountKeys(w.g.name, storage.SmallKeysMax+1) }
	var keys int
	var err error
	switch {
	case w.counted:
		keys = w.keys
	case w.g.small.Small:
		if keys = w.g.small.Keys; keys+w.keysWritten() > storage.SmallKeysMax {
			keys, err = count() // as many are new to it as were written, at most
		}
	case before == 0: // never written
	case before/recountEvery != rec.Last/recountEvery:
		keys, err = count()
	default:
		return storage.Smallness{}, nil
	}
	if keys += w.keysWritten(); err != nil || keys > storage.SmallKeysMax {
		return storage.Smallness{}, err
	}
	return storage.Smallness{Small: true, Keys: keys}, nil
}
