// SPDX-License-Identifier: AGPL-3.0-only

package client

import "time"

// Limits. Those on lines, blobs and ids are package wire's.
const (
	// KeyLenMax bounds a key, in bytes.
	KeyLenMax = 4 << 10
	// ValueLenMax bounds a value, in bytes.
	ValueLenMax = 128 << 20
	// ReplyLenMax bounds what is kept of one reply that is not streamed, in bytes. The rest of a longer one is passed over,
	// and the command fails with ErrTooLarge.
	ReplyLenMax = 256 << 20

	heldMax          = 2 * ReplyLenMax // bytes of all replies under way on one connection; past it the connection is given up
	inFlightMax      = 1024            // commands on one shared connection: the server's bound
	sharedLenMax     = 32 << 10        // a longer command takes an exclusive connection, so as not to hold others up
	idleMax          = 16              // exclusive connections kept for later
	callKeepMax      = 16 << 10        // a call's buffers beyond this are not kept
	drainMax         = 256 << 10       // rather than passing over more than this, a connection is closed
	copyLen          = 256 << 10       // of a streamed body at a time
	scanPageRows     = 10_000          // a scan's default page
	sessionPageRows  = 1_000           // the same within a session, where a page is held in memory
	versionEventsMax = 1 << 20         // events of one version that a watch remembers, to drop them when they come again
	unixPathMax      = 107             // of sockaddr_un, without its NUL

	backOffMin   = 10 * time.Millisecond
	lastWordWait = time.Second // for the server's reason after a failed write
)
