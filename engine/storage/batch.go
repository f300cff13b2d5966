// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Batch gathers writes of any number of groups, which Commit applies and makes durable together or not at all. It is for
// one goroutine. Arguments are copied when the call is made, but for the bytes of a large value, which must not change
// until Commit has returned.
//
// A call that exceeds a limit makes the whole batch fail: Commit then returns ErrTooLarge and applies nothing.
type Batch struct {
	s       *Store
	b       *pebble.Batch
	changes changeWriter // added to b at commit
	err     error
	urgency urgency
	carries bool // some version carries a stamp
	large   []largeValue
	queued  int  // bytes that space counts as on their way, from CommitLater to Wait
	waits   bool // between CommitLater and Wait: the gate is entered, and Pebble owes an answer
}

// batches are kept for use again, each with the memory that it has grown to. shared: a pool holds no state.
var batches = sync.Pool{New: func() any { return new(Batch) }}

// NewBatch gives an empty batch, which must be closed.
func (s *Store) NewBatch() *Batch {
	b := batches.Get().(*Batch)
	b.s = s
	b.b = s.db.NewBatch()
	return b
}

// note keeps the first error of the batch.
func (b *Batch) note(err error) {
	if b.err == nil && err != nil {
		b.err = err
	}
}

// admit checks the names of a record.
func (b *Batch) admit(group string, rest []byte) bool {
	if len(group) == 0 || len(group) > GroupLenMax || len(rest) > RestLenMax || indexNUL(group) >= 0 || b.records() > BatchLenMax {
		b.note(b.refusal(group, rest))
		return false
	}
	return true
}

func (b *Batch) refusal(group string, rest []byte) error {
	if err := checkNames(group, rest); err != nil {
		return err
	}
	return fmt.Errorf("%w: batch length %d exceeds %d", ErrTooLarge, b.records(), BatchLenMax)
}

// records is the length of what goes to Pebble as one batch.
func (b *Batch) records() int { return b.b.Len() + b.changes.len() }

// finish ends a record whose key and value were written in place.
func (b *Batch) finish(op *pebble.DeferredBatchOp) { b.note(op.Finish()) }

func (b *Batch) setNode(name string, body []byte) {
	b.note(b.b.Set(appendNodeKey(nil, name), sealNode(name, body), nil))
}

// SetNewest notes that no batch of that writer, this one and all before it, holds anything later than t: see Store.Newest. A writer is a number
// from 0 to WriterMax whose batches are committed one after the other.
func (b *Batch) SetNewest(writer int, t Timestamp) {
	if writer < 0 || writer > WriterMax {
		b.note(fmt.Errorf("%w: writer %d exceeds %d", ErrTooLarge, writer, WriterMax))
		return
	}
	var body [8 + 4]byte
	name := [len(nodeNewest) + 1]byte([]byte(nodeNewest + "0"))
	name[len(nodeNewest)] += byte(writer)
	binary.BigEndian.PutUint64(body[:], t)
	op := b.b.SetDeferred(1+len(name)+sentinelLen, len(body))
	op.Key[0], op.Key[len(op.Key)-1] = kindNode, 0
	copy(op.Key[1:], name[:])
	sum := crc32.Update(crc32.Checksum(name[:], castagnoli), castagnoli, body[:8])
	binary.BigEndian.PutUint32(body[8:], sum)
	copy(op.Value, body[:])
	b.finish(op)
}

// SetRecord stores the acceptor record of a group that is not small. An empty record is as good as none, but present.
// Requires: IndexCarried came before if the group was small.
func (b *Batch) SetRecord(group string, rec []byte) {
	if !b.admit(group, nil) {
		return
	}
	if len(rec) > 0 && rec[0] == smallMark {
		b.note(fmt.Errorf("%w: acceptor record that begins with the mark of small groups", ErrTooLarge))
		return
	}
	op := b.b.SetDeferred(groupLen(group), len(rec))
	appendRecordKey(op.Key[:0], group)
	copy(op.Value, rec)
	b.finish(op)
}

// AppendEntry stores a log entry.
func (b *Batch) AppendEntry(group string, slot uint64, data []byte) {
	if !b.admit(group, nil) {
		return
	}
	op := b.b.SetDeferred(groupLen(group)+8+sentinelLen, len(data))
	appendEntryKey(op.Key[:0], group, slot)
	copy(op.Value, data)
	b.finish(op)
}

// DeleteEntriesFrom removes the log entries at slot and after it.
func (b *Batch) DeleteEntriesFrom(group string, slot uint64) {
	if b.admit(group, nil) {
		b.note(b.b.DeleteRange(appendEntryKey(nil, group, slot), appendGroupEnd(nil, kindEntry, group), nil))
	}
}

// DeleteEntriesBelow removes the log entries before slot.
func (b *Batch) DeleteEntriesBelow(group string, slot uint64) {
	if b.admit(group, nil) {
		b.note(b.b.DeleteRange(appendEntryKey(nil, group, 0), appendEntryKey(nil, group, slot), nil))
	}
}

// SetState stores a group's state under a name.
func (b *Batch) SetState(group, name string, val []byte) {
	if !b.admit(group, nil) || !b.admitState(name) {
		return
	}
	op := b.b.SetDeferred(groupLen(group)+len(name)+sentinelLen, len(val))
	appendStateKey(op.Key[:0], group, name)
	copy(op.Value, val)
	b.finish(op)
}

// DeleteState removes a group's state of that name.
func (b *Batch) DeleteState(group, name string) {
	if !b.admit(group, nil) || !b.admitState(name) {
		return
	}
	op := b.b.DeleteDeferred(groupLen(group) + len(name) + sentinelLen)
	appendStateKey(op.Key[:0], group, name)
	b.finish(op)
}

func (b *Batch) admitState(name string) bool {
	if len(name) > StateNameLenMax {
		b.note(fmt.Errorf("%w: state name length %d exceeds %d", ErrTooLarge, len(name), StateNameLenMax))
		return false
	}
	return true
}

// PutVersion stores a version of a key, or with v.Deleted set a tombstone, with its change record and, when v.Expires is
// set, its entry in the TTL index. The version is at; v.Time, v.Seq and v.Size are not looked at. A key gets one version
// at most at one time, and a group one mutation at one time and seq.
func (b *Batch) PutVersion(group string, rest []byte, at Timestamp, seq uint32, v Version) {
	if !b.admit(group, rest) || !b.admitVersion(at, &v) {
		return
	}
	v.Seq, v.Size, v.chunked = seq, int64(len(v.Value)), false
	if len(v.Value) > InlineLenMax {
		v.chunked = true
		v.checksum = b.addLarge(group, at, seq, v.Value)
	}
	b.setVersion(group, rest, at, &v, carried{})
	// Changes go in last and so together: their keys rise, and a memtable's search for a key begins at the one before it.
	b.note(b.changes.add(b.s.db, group, at, seq, changeKind(&v), rest))
}

// setVersion stores a version record and its entry in the TTL index.
func (b *Batch) setVersion(group string, rest []byte, at Timestamp, v *Version, c carried) {
	inline := len(v.Value)
	if v.chunked {
		inline = 0
	}
	dataKeyLen := groupLen(group) + len(rest) + sentinelLen + versionLen
	op := b.b.SetDeferred(dataKeyLen, versionHeaderLen(v)+c.len()+inline)
	appendDataKey(op.Key[:0], group, rest, at)
	putVersion(op.Value, v, c)
	b.finish(op)

	if v.Expires != 0 {
		op = b.b.SetDeferred(expiryKeyLen(group, rest), 0)
		appendExpiryKey(op.Key[:0], v.Expires, group, rest, at)
		b.finish(op)
	}
}

func expiryKeyLen(group string, rest []byte) int {
	return 1 + 8 + len(group) + 1 + len(rest) + 1 + 8 + sentinelLen
}

func (b *Batch) admitVersion(at Timestamp, v *Version) bool {
	switch {
	case at == 0:
		b.note(fmt.Errorf("%w: version 0", ErrTooLarge))
	case len(v.Value) > ValueLenMax:
		b.note(fmt.Errorf("%w: value length %d exceeds %d", ErrTooLarge, len(v.Value), ValueLenMax))
	case v.Deleted && (len(v.Value) > 0 || v.Expires != 0) || v.Expired && !v.Deleted:
		b.note(fmt.Errorf("%w: a tombstone has no value and no expiry", ErrTooLarge))
	default:
		return true
	}
	return false
}

func changeKind(v *Version) ChangeKind {
	switch {
	case v.Expired:
		return ChangeExpire
	case v.Deleted:
		return ChangeDelete
	}
	return ChangePut
}

// DropExpiry removes an entry of the TTL index: the version that it names has been replaced.
func (b *Batch) DropExpiry(k ExpiredKey) {
	if !b.admit(k.Group, k.Rest) {
		return
	}
	op := b.b.DeleteDeferred(expiryKeyLen(k.Group, k.Rest))
	appendExpiryKey(op.Key[:0], k.Expires, k.Group, k.Rest, k.Time)
	b.finish(op)
}

// Len is the length in bytes of what the batch writes, the chunks of large values included.
func (b *Batch) Len() int {
	n := b.records()
	for i := range b.large {
		n += len(b.large[i].value)
	}
	return n
}

// Empty says whether the batch writes nothing.
func (b *Batch) Empty() bool { return b.b.Empty() && b.changes.empty() && b.err == nil }

// Commit applies the batch; with sync it is durable on return. Its errors:
//
//	ErrDiskFull, ErrTooLarge, ErrReadOnly, ErrClosed   nothing was applied
//	ErrFatal (also from Store.Err from then on)        whether it is durable is unknown
//
// What is applied without sync becomes durable with the next batch that is synced, and never without the batches before
// it. A reader may see a batch before its sync has returned. The batch can be used again after Reset.
func (b *Batch) Commit(sync bool) error {
	if err := b.begin(); err != nil {
		return err
	}
	defer b.leave()
	return b.s.apply(b.b, sync)
}

// CommitLater applies the batch and asks for its sync, but leaves waiting for that to Wait, which must follow if the error is nil. Its
// errors are Commit's. Once it has returned nil readers see the batch, later batches are ordered behind it, and a crash
// that keeps any of those keeps it: what is built on it need not wait, and who tells anybody of it must. Requires: Wait does not wait for another
// commit, which a Checkpoint that comes in between lets begin only when this one has ended.
func (b *Batch) CommitLater() error {
	if err := b.begin(); err != nil {
		return err
	}
	if b.b.Empty() {
		b.leave()
		return nil
	}
	b.queued = b.b.Len()
	b.s.space.queued.Add(int64(b.queued))
	err := b.s.db.ApplyNoSyncWait(b.b, pebble.Sync)
	b.waits = err == nil
	if err = b.s.applied(err); err != nil {
		_ = b.Wait() // the store has failed: it says so, too
	}
	return err
}

// Wait returns when the batch that CommitLater took is durable. An error is ErrFatal: whether it is durable is unknown. So it is, too, when
// the store has failed over something else meanwhile.
func (b *Batch) Wait() error {
	var err error
	if b.waits {
		err = b.b.SyncWait()
	}
	if b.queued > 0 {
		b.s.space.queued.Add(-int64(b.queued))
		b.leave()
	}
	b.waits, b.queued = false, 0
	return b.s.failIf(err)
}

// begin does all of a commit that can be refused. If the error is nil it must be answered by leave.
func (b *Batch) begin() error {
	s := b.s
	b.note(b.changes.moveTo(b.b))
	if b.err != nil {
		return b.err
	}
	if err := s.enter(); err != nil {
		return err
	}
	s.copying.RLock()
	err := b.admitted()
	if err == nil && len(b.large) > 0 {
		err = b.writeLarge()
	}
	if err != nil {
		b.leave()
	}
	return err
}

// leave ends a commit.
func (b *Batch) leave() {
	if b.carries {
		b.s.collect.carrying.Add(1) // now that it is there to be seen: who has counted it has not missed it
	}
	b.s.copying.RUnlock()
	b.s.gate.leave()
}

// admitted says whether the store takes writes of this length.
func (b *Batch) admitted() error {
	if b.s.opts.ReadOnly {
		return fmt.Errorf("%w: %s was opened for reading", ErrReadOnly, b.s.opts.Dir)
	}
	return b.s.space.admit(b.Len(), b.urgency)
}

// apply hands a batch to Pebble.
func (s *Store) apply(b *pebble.Batch, sync bool) error {
	if b.Empty() {
		return nil
	}
	o := pebble.NoSync
	if sync {
		o = pebble.Sync
	}
	return s.applied(s.db.Apply(b, o))
}

// applied notes that a batch is there to be read, or what became of it.
func (s *Store) applied(err error) error {
	return s.failIf(errors.Join(err, s.cache.committed()))
}

// failIf stops the store over an error of a commit. Health is asked after Pebble has answered: once the directory is frozen
// Pebble reports success.
func (s *Store) failIf(err error) error {
	if ferr := s.health.Err(); ferr != nil {
		return ferr
	}
	if err != nil {
		s.health.fail(fmt.Errorf("commit: %w", err))
		return s.health.Err()
	}
	return nil
}

// Reset empties the batch.
func (b *Batch) Reset() {
	b.b.Reset()
	b.changes.reset()
	b.clear()
}

func (b *Batch) clear() {
	clear(b.large)
	b.err, b.large, b.urgency, b.carries = nil, b.large[:0], ordinary, false
}

// Close gives the batch back. It must not be used afterwards. Requires: Wait has returned, if CommitLater returned nil.
func (b *Batch) Close() {
	if b.b == nil {
		return
	}
	_ = b.b.Close() // frees memory; it has no error to report on a batch without an index
	b.changes.close()
	b.clear()
	b.s, b.b = nil, nil
	batches.Put(b)
}
