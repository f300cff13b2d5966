// SPDX-License-Identifier: AGPL-3.0-only

// Package socket serves the native line protocol of docs/reference/protocol.md over a Unix socket, or over a listener that it
// is given. It frames, parses and answers; what commands mean, and who may do what, is the engine's.
//
//	Server   listens, admits, drains; a janitor goroutine cuts clients that are too slow, and lets idle ones rest
//	conn     one client: handshake, then one command after the other; its goroutine is the only reader
//	frameReader, outbox   the two sides of its network connection
//	request  one command with its session, run by the reading goroutine or, when tagged, by one of the workers
//
// The way of a command holds no memory that outlives it: a line is parsed where it was read, words are slices of it, the
// answer is appended to a pooled buffer that is written when no further command is there yet. A connection that waits for its
// client holds no buffer at all. Frames that outgrow a pooled buffer are charged to a budget over all connections; answers of
// any size are streamed.
//
// Invariants:
//   - Lines of one answer are never torn by another's: outbox takes whole lines, or gives the connection to one goroutine.
//   - Commands without a request id run one at a time, in order, by the reading goroutine.
//   - Nothing that a client sends is echoed but as printable text.
//   - No mutex is held during I/O; no command's goroutine outlives its connection, and no connection the server.
//
// Goroutines: one a connection at a time, owned by Server.Serve; the workers and the janitor, too. The package starts none otherwise.
// A connection that falls idle goes on with a fresh one, which has a small stack: rest.go.
package socket
