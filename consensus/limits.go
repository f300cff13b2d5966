// SPDX-License-Identifier: AGPL-3.0-only

package consensus

// Limits. What comes from another node or from the disk is held against them before anything is allocated for it.
const (
	// RoundMax bounds the round of a ballot.
	RoundMax = 1 << 62
	// RoundJumpMax bounds how far above the highest round that this node has promised a peer's round may lie; higher ones are
	// refused. Rounds rise by one with each campaign, so that no group that works gets near it, and a hostile ballot of round
	// 2^64-1, or 2^29 hostile ballots in a row, do not use up the rounds of a group.
	RoundJumpMax = 1 << 32
	// SlotMax bounds a log.
	SlotMax Slot = 1 << 62
	// TimeMax bounds a commit time: beyond it is no nanosecond since 1970 that anyone lives to see (year 2262).
	TimeMax Timestamp = 1<<63 - 1
	// PayloadLenMax bounds the payload of one entry, in bytes: a value of 128 MiB, and room for what comes with it.
	PayloadLenMax = 256 << 20
	// EntriesPerMessageMax bounds the entries of one message: what two owners may leave unchosen.
	EntriesPerMessageMax = 2 * UncommittedEntriesMax
	// UncommittedEntriesMax and UncommittedBytesMax bound the entries that an owner has proposed and not yet seen committed;
	// Propose refuses more with ErrBusy. One payload may pass the bound in bytes.
	UncommittedEntriesMax = 1 << 16
	UncommittedBytesMax   = 64 << 20
	// MessageBytesMax is the payload after which an Accept, Learn or FetchReply is cut, in bytes. One entry may pass it.
	MessageBytesMax = 1 << 20
	// InflightMessagesMax bounds the Accepts to one peer that are not acknowledged.
	InflightMessagesMax = 64
	// RetainedEntriesMax and RetainedBytesMax bound the log in memory of which all is applied, and which an owner keeps for
	// peers that lag; further back it reads the disk.
	RetainedEntriesMax = 1 << 10
	RetainedBytesMax   = 4 << 20
)

// Delays, in nanoseconds of the time that Tick brings.
const (
	// FlushAfter is how long a commit waits for a message to ride on before it gets one of its own.
	FlushAfter Timestamp = 40e6
	// RetryAfter is how long an answer may take before the question is sent again.
	RetryAfter Timestamp = 300e6
)
