// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"github.com/atlas-edge/atlas/engine"
)

// watching is a running watch of a connection.
type watching struct {
	w      watch
	cancel context.CancelFunc
	asked  atomic.Bool   // by UNWATCH, QUIT or the end of the client's sending: it ends with OK
	done   chan struct{} // closed after its last line was handed over, an error too
}

// stop ends the watch as its client asked, and waits until its last line was handed over.
func (w *watching) stop() {
	w.asked.Store(true)
	w.cancel()
	<-w.done
}

// startWatch begins a watch before the connection's next command is read, and lets it run aside.
func (c *conn) startWatch(q *request, id []byte) error {
	if len(c.watches) >= WatchesMax {
		return engine.Errorf(engine.ClassTooLarge, "connection has %d watches, the limit", len(c.watches))
	}
	r := engine.WatchRequest{Prefix: q.cmd.key}
	if q.cmd.hasVersion {
		r.From = &q.cmd.ifVersion
	}
	w, err := q.sess.Watch(q.ctx, r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(q.ctx)
	q.ctx = ctx
	q.watch = &watching{w: w, cancel: cancel, done: make(chan struct{})}
	if c.watches == nil {
		c.watches = make(map[string]*watching)
	}
	c.watches[string(id)] = q.watch
	return nil
}

// runWatch sends events until the watch ends. Those that are there already go out together. The caller closes done when the error
// is told, if there is one.
func (q *request) runWatch() error {
	w := q.watch
	defer w.cancel()
	err := q.events(w)
	if closing := w.w.Close(); err == nil {
		err = closing
	}
	switch {
	case w.asked.Load():
		q.ok()
		return nil
	case q.c.srv.draining.Load() || errors.Is(err, context.Canceled):
		return engine.Errorf(engine.ClassUnavailable, "the server is stopping")
	}
	return err
}

// events sends events until ctx ends: those that are there already go out together, and after UNWATCH those that are there
// still do.
func (q *request) events(w *watching) error {
	wait := false
	for left := unwatchEvents; left > 0; {
		asked := w.asked.Load() // before the look, which finds all that came before the question then
		if asked {
			left--
			wait = false
		}
		ctx := q.c.srv.over
		if wait {
			ctx = q.ctx
		}
		ev, err := w.w.Next(ctx)
		switch {
		case err == nil:
			wait = false
			q.event(ev)
		case asked:
			return nil
		case q.ctx.Err() != nil && !w.asked.Load(): // in this order: it is asked before its context ends
			return q.ctx.Err()
		case w.asked.Load(): // meanwhile: it looks once more
		case wait:
			return err
		default:
			// There is no more at once, or it was something else that the next call says again.
			q.c.out.flush()
			wait = true
		}
	}
	return nil
}

func (q *request) event(ev engine.Event) {
	b := append(q.c.out.begin(), q.tag...)
	if ev.Kind == engine.EventDelete {
		b = append(b, "EVENT DEL "...)
	} else {
		b = append(b, "EVENT PUT "...)
	}
	b = append(strconv.AppendUint(b, ev.Version, 10), ' ')
	q.end(append(appendKey(b, ev.Key), crlf...))
}

// unwatch ends a watch by the id in the command, or by the command's own.
func (q *request) unwatch() error {
	id, tag := q.cmd.name, q.id()
	if len(id) == 0 {
		if id = tag; id == nil {
			return usageError("UNWATCH <id>, or [ID:<id>] UNWATCH")
		}
	}
	w := q.c.watches[string(id)]
	if w == nil || w.ended() {
		return engine.Errorf(engine.ClassNotFound, "no watch has the id %s", show(id))
	}
	w.stop()
	delete(q.c.watches, string(id))
	if !bytes.Equal(id, tag) { // else the watch's last line answers both
		q.ok()
	}
	return nil
}

// ended says whether the watch has sent its last line.
func (w *watching) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

// dropEnded forgets watches that ended by themselves. The map belongs to the reading goroutine.
func (c *conn) dropEnded() {
	for id, w := range c.watches {
		if w.ended() {
			delete(c.watches, id)
		}
	}
}
