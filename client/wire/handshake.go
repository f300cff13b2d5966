// SPDX-License-Identifier: AGPL-3.0-only

package wire

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// Handshake greets the server: it waits for WELCOME, says HELLO with clientID, and waits for READY. It returns the server's
// identifier, and an *Error when the server refuses. rw and r must be of the same connection; the caller bounds the time.
func Handshake(rw io.Writer, r *Reader, clientID string) (server string, err error) {
	if !Token(clientID) {
		return "", &Error{Class: Invalid, Text: "client id must be printable, without blanks, and 1 to 256 bytes long"}
	}
	limit := r.lineMax
	r.lineMax = HandshakeLenMax
	defer func() { r.lineMax = limit }()
	welcome, err := r.line()
	if err != nil {
		return "", fmt.Errorf("wait for the server's welcome: %w", noEOF(err))
	}
	if bytes.HasPrefix(welcome, prefixError) {
		return "", ParseError(welcome) // as a server does that has too many connections
	}
	version, server, ok := strings.Cut(strings.TrimPrefix(string(welcome), "WELCOME "), " ")
	if !bytes.HasPrefix(welcome, []byte("WELCOME ")) || !ok || !strings.HasPrefix(version, "1.") {
		return "", fmt.Errorf("%w: not a server of protocol 1.x: it greets with %q", ErrProtocol, Visible(shorten(string(welcome))))
	}
	if _, err := io.WriteString(rw, "HELLO 1.0 clientId="+clientID+"\r\n"); err != nil {
		return "", fmt.Errorf("send hello: %w", err)
	}
	ready, err := r.line()
	if err != nil {
		return "", fmt.Errorf("wait for the server to be ready: %w", noEOF(err))
	}
	if bytes.HasPrefix(ready, prefixError) {
		return "", ParseError(ready)
	}
	if string(ready) != "READY" {
		return "", fmt.Errorf("%w: handshake answered with %q", ErrProtocol, Visible(shorten(string(ready))))
	}
	return Visible(server), nil
}

// Token tells whether s can stand as one word of a command: 1 to 256 bytes, printable, no blanks.
func Token(s string) bool {
	if s == "" || len(s) > 256 || hidden(s) >= 0 {
		return false
	}
	return !strings.ContainsAny(s, " \t")
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "..."
	}
	return s
}
