// SPDX-License-Identifier: AGPL-3.0-only

package failpoint

// The registered sites. Add a line here, and to sites, for each new one; the registry test says what is missing.
const (
	// CommandSkipWorm lets a command overwrite or delete a write-once key.
	CommandSkipWorm Site = "command-skip-worm"
	// CommandSkipReadSet commits a transaction without looking at what it read.
	CommandSkipReadSet Site = "command-skip-read-set"
	// CommandForgetKeyGrants looks at a table's grants only, never at a key's own.
	CommandForgetKeyGrants Site = "command-forget-key-grants"
	// ConsensusAckBeforeSync lets an acceptor's Accepted leave before the batch it speaks of is durable.
	ConsensusAckBeforeSync Site = "consensus-ack-before-sync"
	// ConsensusCountOldAcks lets an owner count acks of its earlier ballots.
	ConsensusCountOldAcks Site = "consensus-count-old-acks"
	// ConsensusIgnoreAccepted lets a new owner keep its own log, whatever was promised.
	ConsensusIgnoreAccepted Site = "consensus-ignore-accepted"
	// ReplicationTellBeforeSync makes a round known before its batch is durable.
	ReplicationTellBeforeSync Site = "replication-tell-before-sync"
)

// sites is the registry, in alphabetical order.
func sites() []Site {
	return []Site{
		CommandForgetKeyGrants,
		CommandSkipReadSet,
		CommandSkipWorm,
		ConsensusAckBeforeSync,
		ConsensusCountOldAcks,
		ConsensusIgnoreAccepted,
		ReplicationTellBeforeSync,
	}
}
