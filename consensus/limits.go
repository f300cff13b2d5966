// SPDX-License-Identifier: AGPL-3.0-only

package consensus

import (
	"errors"
	"fmt"
	"math"
)

// Limits. What comes from another node or from the disk is held against them before anything is allocated for it.
const (
	// RoundMax bounds the round of a ballot.
	RoundMax = 1 << 62
	// RoundJumpMax bounds how far above the highest round that this node has promised a peer's round may lie. A higher one is
	// refused, and each refusal raises the bound by as much again until the next restart: rounds rise by one with each
	// campaign, so that no group that works gets near it, but a node whose own round was driven up must be heard in the end. A
	// hostile ballot of the highest round so has to come 2^42 times before the rounds of a group are used up.
	RoundJumpMax = 1 << 20
	// SlotMax bounds a log.
	SlotMax Slot = 1 << 62
	// TimeMax bounds a commit time: beyond it is no nanosecond since 1970 that anyone lives to see (year 2262).
	TimeMax Timestamp = 1<<63 - 1
	// ClockAheadMax bounds how far the time of a promise, or the bound of an owner, may lie ahead of this node's clock, in nanoseconds: an hour.
	// What is further ahead is refused. Else one clock gone wrong would take those of all nodes along, and with them the
	// times of all groups, for good. Nodes whose clocks are further apart do not own groups together.
	ClockAheadMax Timestamp = 3600e9
	// PayloadLenMax bounds the payload of one entry, in bytes: a value of 128 MiB, and room for what comes with it.
	PayloadLenMax = 256 << 20
	// EntriesPerMessageMax bounds the entries of one message, and of a log those that are not known to be chosen where it is promised
	// with: what two owners may leave unchosen.
	EntriesPerMessageMax = 2 * UncommittedEntriesMax
	// UncommittedBytesMax bounds Tuning.UncommittedBytes and MessageBytes, so that what two owners leave unchosen fits into one
	// message.
	UncommittedBytesMax = 128 << 20
	// ConfigurationsMax bounds the configurations of a group that are not retired.
	ConfigurationsMax = 4
	// GlobalPromisesMax bounds Record.GlobalPromises.
	GlobalPromisesMax = 4
	// ReadsMax bounds the reads that wait for a confirmation.
	ReadsMax = 1 << 16
	// EpochMax bounds the number of a life.
	EpochMax = 1 << 62
	// UncommittedEntriesMax bounds Tuning.UncommittedEntries.
	UncommittedEntriesMax = 1 << 16
)

// Tuning is what a Core may hold and how long it waits. Safety does not rest on it, and the nodes of a group need not agree.
type Tuning struct {
	// UncommittedEntries and UncommittedBytes of payload are what an owner may have proposed and not yet seen committed;
	// Propose refuses more with ErrBusy. One payload may pass the bound in bytes. Between 1 and UncommittedEntriesMax, and at
	// least 1; default 65,536 and 64 MiB. Small: a long way to a quorum bounds the rate of writes. Large: memory, here and at
	// every peer, and long recovery messages.
	UncommittedEntries int
	UncommittedBytes   int
	// MessageBytes is the payload after which an Accept, Learn or FetchReply is cut; one entry may pass it. Between 1 and
	// UncommittedBytesMax; default 1 MiB. Small: many messages. Large: one group holds up the others that share a stream.
	MessageBytes int
	// InflightMessages is how many messages of entries to one peer may wait for their answer; one, while it is silent. At least 1;
	// default 64. Small: a long way to a peer bounds the rate at which it follows. Large: more is sent again after a loss.
	InflightMessages int
	// RetainedEntries and RetainedBytes are the applied end of the log that an owner keeps in memory for peers that lag;
	// further back it reads the disk. At least 0; default 1,024 and 4 MiB.
	RetainedEntries int
	RetainedBytes   int
	// FlushAfter is how long a commit waits for a message to ride on before it gets one of its own, and RetryAfter how long an
	// answer may take before the question is sent again, in nanoseconds of the time that Tick brings. At least 1; default
	// 40 ms and 300 ms. RetryAfter should be above the round trip to the farthest voter: below it, everything is sent twice.
	FlushAfter Timestamp
	RetryAfter Timestamp
	// LearnAfter and LearnBytes are how long chosen entries wait, and how many bytes of payload at most, before they go to a
	// node outside of the home or to a learner. At least 1; default 20 ms and 64 KiB.
	LearnAfter Timestamp
	LearnBytes int
	// SnapshotRetryAfter is how long an owner waits for the Learned of a snapshot before it offers one again. At least 1;
	// default 10 s. It should be above the time that the largest state takes.
	SnapshotRetryAfter Timestamp
}

// DefaultTuning is what a Core without Options.Tuning has.
func DefaultTuning() Tuning { return defaultTuning }

// shared: defaultTuning is only read; a million cores point to it.
var defaultTuning = Tuning{
	UncommittedEntries: UncommittedEntriesMax, UncommittedBytes: 64 << 20,
	MessageBytes: 1 << 20, InflightMessages: 64,
	RetainedEntries: 1 << 10, RetainedBytes: 4 << 20,
	FlushAfter: 40e6, RetryAfter: 300e6,
	LearnAfter: 20e6, LearnBytes: 64 << 10, SnapshotRetryAfter: 10e9,
}

// validate reports every field that is out of its bounds.
func (t *Tuning) validate() error {
	var errs []error
	for _, f := range [...]struct {
		name           string
		have, min, max int
	}{
		{"UncommittedEntries", t.UncommittedEntries, 1, UncommittedEntriesMax},
		{"UncommittedBytes", t.UncommittedBytes, 1, UncommittedBytesMax},
		{"MessageBytes", t.MessageBytes, 1, UncommittedBytesMax},
		{"InflightMessages", t.InflightMessages, 1, math.MaxInt},
		{"RetainedEntries", t.RetainedEntries, 0, math.MaxInt},
		{"RetainedBytes", t.RetainedBytes, 0, math.MaxInt},
		{"LearnBytes", t.LearnBytes, 1, math.MaxInt},
	} {
		if f.have < f.min || f.have > f.max {
			errs = append(errs, fmt.Errorf("%s is %d, not between %d and %d", f.name, f.have, f.min, f.max))
		}
	}
	for _, f := range [...]struct {
		name string
		have Timestamp
	}{{"FlushAfter", t.FlushAfter}, {"RetryAfter", t.RetryAfter}, {"LearnAfter", t.LearnAfter}, {"SnapshotRetryAfter", t.SnapshotRetryAfter}} {
		if f.have < 1 || f.have > TimeMax {
			errs = append(errs, fmt.Errorf("%s is %d ns, not between 1 and %d", f.name, f.have, TimeMax))
		}
	}
	return errors.Join(errs...)
}
