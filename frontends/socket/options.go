// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Options configure a server. The zero value of a field takes its default in EnsureDefaults.
type Options struct {
	// Path is the Unix socket to listen on; a relative one is made absolute when the server starts, and then at most 107
	// bytes may be left. Missing parents are made with mode 0700. Required unless Listener is given.
	Path string
	// Mode is the permission of the socket, 0600-0777. Default 0600: the server's own user (and root). Whoever may
	// connect gets a session; a wider mode is for hosts whose users are all known.
	Mode fs.FileMode
	// Listener, when set, is listened on instead of Path, and Path is only a name for logs. It may be TCP, and then should
	// be TLS: secrets and data pass in clear otherwise. Its clients are trusted only if they are Unix connections whose
	// credentials say so. Shutdown closes it.
	Listener net.Listener

	// ConnectionsMax bounds open connections, 1-1,000,000. Default 16,384. Past it a client is told and cut. An idle one
	// costs less than 20 KiB.
	ConnectionsMax int
	// MemoryMax bounds the bytes, over all connections, that frames larger than 16 KiB hold, 1 MiB-1 TiB. Default
	// 512 MiB. Past it such a frame is refused as unavailable, its bytes skipped; a frame that alone is larger than this
	// is too_large.
	MemoryMax int64
	// HandshakeTimeout bounds the time from connect to the end of the HELLO line, 10 ms-1 h. Default 10 s.
	HandshakeTimeout time.Duration
	// FrameTimeout bounds the time from the first byte of a line or payload to its last, plus one second for each 64 KiB
	// received, 10 ms-24 h. Default 30 s. Too short cuts clients on bad lines, too long lets slow ones hold memory.
	FrameTimeout time.Duration
	// WriteTimeout bounds the time in which a client must take 256 KiB of answer, 10 ms-24 h. Default 60 s. One that does
	// not read is cut after it.
	WriteTimeout time.Duration
	// IdleTimeout, when positive, cuts connections on which nothing ran or arrived for that long, 10 ms-1 year. Default
	// off.
	IdleTimeout time.Duration
	// AuthDelay is how long the answer to a wrong secret waits at first; it doubles with each failure of the same source
	// up to 32 times it. 1 ms-10 s, default 100 ms.
	AuthDelay time.Duration
	// AuthFailuresMax is how many failures a source may have before it is refused without a look, 1-1,000. One is
	// forgiven every 30 s. Default 20. Others are not affected.
	AuthFailuresMax int

	// Logger receives structured logs. Default: discarded.
	Logger *slog.Logger
	// Registry receives the metrics. Default: none.
	Registry prometheus.Registerer
}

// Bounds of options; docs/reference/protocol.md gives them to operators.
const (
	ConnectionsMaxMax  = 1_000_000
	MemoryMaxMin       = 1 << 20
	MemoryMaxMax       = 1 << 40
	TimeoutMin         = 10 * time.Millisecond
	HandshakeMax       = time.Hour
	TimeoutMax         = 24 * time.Hour
	IdleTimeoutMax     = 365 * 24 * time.Hour
	AuthDelayMin       = time.Millisecond
	AuthDelayMax       = 10 * time.Second
	AuthFailuresMaxMax = 1000
)

// EnsureDefaults fills what was left out.
func (o *Options) EnsureDefaults() {
	setDefault(&o.Mode, 0o600)
	setDefault(&o.ConnectionsMax, 16_384)
	setDefault(&o.MemoryMax, 512<<20)
	setDefault(&o.HandshakeTimeout, 10*time.Second)
	setDefault(&o.FrameTimeout, 30*time.Second)
	setDefault(&o.WriteTimeout, time.Minute)
	setDefault(&o.AuthDelay, 100*time.Millisecond)
	setDefault(&o.AuthFailuresMax, 20)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// Validate reports every problem at once. Requires: EnsureDefaults was called.
func (o *Options) Validate() error {
	var errs []error
	if o.Path == "" && o.Listener == nil {
		errs = append(errs, errors.New("socket path is not set"))
	}
	if o.Mode&^fs.ModePerm != 0 || o.Mode&0o600 != 0o600 {
		errs = append(errs, fmt.Errorf("socket mode %#o is outside of 0600 to 0777, or keeps its owner out", uint32(o.Mode)))
	}
	errs = append(errs,
		checkRange("connections", o.ConnectionsMax, 1, ConnectionsMaxMax),
		checkRange("memory bytes", o.MemoryMax, MemoryMaxMin, MemoryMaxMax),
		checkRange("handshake timeout", o.HandshakeTimeout, TimeoutMin, HandshakeMax),
		checkRange("frame timeout", o.FrameTimeout, TimeoutMin, TimeoutMax),
		checkRange("write timeout", o.WriteTimeout, TimeoutMin, TimeoutMax),
		checkRange("authentication delay", o.AuthDelay, AuthDelayMin, AuthDelayMax),
		checkRange("authentication failures", o.AuthFailuresMax, 1, AuthFailuresMaxMax),
	)
	if o.IdleTimeout != 0 {
		errs = append(errs, checkRange("idle timeout", o.IdleTimeout, TimeoutMin, IdleTimeoutMax))
	}
	return errors.Join(errs...)
}

func checkRange[T interface{ ~int | ~int64 }](what string, got, least, most T) error {
	if got < least || got > most {
		return fmt.Errorf("%s %v is outside of %v to %v", what, got, least, most)
	}
	return nil
}
