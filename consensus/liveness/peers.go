// SPDX-License-Identifier: AGPL-3.0-only

package liveness

// PeerStatus is what this node knows of a peer.
type PeerStatus struct {
	Node NodeID
	// GivenEpoch is the highest epoch of it that this node supported, and GivenUntil when that ends or ended on this node's boot
	// clock; 0, 0 for never.
	GivenEpoch uint64
	GivenUntil Timestamp
	// MinEpoch is the lowest epoch of it that this node may support.
	MinEpoch uint64
	// HeldUntil is until when this node counts on it, on this node's boot clock; a time that is past says that it does not.
	HeldUntil Timestamp
	// RTT is the smoothed round trip time to it in nanoseconds, with the time that both ends took to look; 0 is unknown.
	RTT Timestamp
	// HLC and HLCCeil are the highest that it told of its hybrid logical clock and of the clock's durable ceiling.
	HLC, HLCCeil Timestamp
}

// AppendPeers appends what is known of each peer, by node.
func (c *Core) AppendPeers(dst []PeerStatus) []PeerStatus {
	for i := range c.peers {
		if p := &c.peers[i]; p.active {
			dst = append(dst, PeerStatus{
				Node: p.node, GivenEpoch: p.epoch, GivenUntil: p.until, MinEpoch: p.minEpoch, HeldUntil: p.heldUntil,
				RTT: p.rtt, HLC: p.hlc, HLCCeil: p.hlcCeil,
			})
		}
	}
	return dst
}

// RTT is the smoothed round trip time in nanoseconds between two nodes, as far as it is known: to a peer from this node's own
// heartbeats, between two others from what either of them told.
func (c *Core) RTT(a, b NodeID) (rtt Timestamp, ok bool) {
	if a == b {
		return 0, true
	}
	if a == c.self {
		a, b = b, a
	}
	i, ok := c.index(a)
	if !ok {
		return 0, false
	}
	if b == c.self {
		return c.peers[i].rtt, c.peers[i].rtt > 0
	}
	j, ok := c.index(b)
	if !ok {
		return 0, false
	}
	if rtt = c.told(i, j); rtt == 0 {
		rtt = c.told(j, i)
	}
	return rtt, rtt > 0
}

// told is what peer i told of its round trip to peer j, 0 for nothing.
func (c *Core) told(i, j int) Timestamp {
	if row := c.peers[i].row; j < len(row) {
		return Timestamp(row[j]) * 1000
	}
	return 0
}

// measure smooths round trip times with a weight of 1/8 for the newest. 0 means unknown, so that none is below 1 ns.
func (c *Core) measure(p *peer, rtt Timestamp) {
	rtt = max(1, min(rtt, RTTMax))
	if p.rtt > 0 {
		rtt = max(1, (7*p.rtt+rtt)/8)
	}
	p.rtt = rtt
}

// nextGossip is the pair that the next round tells of: the peers in turn.
func (c *Core) nextGossip() (about NodeID, rtt Timestamp) {
	for range c.peers {
		c.gossip++
		if c.gossip >= len(c.peers) {
			c.gossip = 0
		}
		if p := &c.peers[c.gossip]; p.active && p.rtt > 0 {
			return p.node, p.rtt
		}
	}
	return 0, 0
}

// hear notes what a peer tells beside the point. The own clock goes along with that of the peer as far as its ceiling allows: so the ack
// of a heartbeat tells that it has.
func (c *Core) hear(p *peer, m *Message) {
	c.hlc = max(c.hlc, min(m.HLC, c.hlcCeil))
	p.hlc, p.hlcCeil = max(p.hlc, m.HLC), max(p.hlcCeil, m.HLCCeil)
	if m.About == 0 || m.About == c.self {
		return
	}
	i, ok := c.index(m.About)
	if !ok {
		return
	}
	if i >= len(p.row) {
		p.row = append(p.row, make([]uint32, len(c.peers)-len(p.row))...)
	}
	p.row[i] = uint32((min(m.RTT, RTTMax) + 999) / 1000)
}
