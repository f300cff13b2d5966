// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/replication"
	"github.com/atlas-edge/atlas/engine/storage"
)

const (
	// watchBatchMax bounds the events that a watch reads from storage at once.
	watchBatchMax = 256
	// watchBatchBytes is how much of keys a watch holds, in bytes, before it leaves a version that it has begun: a transaction's
	// may be as large as the transaction, and a watch that goes on within a version passes over what it has given.
	watchBatchBytes = 256 << 10
	// watchPassMax is how many batches of changes of other keys, or of hidden ones, are passed over between two looks at the context. It is
	// more than one, because what is there already is given also to those who do not want to wait.
	watchPassMax = 16
	// watchIdle is how often a watch of a quiet group moves on to the present, so that history does not end behind it.
	watchIdle = time.Minute
)

// Watch gives the changes of a table or a prefix, in the order of the group's log, each once. It is for one goroutine.
//
// It is a tail of the change index: it reads what is durable behind its last event, and when there is nothing, waits for the hub.
// A watch that is not read keeps no events in memory. Its place in history is valid as long as the changes behind it are kept
// (the retention); past that Next says so, and nothing is skipped in silence.
type Watch struct {
	e         *Engine
	principal string
	group     string
	prefix    []byte // of the rest
	after     uint64 // the changes up to this version were read
	partly    int    // and so many of the version behind it
	ready     []Event
	closed    bool
}

// Watch begins to watch `table` or `table.prefix`. The Watch must be closed.
func (s *Session) Watch(_ context.Context, r WatchRequest) (*Watch, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	k, err := key.ParsePrefix(r.Prefix)
	if err != nil {
		return nil, keyError(err)
	}
	if s.txn != nil {
		return nil, Errorf(ClassInvalid, "a watch cannot begin inside a transaction")
	}
	w := &Watch{e: s.e, principal: s.principal, group: k.Group(), prefix: bytes.Clone(k.Rest())}
	w.e.hub.subscribe(w.group)
	view, err := s.e.replicator.ReadView(w.group)
	if err != nil {
		w.e.hub.unsubscribe(w.group)
		return nil, s.e.readError(err)
	}
	w.after = settled(view)
	if r.From != nil {
		w.after = *r.From // also one yet to come: what is between is not after it
		if err := w.e.checkHistory(w.group, w.after); err != nil {
			w.e.hub.unsubscribe(w.group)
			return nil, err
		}
	}
	return w, nil
}

// settled is the time up to which a group has no change that the view does not show: what is not visible at At comes at Now or later.
func settled(v replication.ReadView) uint64 { return max(v.At+1, v.Now) - 1 }

// checkHistory refuses a place in a group's history behind which changes may be gone. It is not found rather than unavailable: trying
// again does not bring them back.
func (e *Engine) checkHistory(group string, after uint64) error {
	swept, err := e.store.SweptTo()
	if err != nil {
		return e.readError(err)
	}
	if after >= swept {
		return nil
	}
	// Looked at last: a group that was not written up to now had nothing that could be gone.
	record, _, err := e.replicator.Record(group)
	if err != nil {
		return e.readError(err)
	}
	if record.LastTime > after {
		return Errorf(ClassNotFound, "changes after version %d are no longer all kept: the oldest version to watch from is now %d", after, swept)
	}
	return nil
}

// Next gives the next event, waiting for it until ctx ends.
func (w *Watch) Next(ctx context.Context) (Event, error) {
	if w.closed {
		return Event{}, Errorf(ClassInvalid, "the watch is closed")
	}
	var passed passing
	for fresh := false; ; {
		if len(w.ready) == 0 {
			if fresh { // all of them were hidden from the caller
				if err := passed.one(ctx); err != nil {
					return Event{}, w.e.readError(err)
				}
			}
			if err := w.await(ctx, &passed); err != nil {
				return Event{}, err
			}
			fresh = true
		}
		ev := w.ready[0]
		w.ready = w.ready[1:]
		// Asked when the event is handed out, not when it was read: a revoke in between counts.
		gate, err := w.e.access(w.principal, w.group)
		if err != nil {
			return Event{}, err
		}
		err = gate.key(authz.VerbRead, ev.Key[len(w.group):])
		if err == nil {
			return ev, nil
		}
		if !errors.Is(err, ErrDenied) {
			return Event{}, w.e.readError(err)
		}
	}
}

// passing counts the batches of changes of which a call of Next gave none.
type passing int

// one counts a batch, and says now and then whether the call is still waited for.
func (p *passing) one(ctx context.Context) error {
	if *p++; *p%watchPassMax == 0 {
		return ctx.Err()
	}
	return nil
}

// await fills ready, waiting for changes of the group when there are none.
func (w *Watch) await(ctx context.Context, passed *passing) error {
	var idle *time.Timer
	for {
		moved := w.e.hub.moved(w.group) // before looking, so that no advance falls in between
		more, err := w.read()
		if err != nil || len(w.ready) > 0 {
			return err
		}
		if more {
			if err := passed.one(ctx); err != nil {
				return w.e.readError(err)
			}
			continue
		}
		if idle == nil {
			idle = time.NewTimer(watchIdle)
			defer idle.Stop()
		}
		select {
		case <-moved:
		case <-idle.C:
			idle.Reset(watchIdle)
		case <-ctx.Done():
			return w.e.readError(ctx.Err())
		case <-w.e.done:
			return w.e.Ready()
		case <-w.e.closing:
			return Errorf(ClassUnavailable, "the node is stopping")
		}
	}
}

// read takes the next durable changes in. It returns false when it has come up to the present.
func (w *Watch) read() (more bool, err error) {
	view, err := w.e.replicator.ReadView(w.group)
	if err != nil {
		return false, w.e.readError(err)
	}
	if view.At <= w.after {
		// Nothing is new, but time goes on, and history must not end behind a watch that waits.
		w.after = max(w.after, settled(view))
		return false, nil
	}
	changes, err := w.e.store.Changes(w.group, w.after)
	if err != nil {
		return false, w.e.readError(err)
	}
	defer closeQuietly(changes)
	// After the scan was opened: what it sees was not collected if the history is whole now.
	if err := w.e.checkHistory(w.group, w.after); err != nil {
		return false, err
	}
	w.ready = w.ready[:0]
	skip, at, nth := w.partly, uint64(0), 0 // nth change of version at
	held := 0
	for n := 0; changes.Next(); {
		c := changes.Change()
		if c.Time > view.At {
			break // written, not durable
		}
		if c.Time != at {
			at, nth = c.Time, 0
		}
		nth++
		if nth <= skip {
			continue
		}
		skip = 0
		if n++; n > watchBatchMax && (nth == 1 || held > watchBatchBytes) {
			w.after, w.partly = at-1, nth-1
			return true, nil
		}
		if bytes.HasPrefix(c.Rest, w.prefix) {
			w.ready = append(w.ready, w.event(c))
			held += len(w.group) + len(c.Rest)
		}
	}
	if err := changes.Err(); err != nil {
		return false, w.e.readError(err)
	}
	w.after, w.partly = settled(view), 0
	return false, nil
}

func (w *Watch) event(c storage.Change) Event {
	kind := EventDelete
	if c.Kind == storage.ChangePut {
		kind = EventPut
	}
	return Event{Kind: kind, Version: c.Time, Key: key.FromParts(w.group, c.Rest)}
}

// Close ends the watch. It may be called twice.
func (w *Watch) Close() error {
	if !w.closed {
		w.closed = true
		w.e.hub.unsubscribe(w.group)
	}
	return nil
}
