// SPDX-License-Identifier: AGPL-3.0-only

package storage

// Limits of what is stored, in bytes unless named otherwise.
const (
	// ClusterIDLenMax bounds the name of a cluster; it is at least 1.
	ClusterIDLenMax = 64
	// GroupLenMax bounds a group's name; it is at least 1 and holds no NUL.
	GroupLenMax = 128
	// RestLenMax bounds the part of a key after its group.
	RestLenMax = 4 << 10
	// StateNameLenMax bounds the name of a group's state.
	StateNameLenMax = 8 << 10
	// ValueLenMax bounds a value.
	ValueLenMax = 128 << 20
	// InlineLenMax is the largest value that stands in its version record; a longer one is cut into chunks.
	InlineLenMax = 64 << 10
	// ChunkLen is the length of each chunk of a large value but the last. A longer one would not be faster to read, and
	// Pebble, when a block fails its checksum, looks for a single flipped bit in time that grows with the square of the
	// block: 40 s of it for 256 KiB.
	ChunkLen = 64 << 10
	// BatchLenMax bounds what one batch writes, the chunks of large values not counted.
	BatchLenMax = 1 << 30
	// SmallKeysMax bounds the keys of a group, tombstones too, whose versions may carry stamps from then on; CarriedMax the versions that do before
	// the acceptor record is stored by itself again. Together they bound what must be walked to find the newest.
	SmallKeysMax = 16
	CarriedMax   = 32
	// CarriedValueLenMax and StampLenMax bound the value of a version that carries a stamp, and the stamp.
	CarriedValueLenMax = 4 << 10
	StampLenMax        = 32
	// WriterMax bounds the number of a writer of Batch.SetNewest.
	WriterMax = 63
	// SampleMax bounds the keys that one Sample returns.
	SampleMax = 10_000
)

const (
	// chunkCommitLen is how much of a large value goes into one commit, chunkSyncLen after how much of it the log is
	// synced: both bound what is held in memory on the way to the disk.
	chunkCommitLen = 1 << 20
	chunkSyncLen   = 8 << 20
	// changeRecordLenMax is the length from which on a record of the change index takes no more changes in, but for one key.
	changeRecordLenMax = 16 << 10
	// logAheadLen is how many zeroes are written ahead of a log's end at once. Too few and many syncs have metadata to write; too
	// many and the sync behind them takes long.
	logAheadLen = 256 << 10
	// collectCommitLen is the length at which a collection commits what it has gathered.
	collectCommitLen = 1 << 20
	// nextsBeforeSeek is how many versions of a key a scan passes one by one before it seeks.
	nextsBeforeSeek = 4
)
