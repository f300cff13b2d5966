// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// G26: each wrong secret makes its source wait longer, over all of its connections; past the limit it is refused unseen, and
// forgiven one by one. Another source notices nothing.
func TestAuthDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newAuthGuard(100*time.Millisecond, 8)
		try := func(source string, failed bool) (time.Duration, error) {
			begin := time.Now()
			turn, err := g.enter(t.Context(), source)
			if err == nil {
				turn.leave(t.Context(), failed)
			}
			return time.Since(begin), err
		}
		wants := []time.Duration{100, 200, 400, 800, 1600, 3200, 3200, 3200}
		for i, want := range wants {
			if took, err := try("bad", true); err != nil || took != want*time.Millisecond {
				t.Fatalf("failure %d took %v, %v, want %v ms", i, took, err, want)
			}
			if took, err := try(fmt.Sprintf("good %d", i), false); err != nil || took != 0 {
				t.Fatalf("another source waited %v, %v", took, err)
			}
		}
		for range 3 {
			if took, err := try("bad", false); !errors.Is(err, engine.ErrDenied) || took != 0 {
				t.Fatalf("past the limit: %v, %v", took, err)
			}
		}
		time.Sleep(authForgive) // sleep: on the test's own clock
		if _, err := try("bad", true); err != nil {
			t.Fatalf("after one was forgiven: %v", err)
		}
		if _, err := try("bad", true); !errors.Is(err, engine.ErrDenied) {
			t.Fatalf("and used up: %v", err)
		}
		time.Sleep(20 * authForgive) // sleep: on the test's own clock
		if took, err := try("bad", true); err != nil || took != 100*time.Millisecond {
			t.Fatalf("after a long time: %v, %v", took, err)
		}
	})
}

// A source tries one secret at a time, however many connections it has.
func TestAuthOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newAuthGuard(time.Second, 20)
		begin := time.Now()
		done := make(chan time.Duration, 3)
		for range cap(done) {
			go func() { // owner: joined below
				turn, err := g.enter(t.Context(), "bad")
				if err != nil {
					t.Error(err)
				}
				turn.leave(t.Context(), true)
				done <- time.Since(begin)
			}()
		}
		for _, want := range []time.Duration{1, 3, 7} {
			if took := <-done; took != want*time.Second {
				t.Errorf("answered after %v, want %v s", took, want)
			}
		}
		ctx, cancel := context.WithCancel(t.Context())
		held, err := g.enter(ctx, "bad")
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := g.enter(ctx, "bad"); !errors.Is(err, engine.ErrUnavailable) {
			t.Errorf("waiting when the connection ends: %v", err)
		}
		held.leave(ctx, false)
	})
}

// Sources are bounded; those against whom nothing stands make room.
func TestAuthSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newAuthGuard(time.Millisecond, 20)
		for i := range authSourcesMax {
			turn, err := g.enter(t.Context(), fmt.Sprint(i))
			if err != nil {
				t.Fatal(err)
			}
			turn.leave(t.Context(), i%2 == 0)
		}
		for i := range authSourcesMax / 2 {
			turn, err := g.enter(t.Context(), fmt.Sprint("new", i))
			if err != nil {
				t.Fatal(err)
			}
			turn.leave(t.Context(), true)
		}
		if _, err := g.enter(t.Context(), "one more"); err == nil && len(g.sources) > authSourcesMax {
			t.Errorf("%d sources are kept", len(g.sources))
		}
	})
}

// addressed is a connection from somewhere.
type addressed struct {
	net.Conn
	from net.Addr
}

func (a addressed) RemoteAddr() net.Addr { return a.from }

func TestSourceOf(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 1234} }
	for _, c := range []struct {
		from net.Addr
		peer peerCredentials
		want string
	}{
		{&net.UnixAddr{Net: "unix"}, peerCredentials{true, 1000}, "uid 1000"},
		{&net.UnixAddr{Net: "unix"}, peerCredentials{}, "unix"},
		{tcp("192.0.2.7"), peerCredentials{}, "192.0.2.7"},
		{tcp("::ffff:192.0.2.7"), peerCredentials{}, "192.0.2.7"},
		{tcp("2001:db8:1:2:3:4:5:6"), peerCredentials{}, "2001:db8:1:2::/64"},
		{tcp("2001:db8:1:2:ffff::1"), peerCredentials{}, "2001:db8:1:2::/64"},
	} {
		if got := sourceOf(addressed{from: c.from}, c.peer); got != c.want {
			t.Errorf("%v is %q, want %q", c.from, got, c.want)
		}
	}
}

// A thousand wrong secrets over many connections: all refused, and a right one from elsewhere is served at once.
func TestAuthOverConnections(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, f *fake, s *Server, dial func() *client) {
		denied, capped := 0, 0
		for range 10 {
			c := dial()
			c.greet()
			for range 100 {
				switch got := c.do("PRINCIPAL AUTH alice wrong"); {
				case strings.HasPrefix(got, "ERROR WARN denied: wrong"):
					denied++
				case strings.HasPrefix(got, "ERROR WARN denied: too many"):
					capped++
				default:
					t.Fatalf("got %q", got)
				}
			}
		}
		if denied < 20 || denied > 22 || denied+capped != 1000 { // the delays take long enough to be forgiven some
			t.Errorf("%d were looked at, %d refused unseen", denied, capped)
		}
		if turn, err := s.auth.enter(t.Context(), "another"); err != nil {
			t.Error(err)
		} else {
			turn.leave(t.Context(), false)
		}
	})
}
