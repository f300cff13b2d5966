// SPDX-License-Identifier: AGPL-3.0-only

package cli

import "time"

// Target names the server a program talks to, and as whom.
type Target struct {
	// Endpoint is a Unix socket's path, unix:PATH, tcp://HOST:PORT or tls://HOST:PORT.
	Endpoint string
	// CAFile holds PEM certificates to trust for tls:// instead of the system's. Empty: the system's.
	CAFile string
	// Principal is assumed (or, with Secret, authenticated) after the handshake. Empty: none.
	Principal string
	// Secret proves Principal. Empty: the server is asked to take our word (PRINCIPAL ASSUME).
	Secret string
	// DialTimeout bounds connect and handshake. Default 10 s.
	DialTimeout time.Duration
}
