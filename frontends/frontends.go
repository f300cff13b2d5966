// SPDX-License-Identifier: AGPL-3.0-only

// Package frontends is how a way of talking to the database is plugged into a node: the Frontend interface, and a
// registry of factories by name.
//
// A frontend parses requests, calls an engine session and formats the answers; it holds no data and decides no
// permission. A third party adds one in a package of its own, which calls Register in its init: programs make it by New, and
// Caddy by `frontend <name>` with its JSON. One that is to have options in the Caddyfile, or to survive a reload that
// changes them, is a Caddy module instead, a FrontendModule of the package caddy. What a frontend listens on, and the
// goroutines that serve it, belong to the frontend: Serve runs until Shutdown, and Shutdown returns when nothing of it is left.
package frontends

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/engine"
)

// Frontend is one way of talking to a node.
type Frontend interface {
	// Name is the name that the frontend was registered under.
	Name() string
	// Serve accepts and answers clients until Shutdown is called or ctx ends, which cuts them, and then returns nil. Any
	// other end is an error. It is called once.
	Serve(ctx context.Context) error
	// Shutdown accepts no more clients, lets requests that run finish until ctx ends, then cuts what is left. It returns
	// when nothing of the frontend runs any more; the error is ctx's when something had to be cut. It may be called before
	// Serve, which then returns at once, and more than once.
	Shutdown(ctx context.Context) error
}

// Reporter is a Frontend that can tell more of itself than whether Serve has ended.
type Reporter interface {
	// Ready is nil while clients can reach the frontend. It is called whenever somebody asks whether the node is ready.
	Ready() error
}

// Host is what a frontend gets from the process around it.
type Host struct {
	// Engine is the database. Required.
	Engine *engine.Engine
	// Logger receives structured logs; nil discards them.
	Logger *slog.Logger
	// Registry receives metrics; nil keeps them to the frontend. Two frontends of a kind in one process need registries
	// of their own, or ones that add a label to tell them apart. The package caddy gives each frontend its own.
	Registry prometheus.Registerer
}

// Factory makes a frontend from its JSON configuration. It has no side effects: nothing is listened on before Serve.
type Factory func(Host, json.RawMessage) (Frontend, error)

// ErrUnknownFrontend is what New returns, wrapped, for a name that nobody registered.
var ErrUnknownFrontend = errors.New("unknown frontend")

// Registry maps names to factories. The zero value is empty and ready; it is safe for concurrent use.
type Registry struct {
	mu        sync.RWMutex
	factories map[string]Factory // guarded by mu
}

// builtin is what Register, New and Names of the package use.
var builtin Registry // shared: like database/sql's drivers, filled by init functions and only read afterwards

// Register adds a factory under a name, from an init function. It panics for an empty name, a nil factory or a name that
// is taken: these are mistakes in the build, not in anything that a user gives.
func Register(name string, f Factory) { builtin.Register(name, f) }

// New makes the frontend that was registered under name. A nil configuration is the frontend's default.
func New(name string, host Host, config json.RawMessage) (Frontend, error) {
	return builtin.New(name, host, config)
}

// Names lists the registered names, sorted.
func Names() []string { return builtin.Names() }

// Register is the function of the same name, for this registry.
func (r *Registry) Register(name string, f Factory) {
	if name == "" || f == nil {
		panic("frontends: registration without a name or a factory")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, taken := r.factories[name]; taken {
		panic(fmt.Sprintf("frontends: %q is registered twice", name))
	}
	if r.factories == nil {
		r.factories = make(map[string]Factory)
	}
	r.factories[name] = f
}

// New is the function of the same name, for this registry.
func (r *Registry) New(name string, host Host, config json.RawMessage) (Frontend, error) {
	r.mu.RLock()
	f := r.factories[name]
	r.mu.RUnlock()
	if f == nil {
		return nil, fmt.Errorf("%w %q: registered are %q", ErrUnknownFrontend, name, r.Names())
	}
	if host.Engine == nil {
		return nil, fmt.Errorf("frontend %q: no engine given", name)
	}
	if host.Logger == nil {
		host.Logger = slog.New(slog.DiscardHandler)
	}
	frontend, err := f(host, config)
	if err != nil {
		return nil, fmt.Errorf("frontend %q: %w", name, err)
	}
	return frontend, nil
}

// Names is the function of the same name, for this registry.
func (r *Registry) Names() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.factories))
}
