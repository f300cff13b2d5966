// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"net"
	"strings"

	"github.com/atlas-edge/atlas/client/wire"
)

// Endpoint is where a server listens.
type Endpoint struct {
	Network string // "unix" or "tcp"
	Address string
	TLS     bool
}

// ParseEndpoint reads a socket's path, `unix:PATH` (or unix://PATH), `tcp://HOST:PORT` or `tls://HOST:PORT`. What holds no
// scheme is a path.
func ParseEndpoint(s string) (Endpoint, error) {
	bad := func(why string) (Endpoint, error) {
		return Endpoint{}, &Error{Class: wire.Invalid, Text: "endpoint " + wire.Visible(shorten(s)) + ": " + why}
	}
	if strings.ContainsAny(s, "\x00\r\n") {
		return bad("control characters")
	}
	scheme, rest, hasScheme := strings.Cut(s, "://")
	if !hasScheme {
		path := strings.TrimPrefix(s, "unix:")
		if path == "" {
			return bad("empty")
		}
		return Endpoint{Network: "unix", Address: path}, nil
	}
	switch scheme {
	case "unix":
		if rest == "" {
			return bad("empty path")
		}
		return Endpoint{Network: "unix", Address: rest}, nil
	case "tcp", "tls":
		if _, _, err := net.SplitHostPort(rest); err != nil {
			return bad("want " + scheme + "://HOST:PORT")
		}
		return Endpoint{Network: "tcp", Address: rest, TLS: scheme == "tls"}, nil
	}
	return bad("unknown scheme, want unix, tcp or tls")
}
