// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"math/bits"

	"github.com/atlas-edge/atlas/consensus"
)

// client does one operation after the other, each until it is answered or given up. What is given up is unknown: it is never
// repeated under another number.
type client struct {
	w    *World
	id   int
	site int
	life int // counts wakes that were planned, so that an old timer does nothing

	// Per group: a session, 0 if none is open, and the number of the last request in it.
	sessions []uint64
	seqs     []uint64
	value    uint64
	seen     []consensus.Slot // per group and key: the last version that was seen, for conditions

	busy    bool
	op      Op
	verb    verb
	attempt int
	asked   uint64 // the attempts that were sent, a bit each
	lost    uint64 // those that certainly did nothing
	home    int    // the group that it likes
	done    int
}

func newClient(w *World, id, site int) *client {
	c := &client{w: w, id: id, site: site, sessions: make([]uint64, w.o.Groups), seqs: make([]uint64, w.o.Groups)}
	c.seen = make([]consensus.Slot, w.o.Groups*keysMax)
	c.home = w.rndClient.IntN(max(w.usedGroups(), 1))
	return c
}

// wake plans the next thing that the client does.
func (c *client) wake(after Time) {
	c.life++
	c.w.heap.push(event{at: c.w.now + after, kind: evClient, who: int32(c.id), life: int32(c.life)})
}

// run is the event of the client's timer.
func (c *client) run() {
	w := c.w
	switch {
	case c.busy:
		c.timedOut()
	case !w.clientsStop:
		g := c.drawGroup()
		c.begin(g, c.drawVerb(g))
	case len(w.probes) > 0:
		g := w.probes[0]
		w.probes = w.probes[1:]
		v := w.probeVerb
		if v == verbPut && c.sessions[g] == 0 {
			v = verbOpen
		}
		c.begin(g, v)
	}
}

func (c *client) drawGroup() int {
	w, r := c.w, c.w.rndClient
	switch n := w.usedGroups(); {
	case w.setup.Pick != nil:
		return w.setup.Pick(c.id, c.site, r.Rand)
	case r.Int64N(100) < w.o.Skew:
		return 0
	case r.chance(3):
		return r.IntN(n)
	}
	return c.home
}

// begin calls an operation.
func (c *client) begin(g int, v verb) {
	w, r := c.w, c.w.rndClient
	key := uint8(r.Int64N(w.o.Keys))
	c.op = Op{Client: c.id, Group: g, Key: int(key), Call: w.now, Floor: w.check.acked(g, int(key))}
	c.attempt, c.asked, c.lost, c.busy, c.verb = 0, 0, 0, true, v
	if v == verbPut || v == verbCas || v == verbDelete {
		c.seqs[g]++
	}
	switch v {
	case verbCas:
		c.op.Conditional, c.op.Expect = true, c.seen[g*keysMax+int(key)]
		fallthrough
	case verbPut:
		c.value++
		c.op.Value = uint64(c.id+1)<<32 | c.value
	}
	c.op.verb, c.op.session, c.op.seq = v, c.sessions[g], c.seqs[g]
	if v == verbOpen || v == verbGet {
		c.op.session, c.op.seq = 0, 0
	}
	c.try()
}

func (c *client) drawVerb(g int) verb {
	w, r := c.w, c.w.rndClient
	switch {
	case r.Int64N(100) < w.o.Gets:
		return verbGet
	case c.sessions[g] == 0:
		return verbOpen
	case r.Int64N(100) < w.o.Deletes:
		return verbDelete
	case r.Int64N(100) < w.o.Cases:
		return verbCas
	}
	return verbPut
}

// try sends the operation to some node: mostly one of the own site.
func (c *client) try() {
	w, r := c.w, c.w.rndClient
	c.attempt++
	n := w.gateway(c.site, r)
	q := &rpc{
		client: c.id, op: c.done, attempt: c.attempt, group: c.op.Group, gateway: n.id, session: c.op.session, seq: c.op.seq,
		command: command{verb: c.verb, key: uint8(c.op.Key), value: c.op.Value, expect: c.op.Expect},
	}
	w.used[c.op.Group] = true
	if n.running() {
		c.asked |= 1 << min(c.attempt, 63)
		w.mix(uint64(c.id), uint64(c.op.Group))
		n.serve(q)
	}
	c.wake(w.o.AttemptFor/2 + r.upTo(w.o.AttemptFor))
}

// timedOut gives up, or asks again: the same request, so that it takes effect at most once.
func (c *client) timedOut() {
	if !c.w.calm && c.attempt >= int(c.w.o.Attempts) {
		c.finish(Unknown, result{})
		return
	}
	c.try()
}

// answered is called when a node answers a client.
func (w *World) answered(q *rpc) {
	c := w.clients[q.client]
	if !c.busy || c.done != q.op {
		return // too late
	}
	switch q.outcome {
	case outcomeDone:
		switch q.result.status {
		case statusDone:
			c.finish(Done, q.result)
		case statusRefused:
			c.finish(Refused, q.result)
		case statusExpired, statusForgot, statusFull:
			c.expired(q.result.status)
		}
	case outcomeLost, outcomeRetry:
		if q.attempt < 63 { // so many attempts share the last bit
			c.lost |= 1 << q.attempt
		}
		c.again(q)
	case outcomeUnknown:
		c.again(q)
	}
}

// expired: the session is gone. What came of the operation is not known, unless it was sent only once and its session was
// refused when it was applied.
func (c *client) expired(s status) {
	c.sessions[c.op.Group], c.seqs[c.op.Group] = 0, 0
	if s == statusExpired && bits.OnesCount64(c.asked) == 1 || c.verb == verbOpen {
		c.finish(NotDone, result{})
		return
	}
	c.finish(Unknown, result{})
}

// again asks again after a while.
func (c *client) again(q *rpc) {
	w := c.w
	if q.attempt != c.attempt {
		return // an earlier attempt; the last has its own answer or time-out
	}
	if !w.calm && c.attempt >= int(w.o.Attempts) {
		if c.lost == c.asked {
			c.finish(NotDone, result{})
			return
		}
		c.finish(Unknown, result{})
		return
	}
	c.wake(w.rndClient.spread(1*Millisecond, 200*Millisecond) * Time(min(c.attempt, 8)))
}

// finish ends the operation and records it.
func (c *client) finish(out Outcome, res result) {
	w := c.w
	c.busy = false
	c.done++
	c.op.Return, c.op.Outcome = w.now, out
	g, at := c.op.Group, c.op.Group*keysMax+c.op.Key
	if out == Done || out == Refused {
		if c.verb == verbOpen {
			c.sessions[g], c.seqs[g] = uint64(res.version), 0
		} else {
			c.op.Version = res.version
			c.seen[at] = res.version
		}
	}
	if out == Unknown && c.verb == verbOpen {
		c.sessions[g] = 0
	}
	if c.verb == verbGet {
		c.op.Value = res.value
		if out != Done {
			c.op.Outcome = NotDone
		}
	}
	if w.tracing() {
		w.trace(0, "client %d: %v", c.id, c.op)
	}
	w.mix(uint64(c.id)<<8|uint64(out), uint64(res.version))
	w.finished(c)
	c.wake(w.rndClient.spread(1*Microsecond, 2*w.o.Think))
}
