// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends"
)

// Name is what the frontend is registered under.
const Name = "socket"

func init() { frontends.Register(Name, factory) }

// Server serves the native protocol on one listener.
type Server struct {
	opts    Options
	backend backend
	m       *metrics
	bufs    buffers   // of bufferSize
	chunks  buffers   // of scanChunk
	pool    sync.Pool // of requests
	// laterPool holds rooms for pipelined writes.
	laterPool sync.Pool
	budget    budget
	auth      *authGuard
	workers   workers
	// over is a context that has ended: with it, what would wait returns at once.
	over     context.Context
	draining atomic.Bool
	ended    atomic.Uint64 // goroutines of connections

	mu       sync.Mutex
	listener net.Listener
	conns    map[*conn]struct{}
	serving  bool
	stopped  bool          // Shutdown was called, or Serve ended
	done     chan struct{} // closed when Serve has ended
}

var (
	_ frontends.Frontend = (*Server)(nil)
	_ frontends.Reporter = (*Server)(nil)
)

// New makes a server; nothing is listened on before Listen or Serve.
func New(e *engine.Engine, o Options) (*Server, error) {
	return newServer(engineBackend{e}, o)
}

func newServer(b backend, o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, fmt.Errorf("socket options: %w", err)
	}
	m, err := newMetrics(o.Registry)
	if err != nil {
		return nil, err
	}
	over, cancel := context.WithCancel(context.Background())
	cancel()
	return &Server{
		opts: o, backend: b, m: m, over: over,
		bufs: buffers{size: bufferSize}, chunks: buffers{size: scanChunk},
		budget: budget{max: o.MemoryMax}, auth: newAuthGuard(o.AuthDelay, o.AuthFailuresMax),
		conns: make(map[*conn]struct{}), done: make(chan struct{}),
	}, nil
}

// Name is the name of the frontend.
func (s *Server) Name() string { return Name }

// ErrStopped is what Listen and Serve return after Shutdown, and Serve a second time.
var ErrStopped = errors.New("socket server was stopped")

// Listen makes the socket, so that clients can connect; Serve calls it where it was not called.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return ErrStopped
	}
	if s.listener != nil {
		return nil
	}
	if s.opts.Listener != nil {
		s.listener = s.opts.Listener
		return nil
	}
	path, err := checkUnixPath(s.opts.Path)
	if err != nil {
		return err
	}
	l, err := listenUnix(path, s.opts.Mode)
	if err != nil {
		return err
	}
	s.listener = l
	return nil
}

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Ready is nil while the server listens where clients look for it.
func (s *Server) Ready() error {
	s.mu.Lock()
	l := s.listener
	s.mu.Unlock()
	if l == nil {
		return errors.New("it does not listen yet")
	}
	if u, ok := l.(*unixSocket); ok {
		return u.inPlace()
	}
	return nil
}

// Serve accepts and answers clients until Shutdown, or until ctx ends, which cuts them. It returns nil then, or why it
// could not listen.
func (s *Server) Serve(ctx context.Context) error {
	if err := s.Listen(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.serving || s.stopped {
		s.mu.Unlock()
		return ErrStopped
	}
	s.serving = true
	l := s.listener
	s.mu.Unlock()
	s.opts.Logger.Info("socket listens", "address", l.Addr().String())

	ctx, cancel := context.WithCancel(ctx)
	unhook := context.AfterFunc(ctx, func() { s.drain(); s.cutAll() })
	var watching, serving sync.WaitGroup
	watching.Go(func() { s.janitor(ctx) })
	err := s.accept(ctx, l, &serving)
	if err != nil {
		s.opts.Logger.Error("socket cannot accept any more", "error", err)
		s.drain()
		s.cutAll()
	}
	serving.Wait()
	s.workers.stop()
	unhook()
	cancel()
	watching.Wait()
	s.opts.Logger.Info("socket stopped", "address", l.Addr().String())
	close(s.done)
	return err
}

// accept takes clients in until the server drains, and starts a goroutine for each in serving.
func (s *Server) accept(ctx context.Context, l net.Listener, serving *sync.WaitGroup) error {
	var pause time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case s.draining.Load():
			if err == nil {
				_ = nc.Close() // the client was never greeted
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("listener was closed by somebody else: %w", err)
		case err != nil:
			if pause == 0 {
				s.opts.Logger.Warn("accepting a client", "error", err)
			}
			pause = min(max(2*pause, 5*time.Millisecond), acceptBackoffMax)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		case pause != 0:
			s.opts.Logger.Info("clients are accepted again")
			pause = 0
		}
		c := s.admit(ctx, nc)
		if c == nil {
			continue
		}
		s.serveConn(c, serving)
	}
}

// serveConn starts the goroutine that serves the connection until it rests or ends.
func (s *Server) serveConn(c *conn, serving *sync.WaitGroup) {
	serving.Go(func() {
		defer s.ended.Add(1)
		if c.serve() {
			s.serveConn(c, serving)
			return
		}
		s.forget(c)
	})
}

// admit makes a connection of a client, or refuses it.
func (s *Server) admit(ctx context.Context, nc net.Conn) *conn {
	c := &conn{srv: s, m: s.m, nc: nc, opened: time.Now(), peer: readPeer(nc), slots: make(chan struct{}, TaggedMax)}
	c.source = sourceOf(nc, c.peer)
	ctx, c.cancel = context.WithCancel(ctx)
	c.req = request{c: c, ctx: ctx}
	c.out.init(nc, &s.bufs, s.m, c.abort)
	c.rd.init(nc, &s.bufs, &s.budget, s.m, c.beforeWait, c.woken)
	s.mu.Lock()
	full, stopped := len(s.conns) >= s.opts.ConnectionsMax, s.stopped
	if !full && !stopped {
		s.conns[c] = struct{}{}
	}
	s.mu.Unlock()
	if stopped {
		c.abort() // never greeted
		return nil
	}
	if full {
		s.m.refused.Inc()
		c.refuse()
		return nil
	}
	s.m.accepted.Inc()
	s.m.open.Inc()
	return c
}

// refuse tells a client that there are too many, if that cannot make the server wait, and closes.
func (c *conn) refuse() {
	switch c.nc.(type) {
	case *net.UnixConn, *net.TCPConn:
		if c.nc.SetWriteDeadline(time.Now().Add(10*time.Millisecond)) == nil {
			line := appendError(nil, nil, &fatalError{"unavailable: too many connections"})
			_, _ = c.nc.Write(line) // best effort: the client is cut all the same
		}
	}
	c.abort()
}

func (s *Server) forget(c *conn) {
	s.m.open.Dec()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

func (s *Server) snapshot(into []*conn) []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		into = append(into, c)
	}
	return into
}

// drain accepts nobody any more and asks every connection to end when what it runs has ended.
func (s *Server) drain() {
	s.draining.Store(true)
	s.mu.Lock()
	s.stopped = true
	l := s.listener
	s.mu.Unlock()
	if l != nil {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			s.opts.Logger.Warn("closing the socket's listener", "error", err)
		}
	}
	for _, c := range s.snapshot(nil) {
		c.end(endDrain)
	}
}

func (s *Server) cutAll() {
	for _, c := range s.snapshot(nil) {
		c.cut("server stops")
	}
}

// Shutdown accepts no more clients, closes those that run nothing without a word, lets the others finish what they run
// until ctx ends, and then cuts them; the error is ctx's if something had to be cut.
func (s *Server) Shutdown(ctx context.Context) error {
	s.drain()
	s.mu.Lock()
	serving := s.serving
	s.mu.Unlock()
	if !serving {
		return nil
	}
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
	}
	s.cutAll()
	<-s.done
	return ctx.Err()
}

// requests lends a request for a command that runs aside.
func (s *Server) requests() *request {
	if q, ok := s.pool.Get().(*request); ok {
		return q
	}
	return new(request)
}

// recycle takes it back, with those of its buffers that are small.
func (s *Server) recycle(q *request) {
	keep := func(b []byte) []byte {
		if cap(b) > bufferSize {
			return nil
		}
		return b[:0]
	}
	*q = request{line: keep(q.line), body: keep(q.body), tag: keep(q.tag)}
	s.pool.Put(q)
}
