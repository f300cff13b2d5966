// SPDX-License-Identifier: AGPL-3.0-only

// Package engine is the database that the frontends use: sessions and principals, keys, scans, transactions, watches and
// what can be told about the cluster.
//
// A frontend opens a Session for each client. A read parses the key, asks replication at which time the group is to be read, passes the
// one gate (engine/authz) and reads storage at that time. A write becomes a command (engine/command): conditions and
// mutations that replication has decided by every node alike, at the command's commit time. What the engine checks before it proposes
// is for early and clear answers; the command carries every check that counts.
//
//	Session -> engine/command -> engine/replication -> consensus, engine/storage
//	                 engine/authz, engine/key, engine/hlc beside them
//
// Invariants:
//
//   - A version is the commit time of the command that wrote it. Nobody sees a version before it is durable.
//   - Every error is an *Error with one of the protocol's classes. Unknown is never turned into success or failure.
//   - Engine owns its goroutines: the event loops (through replication), the sweeper, the reaper of transactions, and the one that
//     waits for the disk to fail. Close ends them all. Sessions, scans and watches start none.
package engine
