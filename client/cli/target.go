// SPDX-License-Identifier: AGPL-3.0-only

package cli

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/atlas-edge/atlas/client"
)

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

// ClientOptions are the client's options that reach the target.
func (t *Target) ClientOptions() (client.Options, error) {
	e, err := client.ParseEndpoint(t.Endpoint)
	if err != nil {
		return client.Options{}, err
	}
	o := client.Options{
		Network: e.Network, Address: e.Address, ClientID: "atlas-cli",
		Principal: t.Principal, Secret: t.Secret, DialTimeout: t.DialTimeout,
	}
	if e.TLS {
		o.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
		if t.CAFile != "" {
			if o.TLS.RootCAs, err = readCAs(t.CAFile); err != nil {
				return client.Options{}, err
			}
		}
	} else if t.CAFile != "" {
		return client.Options{}, errors.New("a CA file is only of use with tls://")
	}
	o.EnsureDefaults()
	return o, o.Validate()
}

func readCAs(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read CA file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("CA file %s holds no certificate", path)
	}
	return pool, nil
}

// Explain says why no connection came about, and what to look at.
func (t *Target) Explain(err error) string {
	hint := ""
	switch {
	case errors.Is(err, fs.ErrNotExist):
		hint = "is the node running, and is this its socket?"
	case errors.Is(err, syscall.ECONNREFUSED):
		hint = "nobody listens there: is the node running?"
	case errors.Is(err, fs.ErrPermission):
		hint = "the socket belongs to another user: run as that user, or set the socket's mode"
	case errors.Is(err, client.ErrDenied):
		hint = "the server does not let this client be that principal"
	}
	reason := err
	if op, ok := errors.AsType[*net.OpError](err); ok {
		reason = op.Err // what is around it names the endpoint again
	}
	text := "cannot connect to " + t.Endpoint + ": " + reason.Error()
	if hint != "" {
		text += "\n  " + hint
	}
	return text
}
