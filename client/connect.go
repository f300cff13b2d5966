// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	"github.com/atlas-edge/atlas/client/wire"
)

// connect connects, greets and tells the server who we are.
func connect(ctx context.Context, o *Options, who *identity) (*rawConn, error) {
	nc, err := (&net.Dialer{}).DialContext(ctx, o.Network, o.Address)
	if err != nil {
		return nil, err
	}
	if o.TLS != nil {
		conf := o.TLS.Clone()
		if conf.ServerName == "" && !conf.InsecureSkipVerify {
			conf.ServerName, _, _ = net.SplitHostPort(o.Address)
		}
		tc := tls.Client(nc, conf)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = nc.Close() // the handshake's error says more
			return nil, fmt.Errorf("TLS: %w", err)
		}
		nc = tc
	}
	rc := &rawConn{nc: nc, r: wire.NewReader(nc, false), generation: who.generation}
	if err := rc.greet(ctx, o.ClientID, who); err != nil {
		rc.close()
		return nil, err
	}
	if rc.r.Buffered() > 0 {
		rc.close()
		return nil, protocolError("the server speaks unasked")
	}
	return rc, nil
}

// Connection is one connection, greeted and with its principal set, whose bytes are from then on the caller's business. It
// is for programs that show or measure the protocol itself; others use a Client.
type Connection struct {
	net.Conn
	Reader *wire.Reader // of this connection; it takes request ids apart
	Server string       // the identifier with which the server greeted
}

// Connect makes a Connection. Of the options it uses the address, TLS, the identity and the dial timeout.
func Connect(ctx context.Context, o Options) (*Connection, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, &Error{Class: wire.Invalid, Text: "client options", Cause: err}
	}
	ctx, cancel := context.WithTimeout(ctx, o.DialTimeout)
	defer cancel()
	rc, err := connect(ctx, &o, &identity{principal: o.Principal, secret: o.Secret, consistency: o.Consistency})
	if err != nil {
		if _, ok := asError(err); !ok {
			err = &Error{Class: wire.Unavailable, Text: "connect to " + o.Address, Cause: err}
		}
		return nil, err
	}
	return &Connection{Conn: rc.nc, Reader: wire.NewReader(rc.nc, true), Server: rc.server}, nil
}
