// SPDX-License-Identifier: AGPL-3.0-only

package replication

// Limits of what waits and of what is in memory.
const (
	// queueLenMax and queueBytesMax bound what waits for one loop; past them Propose refuses. One command may always wait.
	queueLenMax   = 65_536
	queueBytesMax = 512 << 20
	// batchLenMax and batchBytesMax end a round's intake, so that one sync never waits for more than this.
	batchLenMax   = 1_024
	batchBytesMax = 8 << 20
	// depthDefault is Options.Depth where nothing is said, and depthMax bounds it.
	depthDefault = 1
	depthMax     = 8
	// groupsMax bounds the groups with a core in memory, over all loops. The least recently used leave first.
	groupsMax = 16_384
	// groupsLightMax bounds those of them that come back without a read.
	groupsLightMax = 1_024
	// spareCoresMax bounds the cores of groups that have left memory that a loop keeps for those that come in.
	spareCoresMax = 256
	// parkedBytesMax bounds what is remembered of groups that are not in memory, over all shards of the registry and both generations: a million with
	// names of 30 bytes. The table that finds them takes up to a third more.
	parkedBytesMax = 96 << 20
	// coldMax bounds, per shard of the registry, what is remembered of groups that are read but not in memory.
	coldMax = 1_024
)
