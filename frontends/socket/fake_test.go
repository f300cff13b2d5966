// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/engine/key"
)

// fake is an engine in memory, without grants: enough to test framing, parsing, concurrency and cost against.
type fake struct {
	mu      sync.Mutex
	moved   chan struct{} // closed and replaced at each change
	version uint64
	rows    map[string]fakeRow
	log     []engine.Event
	open    int // sessions
	// hook, when set, runs at the begin of Get, Put and Scan.
	hook func(ctx context.Context, op string, key []byte) error
	// looked, when set, runs when a watch has found nothing and is about to say so.
	looked func()
	// gone, when set, is what watches end with that have found nothing.
	gone error
	// forgetful scans give a row less the second time.
	forgetful bool
}

type fakeRow struct {
	value   []byte
	version uint64
	worm    time.Time
}

func newFake() *fake {
	return &fake{rows: make(map[string]fakeRow), moved: make(chan struct{})}
}

func (f *fake) NewSession(o engine.SessionOptions) session {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.open++
	return &fakeSession{f: f, trusted: o.Trusted}
}

func (f *fake) sessions() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.open
}

// change records a change. Requires: mu held.
func (f *fake) change(kind engine.EventKind, key string, row fakeRow) uint64 {
	f.version++
	row.version = f.version
	if kind == engine.EventPut {
		f.rows[key] = row
	} else {
		delete(f.rows, key)
	}
	f.log = append(f.log, engine.Event{Kind: kind, Version: f.version, Key: []byte(key)})
	close(f.moved)
	f.moved = make(chan struct{})
	return f.version
}

type fakeSession struct {
	f         *fake
	trusted   bool
	principal string
	txn       map[string]fakeRow // nil: none; the state that the transaction sees
	wrote     []func()
}

func (s *fakeSession) Fork() session {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.open++
	return &fakeSession{f: s.f, trusted: s.trusted, principal: s.principal}
}

func (s *fakeSession) Close() error {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.f.open--
	return nil
}

func (s *fakeSession) Principal() string { return s.principal }

func (s *fakeSession) Assume(_ context.Context, name string) error {
	if !s.trusted {
		return engine.Errorf(engine.ClassDenied, "this client may not assume principal %q", name)
	}
	s.principal = name
	return nil
}

func (s *fakeSession) Authenticate(_ context.Context, name, secret string) error {
	if secret != "right" {
		return engine.Errorf(engine.ClassDenied, "wrong name or secret")
	}
	s.principal = name
	return nil
}

func (s *fakeSession) SetSecret(context.Context, string, string) error { return nil }
func (s *fakeSession) SetConsistency(engine.Consistency) error         { return nil }

func (s *fakeSession) enter(ctx context.Context, op string, raw []byte) error {
	if s.f.hook != nil {
		if err := s.f.hook(ctx, op, raw); err != nil {
			return err
		}
	}
	if err := ctx.Err(); err != nil {
		return engine.Errorf(engine.ClassUnavailable, "%w", err)
	}
	return nil
}

func (s *fakeSession) state() map[string]fakeRow {
	if s.txn != nil {
		return s.txn
	}
	return s.f.rows
}

func fakeKey(raw []byte) error {
	if _, err := key.Parse(raw); err != nil {
		return fakeKeyError(err)
	}
	return nil
}

func fakeKeyError(err error) error {
	if errors.Is(err, key.ErrTooLong) {
		return engine.Errorf(engine.ClassTooLarge, "%w", err)
	}
	return engine.Errorf(engine.ClassInvalid, "%w", err)
}

func (s *fakeSession) Get(ctx context.Context, raw []byte) (item, error) {
	if err := cmp.Or(s.enter(ctx, "get", raw), fakeKey(raw)); err != nil {
		return item{}, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	row, ok := s.state()[string(raw)]
	if !ok {
		return item{}, engine.ErrNotFound
	}
	return item{version: row.version, size: int64(len(row.value)), wormUntil: row.worm, value: fakeValue(row.value)}, nil
}

type fakeValue []byte

func (v fakeValue) Bytes() ([]byte, error) { return v, nil }
func (v fakeValue) Close() error           { return nil }

func (v fakeValue) WriteTo(w io.Writer) (int64, error) {
	const piece = 256 << 10
	for at := 0; at < len(v); at += piece {
		if _, err := w.Write(v[at:min(len(v), at+piece)]); err != nil {
			return int64(at), err
		}
	}
	return int64(len(v)), nil
}

func (s *fakeSession) Put(ctx context.Context, r engine.PutRequest) (uint64, error) {
	if r.Upload != nil {
		defer r.Upload.Release()
		r.Value = r.Upload.Value()
	}
	if err := cmp.Or(s.enter(ctx, "put", r.Key), fakeKey(r.Key)); err != nil {
		return 0, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	old, exists := s.state()[string(r.Key)]
	switch {
	case exists && old.worm.After(time.Now()):
		return 0, engine.Errorf(engine.ClassDenied, "key %s is write-once", key.Text(r.Key))
	case r.IfAbsent && exists:
		return 0, engine.Errorf(engine.ClassConflict, "key exists at version %d", old.version)
	case r.IfVersion != nil && old.version != *r.IfVersion:
		return 0, engine.Errorf(engine.ClassConflict, "found version %d", old.version)
	}
	row := fakeRow{value: bytes.Clone(r.Value), worm: r.WormUntil}
	if r.WormTTL > 0 {
		row.worm = time.Now().Add(r.WormTTL)
	}
	name := string(r.Key)
	if s.txn != nil {
		s.txn[name] = row
		s.wrote = append(s.wrote, func() { s.f.change(engine.EventPut, name, row) })
		return 0, nil
	}
	return s.f.change(engine.EventPut, name, row), nil
}

// fakeWrite is decided already, but learned later.
type fakeWrite struct {
	version uint64
	err     error
}

func (w fakeWrite) Wait(context.Context) (uint64, error) { return w.version, w.err }

func (s *fakeSession) PutLater(ctx context.Context, r engine.PutRequest) (write, error) {
	if bytes.HasPrefix(r.Key, []byte("refused.")) {
		return nil, engine.Errorf(engine.ClassDenied, "this key is refused at once")
	}
	v, err := s.Put(ctx, r)
	return fakeWrite{v, err}, nil
}

func (s *fakeSession) Delete(ctx context.Context, r engine.DeleteRequest) (uint64, error) {
	if err := cmp.Or(s.enter(ctx, "delete", r.Key), fakeKey(r.Key)); err != nil {
		return 0, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	name := string(r.Key)
	old, exists := s.state()[name]
	if r.IfVersion != nil && old.version != *r.IfVersion {
		return 0, engine.Errorf(engine.ClassConflict, "found version %d", old.version)
	}
	if s.txn != nil {
		delete(s.txn, name)
		s.wrote = append(s.wrote, func() { s.f.change(engine.EventDelete, name, fakeRow{}) })
		return 0, nil
	}
	if !exists {
		return 0, nil
	}
	return s.f.change(engine.EventDelete, name, fakeRow{}), nil
}

type fakeScan struct {
	ctx  context.Context
	keys []string
	rows map[string]fakeRow
	at   int

	forgetful bool
}

func (s *fakeSession) keys(prefix []byte) ([]string, error) {
	k, err := key.ParsePrefix(prefix)
	if err != nil {
		return nil, fakeKeyError(err)
	}
	var keys []string
	for name := range s.state() {
		if strings.HasPrefix(name, string(k.Bytes())) {
			keys = append(keys, name)
		}
	}
	slices.Sort(keys)
	return keys, nil
}

func (s *fakeSession) Scan(ctx context.Context, r engine.ScanRequest) (scan, error) {
	if err := s.enter(ctx, "scan", r.Prefix); err != nil {
		return nil, err
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	keys, err := s.keys(r.Prefix)
	if err != nil {
		return nil, err
	}
	if r.Reverse {
		slices.Reverse(keys)
	}
	if r.After != nil {
		keys = slices.DeleteFunc(keys, func(k string) bool {
			return (k <= string(r.After)) != r.Reverse || k == string(r.After)
		})
	}
	if r.Limit > 0 {
		keys = keys[:min(r.Limit, len(keys))]
	}
	return &fakeScan{ctx: ctx, keys: keys, rows: maps.Clone(s.state()), at: -1, forgetful: s.f.forgetful}, nil
}

func (s *fakeScan) Next() bool   { s.at++; return s.at < len(s.keys) && s.ctx.Err() == nil }
func (s *fakeScan) Key() []byte  { return []byte(s.keys[s.at]) }
func (s *fakeScan) Err() error   { return s.ctx.Err() }
func (s *fakeScan) Close() error { return nil }

func (s *fakeScan) Rewind() error {
	s.at = -1
	if s.forgetful {
		s.keys = s.keys[1:]
	}
	return nil
}

func (s *fakeScan) Item() item {
	row := s.rows[s.keys[s.at]]
	return item{version: row.version, size: int64(len(row.value)), wormUntil: row.worm, value: fakeValue(row.value)}
}

func (s *fakeSession) Count(ctx context.Context, prefix []byte) (int64, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	keys, err := s.keys(prefix)
	return int64(len(keys)), err
}

func (s *fakeSession) Sample(_ context.Context, prefix []byte, n int) ([][]byte, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	keys, err := s.keys(prefix)
	var out [][]byte
	for _, k := range keys[:min(n, len(keys))] {
		out = append(out, []byte(k))
	}
	return out, err
}

type fakeWatch struct {
	f      *fake
	prefix string
	at     int
}

func (s *fakeSession) Watch(_ context.Context, r engine.WatchRequest) (watch, error) {
	k, err := key.ParsePrefix(r.Prefix)
	if err != nil {
		return nil, fakeKeyError(err)
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	w := &fakeWatch{f: s.f, prefix: string(k.Bytes()), at: len(s.f.log)}
	if r.From != nil {
		w.at = int(min(*r.From, uint64(len(s.f.log))))
	}
	return w, nil
}

func (w *fakeWatch) Next(ctx context.Context) (engine.Event, error) {
	for {
		w.f.mu.Lock()
		for w.at < len(w.f.log) {
			ev := w.f.log[w.at]
			w.at++
			if strings.HasPrefix(string(ev.Key), w.prefix) {
				w.f.mu.Unlock()
				return ev, nil
			}
		}
		moved, gone := w.f.moved, w.f.gone
		w.f.mu.Unlock()
		if gone != nil {
			return engine.Event{}, gone
		}
		select {
		case <-moved:
		case <-ctx.Done():
			if w.f.looked != nil {
				w.f.looked()
			}
			return engine.Event{}, engine.Errorf(engine.ClassUnavailable, "%w", ctx.Err())
		}
	}
}

func (w *fakeWatch) Close() error { return nil }

func (s *fakeSession) Grant(context.Context, []byte, string, engine.Perm) error  { return nil }
func (s *fakeSession) Revoke(context.Context, []byte, string, engine.Perm) error { return nil }

func (s *fakeSession) Grants(context.Context, []byte, func(engine.GrantList) error) error { return nil }

func (s *fakeSession) Begin(context.Context) error {
	if s.txn != nil {
		return engine.Errorf(engine.ClassInvalid, "a transaction is open already")
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	s.txn, s.wrote = maps.Clone(s.f.rows), nil
	return nil
}

func (s *fakeSession) Commit(context.Context) (uint64, error) {
	if s.txn == nil {
		return 0, engine.Errorf(engine.ClassInvalid, "no transaction is open")
	}
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	for _, write := range s.wrote {
		write()
	}
	wrote := len(s.wrote)
	s.txn, s.wrote = nil, nil
	if wrote == 0 {
		return 0, nil
	}
	return s.f.version, nil
}

func (s *fakeSession) Rollback() error {
	if s.txn == nil {
		return engine.Errorf(engine.ClassInvalid, "no transaction is open")
	}
	s.txn, s.wrote = nil, nil
	return nil
}

func (s *fakeSession) InTxn() bool { return s.txn != nil }

func (s *fakeSession) Tables(_ context.Context, after string, limit int) ([]string, error) {
	s.f.mu.Lock()
	defer s.f.mu.Unlock()
	seen := map[string]bool{}
	for name := range s.f.rows {
		if table := tableOf([]byte(name)); table > after {
			seen[table] = true
		}
	}
	names := slices.Sorted(maps.Keys(seen))
	return names[:min(len(names), limit)], nil
}

func (s *fakeSession) TableInfo(_ context.Context, table string) (engine.TableInfo, error) {
	return engine.TableInfo{Table: table, Group: table, Owner: 1}, nil
}

func (s *fakeSession) Groups(ctx context.Context, after string, limit int) ([]string, error) {
	return s.Tables(ctx, after, limit)
}

func (s *fakeSession) GroupInfo(_ context.Context, group string) (engine.GroupInfo, error) {
	return engine.GroupInfo{Group: group, Owner: 1, Ballot: "0.1.1", Tables: []string{group}, TablesAll: true}, nil
}

var fakeNode = engine.NodeInfo{ID: 1, Region: "local", Status: "ACTIVE", Host: "localhost", Port: 4444}

func (s *fakeSession) Nodes(context.Context) ([]engine.NodeInfo, error) {
	return []engine.NodeInfo{fakeNode}, nil
}

func (s *fakeSession) Node(_ context.Context, id uint64) (engine.NodeInfo, error) {
	if id != 1 {
		return engine.NodeInfo{}, engine.Errorf(engine.ClassNotFound, "node %d", id)
	}
	return fakeNode, nil
}

func (s *fakeSession) Ping(ctx context.Context, id uint64) (engine.NodeInfo, error) {
	return s.Node(ctx, id)
}

func (s *fakeSession) Quorum(context.Context, string) (engine.QuorumInfo, error) {
	one := []engine.NodeInfo{fakeNode}
	return engine.QuorumInfo{Q1: one, Q2: one, Survives: []string{"no loss of a node"}}, nil
}
