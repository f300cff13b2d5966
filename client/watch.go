// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// EventKind says what happened to a key.
type EventKind string

// The kinds of events.
const (
	EventPut    EventKind = "PUT"
	EventDelete EventKind = "DEL"
)

// Event is a change of a key.
type Event struct {
	Kind    EventKind
	Version uint64
	Key     string
}

// WatchOptions say where a watch begins and what it does about a lost connection.
type WatchOptions struct {
	// After is the version after which to begin; nil: with what happens from now on.
	After *uint64
	// NoResume: end with the error when the connection is lost, rather than going on from the last event.
	NoResume bool
}

// Watch iterates over the changes to the keys of a table or table.prefix, in the order of their versions, until ctx ends or
// the consumer stops. It has a connection of its own. When that is lost it connects anew, with growing pauses, and goes on
// after the last event: none is missed and none comes twice. If it was lost before there was anything to go on from
// (ErrUnavailable), or the server no longer keeps what comes next (ErrNotFound), the iteration ends with the error. The end of
// ctx is its last error.
func (c *Client) Watch(ctx context.Context, prefix string, o WatchOptions) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		w := &watch{client: c, prefix: prefix, from: o.After, yield: yield}
		for {
			err := w.run(ctx)
			if w.stopped {
				return
			}
			var lost *lostError
			again := errors.As(err, &lost) || errors.Is(err, ErrUnavailable)
			switch {
			case ctx.Err() != nil:
				err = context.Cause(ctx)
			case c.stop.Err() != nil:
				err = errClosed()
			case again && !o.NoResume && w.from != nil:
				if pause(ctx, c.stop, w.backOff(c.opts.BackOffMax)) {
					continue
				}
				err = context.Cause(ctx)
			case lost != nil:
				err = &Error{Class: wire.Unavailable, Text: "watch", Cause: lost}
			}
			yield(Event{}, err)
			return
		}
	}
}

// watch is the state of a Watch across its connections.
type watch struct {
	client   *Client
	prefix   string
	from     *uint64             // where to go on; nil: nothing is known yet
	last     uint64              // the version of the last event, 0 before the first
	seen     map[string]struct{} // keys of events of version last
	yield    func(Event, error) bool
	stopped  bool
	failures int // since the last event
}

func (w *watch) backOff(most time.Duration) time.Duration {
	w.failures++
	if w.failures == 1 {
		return 0
	}
	return min(backOffMin<<min(w.failures, 20), most)
}

// pause waits, and tells whether it waited to the end.
func pause(ctx, stop context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
	case <-stop.Done():
	}
	return false
}

// run watches on one connection until it fails or the consumer stops.
func (w *watch) run(ctx context.Context) error {
	cl := newCall("[ID:1] WATCH")
	defer cl.release()
	cl.key(w.prefix)
	if w.from != nil {
		cl.literal(" FROM")
		cl.unsigned(*w.from)
	}
	if cl.err != nil {
		return cl.err
	}
	rc, err := w.client.acquire(ctx)
	if err != nil {
		return err
	}
	defer w.client.giveBack(rc)
	release := rc.guard(ctx)
	defer func() { _ = release() }() // the connection is spoilt in any case
	defer rc.spoil(ErrClosed)        // a watch ends with its connection
	rc.r = wire.NewReader(rc.nc, true)
	if err := rc.send(cl); err != nil {
		return err
	}
	for !w.stopped {
		f, err := rc.next()
		if err != nil {
			return err
		}
		if f.End() {
			if err := cl.finish(f); err != nil {
				return err
			}
			return &lostError{sent: true, cause: errors.New("the server ended the watch")}
		}
		if err := w.take(string(f.Text)); err != nil {
			return err
		}
	}
	return nil
}

// take reads one line of a watch.
func (w *watch) take(line string) error {
	words := strings.SplitN(line, " ", 4)
	if len(words) != 4 || words[0] != "EVENT" || words[1] != string(EventPut) && words[1] != string(EventDelete) {
		return protocolError("WATCH sent %q", wire.Visible(shorten(line)))
	}
	version, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil || version == 0 {
		return protocolError("WATCH sent version %q", wire.Visible(shorten(words[2])))
	}
	key, ok := wire.ParseKey([]byte(words[3]))
	if !ok {
		return protocolError("WATCH sent key %q", wire.Visible(shorten(words[3])))
	}
	e := Event{Kind: EventKind(words[1]), Version: version, Key: key}
	if version < w.last {
		return nil // seen before the connection was lost
	}
	if version > w.last {
		w.last, w.seen = version, make(map[string]struct{}, 1)
		from := version - 1 // the command of this version may have more events: it is asked for again, and what was seen dropped
		w.from = &from
	} else if _, twice := w.seen[e.Key]; twice {
		return nil
	}
	if len(w.seen) >= versionEventsMax {
		return protocolError("WATCH sent more than %d events of version %d", versionEventsMax, version)
	}
	w.seen[e.Key] = struct{}{}
	w.failures = 0
	if !w.yield(e, nil) {
		w.stopped = true
	}
	return nil
}
