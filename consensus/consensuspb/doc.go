// SPDX-License-Identifier: AGPL-3.0-only

// Package consensuspb holds the schema of what consensus writes to disk and sends to other nodes, and the code generated from
// it: record.proto for the disk, wire.proto for the network, system.proto for the log of configurations and for the node.
// docs/reference/format.md and docs/reference/consensus.md say the same in prose.
//
// The hot codecs, those of the acceptor record, of log entries and of messages, are written by hand in package consensus and
// proven equal to the generated ones by its tests. For the others there are the generated code and [AppendOnDisk] and
// [DecodeOnDisk]. The package starts no goroutine, and its messages are not safe for concurrent use while one changes them.
//
// # Rules of the schema
//
//   - A field's number and meaning never change. A field that goes is reserved, number and name. New ones take the next number.
//   - Every length, count and number has a limit, in the comment of its field. A decoder holds it against that before it
//     allocates anything for it. A limit may rise, and then nodes use the new one only when all of them know it.
//   - Absent means zero, none, or what the comment says. Presence is never told from zero.
//
// On the wire: the canonical form as well, but a decoder skips fields of Frame, Message, Heartbeat and HeartbeatAck that it does
// not know, since a newer node may send them while an older one is still there. So a new field must be safe to overlook. What
// is not becomes a new type of message, which an older node refuses whole, as if it had been lost. Within, in a Ballot or an
// Entry, unknown fields are refused: these go to disk, and would be acknowledged without what was skipped. There is no version
// byte: nodes agree on what they speak when they connect.
//
// On disk: version byte 2, then the message in its canonical form, then CRC-32C (little endian) of both. A decoder refuses
// fields that it does not know. A field of an acceptor record can be a promise, and a node that skipped it would break the
// promise, and erase it with its next write. So what lies on disk is read by the same or a newer program only; a new field
// takes the next version byte and a new format of the data directory (package migrations), and older programs say what is
// wrong before they change anything.
//
// The canonical form: fields in the order of their numbers, each once unless repeated, none that is zero or empty, varints in
// their shortest form, no groups. Equal values have equal bytes and unequal values unequal ones. A message within a SystemEntry,
// a NodeRecord or a Frame may be there and empty, and is then another value than one that is not there.
package consensuspb

//go:generate go run ./gen
