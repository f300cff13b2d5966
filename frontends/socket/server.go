// SPDX-License-Identifier: AGPL-3.0-only

// Package socket serves the native line protocol of docs/reference/protocol.md over a Unix socket or a given listener.
package socket

import (
	"context"
	"net"

	"github.com/atlas-edge/atlas/engine"
)

// Name is what the frontend is registered under.
const Name = "socket"

// Server serves the native protocol.
type Server struct {
	opts Options
}

// New makes a server; nothing is listened on before Listen or Serve.
func New(e *engine.Engine, o Options) (*Server, error) {
	o.EnsureDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	return &Server{opts: o}, nil
}

// Name is the name of the frontend.
func (s *Server) Name() string { return Name }

// Listen makes the socket, so that clients can connect; Serve calls it where it was not called.
func (s *Server) Listen() error { return engine.ErrUnavailable }

// Addr is where the server listens; nil before Listen.
func (s *Server) Addr() net.Addr { return nil }

// Serve answers clients until Shutdown, or until ctx ends.
func (s *Server) Serve(ctx context.Context) error { return engine.ErrUnavailable }

// Shutdown drains and closes.
func (s *Server) Shutdown(ctx context.Context) error { return nil }
