// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/conformance/history"
)

// recorder gathers the history of many clients on one clock.
type recorder struct {
	start time.Time
	mu    sync.Mutex
	ops   []history.Op
}

func newRecorder() *recorder { return &recorder{start: time.Now()} }

func (r *recorder) now() int64 { return int64(time.Since(r.start)) }

func (r *recorder) add(o history.Op) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ops = append(r.ops, o)
}

func (r *recorder) all() []history.Op {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]history.Op(nil), r.ops...)
}

// keyClient is one sequential client of single keys. After an error of its connection it is done: its last operation is
// unknown.
type keyClient struct {
	c     *conn
	id    int
	table string
	keys  int
	rng   *rand.Rand
	rec   *recorder

	seq  int
	seen map[string]uint64 // version that the client knows of a key; 0 is absent
}

func (k *keyClient) key(i int) string { return fmt.Sprintf("%s.k%d", k.table, i) }

// next does one operation and records it. The error is the connection's, or an answer that no client should get.
func (k *keyClient) next() error {
	o := history.Op{Client: k.id, Key: k.key(k.rng.IntN(k.keys)), Outcome: history.Unknown}
	k.seq++
	known, looked := k.seen[o.Key]
	value := fmt.Sprintf("c%d-%d", k.id, k.seq)
	var command string
	switch n := k.rng.IntN(20); {
	case n < 8 || (!looked && n >= 14):
		o.Kind = history.Read
		command = "KEY GET " + o.Key + " VERSION"
	case n < 14:
		o.Kind, o.Value = history.Write, value
		command = "KEY WRITE " + o.Key + " VALUE " + value
	case n < 18 && known == 0:
		o.Kind, o.Value, o.Conditional = history.Write, value, true
		command = "KEY WRITE " + o.Key + " IF ABSENT VALUE " + value
	case n < 18:
		o.Kind, o.Value, o.Conditional, o.Expect = history.Write, value, true, known
		command = fmt.Sprintf("KEY WRITE %s IF VERSION %d VALUE %s", o.Key, known, value)
	case known != 0:
		o.Kind, o.Conditional, o.Expect = history.Delete, true, known
		command = fmt.Sprintf("KEY DEL %s IF VERSION %d", o.Key, known)
	default:
		return nil
	}
	return k.send(o, command)
}

// read reads one key.
func (k *keyClient) read(key string) error {
	return k.send(history.Op{Client: k.id, Key: key, Kind: history.Read, Outcome: history.Unknown}, "KEY GET "+key+" VERSION")
}

// send asks, and records what came of it.
func (k *keyClient) send(o history.Op, command string) error {
	o.Call, o.Return = k.rec.now(), history.Never
	r, err := k.c.do(command)
	if err == nil {
		o.Return = k.rec.now()
		err = k.judge(&o, r)
	}
	if o.Outcome == history.Unknown {
		o.Return = history.Never
	}
	k.rec.add(o)
	return err
}

// judge reads the answer into the operation.
func (k *keyClient) judge(o *history.Op, r reply) error {
	switch r.word() {
	case "":
		o.Outcome = history.Done
	case "conflict":
		if !o.Conditional {
			return fmt.Errorf("%v: unconditional, and answered %q", *o, r.fail)
		}
		o.Outcome = history.Refused
		delete(k.seen, o.Key)
		return nil
	case "unavailable":
		// Refused for another reason than its condition, which is no evidence about the key.
		o.Outcome, o.Conditional = history.Refused, false
		return nil
	case "unknown":
		return nil
	default:
		return fmt.Errorf("%v: answered %q", *o, r.fail)
	}
	o.Version = versionIn(r.lines)
	if o.Kind == history.Read {
		last := r.lines[len(r.lines)-1]
		if o.Value, o.Present = strings.CutPrefix(last, "VALUE:"); !o.Present {
			o.Value = ""
			if last != "NOT_FOUND" || o.Version != 0 {
				return fmt.Errorf("%v: answered %q", *o, r.lines)
			}
		}
	}
	if o.Version == 0 && (o.Kind != history.Read || o.Present) {
		return fmt.Errorf("%v: answered %q, without a version", *o, r.lines)
	}
	k.seen[o.Key] = o.Version
	if o.Kind == history.Delete {
		k.seen[o.Key] = 0
	}
	return nil
}

// singleKeys has clients read, write, compare-and-set and delete a few keys at once, and judges the history, with the
// log of changes that a watch replays, by versions and then by search. (G5, G6, G7)
func (e *env) singleKeys(ctx context.Context) error {
	const clients, keys = 8, 5
	table := e.freshTable()
	rec := newRecorder()
	from, err := e.mark(ctx, table)
	if err != nil {
		return err
	}
	err = together(clients, func(i int) error {
		return e.with(ctx, func(c *conn) error {
			k := &keyClient{c: c, id: i, table: table, keys: keys, rng: e.rng(uint64(100 + i)), rec: rec, seen: map[string]uint64{}}
			for range e.scaled(500) {
				if err := k.next(); err != nil {
					return err
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	log, err := e.replay(ctx, table, from)
	if err != nil {
		return err
	}
	return e.judge(rec.all(), log)
}

// judge runs all checkers over a history and its log. A history with no operation that a checker can judge fails.
func (e *env) judge(ops []history.Op, log []history.Change) error {
	if err := history.Assumptions(ops); err != nil {
		return err
	}
	checked, err := history.Witness(ops)
	if err != nil {
		return err
	}
	if checked == 0 {
		return errors.New("the history holds nothing to check")
	}
	resolved, err := history.Resolve(ops, log)
	if err != nil {
		return err
	}
	if _, err := history.Witness(resolved); err != nil {
		return fmt.Errorf("with unknown operations resolved: %w", err)
	}
	picture := ""
	if e.Artifacts != "" {
		picture = filepath.Join(e.Artifacts, fmt.Sprintf("history-%d.html", e.Seed))
	}
	if err := history.Linearizable(resolved, time.Minute, picture); err != nil {
		return err
	}
	e.operations.Add(int64(checked))
	return nil
}

// mark writes a row and returns its version, from which a watch can begin.
func (e *env) mark(ctx context.Context, table string) (version uint64, err error) {
	err = e.with(ctx, func(c *conn) error {
		lines, err := c.must("KEY WRITE " + table + ".mark VALUE x")
		version = versionIn(lines)
		return err
	})
	if err == nil && version == 0 {
		err = errors.New("KEY WRITE answers no version")
	}
	return version, err
}

// replay gives every change of the table after a version, up to now.
func (e *env) replay(ctx context.Context, table string, from uint64) (log []history.Change, err error) {
	until, err := e.mark(ctx, table)
	if err != nil {
		return nil, err
	}
	err = e.with(ctx, func(c *conn) error {
		w, err := c.watch(table, from)
		if err != nil {
			return err
		}
		for {
			ev, err := w.next()
			if err != nil {
				return err
			}
			if ev.Version == until {
				return nil
			}
			if ev.Key != table+".mark" {
				log = append(log, ev)
			}
		}
	})
	return log, err
}

// watcher reads the events of one watch, on a connection of its own.
type watcher struct {
	c    *conn
	tag  string
	last uint64
}

// errWatchEnded is what a watch that the node ended fails with.
var errWatchEnded = errors.New("watch ended")

// watch begins a watch after a version.
func (c *conn) watch(prefix string, from uint64) (*watcher, error) {
	err := c.send(fmt.Sprintf("[ID:w] WATCH %s FROM %d\r\n", prefix, from))
	return &watcher{c: c, tag: "[ID:w] ", last: from}, err
}

// next gives the next event. Versions must not go down, and none may be at or below where the watch began.
func (w *watcher) next() (history.Change, error) {
	line, err := w.c.line()
	if err != nil {
		return history.Change{}, err
	}
	frame, ok := strings.CutPrefix(line, w.tag)
	if !ok {
		return history.Change{}, fmt.Errorf("line %.200q is not of the watch", line)
	}
	if strings.HasPrefix(frame, "ERROR ") {
		return history.Change{}, fmt.Errorf("%w: %.200s", errWatchEnded, frame)
	}
	words := strings.SplitN(frame, " ", 4)
	if len(words) != 4 || words[0] != "EVENT" || (words[1] != "PUT" && words[1] != "DEL") {
		return history.Change{}, fmt.Errorf("line %.200q is no event", line)
	}
	v, err := strconv.ParseUint(words[2], 10, 64)
	if err != nil {
		return history.Change{}, err
	}
	if v < w.last {
		return history.Change{}, fmt.Errorf("event %.200q comes after one of version %d", frame, w.last)
	}
	w.last = v
	return history.Change{Key: words[3], Version: v, Deleted: words[1] == "DEL"}, nil
}
