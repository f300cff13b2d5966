// SPDX-License-Identifier: AGPL-3.0-only

package command

import (
	"math"
	"time"
)

// Limits of a command. Each is checked before anything is allocated for what it bounds.
const (
	// ValueLenMax bounds one value, in bytes.
	ValueLenMax = 128 << 20
	// EncodedLenMax bounds an encoded command, in bytes: the largest value and a transaction's worth besides.
	EncodedLenMax = 160 << 20
	// MutationsMax bounds the mutations of a command.
	MutationsMax = 65_536
	// ConditionsMax bounds the conditions of a command.
	ConditionsMax = 65_536
	// ReadKeysMax bounds the single keys of a read set; what read more should have noted ranges.
	ReadKeysMax = 65_536
	// ReadRangesMax bounds the ranges of a read set.
	ReadRangesMax = 65_536
	// TimestampMax is the last moment that an expiry or a write-once end may lie at: the year 2262, which time.Time's
	// nanoseconds still reach.
	TimestampMax = Timestamp(math.MaxInt64)
	// SnapshotAgeMax is how far before the commit time a read set's snapshot may lie. Versions, tombstones and change
	// records must therefore be kept for longer: a collector's floor never exceeds, in any group, the commit time of a
	// command yet to be applied less SnapshotAgeMax. The check that a snapshot is young enough rests on times that every
	// node agrees on; what a node has collected is its own affair.
	SnapshotAgeMax = 5 * time.Minute
)

// pairwiseMax is the number of rests up to which comparing each with each beats building an index.
const pairwiseMax = 12
