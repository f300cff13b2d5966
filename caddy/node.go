// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends"
)

// The pools hold what outlives a configuration. A node's key is its canonical data directory, a frontend's its address.
var (
	nodes     = caddy.NewUsagePool() // shared: a data directory and a listener belong to the process, not to a configuration
	listeners = caddy.NewUsagePool() // shared: as above
)

// node is an open engine. It closes when the last configuration that uses it lets go.
type node struct {
	dir      string
	config   Node // as it was opened with
	engine   *engine.Engine
	registry *prometheus.Registry
	log      *slog.Logger
	sink     *sink
	started  time.Time
	drain    atomic.Int64 // time.Duration, of the newest configuration
	adopted  []adoption   // oldest first; Caddy starts and stops configurations one at a time

	stop  chan struct{}
	group sync.WaitGroup
}

// adoption is a configuration that started a node, with its log.
type adoption struct {
	plan *plan
	log  *slog.Logger
}

// acquireNode takes a reference to the node of p, opening it if it does not run. A running one must have been opened
// with the same options.
func acquireNode(log *slog.Logger, p *plan) (*node, error) {
	got, loaded, err := nodes.LoadOrNew(p.dir, func() (caddy.Destructor, error) { return openNode(log, p) })
	if err != nil {
		return nil, err
	}
	n := got.(*node)
	if err := n.mayRunAs(p.config); loaded && err != nil {
		return nil, errors.Join(err, n.release(p))
	}
	return n, nil
}

// mayRunAs tells whether the node can go on under another configuration.
func (n *node) mayRunAs(config *Node) error {
	wrong := n.config.differences(config)
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("a running node cannot change %s: stop the process, then start it with the new options",
		strings.Join(wrong, ", "))
}

// checkAgainstRunning finds, when a configuration is loaded, what would be refused when it starts: before anything of it
// has started. It takes no references.
func checkAgainstRunning(p *plan) error {
	var errs []error
	nodes.Range(func(key, value any) bool {
		if n := value.(*node); key == p.dir {
			errs = append(errs, n.mayRunAs(p.config))
		}
		return true
	})
	listeners.Range(func(key, value any) bool {
		for _, module := range p.frontends {
			if key == module.Address() {
				errs = append(errs, value.(*frontend).mayRunAs(p.dir, module))
			}
		}
		return true
	})
	return errors.Join(errs...)
}

func openNode(log *slog.Logger, p *plan) (*node, error) {
	n := &node{
		dir: p.dir, config: *p.config, registry: prometheus.NewRegistry(), sink: newSink(log.Handler()),
		started: time.Now(), stop: make(chan struct{}),
	}
	n.log = slog.New(n.sink).With("advertise", p.config.Advertise)
	n.log.Info("opening node", "dir", n.dir, "version", Version())
	o := p.config.engineOptions(p.dir)
	o.Logger, o.Registry = n.log, n.registry
	var err error
	// A context of the configuration would keep it in memory for as long as the node lives.
	if n.engine, err = engine.Open(context.Background(), o); err != nil {
		return nil, err
	}
	n.drain.Store(int64(p.config.DrainTimeout))
	if n.config.UnsafeNoMinFreeSpace {
		n.warnOf("unsafe_no_min_free_space")
	}
	n.group.Go(n.watch)
	return n, nil
}

func (n *node) warnOf(option string) { n.log.Warn("unsafe option in force", "option", option) }

// watch ends the process when the node has stopped because of its own disk.
func (n *node) watch() {
	select {
	case <-n.engine.Done():
		n.log.Error("node stopped because of its own disk: the process ends", "dir", n.dir, "error", n.engine.Ready())
		go stopProcess() // owner: the process, which ends with it; it stops this node, which waits for watch
	case <-n.stop:
	}
}

// adopt makes a configuration that starts the one that the node logs to and takes live options from.
func (n *node) adopt(log *slog.Logger, p *plan) {
	last := len(n.adopted) - 1
	warned := last >= 0 && n.adopted[last].plan.config.UnsafeNoCredentials
	n.adopted = append(n.adopted, adoption{p, log})
	n.follow()
	if p.config.UnsafeNoCredentials && !warned {
		n.warnOf("unsafe_no_credentials")
	}
}

// follow takes what the newest configuration gives.
func (n *node) follow() {
	if len(n.adopted) == 0 {
		return
	}
	newest := n.adopted[len(n.adopted)-1]
	n.sink.set(newest.log.Handler())
	n.drain.Store(int64(newest.plan.config.DrainTimeout))
}

// release lets go of the node for a configuration that ends, or that did not start as a whole: then what it gave goes back to
// what the one before it gave.
func (n *node) release(p *plan) error {
	n.adopted = slices.DeleteFunc(n.adopted, func(a adoption) bool { return a.plan == p })
	n.follow()
	_, err := nodes.Delete(n.dir)
	return err
}

// Destruct closes the engine. Requires: its frontends are gone.
func (n *node) Destruct() error {
	close(n.stop)
	n.group.Wait()
	if err := n.engine.Close(); err != nil {
		n.log.Error("node closed with an error", "dir", n.dir, "error", err)
		return fmt.Errorf("node in %s: close: %w", n.dir, err)
	}
	return nil
}

// frontend is a frontend that listens. It drains and ends when the last configuration that uses it lets go.
type frontend struct {
	address  string
	settings string
	node     *node
	module   FrontendModule // that opened it
	served   frontends.Frontend
	registry *prometheus.Registry // its own, so that what it registers ends with it
	log      *slog.Logger
	adopted  []renewal // as a node's

	cancel   context.CancelFunc
	group    sync.WaitGroup
	stopping atomic.Bool
	err      atomic.Pointer[error] // why Serve ended before it was told to
}

// renewal is a configuration that holds a frontend, with its module.
type renewal struct {
	plan   *plan
	module FrontendModule
}

// acquireFrontend takes a reference to what listens on the module's address, opening it if nothing does. What runs must
// be of the same node and options.
func acquireFrontend(n *node, p *plan, module FrontendModule) (*frontend, error) {
	address := module.Address()
	settings, err := settingsOf(module)
	if err != nil {
		return nil, fmt.Errorf("frontend %s: %w", address, err)
	}
	got, loaded, err := listeners.LoadOrNew(address, func() (caddy.Destructor, error) {
		return openFrontend(n, module, settings)
	})
	if err != nil {
		return nil, fmt.Errorf("frontend %s: %w", address, err)
	}
	f := got.(*frontend)
	if loaded {
		if err = f.mayRunAs(n.dir, module); err == nil {
			err = f.renew(module)
		}
		if err != nil {
			return nil, errors.Join(err, f.release(p))
		}
	}
	f.adopted = append(f.adopted, renewal{p, module})
	return f, nil
}

func (f *frontend) renew(module FrontendModule) error {
	if renewer, ok := f.module.(Renewer); ok {
		return renewer.Renew(module)
	}
	return nil
}

// mayRunAs tells whether the frontend can go on for a node as a module of another configuration.
func (f *frontend) mayRunAs(dir string, module FrontendModule) error {
	settings, err := settingsOf(module)
	switch {
	case err != nil:
		return fmt.Errorf("frontend %s: %w", f.address, err)
	case f.node.dir != dir:
		return fmt.Errorf("frontend %s: it belongs to the node in %s while that runs: give it a new address, or remove it in one "+
			"reload and add it in the next", f.address, f.node.dir)
	case f.settings != settings:
		return fmt.Errorf("frontend %s: options cannot change while it runs: give it a new address, or remove it in one "+
			"reload and add it in the next", f.address)
	}
	return nil
}

func openFrontend(n *node, module FrontendModule, settings string) (*frontend, error) {
	f := &frontend{address: module.Address(), settings: settings, node: n, module: module, registry: prometheus.NewRegistry()}
	f.log = n.log.With("frontend", f.address)
	var err error
	if f.served, err = module.Open(frontends.Host{Engine: n.engine, Logger: f.log, Registry: f.registry}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.cancel = cancel
	f.group.Go(func() {
		if err := f.served.Serve(ctx); err != nil && !f.stopping.Load() {
			f.err.Store(&err)
			f.log.Error("frontend stopped", "error", err)
		}
	})
	return f, nil
}

// ready is nil while the frontend serves.
func (f *frontend) ready() error {
	if err := f.err.Load(); err != nil {
		return fmt.Errorf("frontend %s stopped: %w", f.address, *err)
	}
	if r, ok := f.served.(frontends.Reporter); ok {
		if err := r.Ready(); err != nil {
			return fmt.Errorf("frontend %s cannot be reached: %w", f.address, err)
		}
	}
	return nil
}

// release lets go of the frontend for a configuration that ends. One that did not start as a whole had renewed it: the one before
// it does so again.
func (f *frontend) release(p *plan) error {
	var err error
	if last := len(f.adopted) - 1; last > 0 && f.adopted[last].plan == p {
		err = f.renew(f.adopted[last-1].module)
	}
	f.adopted = slices.DeleteFunc(f.adopted, func(r renewal) bool { return r.plan == p })
	_, deleteErr := listeners.Delete(f.address)
	return errors.Join(err, deleteErr)
}

// Destruct lets clients finish for the drain timeout, then cuts them.
func (f *frontend) Destruct() error {
	f.stopping.Store(true)
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(f.node.drain.Load()))
	defer cancel()
	err := f.served.Shutdown(ctx)
	f.cancel()
	f.group.Wait()
	if errors.Is(err, context.DeadlineExceeded) {
		f.log.Warn("clients cut: they did not finish in the drain timeout", "drain_timeout", time.Duration(f.node.drain.Load()))
		return nil
	}
	return err
}
