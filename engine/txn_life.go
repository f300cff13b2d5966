// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/engine/storage"
)

// txnLife is what a transaction shares with the reaper, which ends it when nobody uses it: its snapshot holds old versions
// on the disk, and its writes memory, for a client that may have forgotten it.
//
//	in use --release--> idle --acquire--> in use
//	                     |--TxnIdle, or TxnAgeMax since it began--> reaped: every call says so, until Commit or Rollback
type txnLife struct {
	mu     sync.Mutex
	users  int       // calls under way, and what they gave and was not closed yet: scans, values
	used   time.Time // when the last of them ended
	reaped error     // why it was ended; nil while it is alive

	// charged is what it takes of the memory for all transactions, in bytes. It belongs to who uses the transaction.
	charged int64
}

// charge takes n bytes, and what holding them costs, of the memory for all transactions, until the end. Requires: acquired.
func (t *Txn) charge(n int) error {
	cost := int64(n) + txnEntryCost
	if o := t.e.txns; o.held.Add(cost) > t.e.opts.TxnMemory {
		o.held.Add(-cost)
		return Errorf(ClassUnavailable, "the memory for open transactions is in use, limit %d bytes: try again later", t.e.opts.TxnMemory)
	}
	t.life.charged += cost
	return nil
}

// refund gives back what n bytes in a number of entries were charged. Requires: acquired.
func (t *Txn) refund(n, entries int) {
	cost := int64(n) + int64(entries)*txnEntryCost
	t.e.txns.held.Add(-cost)
	t.life.charged -= cost
}

// acquire keeps the reaper away until release. It refuses a transaction that is over.
func (t *Txn) acquire() error {
	t.life.mu.Lock()
	defer t.life.mu.Unlock()
	switch {
	case t.over:
		return Errorf(ClassInvalid, "the transaction is over")
	case t.life.reaped != nil:
		return t.life.reaped
	case t.e.opts.Now().Sub(t.began) > TxnAgeMax:
		return errTooOld()
	}
	t.life.users++
	return nil
}

func (t *Txn) release() {
	t.life.mu.Lock()
	defer t.life.mu.Unlock()
	t.life.users--
	t.life.used = t.e.opts.Now()
}

func errTooOld() error {
	return Errorf(ClassConflict, "the transaction was rolled back: it was open for longer than %s", TxnAgeMax)
}

// reap ends the transaction if its time is over and nobody uses it. It says whether it did.
func (t *Txn) reap(now time.Time, idle time.Duration) bool {
	t.life.mu.Lock()
	switch {
	case t.over || t.life.reaped != nil || t.life.users > 0:
		t.life.mu.Unlock()
		return false
	case now.Sub(t.began) > TxnAgeMax:
		t.life.reaped = errTooOld()
	case now.Sub(t.life.used) > idle:
		t.life.reaped = Errorf(ClassConflict, "the transaction was rolled back: it was idle for longer than %s", idle)
	default:
		t.life.mu.Unlock()
		return false
	}
	snapshot := t.snapshot
	t.snapshot, t.writes, t.reads, t.ranges = nil, newOverlay(), nil, nil
	t.e.txns.held.Add(-t.life.charged)
	t.life.charged = 0
	t.life.mu.Unlock()
	if snapshot != nil {
		closeQuietly(snapshot)
	}
	return true
}

// openTxns are the transactions that have not ended.
type openTxns struct {
	held atomic.Int64 // bytes of what they wrote and read

	mu  sync.Mutex
	all map[*Txn]struct{}
}

func newOpenTxns() *openTxns { return &openTxns{all: make(map[*Txn]struct{})} }

func (o *openTxns) add(t *Txn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all[t] = struct{}{}
}

func (o *openTxns) remove(t *Txn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.all, t)
}

func (o *openTxns) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.all)
}

func (o *openTxns) list() []*Txn {
	o.mu.Lock()
	defer o.mu.Unlock()
	list := make([]*Txn, 0, len(o.all))
	for t := range o.all {
		list = append(list, t)
	}
	return list
}

// reapTxns ends transactions that are idle or open for too long. It is owned by the engine and ends with ctx.
func (e *Engine) reapTxns(ctx context.Context) {
	tick := time.NewTicker(min(e.opts.TxnIdle/4, reapInterval))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now := e.opts.Now()
		for _, t := range e.txns.list() {
			if t.reap(now, e.opts.TxnIdle) {
				e.txns.remove(t)
				e.metrics.txnReaped()
			}
		}
	}
}

// txnValue keeps a transaction in use while a value that it gave is open: a large one is read from the snapshot bit by bit.
type txnValue struct {
	*storage.Value
	t *Txn
}

func (v txnValue) Close() error {
	defer v.t.release()
	return v.Value.Close()
}
