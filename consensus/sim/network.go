// SPDX-License-Identifier: AGPL-3.0-only

package sim

import (
	"github.com/atlas-edge/atlas/consensus"
	"github.com/atlas-edge/atlas/consensus/liveness"
)

// packetKind says what a packet carries.
type packetKind uint8

const (
	packetCore packetKind = iota + 1
	packetLive
	packetRPC
	packetOrder
)

// packet is a message under way. Cores' messages travel as bytes.
type packet struct {
	kind     packetKind
	from, to consensus.NodeID
	life     int32 // of the sender
	group    int32
	bytes    []byte
	snapshot *machine // that travels with a Snapshot message
	live     liveness.Message
	rpc      *rpc
	order    orderPacket
	forged   forgery
}

// forgery says what is wrong with a packet that a hostile node sends.
type forgery uint8

const (
	genuine      forgery = iota
	forgedFrom           // the message says that another node sent it
	forgedBallot         // the ballot is not the sender's, or not the receiver's in an answer
	forgedRound          // of a round that no campaign can have reached
)

// roundForged is beyond every round that a world can reach. An answer to a forged ballot may have it too.
const roundForged = 1 << 40

// link is one direction between two nodes: a stream in order, but for the faults.
type link struct {
	cutUntil, clogUntil Time
	last                Time // when the last message in order arrives
}

func (w *World) link(from, to consensus.NodeID) *link { return &w.links[from][to] }

// latency is one way, without what varies.
func (w *World) latency(from, to *node) Time {
	if w.setup.Latency != nil {
		return w.setup.Latency[from.site][to.site]
	}
	if from.site == to.site {
		return w.o.Near
	}
	return w.o.Far
}

// send gives a packet to the network.
func (w *World) send(p *packet) {
	f := &w.stats.Fates
	f.Sent++
	from, to := w.node(p.from), w.node(p.to)
	if to == nil {
		f.Nowhere++
		return
	}
	p.life = from.life
	l := w.link(p.from, p.to)
	if w.now < l.cutUntil || to.gone || to.frozen || from.frozen {
		f.Cut++
		return
	}
	r := w.rndNet
	if w.calm {
		w.plan(p, l, w.latency(from, to)+r.upTo(w.o.Jitter), false)
		return
	}
	if r.ppm(w.o.Drop) {
		f.Dropped++
		return
	}
	delay := w.latency(from, to) + r.upTo(w.o.Jitter)
	overtaking := r.ppm(w.o.Reorder)
	if r.ppm(w.o.Delay) {
		f.Delayed++
		delay += r.spread(w.latency(from, to)+1, max(w.o.DelayMost, w.latency(from, to)+1))
		overtaking = true
	}
	if p.kind != packetRPC && r.ppm(w.o.Duplicate) { // a request is sent once: only its client repeats it
		f.Duplicated++
		again := delay + r.spread(1*Microsecond, 2*Second)
		w.plan(p, l, again, true)
	}
	if r.ppm(w.o.Forge) {
		if forged := w.forge(p); forged != nil {
			w.plan(forged, l, delay, true)
		}
	}
	if p.kind != packetRPC && r.ppm(w.o.Stale) && len(w.stale) < 256 {
		w.stale = append(w.stale, p)
	}
	if overtaking {
		f.Reordered++
	}
	w.plan(p, l, delay, overtaking)
}

// plan lets a packet arrive.
func (w *World) plan(p *packet, l *link, delay Time, overtaking bool) {
	if p.snapshot != nil {
		delay += w.o.SnapshotTime/2 + w.rndNet.upTo(w.o.SnapshotTime)
	}
	at := max(w.now, l.clogUntil) + delay
	if !overtaking {
		at = max(at, l.last)
		l.last = at
	}
	w.heap.push(event{at: at, kind: evDeliver, who: int32(p.to), packet: p})
}

// replayStale sends again what a node sent in an earlier life.
func (w *World) replayStale(n *node) {
	keep := w.stale[:0]
	for _, p := range w.stale {
		if p.from != n.id || p.life == n.life || w.calm {
			keep = append(keep, p)
			continue
		}
		w.stats.Fates.Stale++
		w.plan(p, w.link(p.from, p.to), w.rndNet.upTo(w.o.Far), true)
	}
	w.stale = keep
}

// forge makes a copy of a core's message with fields that its sender could not have put there. The transport, which knows
// whom it talks to, must refuse the first kind, and the core the others.
func (w *World) forge(p *packet) *packet {
	if p.kind != packetCore {
		return nil
	}
	m, err := consensus.DecodeMessage(p.bytes)
	if err != nil {
		w.fail("own message does not decode: %v", err)
		return nil
	}
	c := *p
	others := consensus.NodeID(w.rndNet.IntN(len(w.nodes)) + 1)
	switch w.rndNet.IntN(3) {
	case 0:
		c.forged = forgedFrom
		if m.From = others; m.From == p.from {
			return nil
		}
	case 1:
		c.forged = forgedBallot
		if others == m.From || others == m.To {
			return nil
		}
		m.Ballot.Node = others
	default:
		c.forged = forgedRound
		m.Ballot.Round += roundForged
		if m.Type == consensus.AcceptSync || m.Type == consensus.Accept || m.Type == consensus.Prepare {
			break
		}
		return nil
	}
	c.bytes = m.AppendTo(nil)
	w.stats.Fates.Forged++
	return &c
}

// deliver is the event of a packet that arrives.
func (w *World) deliver(p *packet) {
	n := w.node(p.to)
	f := &w.stats.Fates
	switch {
	case n.gone || n.frozen:
		f.Cut++
		return
	case !n.up:
		f.ToDead++
		return
	case w.now < n.suspendedUntil:
		w.heap.push(event{at: n.suspendedUntil, kind: evDeliver, who: int32(p.to), packet: p})
		return
	}
	f.Delivered++
	n.receive(p)
}
