// SPDX-License-Identifier: AGPL-3.0-only

// Package consensus is the replicated log of one group, as a pure state machine: inputs go into a [Core], and a [Ready] says
// what to write, what to send and what to apply. It is WPaxos with whole-log recovery: ballots over the flexible grid quorums
// of package quorum, one log per group, and a new owner that adopts the entire log of the promise with the highest (accepted
// ballot, last slot), so that a command never lands on a predecessor that its owner did not see.
//
// The package leaves to its caller: the disk, the network, clocks, when to campaign, leases, which commands to propose and
// what applying them means. It reads no clock, file, socket, environment or global, starts no goroutine, takes no lock; the
// same inputs give the same outputs, byte for byte. Configurations are fixed: a Core serves the ballots of one Cfg. Ballots
// are global: every region is home.
//
// Where to start reading: Core and Ready in core.go, then acceptor.go, whose head says what an acceptor holds to, then
// proposer.go (phase 1) and peer.go (phase 2 towards one voter). The stories in testdata show each step; record.go and
// entry.go give every byte of the two layouts.
//
// # The own ballot
//
//	             Campaign                   promises of a Q1,          `recovered` accepted by
//	                                        log adopted                a Q2 at the own ballot          and applied
//	Follower ───────────────▶ Preparing ───────────────────▶ Won ───────────────────▶ Recovered ───────────────────▶ Serving
//	   ▲                          │                           │                           │                             │
//	   └──────────────────────────┴───────────────────────────┴───────────────────────────┴─────────────────────────────┘
//	                   a ballot above the own: promised here, accepted here, learned from, or told by a Nack
//
// From Won on, Propose works. What rests on the state, a read or the outcome of a condition, may be answered only when
// Serving, and then only as far as a lease or a confirmation by a Q2 allows, which is not this package's; a sole voter needs
// neither. A restart is always Follower: a ballot does not survive it. A sole voter goes from Follower to Won in Campaign, and
// to Serving with the first Advance.
//
// # The caller's duties
//
//  1. Write Ready.TruncateFrom (delete the log from there), Ready.Entries and Ready.Record in one atomic batch, in this order.
//     The batches of one group reach the disk in the order of their Readies, and a crash keeps a beginning of that order.
//  2. If Ready.MustSync, make the batch durable before MsgsAfterSync are sent and before Advance (but see 5). Without it the
//     batch may be lost in a crash, together with all batches after it.
//  3. Send MsgsNow at any time from Ready on, and MsgsAfterSync only when the batch is durable. Messages may be lost,
//     repeated, delayed and reordered; they may not be changed, nor come from another node than From says.
//  4. Apply Ready.Committed, in order, in the same batch as the Record: its Applied counts them already. Effects and Applied
//     are then on disk together or not at all, and a restart goes on from Applied.
//  5. If Ready.Atomic, Committed are chosen only by this batch becoming durable. Apply them in it, write no Entries (there
//     are none), and let nobody see the effects before its sync has returned. If the batch fails without being written,
//     drop the core and make it again from the Record on disk: nothing was chosen. If that is not known, stop. Advance may
//     come before the sync, once the batch can no longer be refused and has its place in the disk's order (1): what later
//     Readies rest on is then lost only together with them. Make their effects seen in the order of the Readies, and if a
//     sync fails, stop, with all that was not seen yet unknown.
//  6. After a restart or a drop, make the core from the Record as last written and from the log's entries Applied+1..Last,
//     all of them, as DecodeRecord and DecodeEntry read them. A Record that was lost is not a zero Record: a node whose disk
//     was lost comes back under another NodeID. Never make two cores of one group.
//  7. Keep (slot, ballot) of each proposal that somebody waits for. An entry of Committed in that slot decides: with the same
//     ballot the proposal is chosen, with another it never will be. If the core is no longer the owner and no entry comes,
//     the outcome is unknown, and must be reported so.
//  8. Give Step only messages that were authenticated as coming from From, and treat every error that is not ErrInvalid, from
//     any method, as the end of this node's work: stop, and say why. Look at Err after each Ready.
//  9. Call Tick at least every Tuning.FlushAfter while NeedsTick. A time that runs back is harmless; one that stands still delays.
//  10. Call Advance once for each Ready, when its writes, sends and applies are done, before asking for the next. Step,
//     Propose, Campaign and Tick may come in between. Ready's slices and Record are the core's; only messages outlive Advance.
//  11. Answer the owner's questions about old slots: the Log given to New has every entry that Entries said to write, from
//     Record.First on. Slots below First are nobody's to ask for.
//  12. When a campaign fails, wait before the next, at random and longer each time: two proposers can end each other's
//     ballots for ever. Safety does not rest on it.
//
// # What it costs
//
// A core without peers is one allocation of about 600 bytes; one with peers adds a few hundred bytes a voter while it owns a
// ballot. There are no timers: an idle core can be dropped and made again from its Record. Memory is bounded by what is not
// committed (Tuning.UncommittedBytes), what is kept for lagging peers (RetainedBytes), and the messages under way.
package consensus
