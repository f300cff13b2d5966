// SPDX-License-Identifier: AGPL-3.0-only

package sim

// Time is true time: nanoseconds since the world began. Nodes do not see it; they have clocks.
type Time int64

// Spans of time.
const (
	Microsecond Time = 1000
	Millisecond      = 1000 * Microsecond
	Second           = 1000 * Millisecond
	Minute           = 60 * Second
)

// eventKind says who takes an event.
type eventKind uint8

const (
	evDeliver eventKind = iota + 1 // packet arrives
	evTick                         // node's timer
	evLoop                         // node's event loop turns
	evSynced                       // node's disk is done
	evClient                       // client wakes
	evCall                         // call is called
)

// event is something that happens at a time. life is that of the node when the event was planned: a node that has died since
// does not see it.
type event struct {
	at     Time
	seq    uint64 // events of one time happen in the order in which they were planned
	kind   eventKind
	who    int32 // node or client
	life   int32
	packet *packet
	call   func()
}

// eventHeap is a 4-ary heap by (at, seq).
type eventHeap struct {
	events []event
	seq    uint64
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

func (h *eventHeap) push(e event) {
	h.seq++
	e.seq = h.seq
	h.events = append(h.events, e)
	i := len(h.events) - 1
	for i > 0 {
		up := (i - 1) / 4
		if !e.before(&h.events[up]) {
			break
		}
		h.events[i] = h.events[up]
		i = up
	}
	h.events[i] = e
}

// pop takes the first event. Requires: there is one.
func (h *eventHeap) pop() event {
	first, last := h.events[0], h.events[len(h.events)-1]
	h.events[len(h.events)-1] = event{}
	h.events = h.events[:len(h.events)-1]
	n := len(h.events)
	if n == 0 {
		return first
	}
	i := 0
	for {
		least, from := -1, 4*i+1
		for j := from; j < min(from+4, n); j++ {
			if least < 0 || h.events[j].before(&h.events[least]) {
				least = j
			}
		}
		if least < 0 || !h.events[least].before(&last) {
			break
		}
		h.events[i] = h.events[least]
		i = least
	}
	h.events[i] = last
	return first
}
