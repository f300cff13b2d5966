// SPDX-License-Identifier: AGPL-3.0-only

package liveness

import (
	"fmt"
	"strings"
)

// MessageType says what a Message is.
type MessageType uint8

// The messages. The values are those on the wire.
const (
	// Heartbeat asks the receiver to support (From, Epoch) for Support from its receipt on.
	Heartbeat MessageType = 1
	// HeartbeatAck answers the Heartbeat (Epoch, Seq): it is supported for Support from its receipt on; or, if Support is 0, not at
	// all, because no epoch below MinEpoch is.
	HeartbeatAck MessageType = 2
)

// String is the name of the message.
func (t MessageType) String() string {
	switch t {
	case Heartbeat:
		return "Heartbeat"
	case HeartbeatAck:
		return "HeartbeatAck"
	}
	return fmt.Sprintf("MessageType(%d)", uint8(t))
}

// Message goes from one node to another. It holds no pointers: a copy is a copy.
type Message struct {
	Type     MessageType
	From, To NodeID
	// Epoch is the epoch of the heartbeat's sender, from 1, and Seq counts its rounds of heartbeats in this life of it, from 1.
	Epoch, Seq uint64
	// Support is in nanoseconds. Heartbeat: asked for, from 1 to SupportMax. HeartbeatAck: given; at most what was asked.
	Support Timestamp
	// MinEpoch, of a HeartbeatAck without support, is the lowest epoch that would be supported.
	MinEpoch uint64
	// HLC is the sender's hybrid logical clock and HLCCeil the ceiling that it has made durable, as SetHLC last said; 0 is unknown.
	HLC, HLCCeil Timestamp
	// Of a Heartbeat: RTT is the round trip time between From and About in nanoseconds. One pair in each round. About 0: none.
	About NodeID
	RTT   Timestamp
}

// String is one line for transcripts and traces.
func (m Message) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d->%d %s epoch=%d seq=%d", m.From, m.To, m.Type, m.Epoch, m.Seq)
	if m.Support > 0 {
		fmt.Fprintf(&b, " support=%s", millis(m.Support))
	}
	if m.MinEpoch > 0 {
		fmt.Fprintf(&b, " minEpoch=%d", m.MinEpoch)
	}
	if m.HLCCeil > 0 {
		fmt.Fprintf(&b, " hlc=%d/%d", m.HLC, m.HLCCeil)
	}
	if m.About > 0 {
		fmt.Fprintf(&b, " rtt(%d)=%s", m.About, millis(m.RTT))
	}
	return b.String()
}

// millis writes nanoseconds as milliseconds, with a fraction only where there is one.
func millis(t Timestamp) string {
	whole, rest := t/1e6, t%1e6
	if rest == 0 {
		return fmt.Sprintf("%dms", whole)
	}
	return strings.TrimRight(fmt.Sprintf("%d.%06d", whole, rest), "0") + "ms"
}
