// SPDX-License-Identifier: AGPL-3.0-only

// Package explore runs the real consensus core through every schedule that a [Setup] allows, and judges the invariants of the
// design's section 10 in every state. It is explicit-state model checking, with the program as its own model: no step of the
// protocol is written down here a second time, only what the invariants are.
//
// # The world
//
// A state is: for each node its core, its disk (what is durable, what is written and not synced) and how far it has got with
// the Ready that is out; the messages under way; what each node believes of the lives of the others (see fabric); how much of
// each bound is used; and as much of the past as the invariants need (see history). Time is no part of it: the fabric keeps of
// the clocks the one rule that leases rest on, and each Tick is late for everything that waits, so that how long it waited
// does not matter.
//
// What a core does depends on its own state, its view of the fabric and the input alone. So the core is run once for each
// such triple, and the outcome is looked up from then on; a state is a tuple of small numbers. States are told apart by a
// 128-bit hash: the odds that a hundred million states hold two with the same are 10^-22.
//
// # What is merged, and why nothing is lost
//
// A node does what an input causes at once: it takes Readies, writes, syncs if it must, sends, advances, until there is
// nothing left. That stands for all the ways in which others' steps fall between these, because steps of different nodes
// commute and meet only in messages: a message sent early can be delivered late, and is, in another schedule. What it does not
// stand for has actions of its own:
//
//   - A crash between any two of the duties of a Ready. The action `crash-after=j keep=k` of an input does j Readies whole,
//     writes the next and sends its MsgsNow, and then crashes with the first k unsynced batches surviving. When others act
//     between these steps and the crash makes no difference to them or to the node.
//   - A Ready that is done later than other inputs come (`hold`, `take`, `finish`), as often as Bounds.Stalls says: inputs
//     before the Ready is taken, which it then covers together, and inputs between Ready and Advance.
//   - A batch that need not be synced stays unsynced until one is that must be. Once no crash is left, it is synced.
//
// A crash and the start after it are one action: a node that stays down is one to which nothing is delivered. A lost message
// is one that is never delivered; there is no action for it. Messages that cannot have an effect any more are taken off (see
// dead and stale, and the tests that hold these against the core).
//
// Bounds.Network says what order messages come in. Streams is that of the transport: from one node to another in the order
// sent, any of them lost. With Bounds.Inflight, a stream holds only the last few: the older ones are lost. Reorder and Repeat
// are what the core promises to bear.
//
// # A violation
//
// The search is breadth first, so that the first violation has a shortest trace. It is printed as a transcript, which
// TestTranscripts replays from testdata/found.
//
// The package starts no goroutine and reads no clock; one search after another gives the same counts.
package explore
