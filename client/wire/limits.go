// SPDX-License-Identifier: AGPL-3.0-only

package wire

// Limits on what is read and written, in bytes.
const (
	// ValueLenMax bounds a value.
	ValueLenMax = 128 << 20
	// BlobLenMax bounds the bytes after a BLOB line.
	BlobLenMax = ValueLenMax
	// LineLenMax bounds a line of a reply: a value of the longest, and what stands before it.
	LineLenMax = ValueLenMax + 16<<10
	// CommandLenMax bounds a command's line, its id and line end included.
	CommandLenMax = 128 << 20
	// TagLenMax bounds a request id.
	TagLenMax = 256
	// HandshakeLenMax bounds a line of the handshake.
	HandshakeLenMax = 1 << 10

	bufLenBase    = 32 << 10
	bufLenKeep    = 1 << 20
	emptyReadsMax = 100
)
