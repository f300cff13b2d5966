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
	// LivenessBumpBeforeSync lets heartbeats carry a new epoch before it is durable.
	LivenessBumpBeforeSync Site = "liveness-bump-before-sync"
	// LivenessCountFromReceipt counts support from when its ack came instead of from when its heartbeat was sent.
	LivenessCountFromReceipt Site = "liveness-count-from-receipt"
	// LivenessCountLastRound takes every ack for one of the last round of heartbeats.
	LivenessCountLastRound Site = "liveness-count-last-round"
	// LivenessForgetMinEpoch withdraws support without keeping that its epoch must never be supported again.
	LivenessForgetMinEpoch Site = "liveness-forget-min-epoch"
	// LivenessKeepAfterJump keeps support held when a clock has jumped.
	LivenessKeepAfterJump Site = "liveness-keep-after-jump"
	// LivenessSkipDriftBound counts on support for as long as it is given, as if all clocks went at one rate.
	LivenessSkipDriftBound Site = "liveness-skip-drift-bound"
	// LivenessSkipQuarantine lets a node that was started again act as if it had supported nobody.
	LivenessSkipQuarantine Site = "liveness-skip-quarantine"
	// SimApplyOutOfOrder lets a simulated node swap two entries when it applies them.
	SimApplyOutOfOrder Site = "sim-apply-out-of-order"
	// SimEpochForgotten lets a simulated node start with the epoch of its last life.
	SimEpochForgotten Site = "sim-epoch-forgotten"
	// SimLeaseSeenEarly lets a simulated read lean on a look at the lease from before the read began.
	SimLeaseSeenEarly Site = "sim-lease-seen-early"
	// SimPromiseForgotten lets a simulated node forget, when it makes a core again, what was promised above what was accepted.
	SimPromiseForgotten Site = "sim-promise-forgotten"
	// SimSealForgotten lets a simulated node answer that it has sealed a configuration, and forget it.
	SimSealForgotten Site = "sim-seal-forgotten"
	// SimSendBeforeSync lets a simulated node send what rests on a batch before it is durable.
	SimSendBeforeSync Site = "sim-send-before-sync"
	// SimSnapshotWithoutSessions leaves the session table out of a simulated snapshot.
	SimSnapshotWithoutSessions Site = "sim-snapshot-without-sessions"
	// SimSyncErrorSwallowed lets a simulated node go on after a failed sync.
	SimSyncErrorSwallowed Site = "sim-sync-error-swallowed"
	// SimUnknownAsLost lets a simulated node call an unknown outcome a certain failure.
	SimUnknownAsLost Site = "sim-unknown-as-lost"
	// SimWithdrawalNotDurable lets a simulated node keep nothing of a withdrawal of support.
	SimWithdrawalNotDurable Site = "sim-withdrawal-not-durable"
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
		LivenessBumpBeforeSync,
		LivenessCountFromReceipt,
		LivenessCountLastRound,
		LivenessForgetMinEpoch,
		LivenessKeepAfterJump,
		LivenessSkipDriftBound,
		LivenessSkipQuarantine,
		SimApplyOutOfOrder,
		SimEpochForgotten,
		SimLeaseSeenEarly,
		SimPromiseForgotten,
		SimSealForgotten,
		SimSendBeforeSync,
		SimSnapshotWithoutSessions,
		SimSyncErrorSwallowed,
		SimUnknownAsLost,
		SimWithdrawalNotDurable,
	}
}
