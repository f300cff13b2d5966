// SPDX-License-Identifier: AGPL-3.0-only

package replication

import (
	"fmt"
	"sync"

	"github.com/atlas-edge/atlas/engine/command"
)

// proposal is a command on its way through a loop. The loop fills result and err, then sends on done, once.
type proposal struct {
	group   string
	shard   *registryShard // of the group, and the hash of its name there
	hash    uint64
	payload []byte
	free    func() // frees the memory of payload; nil if that is the collector's
	result  command.Result
	err     error
	done    chan struct{}
}

// shared: a pool of empty proposals, which carry nothing from one node to another.
var proposals = sync.Pool{New: func() any { return &proposal{done: make(chan struct{}, 1)} }}

func newProposal(group string, payload []byte, free func()) *proposal {
	p := proposals.Get().(*proposal)
	p.group, p.payload, p.free = group, payload, free
	return p
}

// release gives the proposal back. Requires: no loop holds it.
func (p *proposal) release() {
	p.freePayload()
	p.group, p.shard, p.payload, p.result, p.err = "", nil, nil, command.Result{}, nil
	proposals.Put(p)
}

// answer ends the proposal. Requires: nobody reads the payload any more. The core has let go of it by Advance, or is dropped itself; a batch
// has copied it by CommitLater, or is given up; and whatever else refers to it, by the round, is only forgotten.
func (p *proposal) answer(result command.Result, err error) {
	p.freePayload()
	p.result, p.err = result, err
	p.done <- struct{}{} // never blocks: the channel holds one, and there is one answer
}

func (p *proposal) freePayload() {
	if p.free != nil {
		p.free()
		p.free, p.payload = nil, nil
	}
}

// queue is what waits for a loop, in order. When it is full, push refuses.
type queue struct {
	wake chan struct{} // holds one token when there may be something to do

	mu     sync.Mutex
	items  []*proposal
	bytes  int
	closed bool
}

func newQueue() *queue { return &queue{wake: make(chan struct{}, 1)} }

func (q *queue) push(p *proposal) error {
	q.mu.Lock()
	if err := q.admit(p); err != nil {
		q.mu.Unlock()
		return err
	}
	first := len(q.items) == 0
	q.items = append(q.items, p)
	q.bytes += len(p.payload)
	q.mu.Unlock()
	if first {
		q.signal()
	}
	return nil
}

// admit decides on p. Requires: mu held.
func (q *queue) admit(p *proposal) error {
	switch {
	case q.closed:
		return fmt.Errorf("%w: the node is stopping", ErrUnavailable)
	case len(q.items) >= queueLenMax:
		return fmt.Errorf("%w: %d commands wait, limit %d", ErrUnavailable, len(q.items), queueLenMax)
	case len(q.items) > 0 && q.bytes+len(p.payload) > queueBytesMax:
		return fmt.Errorf("%w: %d bytes of commands wait, limit %d", ErrUnavailable, q.bytes, queueBytesMax)
	}
	return nil
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// take moves the oldest proposals into dst, up to the limits of a round, and tells whether the queue was closed and is empty now.
func (q *queue) take(dst []*proposal) (taken []*proposal, finished bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, bytes := 0, 0
	for n < len(q.items) && n < batchLenMax && (n == 0 || bytes+len(q.items[n].payload) <= batchBytesMax) {
		bytes += len(q.items[n].payload)
		n++
	}
	dst = append(dst, q.items[:n]...)
	q.bytes -= bytes
	rest := copy(q.items, q.items[n:])
	clear(q.items[rest:])
	q.items = q.items[:rest]
	if rest > 0 {
		q.signal()
	}
	return dst, q.closed && rest == 0
}

func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}
