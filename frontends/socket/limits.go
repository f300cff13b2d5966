// SPDX-License-Identifier: AGPL-3.0-only

package socket

import "time"

// Limits of the protocol; docs/reference/protocol.md section 7 gives them to clients.
const (
	// LineMax bounds a line, its ending not counted.
	LineMax = 128 << 20
	// ValueMax bounds a value and so a payload.
	ValueMax = 128 << 20
	// BlobSkipMax bounds the payload of a refused upload that is read and thrown away to keep the connection; a longer one
	// ends it.
	BlobSkipMax = 1 << 30
	// HandshakeLineMax bounds the HELLO line.
	HandshakeLineMax = 1 << 10
	// RequestIDMax bounds a request id, in bytes.
	RequestIDMax = 128
	// TaggedMax bounds the tagged commands of a connection that run at once, watches included.
	TaggedMax = 1024
	// WatchesMax bounds the watches of a connection. It is below TaggedMax, so that an UNWATCH can always be read.
	WatchesMax = 256
	// PrincipalRunesMax bounds a principal's name.
	PrincipalRunesMax = 256
	// SecretMax bounds a secret, in bytes.
	SecretMax = 1 << 10
	// SampleMax bounds the keys that SAMPLE gives.
	SampleMax = 10_000
	// TextInlineMax is the size up to which SCAN VALUES looks whether a value is text; a larger one comes as a blob.
	TextInlineMax = 64 << 10
	// DurationMax bounds durations in commands.
	DurationMax = 100 * 365 * 24 * time.Hour
	// ErrorTextMax bounds the text of an error line, in bytes.
	ErrorTextMax = 1 << 10
	// UnixPathMax bounds the absolute path of a Unix socket: the kernel's 108 bytes with the NUL.
	UnixPathMax = 107
)

// Sizes that clients do not see.
const (
	// bufferSize is the size of the pooled buffers that a connection reads into and answers from. It has them only while it
	// is not idle.
	bufferSize = 16 << 10
	// frameGrowth is how much larger a frame's next buffer is than what has been received of it.
	frameGrowth = 4
	// frameEvidence is how much of a payload must have arrived for its whole length to be believed, so that no large buffer is
	// copied into one twice its size: an eighth of ValueMax.
	frameEvidence = ValueMax / 8
	// mapMin is the size from which a payload's memory is the kernel's instead of the collector's.
	mapMin = 1 << 20
	// pendingMax is how much of whole answers may wait for a connection's writer before those who add to it wait too.
	pendingMax = 256 << 10
	// writePiece is the most that one write call is given, and so what a client must take within the write timeout.
	writePiece = 256 << 10
	// laterMax is how many pipelined writes of a connection are on their way at once.
	laterMax = 64
	// flushAt is how much answer is gathered while further commands are already there.
	flushAt = 48 << 10
	// smallReplyMax is the largest value that is answered from the pending buffer; a larger one is streamed.
	smallReplyMax = 64 << 10
	// scanChunk is how much of a scan's answer is handed over at a time.
	scanChunk = 64 << 10
	// scanHeldMax is how much of a scan's answer is kept to learn the count that stands before it; a longer one is read
	// twice.
	scanHeldMax = 1 << 20
	// unwatchEvents is how many events a watch sends at most after it was asked to end.
	unwatchEvents = 100_000
	// listPage is how many names TABLE LIST and GROUP LIST ask for at a time.
	listPage = 1000
	// noProgressMax is how many empty reads in a row a connection may give.
	noProgressMax = 100
	// workersIdleMax is how many goroutines for tagged commands wait for more work, over all connections.
	workersIdleMax = 256
	// lingerTime is how long a connection that is closed over what its client may have sent still reads, so that the client
	// gets to see its answers instead of a reset.
	lingerTime = time.Second
	// authSourcesMax bounds the sources that failed authentications are counted for.
	authSourcesMax = 10_000
	// authForgive is how long a source waits until one failure is forgiven.
	authForgive = 30 * time.Second
	// acceptBackoffMax bounds the pause after a failed accept.
	acceptBackoffMax = time.Second
)
