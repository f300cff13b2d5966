// SPDX-License-Identifier: AGPL-3.0-only

package cli_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// certificate makes a self-signed one for localhost and writes it to a file.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

// A client reaches a server over TLS when it trusts the certificate, and only then; nothing falls back to plain text.
func TestTLS(t *testing.T) {
	cert, ca := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &fakenode.Node{}
	n.Put("t.a", strings.Repeat("x", 100_000))
	n.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}))
	defer n.Close()
	target := cli.Target{Endpoint: "tls://" + l.Addr().String(), CAFile: ca, Principal: "alice", Secret: "secret", DialTimeout: 5 * time.Second}
	o, err := target.ClientOptions()
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}()
	if v, err := c.Get(t.Context(), "t.a"); err != nil || len(v) != 100_000 {
		t.Errorf("%d bytes, %v", len(v), err)
	}
	for range 3 { // a pooled connection is used again
		rows := 0
		for _, err := range c.Scan(t.Context(), "t", client.ScanOptions{Values: true}) {
			if err != nil {
				t.Fatal(err)
			}
			rows++
		}
		if rows != 1 {
			t.Errorf("%d rows", rows)
		}
	}
	target.CAFile = ""
	if o, err = target.ClientOptions(); err != nil {
		t.Fatal(err)
	}
	var unknown x509.UnknownAuthorityError
	if _, err := client.Dial(t.Context(), o); !errors.As(err, &unknown) {
		t.Errorf("an untrusted certificate: %v", err)
	}
	target.Endpoint = "tcp://" + l.Addr().String()
	if o, err = target.ClientOptions(); err != nil {
		t.Fatal(err)
	}
	o.DialTimeout = 200 * time.Millisecond
	if _, err := client.Dial(t.Context(), o); !errors.Is(err, client.ErrUnavailable) {
		t.Errorf("plain text to a TLS port: %v", err)
	}
}

func TestTarget(t *testing.T) {
	_, ca := certificate(t)
	noCertificate := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(noCertificate, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		target cli.Target
		want   string
	}{
		{cli.Target{Endpoint: ""}, "empty"},
		{cli.Target{Endpoint: "http://x:1"}, "unknown scheme"},
		{cli.Target{Endpoint: "/x", CAFile: ca}, "only of use with tls"},
		{cli.Target{Endpoint: "tls://x:1", CAFile: noCertificate}, "holds no certificate"},
		{cli.Target{Endpoint: "tls://x:1", CAFile: "/nonexistent"}, "no such file"},
		{cli.Target{Endpoint: "/x", Secret: "s"}, "needs a principal"},
		{cli.Target{Endpoint: "/x", Principal: "a b"}, "without blanks"},
		{cli.Target{Endpoint: "/x" + strings.Repeat("y", 200)}, "exceeds the system's limit"},
	} {
		if _, err := tt.target.ClientOptions(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v", tt.target, err)
		}
	}
	target := cli.Target{Endpoint: filepath.Join(t.TempDir(), "none")}
	o, err := target.ClientOptions()
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Dial(t.Context(), o)
	want := "cannot connect to " + target.Endpoint + ": connect: no such file or directory\n  is the node running, and is this its socket?"
	if text := target.Explain(err); text != want {
		t.Error(text)
	}
}

// Who gave the node's directory, or a file, was told that nobody listened there.
func TestExplainNoSocket(t *testing.T) {
	dir := t.TempDir()
	(&fakenode.Node{}).StartAt(t, filepath.Join(dir, "socket"))
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for endpoint, want := range map[string]string{
		dir:            "this is a directory: the socket in it is " + dir + "/socket",
		"unix:" + file: "there is something else than a socket: give the path of a node's socket",
	} {
		target := cli.Target{Endpoint: endpoint}
		o, err := target.ClientOptions()
		if err != nil {
			t.Fatal(err)
		}
		if _, err = client.Connect(t.Context(), o); err == nil {
			t.Fatalf("%s: connected", endpoint)
		}
		if got := target.Explain(err); !strings.HasSuffix(got, "\n  "+want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Each way in which a TLS address is commonly wrong is told by what to do about it, and nothing is told twice.
func TestExplainTLS(t *testing.T) {
	cert, ca := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	secured := (&fakenode.Node{}).Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}))
	defer secured.Close()
	address := l.Addr().String()
	if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	plain := (&fakenode.Node{}).Serve(l)
	defer plain.Close()
	for _, tt := range []struct{ endpoint, ca, reason, hint string }{
		{"tls://" + address, "", "TLS: tls: failed to verify certificate: x509: certificate signed by unknown authority", "trust the authority of the server's certificate with --ca"},
		{"tls://" + l.Addr().String(), ca, "TLS: tls: first record does not look like a TLS handshake", "the server speaks no TLS there, or is no Atlas node"},
		{"tcp://" + address, "", "i/o timeout", "no greeting came in time: is this an Atlas node, and does it want tls://?"},
	} {
		target := cli.Target{Endpoint: tt.endpoint, CAFile: tt.ca, DialTimeout: 500 * time.Millisecond}
		o, err := target.ClientOptions()
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Connect(t.Context(), o)
		if err == nil {
			t.Fatalf("%s: connected", tt.endpoint)
		}
		if got, want := target.Explain(err), "cannot connect to "+tt.endpoint+": "+tt.reason+"\n  "+tt.hint; got != want {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
	target := cli.Target{Endpoint: "tls://other.example:1"}
	names := x509.HostnameError{Certificate: &x509.Certificate{DNSNames: []string{"db.example"}}, Host: "other.example"}
	want := "cannot connect to tls://other.example:1: x509: certificate is valid for db.example, not other.example\n" +
		"  the certificate is for other names than this address"
	if got := target.Explain(&client.Error{Class: client.ErrUnavailable, Text: "connect to other.example:1", Cause: names}); got != want {
		t.Errorf("got %q\nwant %q", got, want)
	}
}

func TestInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	in, err := cli.NewInput(ctx, r)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("abc"); err != nil {
		t.Fatal(err)
	}
	var b [10]byte
	if n, err := in.Read(b[:]); err != nil || string(b[:n]) != "abc" {
		t.Errorf("%q, %v", b[:n], err)
	}
	cancel()
	if _, err := in.Read(b[:]); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if err := errors.Join(in.Close(), r.Close(), w.Close()); err != nil {
		t.Error(err)
	}
	if cli.IsTerminal(&bytes.Buffer{}) || cli.IsTerminal(r) || cli.IsTerminal(nil) {
		t.Error("not every stream is a terminal")
	}
}
