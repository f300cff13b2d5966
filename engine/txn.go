// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"time"

	"github.com/atlas-edge/atlas/engine/authz"
	"github.com/atlas-edge/atlas/engine/command"
	"github.com/atlas-edge/atlas/engine/key"
	"github.com/atlas-edge/atlas/engine/storage"
)

// Txn is a serializable transaction within one group, for one goroutine.
//
// It reads one snapshot, keeps its writes in an overlay, and remembers what it read: keys, ranges, and the earliest time at which a value
// that it saw expires. Commit proposes all writes as one command that is refused, on every node alike, if anything
// that was read has changed since the snapshot. A transaction without writes needs no proposal: it stands where its snapshot is.
//
// The group is that of the first key. Savepoints are marks in the overlay; what was read stays read when writes are taken
// back, which can only refuse more. Between BeginStatement and EndStatement reads do not see the statement's own writes.
//
// A transaction that nobody uses for Options.TxnIdle, or that is open for TxnAgeMax, is rolled back: what is asked of it then
// is a conflict, until Commit or Rollback ends it, so that no later command is taken for one outside of it.
type Txn struct {
	e         *Engine
	principal string
	began     time.Time
	over      bool // by Commit or Rollback
	life      txnLife

	group    string
	snapshot *storage.Snapshot
	at       uint64 // the time that is read at
	now      uint64 // what has expired at this time is absent

	writes *overlay
	sees   int // reads see writes up to this number

	reads  map[string]struct{}
	ranges []command.Range
	until  uint64 // the earliest expiry among what was read; 0 is none
	denied bool   // it was told that it may not do something, so that it rests on the grants even if it read nothing
}

// Mark is a point in a transaction's writes to which they can be rolled back.
type Mark struct{ writes int }

// BeginTxn opens a transaction of its own, beside the session's.
func (s *Session) BeginTxn(_ context.Context) (*Txn, error) {
	if err := s.identified(); err != nil {
		return nil, err
	}
	now := s.e.opts.Now()
	t := &Txn{
		e: s.e, principal: s.principal, began: now, writes: newOverlay(), sees: math.MaxInt, reads: make(map[string]struct{}),
	}
	t.life.used = now
	s.e.txns.add(t)
	return t, nil
}

// Get gives a key's value as the transaction sees it, or ErrNotFound.
func (t *Txn) Get(raw []byte) (*Item, error) {
	k, err := parseKey(raw)
	if err != nil {
		return nil, err
	}
	return t.get(k)
}

// Put writes a value; conditions are judged against what the transaction sees.
func (t *Txn) Put(r PutRequest) error {
	defer r.Upload.Release()
	k, err := parseKey(r.Key)
	if err != nil {
		return err
	}
	if r.Principal != "" && r.Principal != t.principal {
		return Errorf(ClassInvalid, "the principal cannot change inside a transaction")
	}
	m, err := t.e.putMutation(k, r)
	if err != nil {
		return err
	}
	return t.put(k, m, r.IfAbsent, r.IfVersion)
}

// Delete removes a key.
func (t *Txn) Delete(r DeleteRequest) error {
	k, err := parseKey(r.Key)
	if err != nil {
		return err
	}
	return t.put(k, command.Mutation{Kind: command.Delete, Rest: k.Rest()}, false, r.IfVersion)
}

// Scan walks the keys that the transaction sees. The Scan must be closed before the transaction ends.
func (t *Txn) Scan(ctx context.Context, r ScanRequest) (*Scan, error) {
	s := Session{e: t.e, opts: SessionOptions{Trusted: true}, principal: t.principal, txn: t}
	return s.Scan(ctx, r)
}

// Savepoint marks the writes so far.
func (t *Txn) Savepoint() Mark {
	t.life.mu.Lock()
	defer t.life.mu.Unlock()
	return Mark{writes: t.writes.mark()}
}

// RollbackTo takes back every write after the mark.
func (t *Txn) RollbackTo(m Mark) error {
	if err := t.acquire(); err != nil {
		return err
	}
	defer t.release()
	if m.writes > t.writes.mark() {
		return Errorf(ClassInvalid, "the savepoint was rolled back before")
	}
	log, bytes := t.writes.mark(), t.writes.bytes
	t.writes.rollback(m.writes)
	t.refund(bytes-t.writes.bytes, log-t.writes.mark())
	return nil
}

// BeginStatement lets reads see the writes so far and none that follow, until EndStatement. The mark takes the statement back.
func (t *Txn) BeginStatement() Mark {
	m := t.Savepoint()
	t.sees = m.writes
	return m
}

// EndStatement lets reads see all writes again.
func (t *Txn) EndStatement() { t.sees = math.MaxInt }

// Rollback ends the transaction; nothing of it happened.
func (t *Txn) Rollback() error {
	if t.over {
		return Errorf(ClassInvalid, "the transaction is over")
	}
	return t.end()
}

// Commit makes the writes happen, all at one version, or none of them: then the error is a conflict (run it again), or
// unknown. The version is 0 if nothing changed. Whatever it returns, the transaction is over.
func (t *Txn) Commit(ctx context.Context) (uint64, error) {
	if err := t.acquire(); err != nil {
		_ = t.end() // the first error says more; the snapshot is released all the same
		return 0, err
	}
	defer t.release()
	c := t.command()
	group := t.group
	charged := t.life.charged // until it is decided: c holds what was written
	t.life.charged = 0
	defer t.e.txns.held.Add(-charged)
	if err := t.end(); err != nil {
		return 0, err
	}
	if len(c.Mutations) == 0 {
		return 0, nil
	}
	admin, err := t.e.isAdmin(t.principal)
	if err != nil {
		return 0, t.e.readError(err)
	}
	c.Admin = admin
	result, err := t.e.propose(ctx, group, c)
	if err != nil || result.Changes == 0 {
		return 0, err
	}
	return result.Version, nil
}

// command is all writes, conditioned on all reads.
func (t *Txn) command() *command.Command {
	c := &command.Command{Principal: t.principal}
	for _, rest := range t.writes.keys {
		c.Mutations = append(c.Mutations, t.writes.newest[rest].mutation([]byte(rest)))
	}
	if len(t.reads)+len(t.ranges) > 0 || t.denied {
		c.Reads = &command.ReadSet{Snapshot: t.at, ValidUntil: t.until}
		for _, r := range t.ranges {
			if !bytes.Equal(r.Lower, r.Upper) { // equal: a scan that was never walked
				c.Reads.Ranges = append(c.Reads.Ranges, r)
			}
		}
		for rest := range t.reads {
			c.Reads.Keys = append(c.Reads.Keys, []byte(rest))
		}
	}
	return c
}

func (p *pending) mutation(rest []byte) command.Mutation {
	if p.deleted {
		return command.Mutation{Kind: command.Delete, Rest: rest}
	}
	return command.Mutation{Kind: command.Put, Rest: rest, Value: p.value, TTL: p.ttl, Expires: p.expires, WormTTL: p.wormTTL, WormUntil: p.worm}
}

func (t *Txn) end() error {
	t.e.txns.remove(t)
	t.life.mu.Lock()
	t.over = true
	t.e.txns.held.Add(-t.life.charged)
	t.life.charged = 0
	snapshot := t.snapshot
	t.snapshot = nil
	t.life.mu.Unlock()
	if snapshot == nil {
		return nil
	}
	if err := snapshot.Close(); err != nil {
		return t.e.readError(err)
	}
	return nil
}

// enter binds the transaction to the key's group, at its first key, and refuses others. Requires: acquired.
func (t *Txn) enter(k key.Key) error {
	if t.snapshot != nil {
		if string(k.GroupBytes()) != t.group {
			return Errorf(ClassInvalid, "key %s is in group %q, the transaction in %q: one transaction stays in one group",
				key.Text(k.Bytes()), k.Group(), t.group)
		}
		return nil
	}
	// After a time without commands, times to read at stand still at the clock's ceiling. A snapshot has an age, so the
	// clock is moved on; when it cannot be (full disk) the transaction still reads.
	_, _ = t.e.clock.Now() // reading needs no more than what the clock shows
	group := k.Group()
	view, err := t.e.replicator.ReadView(group)
	if err != nil {
		return t.e.readError(err)
	}
	// After the view: the snapshot holds all that is visible at it.
	t.group, t.at, t.now, t.snapshot = group, view.At, view.Now, t.e.store.NewSnapshot()
	return nil
}

// gate decides by the grants of now, not of the snapshot: what was revoked meanwhile is revoked here too.
func (t *Txn) gate() (*access, error) { return t.e.access(t.principal, t.group) }

// allow asks the gate about one key.
func (t *Txn) allow(v authz.Verb, k key.Key) error {
	gate, err := t.gate()
	if err != nil {
		return err
	}
	if err := gate.key(v, k.Rest()); err != nil {
		t.denied = t.denied || errors.Is(err, ErrDenied)
		return t.e.readError(err)
	}
	return nil
}

func (t *Txn) get(k key.Key) (*Item, error) {
	if err := t.acquire(); err != nil {
		return nil, err
	}
	defer t.release()
	return t.find(k)
}

func (t *Txn) find(k key.Key) (*Item, error) {
	if err := t.enter(k); err != nil {
		return nil, err
	}
	if err := t.allow(authz.VerbRead, k); err != nil {
		if ClassOf(err) == ClassDenied {
			return nil, notFound(k)
		}
		return nil, err
	}
	if p := t.writes.get(string(k.Rest()), t.sees); p != nil {
		if p.deleted {
			return nil, notFound(k)
		}
		return &Item{Size: int64(len(p.value)), value: ownValue{p.value}}, nil
	}
	value, err := t.read(k.Rest())
	if err != nil {
		return nil, err
	}
	if value == nil {
		return nil, notFound(k)
	}
	if err := t.acquire(); err != nil { // until the value is closed
		closeQuietly(value)
		return nil, err
	}
	ver := value.Version()
	return itemOf(&ver, txnValue{value, t}), nil
}

// read gives the live value in the snapshot, nil if there is none, and remembers having looked.
func (t *Txn) read(rest []byte) (*storage.Value, error) {
	if _, ok := t.reads[string(rest)]; !ok {
		if err := t.roomForReads(len(rest)); err != nil {
			return nil, err
		}
		t.reads[string(rest)] = struct{}{}
	}
	value, ok, err := t.snapshot.GetAt(t.group, rest, t.at)
	if err != nil {
		return nil, t.e.readError(err)
	}
	if !ok || expired(value.Version().Expires, t.now) {
		closeQuietly(value)
		return nil, nil
	}
	t.lives(value.Version().Expires)
	return value, nil
}

// lives remembers when a value that was seen stops being there.
func (t *Txn) lives(expires uint64) {
	if expires != 0 && (t.until == 0 || expires < t.until) {
		t.until = expires
	}
}

// roomForReads makes room for a key or range of n bytes.
func (t *Txn) roomForReads(n int) error {
	if len(t.reads)+len(t.ranges) >= TxnReadsMax {
		return Errorf(ClassTooLarge, "the transaction has read %d keys and ranges, limit %d", TxnReadsMax, TxnReadsMax)
	}
	return t.charge(n)
}

// put adds a write; the conditions are judged now, and by the read set at the commit.
func (t *Txn) put(k key.Key, m command.Mutation, ifAbsent bool, ifVersion *uint64) error {
	if err := t.acquire(); err != nil {
		return err
	}
	defer t.release()
	if err := t.enter(k); err != nil {
		return err
	}
	if err := t.allow(authz.VerbWrite, k); err != nil {
		return err
	}
	if p := t.writes.get(string(k.Rest()), math.MaxInt); p.writeOnce() {
		return Errorf(ClassDenied, "%s is write-once, written by this transaction", key.Text(k.Bytes()))
	}
	if ifAbsent || ifVersion != nil {
		if err := t.allow(authz.VerbRead, k); err != nil { // a condition tells whether the key exists
			return err
		}
		if err := t.judge(k, ifAbsent, ifVersion); err != nil {
			return err
		}
	}
	if n := t.writes.mark(); n >= TxnMutationsMax {
		return Errorf(ClassTooLarge, "the transaction has %d writes, limit %d", n, TxnMutationsMax)
	}
	if n := t.writes.bytes + len(m.Rest) + len(m.Value); n > TxnBytesMax {
		return Errorf(ClassTooLarge, "the transaction would write %d bytes, limit %d", n, TxnBytesMax)
	}
	if err := t.charge(len(m.Rest) + len(m.Value)); err != nil {
		return err
	}
	t.writes.put(string(m.Rest), pending{
		deleted: m.Kind == command.Delete, value: bytes.Clone(m.Value), ttl: m.TTL, expires: m.Expires, wormTTL: m.WormTTL, worm: m.WormUntil,
	})
	return nil
}

// judge decides IF ABSENT and IF VERSION, on all writes so far: of two writes of one statement, the second finds the key that the
// first made. What the transaction itself wrote has no version yet.
func (t *Txn) judge(k key.Key, ifAbsent bool, ifVersion *uint64) error {
	if ifAbsent && ifVersion != nil {
		return Errorf(ClassInvalid, "IF ABSENT and IF VERSION exclude each other")
	}
	var found uint64
	if p := t.writes.get(string(k.Rest()), math.MaxInt); p != nil {
		if ifVersion != nil && !(p.deleted && *ifVersion == 0) {
			return Errorf(ClassConflict, "key %s was written by this transaction: it has no version yet", key.Text(k.Bytes()))
		}
		if ifAbsent && !p.deleted {
			return Errorf(ClassConflict, "key %s exists, written by this transaction", key.Text(k.Bytes()))
		}
		return nil
	}
	value, err := t.read(k.Rest())
	if err != nil {
		return err
	}
	if value != nil {
		found = value.Version().Time
		closeQuietly(value)
	}
	want := uint64(0)
	if ifVersion != nil {
		want = *ifVersion
	}
	if found != want {
		err := Errorf(ClassConflict, "key %s has version %d, expected %d", key.Text(k.Bytes()), found, want)
		err.Found = found
		return err
	}
	return nil
}

// ownValue is a value that the transaction itself wrote.
type ownValue struct{ value []byte }

func (v ownValue) Bytes() ([]byte, error) { return v.value, nil }

func (v ownValue) WriteTo(w io.Writer) (int64, error) {
	n, err := w.Write(v.value)
	return int64(n), err
}

func (v ownValue) Close() error { return nil }
