// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// tlsConfigs are a server's and a client's, of one fresh certificate.
func tlsConfigs(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}},
		&tls.Config{RootCAs: roots, ServerName: "localhost"}
}

// Over TLS the protocol is the same; who does not speak TLS, or says nothing, is cut and holds nobody up.
func TestTLS(t *testing.T) {
	server, config := tlsConfigs(t)
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, newFake(), Options{Listener: tls.NewListener(inner, server), HandshakeTimeout: 500 * time.Millisecond})
	mute, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mute.Close()
	plain, err := net.Dial("tcp", inner.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	if _, err := plain.Write([]byte("HELLO 1.0 x\r\nKEY PUT a.b x\r\n")); err != nil {
		t.Fatal(err)
	}

	nc, err := tls.Dial("tcp", inner.Addr().String(), config)
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, nc)
	c.greet()
	if got := c.do("PRINCIPAL ASSUME root"); !strings.HasPrefix(got, "ERROR WARN denied: ") {
		t.Fatalf("got %q", got)
	}
	for _, n := range []int{0, 10, 63, 64, 65, 1000, bufferSize, 100_000, 3_000_000} {
		v := strings.Repeat("t", n)
		c.send(fmt.Sprintf("[ID:1] KEY BLOB SET t.v %d\r\n%s", n, v))
		c.want("[ID:1] OK")
		c.send("KEY BLOB GET t.v\r\n")
		c.want(fmt.Sprintf("BLOB %d", n))
		c.wantBytes([]byte(v))
		c.want("OK")
	}
	c.send("KEY PUT t.a 1\r\nKEY PUT t.a 2\r\nKEY GET t.a\r\n[ID:\r\n")
	c.want("OK", "OK", "VALUE:2", "OK", "ERROR FATAL invalid: request id has no closing bracket")
	c.wantClosed()
	eventually(t, "who does not shake hands is cut", func() bool { return len(s.snapshot(nil)) == 0 })
}
