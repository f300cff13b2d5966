// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

const appName = "atlas"

// App starts and stops the nodes of a configuration (atlas): its own, and those that handlers carry.
type App struct {
	// Nodes are nodes without HTTP endpoints. A node whose handler has them is not listed here.
	Nodes []*Node `json:"nodes,omitempty"`

	ctx   caddy.Context
	log   *slog.Logger
	plans []*plan
}

// plan is a node as one configuration asks for it.
type plan struct {
	config    *Node
	dir       string // canonical
	frontends []FrontendModule

	// held is what Start took references to and Stop gives back; Caddy calls them one at a time.
	held *runningNode
	// running is held once it is whole, for requests that come meanwhile.
	running atomic.Pointer[runningNode]
	died    atomic.Bool // it had stopped for good when it was closed
}

// runningNode is a node and the frontends of it that one configuration uses. It does not change once it is whole.
type runningNode struct {
	node      *node
	frontends []*frontend
}

// CaddyModule names the module.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: appName, New: func() caddy.Module { return new(App) }}
}

// Provision takes the app's own nodes in; handlers add theirs when they are provisioned.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx = ctx
	a.log = ctx.Slogger()
	if len(a.Nodes) > 0 {
		// Sites that need Caddy's authorities load them.
		if _, err := ctx.AppIfConfigured("http"); err != nil && !errors.Is(err, caddy.ErrNotConfigured) {
			return err
		}
		if err := keepTrustStore(ctx); err != nil {
			return err
		}
	}
	for i, n := range a.Nodes {
		if n == nil {
			return fmt.Errorf("node %d is null", i+1)
		}
		if _, err := a.add(ctx, n); err != nil {
			return fmt.Errorf("node %d: %w", i+1, err)
		}
	}
	return nil
}

// add takes a node in, or finds the one that was taken in with the same data directory and options. ctx is that of the
// module that carries the node.
func (a *App) add(ctx caddy.Context, n *Node) (*plan, error) {
	n.EnsureDefaults()
	if err := n.Validate(); err != nil {
		return nil, errors.New(oneLine(err))
	}
	// Before the frontends, the default of which is below it.
	dir, err := canonicalPath("db_path", n.DBPath)
	if err != nil {
		return nil, err
	}
	modules, err := n.loadFrontends(ctx)
	if err != nil {
		return nil, err
	}
	p := &plan{config: n, dir: dir, frontends: modules}
	for _, other := range a.plans {
		if other.dir == dir {
			return other, other.mustEqual(p)
		}
		if other.config.Advertise == n.Advertise {
			return nil, fmt.Errorf("advertise %q is that of the node in %s, too", n.Advertise, other.dir)
		}
	}
	if err := errors.Join(a.checkAddresses(p), checkAgainstRunning(p)); err != nil {
		return nil, errors.New(oneLine(err))
	}
	a.plans = append(a.plans, p)
	return p, nil
}

// mustEqual reports how the options of a second handler for the same directory differ.
func (p *plan) mustEqual(other *plan) error {
	wrong := p.config.differences(other.config)
	if p.config.Credentials != other.config.Credentials {
		wrong = append(wrong, "credentials")
	}
	if !slices.Equal(p.config.Connect, other.config.Connect) {
		wrong = append(wrong, "connect")
	}
	mine, err := p.settings()
	if err != nil {
		return err
	}
	theirs, err := other.settings()
	if err != nil {
		return err
	}
	if !slices.Equal(mine, theirs) {
		wrong = append(wrong, "frontends")
	}
	if len(wrong) > 0 {
		return fmt.Errorf("db_path %s is used twice with different options: %s", p.dir, strings.Join(wrong, ", "))
	}
	return nil
}

func (p *plan) settings() ([]string, error) {
	var out []string
	for _, f := range p.frontends {
		s, err := settingsOf(f)
		if err != nil {
			return nil, err
		}
		out = append(out, f.Address()+" "+s)
	}
	slices.Sort(out)
	return out, nil
}

func (a *App) checkAddresses(p *plan) error {
	taken := make(map[string]bool)
	for _, q := range append(slices.Clone(a.plans), p) {
		for _, f := range q.frontends {
			if address := f.Address(); taken[address] {
				return fmt.Errorf("two frontends listen on %s", address)
			}
			taken[f.Address()] = true
		}
	}
	return nil
}

// Start opens what does not run yet and takes references to what does. It fails as a whole, and then holds nothing.
func (a *App) Start() error {
	tightenAutosave(a.log)
	for _, p := range a.plans {
		if err := a.start(p); err != nil {
			return errors.Join(fmt.Errorf("node in %s: %w", p.dir, err), a.Stop())
		}
	}
	return nil
}

func (a *App) start(p *plan) error {
	if _, err := p.config.secret(); err != nil {
		return err
	}
	if len(p.config.Connect) > 0 {
		return fmt.Errorf("connect %s: this version runs single nodes only and cannot join a cluster; "+
			"remove connect to start this node as a cluster of its own", strings.Join(p.config.Connect, " "))
	}
	n, err := acquireNode(a.log, p)
	if err != nil {
		return err
	}
	p.held = &runningNode{node: n}
	for _, module := range p.frontends {
		f, err := acquireFrontend(n, p, module)
		if err != nil {
			return err
		}
		p.held.frontends = append(p.held.frontends, f)
	}
	n.adopt(a.log, p)
	p.running.Store(p.held)
	return registerMetrics(a.ctx.GetMetricsRegistry(), p.held)
}

// Stop lets go of nodes and frontends. What no newer configuration holds drains its clients and closes.
func (a *App) Stop() error {
	var held []*plan
	var mu sync.Mutex
	var errs []error // guarded by mu
	report := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	var group sync.WaitGroup
	for _, p := range a.plans {
		p.died.Store(p.dead())
		p.running.Store(nil)
		if p.held == nil {
			continue
		}
		held = append(held, p)
		for _, f := range p.held.frontends {
			group.Go(func() { report(f.release(p)) })
		}
	}
	group.Wait()
	for _, p := range held {
		report(p.held.node.release(p))
		p.held = nil
	}
	return errors.Join(errs...)
}

// Cleanup lets go of what is held still: Caddy may abandon a configuration after its start without a Stop.
func (a *App) Cleanup() error { return a.Stop() }

// tightenAutosave keeps other users from the copy of the configuration that Caddy saves after each start, should that
// file have been made readable for them: Caddy makes it 0600, but leaves the mode of one that exists.
func tightenAutosave(log *slog.Logger) {
	path := caddy.ConfigAutosavePath
	info, err := os.Lstat(path)
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 == 0 {
		return
	}
	if err := os.Chmod(path, info.Mode().Perm()&^0o077); err != nil {
		log.Warn("saved configuration is readable by other users", "path", path, "error", err)
	}
}

// stopProcess ends the process after a node's disk failed: apps get a while to stop, since Caddy's may wait for ever.
func stopProcess() {
	const patience = 15 * time.Second
	time.AfterFunc(patience, func() { os.Exit(ExitDisk) })
	if err := caddy.Stop(); err != nil {
		caddy.Log().Error(err.Error())
	}
	certmagic.CleanUpOwnLocks(context.Background(), caddy.Log())
	os.Exit(ExitDisk)
}

// ExitDisk is the exit code of a process whose node stopped because of its own disk (EX_IOERR of sysexits).
const ExitDisk = 74

// ready is nil while the node serves all of its frontends.
func (p *plan) ready() error {
	running := p.running.Load()
	if running == nil {
		return errors.New("node is not started")
	}
	return running.ready()
}

func (r *runningNode) ready() error {
	if err := r.node.engine.Ready(); err != nil {
		return err
	}
	for _, f := range r.frontends {
		if err := f.ready(); err != nil {
			return err
		}
	}
	return nil
}

// dead tells whether the node has stopped for good.
func (p *plan) dead() bool {
	running := p.running.Load()
	if running == nil {
		return p.died.Load()
	}
	select {
	case <-running.node.engine.Done():
		return true
	default:
		return false
	}
}

// nodeStatus is the answer of /status.
type nodeStatus struct {
	Version   string    `json:"version"`
	ClusterID string    `json:"cluster_id,omitempty"`
	NodeID    uint64    `json:"node_id,omitempty"`
	Advertise string    `json:"advertise"`
	Region    string    `json:"region"`
	Ready     bool      `json:"ready"`
	Reason    string    `json:"reason,omitempty"`
	Started   time.Time `json:"started,omitzero"`
	Frontends []string  `json:"frontends"`
}

func (p *plan) status() nodeStatus {
	s := nodeStatus{Version: Version(), Advertise: p.config.Advertise, Region: p.config.Region, Frontends: []string{}}
	if err := p.ready(); err != nil {
		s.Reason = err.Error()
	} else {
		s.Ready = true
	}
	if running := p.running.Load(); running != nil {
		s.ClusterID = running.node.engine.ClusterID()
		s.NodeID = running.node.engine.NodeID()
		s.Started = running.node.started
		for _, f := range running.frontends {
			s.Frontends = append(s.Frontends, f.address)
		}
	}
	return s
}

var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
