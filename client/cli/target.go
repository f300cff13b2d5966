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
	"path/filepath"
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
	reason := err
	if e, ok := errors.AsType[*client.Error](err); ok && e.Cause != nil {
		reason = e.Cause // what is around it names the endpoint again
	}
	if op, ok := errors.AsType[*net.OpError](reason); ok {
		reason = op.Err // likewise
	}
	text := "cannot connect to " + t.Endpoint + ": " + reason.Error()
	h := t.noSocket()
	if h == "" {
		h = hint(err)
	}
	if h != "" {
		text += "\n  " + h
	}
	return text
}

// noSocket says what a Unix socket's path is that is none; "" when there is nothing to say.
func (t *Target) noSocket() string {
	e, err := client.ParseEndpoint(t.Endpoint)
	if err != nil || e.Network != "unix" {
		return ""
	}
	info, err := os.Stat(e.Address)
	if err != nil || info.Mode().Type() == fs.ModeSocket {
		return ""
	}
	inside := filepath.Join(e.Address, "socket") // where a node's directory has it, as a rule
	switch info, err := os.Stat(inside); {
	case err == nil && info.Mode().Type() == fs.ModeSocket:
		return "this is a directory: the socket in it is " + inside
	default:
		return "there is something else than a socket: give the path of a node's socket"
	}
}

// hint is what to look at; "" when there is nothing to say.
func hint(err error) string {
	var authority x509.UnknownAuthorityError
	var names x509.HostnameError
	var record tls.RecordHeaderError
	var timeout net.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is the node running, and is this its socket?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nobody listens there: is the node running?"
	case errors.Is(err, fs.ErrPermission):
		return "the socket belongs to another user: run as that user, or set the socket's mode"
	case errors.Is(err, client.ErrDenied):
		return "the server does not let this client be that principal"
	case errors.As(err, &authority):
		return "trust the authority of the server's certificate with --ca"
	case errors.As(err, &names):
		return "the certificate is for other names than this address"
	case errors.As(err, &record):
		return "the server speaks no TLS there, or is no Atlas node"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "no greeting came in time: is this an Atlas node, and does it want tls://?"
	}
	return ""
}
