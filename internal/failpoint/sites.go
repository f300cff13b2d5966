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
	// ConsensusAcceptOutside lets a voter outside of a ballot's home accept at it.
	ConsensusAcceptOutside Site = "consensus-accept-outside"
	// ConsensusAckBeforeSync lets an acceptor's Accepted leave before the batch it speaks of is durable.
	ConsensusAckBeforeSync Site = "consensus-ack-before-sync"
	// ConsensusAckGap lets an acceptor that lacks what an Accept or AcceptSync follows on answer as if it had taken it.
	ConsensusAckGap Site = "consensus-ack-gap"
	// ConsensusAppendPastStop lets an owner propose behind a stop-sign, and acceptors take it.
	ConsensusAppendPastStop Site = "consensus-append-past-stop"
	// ConsensusCloseAboveCeiling lets an owner close its log at any time, whatever the clocks of those say that uphold its lease.
	ConsensusCloseAboveCeiling Site = "consensus-close-above-ceiling"
	// ConsensusCloseWithoutLease lets an owner close its log without a lease, below the clocks of any Q2.
	ConsensusCloseWithoutLease Site = "consensus-close-without-lease"
	// ConsensusCompactUnapplied trims the log above what is applied.
	ConsensusCompactUnapplied Site = "consensus-compact-unapplied"
	// ConsensusCountHealthy lets an owner count a voter that it has not heard of as if it had accepted.
	ConsensusCountHealthy Site = "consensus-count-healthy"
	// ConsensusCountLearned lets an owner count what was learned as if it were accepted.
	ConsensusCountLearned Site = "consensus-count-learned"
	// ConsensusCountNonMember lets learners accept, and an owner count that as the votes of voters.
	ConsensusCountNonMember Site = "consensus-count-non-member"
	// ConsensusCountOldAcks lets an owner count acks of its earlier ballots.
	ConsensusCountOldAcks Site = "consensus-count-old-acks"
	// ConsensusCountTwice lets an owner count an ack that comes again as that of another node.
	ConsensusCountTwice Site = "consensus-count-twice"
	// ConsensusForgetMinEpoch lets a promise end an owner's tie without withdrawing support from its life.
	ConsensusForgetMinEpoch Site = "consensus-forget-min-epoch"
	// ConsensusForgetTimeBound lets an acceptor forget which times the owner of its log leaves out.
	ConsensusForgetTimeBound Site = "consensus-forget-time-bound"
	// ConsensusFreeByOlder lets a candidate that shows a ballot that was won free an acceptor from the owner of a later one.
	ConsensusFreeByOlder Site = "consensus-free-by-older"
	// ConsensusFreeUnretired lets a candidate of a newer configuration free an acceptor from an owner in one that is not retired.
	ConsensusFreeUnretired Site = "consensus-free-unretired"
	// ConsensusIgnoreAccepted lets a new owner keep its own log, whatever was promised.
	ConsensusIgnoreAccepted Site = "consensus-ignore-accepted"
	// ConsensusIgnoreFort lets an acceptor promise while it is tied to an owner that is alive.
	ConsensusIgnoreFort Site = "consensus-ignore-fort"
	// ConsensusIgnorePromisedClock lets a new owner propose at times below the clocks of those who promised.
	ConsensusIgnorePromisedClock Site = "consensus-ignore-promised-clock"
	// ConsensusLeaseAfterStop lets an owner read under its lease behind a stop-sign.
	ConsensusLeaseAfterStop Site = "consensus-lease-after-stop"
	// ConsensusLeaveGap leaves the first of several committed entries out of what is to be applied.
	ConsensusLeaveGap Site = "consensus-leave-gap"
	// ConsensusLocalByPromise lets a local ballot pass over promises to global ones.
	ConsensusLocalByPromise Site = "consensus-local-by-promise"
	// ConsensusOlderSnapshot lets a node take over a state that is older than its own.
	ConsensusOlderSnapshot Site = "consensus-older-snapshot"
	// ConsensusOmitCommitted leaves a log that is all committed out of a promise.
	ConsensusOmitCommitted Site = "consensus-omit-committed"
	// ConsensusOverBeforeSync lets a node say that its ballots are over before the promise that makes it so is durable.
	ConsensusOverBeforeSync Site = "consensus-over-before-sync"
	// ConsensusPerSlotRecovery lets a new owner take, for each slot alone, the entry of the highest ballot.
	ConsensusPerSlotRecovery Site = "consensus-per-slot-recovery"
	// ConsensusQ2Short lets an owner call it a Q2 when one node is missing.
	ConsensusQ2Short Site = "consensus-q2-short"
	// ConsensusReadUnconfirmed answers a read without a lease and without a confirmation.
	ConsensusReadUnconfirmed Site = "consensus-read-unconfirmed"
	// ConsensusResumeBallot lets a proposer go on with its last ballot after a restart.
	ConsensusResumeBallot Site = "consensus-resume-ballot"
	// ConsensusShowPromised lets a candidate show the highest global ballot that it promised as one that was won.
	ConsensusShowPromised Site = "consensus-show-promised"
	// ConsensusSilentStart lets an acceptor that may have lost its commit in a crash say nothing when it is started again.
	ConsensusSilentStart Site = "consensus-silent-start"
	// ConsensusSkipOldQ1 lets a ballot be won without the older configurations.
	ConsensusSkipOldQ1 Site = "consensus-skip-old-q1"
	// ConsensusSkipQuarantine lets an acceptor promise at once after a restart, whatever it supported before.
	ConsensusSkipQuarantine Site = "consensus-skip-quarantine"
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
	// ReplicationForgetIndex leaves the changes that stamps stand for out of the index when the acceptor record is stored again.
	ReplicationForgetIndex Site = "replication-forget-index"
	// ReplicationStampSeveral writes a stamp for a round of several commands of which one alone had an effect, as if it had been the only one.
	ReplicationStampSeveral Site = "replication-stamp-several"
	// ReplicationTellBeforeSync makes a round known before its batch is durable.
	ReplicationTellBeforeSync Site = "replication-tell-before-sync"
	// SimApplyOutOfOrder lets a simulated node swap two entries when it applies them.
	SimApplyOutOfOrder Site = "sim-apply-out-of-order"
	// SimDedupAtOwner lets a simulated state machine apply a request again that it has applied: only the owner looks before it proposes.
	SimDedupAtOwner Site = "sim-dedup-at-owner"
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
		ConsensusAcceptOutside,
		ConsensusAckBeforeSync,
		ConsensusAckGap,
		ConsensusAppendPastStop,
		ConsensusCloseAboveCeiling,
		ConsensusCloseWithoutLease,
		ConsensusCompactUnapplied,
		ConsensusCountHealthy,
		ConsensusCountLearned,
		ConsensusCountNonMember,
		ConsensusCountOldAcks,
		ConsensusCountTwice,
		ConsensusForgetMinEpoch,
		ConsensusForgetTimeBound,
		ConsensusFreeByOlder,
		ConsensusFreeUnretired,
		ConsensusIgnoreAccepted,
		ConsensusIgnoreFort,
		ConsensusIgnorePromisedClock,
		ConsensusLeaseAfterStop,
		ConsensusLeaveGap,
		ConsensusLocalByPromise,
		ConsensusOlderSnapshot,
		ConsensusOmitCommitted,
		ConsensusOverBeforeSync,
		ConsensusPerSlotRecovery,
		ConsensusQ2Short,
		ConsensusReadUnconfirmed,
		ConsensusResumeBallot,
		ConsensusShowPromised,
		ConsensusSilentStart,
		ConsensusSkipOldQ1,
		ConsensusSkipQuarantine,
		LivenessBumpBeforeSync,
		LivenessCountFromReceipt,
		LivenessCountLastRound,
		LivenessForgetMinEpoch,
		LivenessKeepAfterJump,
		LivenessSkipDriftBound,
		LivenessSkipQuarantine,
		ReplicationForgetIndex,
		ReplicationStampSeveral,
		ReplicationTellBeforeSync,
		SimApplyOutOfOrder,
		SimDedupAtOwner,
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
