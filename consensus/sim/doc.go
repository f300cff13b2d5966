// SPDX-License-Identifier: AGPL-3.0-only

// Package sim runs whole clusters of the consensus cores in virtual time, makes everything go wrong that can, and checks from
// the outside that nothing is lost, invented or answered wrongly. A seed is a run, byte for byte.
//
//	clients ── requests ──▶ node ─────────────────────────────────────────────┐      network
//	   ▲                    │  consensus.Core per group   liveness.Core        │   ┌───────────┐
//	   └───── answers ──────┤  state machine, sessions    system log, so far   ├──▶│ delay     │
//	                        │                                                  │   │ drop      │──▶ other nodes
//	 history                │  the loop: Readies ▶ batch ▶ send ▶ sync ▶ send  │   │ cut, clog │
//	    │                   └──────────────┬───────────────────────────────────┘   │ repeat    │
//	    ▼                                  ▼                                       │ forge     │
//	 witness                      disk: view, durable, unsynced batches            └───────────┘
//	 porcupine                             │
//	                                       ▼
//	               checker: who accepted what at which ballot ▶ chosen ▶ a state of its own
//
// World is one run: one goroutine, one heap of events (heap.go), streams of randomness for each concern (random.go). A run
// has two phases. In the first, everything that Options switch on happens at random (faults.go), and every step is checked
// (checker.go, checker_sent.go). In the second (heal.go) a few nodes, just enough to be a quorum, are healed, the others are gone for
// ever, and every operation under way has to end, every group has to take a write, and every node has to get all of it; then power
// fails at some nodes or all, and what was there has to come back, and be read.
//
// Options (options.go) are drawn from the seed; each fault is off in half of the seeds. Where to start reading: node.go, which
// does the duties that the cores ask of their caller, in the clumsiest order that they allow, then checker.go.
//
// # How to run it
//
//	go test ./consensus/sim                                              some seeds, the replay of others, the checkers' own tests
//	go test ./consensus/sim -run TestSimulation -sim.seeds=N [-sim.from=S] [-sim.for=1h] [-sim.jobs=2] [-sim.keep]
//	go test ./consensus/sim -run TestSimulation -sim.seed=S [-sim.set='drop=0 groups=1'] [-sim.trace=FILE]
//	ATLAS_LONG=1 go test ./consensus/sim -timeout 3h                     20,000 seeds, and every coverage mark must be hit
//	go test -tags plants ./consensus/sim -run TestPlants -timeout 1h     the planted mistakes; -rewrite writes docs/reference/plants.md
//
// The last line of a failure is the command that replays it, after a shrinker has left out what the failure does not need
// (shrink.go); with -artifacts its options and its story are kept in a file. A seed that failed goes into testdata/seeds.txt. A seed is a run of one commit: new options are drawn in drawLater, from a
// stream of their own, so that old seeds stay much what they were.
//
// Not simulated: the system group, which is a log that is always there and whose beginning each node learns with a delay
// (system.go); Byzantine nodes, but for forged fields that the cores or the transport must refuse; disks that change what they hold.
//
// The package starts no goroutine, and has no state of its own.
package sim
