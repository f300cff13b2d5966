// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// authGuard slows down who guesses secrets. It counts failures by source: the user id on a Unix socket, the address (of
// IPv6 its first 64 bits) on TCP. A source tries one secret at a time over all of its connections; the answer to a wrong one
// waits, longer each time; past the limit of failures its attempts are refused unseen until some are forgiven. Other sources
// notice none of it. A right secret forgives nothing, or an account of one's own would be a way around.
type authGuard struct {
	delay       time.Duration
	failuresMax int

	mu      sync.Mutex
	sources map[string]*authSource
}

// authSource is one source. Its fields are guarded by authGuard.mu, but for the semaphore.
type authSource struct {
	turn     chan struct{} // holds one
	waiting  int           // attempts that wait or run
	failures int
	since    time.Time // when failures was last counted up or down
}

// authTurn is the right to try one secret.
type authTurn struct {
	g *authGuard
	s *authSource
}

func newAuthGuard(delay time.Duration, failuresMax int) *authGuard {
	return &authGuard{delay: delay, failuresMax: failuresMax, sources: make(map[string]*authSource)}
}

// enter waits for the source's turn. Requires: leave is called if the error is nil.
func (g *authGuard) enter(ctx context.Context, source string) (authTurn, error) {
	g.mu.Lock()
	s := g.sources[source]
	if s == nil {
		if len(g.sources) >= authSourcesMax {
			g.forget()
		}
		if len(g.sources) >= authSourcesMax {
			g.mu.Unlock()
			return authTurn{}, engine.Errorf(engine.ClassUnavailable, "too many sources have failed to authenticate")
		}
		s = &authSource{turn: make(chan struct{}, 1), since: time.Now()}
		g.sources[source] = s
	}
	s.waiting++
	g.mu.Unlock()
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		g.gone(s)
		return authTurn{}, engine.Errorf(engine.ClassUnavailable, "authentication was interrupted")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	s.forgive(time.Now())
	if s.failures >= g.failuresMax {
		wait := authForgive - time.Since(s.since)
		s.waiting--
		<-s.turn
		return authTurn{}, engine.Errorf(engine.ClassDenied, "too many wrong secrets from here: wait %d s", 1+int(wait/time.Second))
	}
	return authTurn{g, s}, nil
}

func (g *authGuard) gone(s *authSource) {
	g.mu.Lock()
	s.waiting--
	g.mu.Unlock()
}

// forgive takes back one failure for each authForgive that passed.
func (s *authSource) forgive(now time.Time) {
	if n := int(now.Sub(s.since) / authForgive); n > 0 {
		s.failures = max(0, s.failures-n)
		s.since = s.since.Add(time.Duration(n) * authForgive)
	}
}

// forget drops the sources that nothing stands against. Requires: mu held.
func (g *authGuard) forget() {
	now := time.Now()
	for name, s := range g.sources {
		if s.forgive(now); s.failures == 0 && s.waiting == 0 {
			delete(g.sources, name)
		}
	}
}

// leave ends the turn; after a failure only when the delay is over, so that other connections of the source wait too.
func (t authTurn) leave(ctx context.Context, failed bool) {
	if failed {
		t.g.mu.Lock()
		if t.s.failures == 0 {
			t.s.since = time.Now()
		}
		wait := t.g.delay << min(t.s.failures, 5)
		t.s.failures++
		t.g.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
		}
	}
	<-t.s.turn
	t.g.gone(t.s)
}

// sourceOf names where a connection comes from.
func sourceOf(nc net.Conn, peer peerCredentials) string {
	if peer.known {
		return "uid " + strconv.FormatUint(uint64(peer.uid), 10)
	}
	if a, ok := nc.RemoteAddr().(*net.TCPAddr); ok {
		addr := a.AddrPort().Addr().Unmap()
		if addr.Is6() {
			if prefix, err := addr.Prefix(64); err == nil {
				return prefix.String()
			}
		}
		return addr.String()
	}
	if addr, err := netip.ParseAddrPort(nc.RemoteAddr().String()); err == nil {
		return addr.Addr().String()
	}
	return nc.RemoteAddr().Network()
}
