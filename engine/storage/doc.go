// SPDX-License-Identifier: AGPL-3.0-only

// Package storage keeps everything that a node knows in one Pebble database: its identity, the acceptor record and the
// log of every group, and versioned data. It leaves to others what the records mean: the consensus core, the commands and
// their conditions, grants, and the clock.
//
// What it promises:
//
//   - A batch is applied whole or not at all, for any number of groups. Once Commit(true) has returned nil it survives
//     any crash; a batch that was not synced survives with the next one that is, and never without those before it.
//   - A failure of the disk is final. After a failed sync, or damage that was found, every call returns the error
//     (Store.Err), nothing more is written, and the node must stop. Pebble never ends the process (guard_fs.go).
//   - A full disk is not a failure. Batches are refused with nothing applied, reads go on, and when there is room again
//     batches are taken again (space.go).
//   - Damage is found: tables and MANIFESTs by Pebble's checksums, the ends of the log and of the MANIFEST by the note of
//     what was synced (proof.go), large values chunk by chunk and as a whole, node records each by its own checksum.
//   - A directory is touched only if it is ours: not of a newer format, of another cluster, or somebody else's (dir.go,
//     marker.go). Files are private (0600, the directory 0700) whatever the umask.
//
// Keys and records. A key begins with a byte for its kind; g is the name of a group, which holds no NUL. Numbers are big
// endian. All keys have the encoding of cockroachkvs: a NUL at the end, and for versioned data then the version and the
// byte 9. Versions of a key sort from the newest to the oldest.
//
//	01 name                        node record (identity, format, ceiling, swept-to, progress, newest), sealed with a CRC-32C
//	02 g                           acceptor record; absent is untouched. That of a small group may be led on by versions (small.go)
//	03 g 00 slot:8                 log entry
//	04 g 00 rest          @version version record (version.go): flags, times, perhaps a stamp, a value of up to 64 KiB
//	05 g 00 name                   state of the group that has no versions
//	06 g 00 time:8 seq:4 n:4       chunk n of a larger value: CRC-32C, up to 64 KiB
//	07 g 00 time:8 seq:4           change index: kind (1 put, 2 delete, 3 expire), rest
//	08 expires:8 g 00 rest 00 time:8  TTL index, no value
//	09 g 00 time:8 seq:4           a large value that is being written, no value
//
// Every mutation writes a change record, but for those of which a version with a stamp says it all; what collection removes it finds by these, and
// by walking small groups. A reader may see what is not yet
// durable: Pebble's memtable has a batch before its sync has returned. Readers that must not read at a timestamp below it.
//
// Goroutines: one of the store's own, which watches for room on the disk and ends with Close; Pebble's end with it too.
package storage
