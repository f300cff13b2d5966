// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/atlas-edge/atlas/engine"
)

// newTestHandler is a handler whose node is not started.
func newTestHandler(t *testing.T, statusFrom ...string) *Handler {
	t.Helper()
	ranges, err := parseRanges(statusFrom)
	if err != nil {
		t.Fatal(err)
	}
	return &Handler{
		plan:       &plan{config: &Node{Advertise: "localhost:4444", Region: "local"}},
		statusFrom: ranges,
		metrics:    http.NotFoundHandler(),
	}
}

// serve gives the status that the server would send, the body, and how often the next handler ran.
func serve(h *Handler, r *http.Request) (code int, body string, passed int) {
	w := httptest.NewRecorder()
	err := h.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(http.ResponseWriter, *http.Request) error {
		passed++
		return nil
	}))
	if e, ok := err.(caddyhttp.HandlerError); ok {
		return e.StatusCode, w.Body.String(), passed
	}
	return w.Code, w.Body.String(), passed
}

func TestHandlerPaths(t *testing.T) {
	h := newTestHandler(t)
	for _, c := range []struct {
		method, target string
		code, passed   int
		body           string
	}{
		{"GET", "/healthz", 200, 0, "ok\n"},
		{"HEAD", "/healthz", 200, 0, "ok\n"},
		{"GET", "/healthz?verbose", 200, 0, "ok\n"},
		{"POST", "/healthz", 405, 0, ""},
		{"DELETE", "/status", 405, 0, ""},
		{"GET", "/readyz", 503, 0, "not ready: node is not started\n"},
		{"GET", "/status", 200, 0, `{"version":"` + Version() + `","advertise":"localhost:4444","region":"local","ready":false,` +
			`"reason":"node is not started","frontends":[]}` + "\n"},
		{"GET", "/metrics", 404, 0, "404 page not found\n"},
		{"GET", "/", 200, 1, ""},
		{"GET", "/healthz/", 200, 1, ""},
		{"GET", "/x/healthz", 200, 1, ""},
		{"GET", "/Healthz", 200, 1, ""},
		{"GET", "//healthz", 200, 1, ""},
		{"POST", "/status/x", 200, 1, ""},
		{"CONNECT", "/other", 200, 1, ""},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		r.RemoteAddr = "127.0.0.1:1"
		code, body, passed := serve(h, r)
		if code != c.code || passed != c.passed || body != c.body {
			t.Errorf("%s %s: %d, passed on %d times, %q; want %d, %d, %q", c.method, c.target, code, passed, body, c.code, c.passed, c.body)
		}
	}
}

// TestHealthOfANodeThatDied takes a node's files away, and stops the process as that does: until it has ended, which sites may hold up,
// it is not well. It said ok again once the node was closed.
func TestHealthOfANodeThatDied(t *testing.T) {
	dir := t.TempDir()
	e, err := engine.Open(t.Context(), engine.Options{Dir: dir, MinFreeBytes: -1})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	n := &node{dir: dir, engine: e, log: quiet, sink: newSink(quiet.Handler()), stop: make(chan struct{})}
	nodes.LoadOrStore(dir, n)
	h := newTestHandler(t)
	h.plan.held = &runningNode{node: n}
	h.plan.running.Store(h.plan.held)
	want := func(code int) {
		t.Helper()
		if got, body, _ := serve(h, httptest.NewRequest("GET", "/healthz", nil)); got != code {
			t.Errorf("healthz: %d %q, want %d", got, body, code)
		}
	}
	want(200)

	if err := os.RemoveAll(dir + "/pebble"); err != nil {
		t.Fatal(err)
	}
	session := e.NewSession(engine.SessionOptions{Trusted: true})
	for blob := make([]byte, 1<<20); err == nil; {
		_, err = session.Put(t.Context(), engine.PutRequest{Key: []byte("a.b"), Value: blob})
	}
	<-e.Done()
	want(503)
	if err := errors.Join(session.Close(), (&App{plans: []*plan{h.plan}}).Stop()); err == nil {
		t.Error("it closed as if nothing had happened")
	}
	want(503)
}

// TestStatusFrom asks from several addresses: headers do not count, and who may not see the status does not see why the
// node is not ready either.
func TestStatusFrom(t *testing.T) {
	unix := context.WithValue(t.Context(), http.LocalAddrContextKey, net.Addr(&net.UnixAddr{Net: "unix", Name: "/x"}))
	for _, c := range []struct {
		from   []string
		remote string
		ctx    context.Context
		ok     bool
	}{
		{nil, "127.0.0.1:1", nil, true},
		{nil, "127.9.9.9:1", nil, true},
		{nil, "[::1]:1", nil, true},
		{nil, "[::ffff:127.0.0.1]:1", nil, true},
		{nil, "10.0.0.1:1", nil, false},
		{nil, "@", nil, false},
		{nil, "", nil, false},
		{nil, "@", unix, true},
		{[]string{"10.0.0.0/8"}, "10.255.0.1:1", nil, true},
		{[]string{"10.0.0.0/8"}, "11.0.0.1:1", nil, false},
		{[]string{"10.0.0.0/8"}, "127.0.0.1:1", nil, false},
		{[]string{"192.0.2.7"}, "192.0.2.7:1", nil, true},
		{[]string{"192.0.2.7"}, "192.0.2.8:1", nil, false},
		{[]string{"any"}, "192.0.2.8:1", nil, true},
		{[]string{"any"}, "[2001:db8::1%eth0]:1", nil, true},
	} {
		h := newTestHandler(t, c.from...)
		for _, path := range []string{"/status", "/metrics", "/readyz"} {
			r := httptest.NewRequest("GET", path, nil)
			if c.ctx != nil {
				r = r.WithContext(c.ctx)
			}
			r.RemoteAddr = c.remote
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			code, body, passed := serve(h, r)
			seen := code != http.StatusForbidden && body != "not ready\n"
			if seen != c.ok || passed != 0 {
				t.Errorf("%s of %v from %q: %d %q, passed on %d times; want seen %v", path, c.from, c.remote, code, body, passed, c.ok)
			}
		}
	}
}

// TestSink exchanges the destination of a log: what was derived before follows, with its attributes and groups.
func TestSink(t *testing.T) {
	plain := &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}
	var first, second bytes.Buffer
	s := newSink(slog.NewTextHandler(&first, plain))
	derived := slog.New(s).With("a", 1).WithGroup("g").With("b", 2)
	derived.Info("one", "c", 3)
	derived.Debug("unseen")
	loud := *plain
	loud.Level = slog.LevelDebug
	s.set(slog.NewTextHandler(&second, &loud))
	derived.Info("two", "c", 3)
	derived.Debug("seen")
	if want := "level=INFO msg=one a=1 g.b=2 g.c=3\n"; first.String() != want {
		t.Errorf("first got %q, want %q", first.String(), want)
	}
	if want := "level=INFO msg=two a=1 g.b=2 g.c=3\nlevel=DEBUG msg=seen a=1 g.b=2\n"; second.String() != want {
		t.Errorf("second got %q, want %q", second.String(), want)
	}
	if strings.Count(first.String()+second.String(), "\n") != 3 {
		t.Error("a record went to both")
	}
}

// stacked is an error as Pebble makes them: what it says in detail is a stack of many lines.
type stacked struct{}

func (stacked) Error() string { return "too many open files" }

func (stacked) Format(f fmt.State, verb rune) { _, _ = io.WriteString(f, "(1) attached stack trace") }

// TestErrorsAreLoggedInOneLine logs an error that would show where in the program it was made.
func TestErrorsAreLoggedInOneLine(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(newSink(slog.NewTextHandler(&out, nil)))
	log.Warn("one", "error", stacked{})
	log.With("error", stacked{}).WithGroup("g").Warn("two", "error", error(stacked{}), "n", 1)
	text := out.String()
	if strings.Contains(text, "stack trace") || strings.Count(text, `error="too many open files"`) != 3 || !strings.Contains(text, "g.n=1") {
		t.Errorf("logged %s", text)
	}
}
