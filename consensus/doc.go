// SPDX-License-Identifier: AGPL-3.0-only

// Package consensus is the replicated log of one group, as a pure state machine: inputs go into a [Core], and a [Ready] says
// what to write, what to send and what to apply. It is WPaxos with whole-log recovery: ballots over the flexible grid quorums
// of package quorum, one log per group, and a new owner that adopts the entire log of the promise with the highest (accepted
// ballot, last slot), so that a command never lands on a predecessor that its owner did not see.
//
// The package leaves to its caller: the disk, the network, clocks, who is alive (a [Fabric], which consensus/liveness is), when
// and where to campaign (consensus/ownership), which commands to propose and what applying them means, once for each request
// (consensus/session), and how a configuration is changed from end to end (consensus/reconfig). It reads no clock, file, socket,
// environment or global, starts no goroutine, takes no lock; the same inputs give the same outputs, byte for byte.
//
// Where to start reading: Core in core.go and Ready in ready.go. Then phase1.go (how a ballot is won) and adopt.go (how its log
// gets here), acceptor.go, whose head says what an acceptor holds to, proposer.go and peer.go (phase 2). After that, in any
// order: lease.go, reads.go and closed.go, reconfigure.go, snapshot.go, release.go. check.go is what is refused, limits.go how much is
// too much. The stories in testdata show each step; consensus/consensuspb gives every byte of the layouts.
//
// # The own ballot
//
//	          Campaign(Global)        a Q1 would promise           promises of a Q1 (or QL),    `recovered` accepted by
//	                                                               log adopted                  a Q2 of the home       and applied
//	Follower ──────────────▶ Probing ──────────────▶ Preparing ──────────────────────▶ Won ───────────────────▶ Recovered ────▶ Serving
//	   │  ▲                     │        Campaign(Local),   ▲  │                        │                           │            │
//	   │  │                     │        a release shown    │  │                        │                           │            │
//	   └──┼─────────────────────┼───────────────────────────┘  │                        │                           │            │
//	      └─────────────────────┴──────────────────────────────┴────────────────────────┴───────────────────────────┴────────────┘
//	         a ballot above the own: promised here, learned from, or told by a Nack; an owner that is alive (Probing, Preparing);
//	         Release; Abandon; Seal or Retire of its configuration; another Campaign
//
// From Won on, Propose works. What rests on the state, a read or the outcome of a condition, may be answered only when Serving,
// and then only with a lease (HoldsLease) or after a Q2 has confirmed the ballot (ReadIndex does what is needed). A restart is
// always Follower: a ballot does not survive it, nor its end. A sole voter goes from Follower to Won in Campaign, and to Serving
// with the first Advance.
//
// # Configurations, homes, scopes
//
// A ballot belongs to a configuration, and is won by a Q1 of that and of every older one that may have chosen something: from
// the highest on in which anyone who promises knows a log to be chosen (Record.Established), or to which a chosen stop-sign
// leads. Phase 2 is a Q2 in the ballot's home, a set of regions: only voters there accept; other voters, and learners, get what
// is chosen. A local ballot stays in the configuration and home of the log that it adopts, and asks only there; promises to
// global ballots stand in its way until that is cleared (acceptor.go). An owner goes on in its configuration until it
// campaigns in the newest one that it was told of; nodes that have not heard of it say so with ErrUnknownConfiguration.
//
// # When a promise is durable
//
// Whatever rests on what this node has promised, accepted or learned leaves after the batch with the Record that says so: Promise,
// Accepted, Learned, Fortified, Confirmed, and the Prepare at an own ballot, since that is promised here first. An owner's AcceptSync,
// Accept, Learn, Fortify and Confirm leave at once: they rest on the own promise only, which was durable before the ballot was won, and
// the owner's own vote counts when its batch is durable. FetchReply and Snapshot leave at once too, with what was promised with or
// is chosen, and so does a Nack, which says what this node has just promised and may forget in a crash: nothing rests on it, and
// it costs its receiver a ballot at most. PrePrepare promises nothing, nor does a PrePromise, unless it says up to which ballot its
// sender holds no lease: that rests on what it has promised, so it leaves after the batch. Cancel and Release need nothing durable,
// since no ballot is ever taken up again: not after it was given up, not after a restart.
//
// # The caller's duties
//
//  1. Write Ready.TruncateFrom (delete the log from there), Ready.CompactTo (delete it up to there), Ready.Entries, Ready.Record,
//     Ready.Withdrawals and Ready.Clock in one atomic batch, in this order. The batches of one group reach the disk in the order of their
//     Readies, and a crash keeps a beginning of that order.
//  2. If Ready.MustSync, make the batch durable before MsgsAfterSync are sent and before Advance (but see 5). Without it the
//     batch may be lost in a crash, together with all batches after it.
//  3. Send MsgsNow at any time from Ready on, and MsgsAfterSync after the batch is written, and durable if MustSync. Messages may be
//     lost, repeated, delayed and reordered; they may not be changed, nor come from another node than From says.
//  4. Apply Ready.Committed, in order, in the same batch as the Record: its Applied counts them already. Effects and Applied
//     are then on disk together or not at all, and a restart goes on from Applied. A stop-sign applies to nothing.
//  5. If Ready.Atomic, Committed are chosen only by this batch becoming durable. Apply them in it, write no Entries (there
//     are none), and let nobody see the effects before its sync has returned. If the batch fails without being written,
//     drop the core and make it again from the Record on disk: nothing was chosen. If that is not known, stop. Advance may
//     come before the sync, once the batch can no longer be refused and has its place in the disk's order (1): what later
//     Readies rest on is then lost only together with them, and their MsgsAfterSync wait for that sync too. Make their effects seen
//     in the order of the Readies, and if a sync fails, stop, with all that was not seen yet unknown.
//  6. After a restart or a drop, make the core from the Record as last written and from the log's entries Applied+1..Last,
//     all of them, as DecodeRecord and DecodeEntry read them, with all configurations that are not retired, oldest first, and
//     MinCfg as it was last sealed. What New is given must be durable, since the core answers from it; so drop a core only when no
//     Ready is out and HasReady is false, or when its batch is known not to be written. Reads that wait are lost then without a
//     word. A configuration is durable here no later than a Record with a ballot of it. A Record that was lost is not a zero
//     Record: a node whose disk was lost comes back under another NodeID. Never make two cores of one group.
//  7. Keep (slot, ballot) of each proposal that somebody waits for. An entry of Committed in that slot decides: with the same
//     ballot the proposal is chosen, with another it never will be. If the core is no longer the owner and no entry comes, or a
//     snapshot takes its place, the outcome is unknown, and must be reported so.
//  8. Give Step only messages that were authenticated as coming from From, and treat every error that is not ErrInvalid or
//     ErrUnknownConfiguration, from any method but those that say otherwise, as the end of this node's work: stop, and say why.
//     Look at Err after each Ready, Advance and Tick, which return none.
//  9. Call Tick at least every Tuning.FlushAfter while NeedsTick, with a clock that does not step; the time of Propose is
//     another. A time that runs back is harmless; one that stands still delays. Tick first after New: what was asked
//     before is asked again at once.
//  10. Call Advance once for each Ready, when its writes, sends and applies are done, before asking for the next. Step,
//     Propose, Campaign and Tick may come in between. Ready's slices and Record are the core's; only messages outlive Advance.
//  11. Answer the owner's questions about old slots: the Log given to New has every entry that Entries said to write, from
//     Record.First on. Slots below First are nobody's to ask for. Compact when the log is too long: up to Status.TrimTo nobody
//     lacks what goes, beyond that peers need a snapshot.
//  12. When a campaign fails, wait before the next, at random and longer each time: two proposers can end each other's
//     ballots for ever. Abandon one that does not come to an end, too, since it asks for ever: a local one waits for nodes of its
//     home only, which may all be away; Status.NeedGlobal says when only a global one can help. After two local ones, try a global one:
//     with nodes gone there may be a Q1 and no QL. Give up a won ballot that does not come to Serving as well, with Release or
//     Abandon: acceptors that are tied to it promise nobody else. Safety does not rest on it.
//  13. With a Snapshot send, beside it, the state as it is applied at exactly its Slot: take it before the Committed of the same
//     Ready are applied, and after its Snapshot is ingested. (A newer state will do if Slot, Chain, Time, Established and the stop-sign are those of the Record that
//     was written with it.) On the other side stage the state, whole and checked, then Step the message. If the next Ready has that
//     Snapshot, ingest what was staged, delete the log from TruncateFrom on and write the Record in ONE atomic step; else drop it.
//  14. For a read under the lease take the state's snapshot first and ask HoldsLease then: in the other order the lease can end in
//     between. That state must have everything up to Status.Commit applied. After HoldsLease look at HasReady: it may have asked
//     peers to be tied anew.
//  15. Answer Ready.Reads from any state with their Slot applied. Ready.ReadsLost were not answered, and can be asked anew elsewhere.
//  16. Fabric must tell the truth about now, each time it is asked, and forget no withdrawal: what Withdraw was told holds at once
//     in memory, and is durable with Ready.Withdrawals, in the batch of the promise.
//  17. Tell every core of a configuration before it is to answer ballots of it, in order. Seal only what is durable here, after the
//     batches of all Readies that are out; Retire only what a Q1 of it has sealed, with everything that was chosen in it
//     established later. A node that is removed releases what it owns to one that is not (Release).
//  18. Tell whom you like of what Close claims, in any order, late or never. Whoever has a claim may answer reads as of any time up to its
//     ReadableTo, from a state as it stands at Applied and AppliedTime of the Record that was written with it (and see 5). Claims are
//     true for ever, and of no other group; they need not be kept over a restart. Of two, the one of the later time says more once its
//     Slot is applied: until then keep the other.
//  19. Fabric.Clock is one clock for all groups of the node. Before ClockFrom tells anybody a time, that must be sure to hold in every later
//     life too: written ahead of need, as a ceiling; and what Ready.Clock says is written in its batch. A life begins at all of this or later.
//     The ceiling follows the wall clock, never what others told nor where the last life began: else one clock that is wrong drags all
//     others along for good, and restarts add up. A clock far ahead of the others takes the commit times of all groups along with which it
//     promises: keep it near true time. All nodes of a group have a clock, or none. What Propose is given may come from another.
//
// # What it costs
//
// A core without peers is one allocation of about 1.4 kB; one with peers adds a few hundred bytes a peer while it owns a
// ballot. There are no timers: an idle core can be dropped and made again from its Record. Memory is bounded by what is not
// committed (Tuning.UncommittedBytes), what is kept for lagging peers (RetainedBytes), and the messages under way. An idle group
// sends nothing: leases are between nodes. A ballot costs one message to each peer when all that it adopted is chosen.
package consensus
