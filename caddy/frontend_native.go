// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddytls"

	"github.com/atlas-edge/atlas/frontends"
	"github.com/atlas-edge/atlas/frontends/socket"
)

// NativeLimits bound what clients of the native protocol can cost. 0 takes the default.
type NativeLimits struct {
	// MaxConnections bounds open connections, 1-1,000,000. Default 16,384.
	MaxConnections int `json:"max_connections,omitempty"`
	// MaxMemory bounds the bytes that large frames hold over all connections, 1 MiB to 1 TiB. Default 512 MiB.
	MaxMemory Size `json:"max_memory,omitempty"`
	// HandshakeTimeout bounds the time from connect to the end of the handshake, 10 ms to 1 h. Default 10 s.
	HandshakeTimeout caddy.Duration `json:"handshake_timeout,omitempty"`
	// FrameTimeout bounds the time from the first byte of a frame to its last, plus 1 s for each 64 KiB, 10 ms to 24 h.
	// Default 30 s.
	FrameTimeout caddy.Duration `json:"frame_timeout,omitempty"`
	// WriteTimeout bounds the time in which a client must take 256 KiB of answer, 10 ms to 24 h. Default 60 s.
	WriteTimeout caddy.Duration `json:"write_timeout,omitempty"`
	// IdleTimeout cuts connections on which nothing happens for that long, 10 ms to 365 days. Default: never.
	IdleTimeout caddy.Duration `json:"idle_timeout,omitempty"`
	// AuthDelay is how long the first answer to a wrong secret waits, 1 ms to 10 s. Default 100 ms.
	AuthDelay caddy.Duration `json:"auth_delay,omitempty"`
	// MaxAuthFailures is how many wrong secrets a source may send before it is refused unseen, 1-1,000. Default 20.
	MaxAuthFailures int `json:"max_auth_failures,omitempty"`
}

func (l *NativeLimits) options() map[string]option {
	return map[string]option{
		"max_connections":   numberOption(&l.MaxConnections, 1, socket.ConnectionsMaxMax),
		"max_memory":        sizeOption(&l.MaxMemory, socket.MemoryMaxMin, socket.MemoryMaxMax),
		"handshake_timeout": durationOption(&l.HandshakeTimeout, socket.TimeoutMin, socket.HandshakeMax),
		"frame_timeout":     durationOption(&l.FrameTimeout, socket.TimeoutMin, socket.TimeoutMax),
		"write_timeout":     durationOption(&l.WriteTimeout, socket.TimeoutMin, socket.TimeoutMax),
		"idle_timeout":      durationOption(&l.IdleTimeout, socket.TimeoutMin, socket.IdleTimeoutMax),
		"auth_delay":        durationOption(&l.AuthDelay, socket.AuthDelayMin, socket.AuthDelayMax),
		"max_auth_failures": numberOption(&l.MaxAuthFailures, 1, socket.AuthFailuresMaxMax),
	}
}

func (l *NativeLimits) check() error {
	var errs []error
	number := func(name string, got, least, most int) {
		if got != 0 {
			errs = append(errs, checkRange(name, got, least, most))
		}
	}
	duration := func(name string, got caddy.Duration, least, most time.Duration) {
		if got != 0 {
			errs = append(errs, checkRange(name, time.Duration(got), least, most))
		}
	}
	number("max_connections", l.MaxConnections, 1, socket.ConnectionsMaxMax)
	if l.MaxMemory != 0 {
		errs = append(errs, checkRange("max_memory", l.MaxMemory, socket.MemoryMaxMin, socket.MemoryMaxMax))
	}
	duration("handshake_timeout", l.HandshakeTimeout, socket.TimeoutMin, socket.HandshakeMax)
	duration("frame_timeout", l.FrameTimeout, socket.TimeoutMin, socket.TimeoutMax)
	duration("write_timeout", l.WriteTimeout, socket.TimeoutMin, socket.TimeoutMax)
	duration("idle_timeout", l.IdleTimeout, socket.TimeoutMin, socket.IdleTimeoutMax)
	duration("auth_delay", l.AuthDelay, socket.AuthDelayMin, socket.AuthDelayMax)
	number("max_auth_failures", l.MaxAuthFailures, 1, socket.AuthFailuresMaxMax)
	return errors.Join(errs...)
}

// server makes the native protocol's server; o has the path, mode or listener.
func (l *NativeLimits) server(host frontends.Host, o socket.Options) (*socket.Server, error) {
	o.ConnectionsMax = l.MaxConnections
	o.MemoryMax = int64(l.MaxMemory)
	o.HandshakeTimeout = time.Duration(l.HandshakeTimeout)
	o.FrameTimeout = time.Duration(l.FrameTimeout)
	o.WriteTimeout = time.Duration(l.WriteTimeout)
	o.IdleTimeout = time.Duration(l.IdleTimeout)
	o.AuthDelay = time.Duration(l.AuthDelay)
	o.AuthFailuresMax = l.MaxAuthFailures
	o.Logger, o.Registry = host.Logger, host.Registry
	s, err := socket.New(host.Engine, o)
	if err != nil {
		return nil, err
	}
	return s, s.Listen()
}

// socketPathMax is what the kernel takes as the address of a Unix socket.
const socketPathMax = 107

// SocketFrontend is the native protocol on a Unix socket (atlas.frontends.socket).
type SocketFrontend struct {
	// Path is the socket's file; missing parents are made, mode 0700. At most 107 bytes as an absolute path. Required.
	Path string `json:"path"`
	// Mode is the permission of the socket, in octal, 0600 to 0777. Default 0600: the process's own user, and root.
	Mode string `json:"mode,omitempty"`
	NativeLimits
}

// CaddyModule names the module.
func (SocketFrontend) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: frontendNamespace + ".socket", New: func() caddy.Module { return new(SocketFrontend) }}
}

// Provision fills what was left out, and gives the socket's file one name whichever way it was written.
func (s *SocketFrontend) Provision(caddy.Context) error {
	s.Mode = cmp.Or(s.Mode, "0600")
	if checkSocketText(s.Path) != nil {
		return nil // Validate says so
	}
	path, err := canonicalPath("socket", s.Path)
	if err != nil {
		return err
	}
	s.Path = path
	return nil
}

// Validate reports every problem at once.
func (s *SocketFrontend) Validate() error {
	_, err := parseMode(s.Mode)
	return errors.Join(checkSocketPath(s.Path), err, s.check())
}

// checkSocketText looks at the path as it was written.
func checkSocketText(path string) error {
	if strings.HasPrefix(path, "@") {
		return fmt.Errorf("socket %q begins with @: abstract sockets have no permissions", visible(path))
	}
	return checkPath("socket", path)
}

func checkSocketPath(path string) error {
	if err := checkSocketText(path); err != nil {
		return err
	}
	if len(path) > socketPathMax {
		return fmt.Errorf("socket path length %d (%s) exceeds limit %d", len(path), path, socketPathMax)
	}
	return nil
}

func parseMode(text string) (fs.FileMode, error) {
	if err := checkPlain("socket mode", text); err != nil {
		return 0, err
	}
	mode, err := strconv.ParseUint(text, 8, 32)
	if err != nil {
		return 0, fmt.Errorf("socket mode %q: want octal digits, such as 0660", visible(text))
	}
	if mode&^0o777 != 0 || mode&0o600 != 0o600 {
		return 0, fmt.Errorf("socket mode %q is outside of 0600 to 0777, or keeps its owner out", text)
	}
	return fs.FileMode(mode), nil
}

// Address is unix/ and the socket's real path. Requires: Provision was called.
func (s *SocketFrontend) Address() string { return "unix/" + s.Path }

// Open makes the socket.
func (s *SocketFrontend) Open(host frontends.Host) (frontends.Frontend, error) {
	mode, err := parseMode(s.Mode)
	if err != nil {
		return nil, err
	}
	return s.server(host, socket.Options{Path: s.Path, Mode: mode})
}

// UnmarshalCaddyfile reads
//
//	socket <path> {
//	    mode <octal>
//	    <limits of the native protocol>
//	}
func (s *SocketFrontend) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := oneArg(d, &s.Path); err != nil {
		return err
	}
	if err := checkSocketText(s.Path); err != nil {
		return d.WrapErr(err)
	}
	options := s.options()
	options["mode"] = func(d *caddyfile.Dispenser) error {
		if err := oneArg(d, &s.Mode); err != nil {
			return err
		}
		if _, err := parseMode(s.Mode); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
	return readBlock(d, "socket", options)
}

// TCPFrontend is the native protocol on TCP (atlas.frontends.tcp), with TLS unless UnsafePlaintext is set.
type TCPFrontend struct {
	// Listen is host:port; port 0 lets the kernel choose. Required.
	Listen string `json:"listen"`
	// Certificate and Key are PEM files. When they are left out, the certificates that Caddy manages serve, chosen by the
	// name the client asks for, else by ServerName.
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`
	// ServerName is the name whose certificate serves clients that name none. Default: the host of Listen.
	ServerName string `json:"server_name,omitempty"`
	// UnsafePlaintext turns TLS off: secrets and data pass in clear. Logged at start.
	UnsafePlaintext bool `json:"unsafe_plaintext,omitempty"`
	NativeLimits

	managed *tls.Config
	loaded  *tls.Config                // what Certificate and Key held when the module was first used
	current atomic.Pointer[tls.Config] // of the module that opened the frontend
}

// CaddyModule names the module.
func (*TCPFrontend) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: frontendNamespace + ".tcp", New: func() caddy.Module { return new(TCPFrontend) }}
}

// Provision prepares for the certificates that Caddy manages, if those are asked for.
func (t *TCPFrontend) Provision(ctx caddy.Context) error {
	if t.UnsafePlaintext || t.Certificate != "" {
		return nil
	}
	if host, _, err := net.SplitHostPort(t.Listen); err == nil {
		t.ServerName = cmp.Or(t.ServerName, host)
	}
	policies := caddytls.ConnectionPolicies{{DefaultSNI: t.ServerName, ALPN: []string{"atlas"}}}
	if err := policies.Provision(ctx); err != nil {
		return err
	}
	config := policies[0].TLSConfig
	config.GetCertificate = t.noticed(config.GetCertificate, ctx.Slogger())
	t.managed = policies.TLSConfig(ctx)
	return nil
}

// noticed is find, but logs that there is no certificate: once, for that may be the mistake of a client, too.
func (t *TCPFrontend) noticed(find findCertificate, log *slog.Logger) findCertificate {
	var said atomic.Bool
	return func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
		found, err := find(hello)
		if err != nil && said.CompareAndSwap(false, true) {
			log.Warn("no certificate for a client: the name that it asks for, or else server_name, must be that of a site that is served "+
				"with TLS; this is logged once", "listen", t.Listen, "server_name", t.ServerName)
		}
		return found, err
	}
}

type findCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Validate reports every problem at once.
func (t *TCPFrontend) Validate() error {
	errs := []error{
		t.check(), checkListen(t.Listen),
		checkPlain("certificate", t.Certificate), checkPlain("key", t.Key), checkPlain("server_name", t.ServerName),
	}
	if p := t.contradiction(); p != nil {
		errs = append(errs, p.err)
	}
	return errors.Join(errs...)
}

// contradiction is what the options say against each other about TLS, or nil.
func (t *TCPFrontend) contradiction() *problem {
	switch {
	case (t.Certificate == "") != (t.Key == ""):
		return &problem{option: "tls", err: errors.New("tls needs a certificate and a key")}
	case t.UnsafePlaintext && t.Certificate != "":
		return &problem{option: "unsafe_plaintext", err: errors.New("tls and unsafe_plaintext exclude each other")}
	case t.UnsafePlaintext && t.ServerName != "":
		return &problem{option: "unsafe_plaintext", err: errors.New("server_name and unsafe_plaintext exclude each other")}
	case t.Certificate != "" && t.ServerName != "":
		return &problem{option: "server_name", err: errors.New("tls with files and server_name exclude each other")}
	}
	return nil
}

func checkListen(text string) error {
	if err := checkPlain("listen", text); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" {
		return fmt.Errorf("listen %q: want host:port; name the interface, for example 127.0.0.1, or 0.0.0.0 for all", visible(text))
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("listen %q: port %q is outside of 0 to 65535", visible(text), visible(port))
	}
	return nil
}

// Address is tcp/ and host:port.
func (t *TCPFrontend) Address() string { return "tcp/" + t.Listen }

// Open listens.
func (t *TCPFrontend) Open(host frontends.Host) (frontends.Frontend, error) {
	if err := t.Renew(t); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", t.Listen)
	if err != nil {
		return nil, err
	}
	if t.UnsafePlaintext {
		host.Logger.Warn("unsafe option in force", "option", "unsafe_plaintext", "listen", listener.Addr().String())
	} else {
		listener = tls.NewListener(listener, &tls.Config{
			MinVersion: tls.VersionTLS12,
			GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				config := t.current.Load()
				if config.GetConfigForClient != nil {
					return config.GetConfigForClient(hello)
				}
				return config, nil
			},
		})
	}
	s, err := t.server(host, socket.Options{Path: t.Address(), Listener: listener})
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return s, nil
}

// Renew takes the certificates of next for the handshakes to come.
func (t *TCPFrontend) Renew(next FrontendModule) error {
	n, ok := next.(*TCPFrontend)
	if !ok || t.UnsafePlaintext {
		return nil
	}
	if n.Certificate == "" {
		t.current.Store(n.managed)
		return nil
	}
	if n.loaded == nil {
		pair, err := tls.LoadX509KeyPair(n.Certificate, n.Key)
		if err != nil {
			return fmt.Errorf("listen %s: certificate: %w", n.Listen, err)
		}
		n.loaded = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}, NextProtos: []string{"atlas"}}
	}
	t.current.Store(n.loaded)
	return nil
}

// UnmarshalCaddyfile reads
//
//	listen <host:port> {
//	    tls <certificate> <key>
//	    server_name <name>
//	    unsafe_plaintext
//	    <limits of the native protocol>
//	}
func (t *TCPFrontend) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := oneArg(d, &t.Listen); err != nil {
		return err
	}
	if err := checkListen(t.Listen); err != nil {
		return d.WrapErr(err)
	}
	options := t.options()
	options["tls"] = func(d *caddyfile.Dispenser) error {
		if !d.AllArgs(&t.Certificate, &t.Key) {
			return d.Err("tls takes a certificate file and a key file")
		}
		if err := errors.Join(checkPlain("tls certificate", t.Certificate), checkPlain("tls key", t.Key)); err != nil {
			return d.Errf("%s", oneLine(err))
		}
		return nil
	}
	options["server_name"] = func(d *caddyfile.Dispenser) error {
		if err := textOption(&t.ServerName)(d); err != nil {
			return err
		}
		if err := checkPlain("server_name", t.ServerName); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
	options["unsafe_plaintext"] = flagOption(&t.UnsafePlaintext)
	at, err := readPlaces(d, "listen", options)
	if err != nil {
		return err
	}
	if p := t.contradiction(); p != nil {
		return at.of(p.option, p.nth).WrapErr(p.err)
	}
	return nil
}

var (
	_ FrontendModule        = (*SocketFrontend)(nil)
	_ caddy.Provisioner     = (*SocketFrontend)(nil)
	_ caddy.Validator       = (*SocketFrontend)(nil)
	_ caddyfile.Unmarshaler = (*SocketFrontend)(nil)
	_ FrontendModule        = (*TCPFrontend)(nil)
	_ Renewer               = (*TCPFrontend)(nil)
	_ caddy.Provisioner     = (*TCPFrontend)(nil)
	_ caddy.Validator       = (*TCPFrontend)(nil)
	_ caddyfile.Unmarshaler = (*TCPFrontend)(nil)
)
