// SPDX-License-Identifier: AGPL-3.0-only

// Package liveness says which nodes are alive, as a pure state machine of the node: it is what leases rest on. Every node
// sends heartbeats to its peers, one per pair of nodes and interval, however many groups they share; who receives one supports
// the sender for a while, and says so. A node may count on the support of a peer only while that peer certainly gives it.
//
// The package leaves to its caller: clocks, the network, the disk, who the peers are, and which group is tied to which epoch,
// which is package consensus, that asks a [Core] through consensus.Fabric. It reads no clock, file, socket, environment or
// global, starts no goroutine, takes no lock; the same inputs give the same outputs.
//
// Where to start reading: the rules below, then Core and Ready in core.go, supporter.go (what is given), holder.go (what is
// counted on). The stories in testdata show each rule.
//
// # The rules
//
// A node's epoch counts its lives, and the times that somebody took its support away: it is durable, one higher at each start,
// and names what the node's groups are tied to.
//
//	holder H, epoch e                                            supporter S
//	  │  Heartbeat{e, seq, support D} ───────────────────────────▶ │  supports exactly (H, e) until its clock
//	  │  (H notes when it sent seq)                                │  has gone on by D
//	  │ ◀───────────────────────── HeartbeatAck{e, seq, support D} │
//	  │  counts on S until its clock has gone on by D·(1-2ρ)       │
//	  │  from when it SENT seq
//
//	A1. S supports (H, e) until its own clock is D past the receipt of the newest heartbeat of e.
//	A2. H counts on S until its own clock is D·(1-2ρ) past the sending of the heartbeat that S's ack answers. Both clocks run at
//	    a rate within 1±ρ of true time (DriftPPM), so H's D·(1-2ρ) is over, in true time, before S's D is, and H began to count
//	    first. Clocks are not compared, and need not agree on anything.
//	A3. Support is for one epoch. A heartbeat of a higher epoch ends the support of the lower; one of a lower is ignored.
//	A4. Support is taken away only when it has run out, by Withdraw(H, e+1), which is durable with the promise that uses it:
//	    from then on S supports no epoch of H below e+1, and says so in its acks. H then takes a new epoch, and all that
//	    was tied to the old one is void. A new epoch is durable before a heartbeat carries it.
//	A5. A node that was started again does not remember whom it supported. For the longest support that it can have given it is
//	    quarantined: it may have promised to support anybody.
//	A6. A node whose disk has not synced for SyncStall with work pending sends no heartbeats, so that its support runs out.
//	A7. When the wall clock jumps against the boot clock by more than ClockJumpMax, one of the two cannot be trusted: all support
//	    held is dropped, and earned again only by heartbeats sent after the jump. If it was the boot clock that gained, what
//	    was promised to others may have ended early here, and the node is quarantined as after a start.
//
// Invariant (I16): while H counts on S at epoch e, S supports (H, e) or is quarantined. Loss, repetition, delay and
// reordering of messages cannot break it. A clock whose rate is beyond DriftPPM and that does not jump can.
//
// # The caller's duties
//
//  1. Make a Core with an Epoch that is durable and above that of every life before, and all MinEpochs that were written. A
//     node whose disk was lost comes back under another NodeID.
//  2. Call Tick with the boot clock (one that runs on in suspend: CLOCK_BOOTTIME) and the wall clock, read at that moment: at
//     least every quarter of an Interval; after a message was received and before it is stepped; and before SupportFrom or Supports is
//     asked, also through a group's core. The time of a lease is looked at after the state that is read under it was fixed.
//  3. Write Ready.Epoch and Ready.MinEpochs in one atomic batch, durable before Advance if MustSync. Send Ready.MsgsNow at any time from
//     Ready to Advance; they may be lost, repeated, delayed and reordered, but not changed, nor come from another node than From says.
//     If the batch is refused and nothing of it is written, stop the node, or write what the Ready says with the next batch: it stays out.
//  4. Call Withdraw in the same step in which a group's core promises because support has run out: no heartbeat may be
//     stepped in between. The MinEpochs that result are written in the batch of that promise, or an earlier one.
//  5. Call Advance once for each Ready, before asking for the next. Any other method may be called in between.
//  6. Call DiskProgress when a sync begins or ends.
//  7. Call SetHLC before the first Step, with the clock at no less than the ceiling that is durable, and again as the clock goes on; a ceiling only
//     once it is durable, and ahead of the wall clock, not of Clock. Without it no clock is known: nothing can be closed
//     (consensus.Core.Close), and a node of a group whose other nodes know theirs accepts no log.
//  8. Give Step only messages that were authenticated as coming from From. An error that is not ErrInvalid or ErrUnknownPeer,
//     from any method, is the end of this node's work: stop, and say why.
//
// # What it costs
//
// One Core per node: about 200 bytes a peer, and 4 bytes for each pair of peers whose round trip is known. No allocation per
// heartbeat.
package liveness
