// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddypki"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/atlas-edge/atlas/frontends"
	"github.com/atlas-edge/atlas/frontends/socket"
)

func init() { caddy.RegisterModule(new(pigeon)) }

// pigeon is a frontend that a build could add: a module of its own, unknown to this package.
type pigeon struct {
	Coop   string `json:"coop"`
	Colour string `json:"colour,omitempty"`
}

// coops are where pigeons tell what happened to them.
var coops sync.Map // shared: Caddy makes modules from names alone; each test has names of its own

type coop struct {
	openErr  error
	serveErr error
	slow     bool // Shutdown takes all of the time that it gets
	opening  func(*App)
	app      *App

	mu     sync.Mutex
	events []string // guarded by mu
}

func (c *coop) note(event string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events = append(c.events, event)
}

func (c *coop) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.events, " ")
}

func (*pigeon) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "atlas.frontends.pigeon", New: func() caddy.Module { return new(pigeon) }}
}

func (p *pigeon) coop() *coop {
	c, _ := coops.LoadOrStore(p.Coop, new(coop))
	return c.(*coop)
}

// newCoop is that of a test's pigeons, which nothing has happened to yet, also where the test runs again.
func newCoop(t *testing.T) *coop {
	coops.Delete(t.Name())
	return (&pigeon{Coop: t.Name()}).coop()
}

func (p *pigeon) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if err := oneArg(d, &p.Coop); err != nil {
		return err
	}
	return readBlock(d, "pigeon", map[string]option{"colour": textOption(&p.Colour)})
}

func (p *pigeon) Provision(ctx caddy.Context) error {
	app, err := ctx.App(appName)
	if err == nil {
		p.coop().app = app.(*App)
	}
	return err
}

func (p *pigeon) Address() string { return "pigeon/" + p.Coop }

func (p *pigeon) Open(host frontends.Host) (frontends.Frontend, error) {
	c := p.coop()
	if host.Engine == nil || host.Logger == nil || host.Registry == nil || host.Engine.Ready() != nil {
		return nil, errors.New("host is not whole")
	}
	c.note("open")
	host.Registry.MustRegister(prometheus.NewCounter(prometheus.CounterOpts{Name: "pigeon_flights_total", Help: "flights"}))
	if c.opening != nil {
		c.opening(c.app)
	}
	if c.openErr != nil {
		return nil, c.openErr
	}
	return &pigeonPost{coop: c, stop: make(chan struct{})}, nil
}

func (p *pigeon) Renew(next FrontendModule) error {
	p.coop().note("renew")
	return nil
}

type pigeonPost struct {
	coop *coop
	stop chan struct{}
	once sync.Once
}

func (*pigeonPost) Name() string { return "pigeon" }

func (p *pigeonPost) Serve(ctx context.Context) error {
	if p.coop.serveErr != nil {
		return p.coop.serveErr
	}
	select {
	case <-p.stop:
	case <-ctx.Done():
	}
	return nil
}

func (p *pigeonPost) Shutdown(ctx context.Context) error {
	p.once.Do(func() {
		p.coop.note("shutdown")
		if p.coop.slow {
			<-ctx.Done()
			p.coop.note("cut")
		}
		close(p.stop)
	})
	return ctx.Err()
}

// load runs a configuration of global options in this process, as a start or a reload.
func load(t *testing.T, options string) error {
	t.Helper()
	t.Cleanup(func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	adapted, err := adapt("{\nadmin off\npersist_config off\nstorage file_system " + filepath.Join(t.TempDir(), "caddy") + "\n" + options + "}\n")
	if err != nil {
		t.Fatal(err)
	}
	return caddy.Load(adapted, true)
}

func mustLoad(t *testing.T, options string) {
	t.Helper()
	if err := load(t, options); err != nil {
		t.Fatal(err)
	}
}

func wantTold(t *testing.T, c *coop, want string) {
	t.Helper()
	if got := c.told(); got != want {
		t.Errorf("the frontend was told %q, want %q", got, want)
	}
}

func wantRunning(t *testing.T, count int) {
	t.Helper()
	got := 0
	count2 := func(_, _ any) bool { got++; return true }
	nodes.Range(count2)
	listeners.Range(count2)
	if got != count {
		t.Errorf("%d nodes and frontends run, want %d", got, count)
	}
}

// TestFrontendOfAnotherBuild runs a frontend that is a module of its own through its life.
func TestFrontendOfAnotherBuild(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	node := func(rest string) string {
		return fmt.Sprintf("atlas {\ncredentials x\ndb_path %s/data\n%s\n}\n", dir, rest)
	}
	flies := node("frontend pigeon " + t.Name())
	mustLoad(t, flies)
	wantTold(t, c, "open")
	wantRunning(t, 2)

	mustLoad(t, "debug\n"+flies)
	wantTold(t, c, "open renew")

	err := load(t, node("frontend pigeon "+t.Name()+" {\ncolour grey\n}"))
	if err == nil || !strings.Contains(err.Error(), "options cannot change while it runs") {
		t.Errorf("changed options: %v", err)
	}
	if err := load(t, strings.ReplaceAll(flies, dir+"/data", dir+"/other")); err == nil || !strings.HasSuffix(err.Error(), "/data while that runs: give it a new address, or remove it in one reload and add it in the next") {
		t.Errorf("moved to another node: %v", err)
	}
	wantTold(t, c, "open renew")
	wantRunning(t, 2)

	mustLoad(t, node("socket "+dir+"/s"))
	wantTold(t, c, "open renew shutdown")
	wantRunning(t, 2)
	mustLoad(t, "")
	wantRunning(t, 0)
	if _, err := os.Lstat(dir + "/s"); err == nil {
		t.Error("the socket is still there")
	}
}

func init() {
	frontends.Register("parrot", func(host frontends.Host, config json.RawMessage) (frontends.Frontend, error) {
		var c struct{ Coop string }
		if config == nil {
			return nil, errors.New("no coop")
		}
		if err := json.Unmarshal(config, &c); err != nil {
			return nil, err
		}
		return (&pigeon{Coop: c.Coop}).Open(host)
	})
}

// TestRegisteredFrontend runs one that knows nothing of Caddy through its life: registered, it once could not be had but in a program that
// makes frontends by itself.
func TestRegisteredFrontend(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	node := func(rest string) string {
		return fmt.Sprintf("atlas {\ncredentials x\ndb_path %s/data\n%s\n}\n", dir, rest)
	}
	mustLoad(t, node("frontend parrot `{\"coop\": \""+t.Name()+"\"}`"))
	wantTold(t, c, "open")
	wantRunning(t, 2)
	listeners.Range(func(key, _ any) bool {
		if key := key.(string); !strings.HasPrefix(key, "parrot/") || strings.Contains(key, t.Name()) {
			t.Errorf("it is known as %q", key)
		}
		return true
	})

	mustLoad(t, "debug\n"+node("frontend parrot `{   \"coop\":\""+t.Name()+"\"  }`"))
	wantTold(t, c, "open")
	mustLoad(t, node("frontend parrot `{\"coop\":\""+t.Name()+"\",\"colour\":\"grey\"}`"))
	wantTold(t, c, "open open shutdown")
	if err := load(t, node("frontend parrot")); err == nil || !strings.Contains(err.Error(), `frontend "parrot": no coop`) {
		t.Errorf("without what it needs: %v", err)
	}
	wantTold(t, c, "open open shutdown")
	wantRunning(t, 2)
	mustLoad(t, "")
	wantTold(t, c, "open open shutdown shutdown")
	wantRunning(t, 0)
}

// TestStartFailsAsAWhole makes the last thing to start fail: what had started before it ends.
func TestStartFailsAsAWhole(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	c.openErr = errors.New("no pigeon today")
	config := fmt.Sprintf("atlas {\nadvertise a:1\ncredentials x\ndb_path %[1]s/one\n}\natlas {\ncredentials x\ndb_path %[1]s/two\n"+
		"socket %[1]s/s\nfrontend pigeon %[2]s\n}\n", dir, t.Name())
	if err := load(t, config); err == nil || !strings.Contains(err.Error(), "no pigeon today") {
		t.Errorf("got %v", err)
	}
	wantRunning(t, 0)
	// Nothing is left locked or listening.
	c.openErr = nil
	mustLoad(t, config)
	wantRunning(t, 5)

	// As a reload, the failure leaves what ran before.
	if err := load(t, config+fmt.Sprintf("atlas {\nadvertise b:1\ncredentials x\ndb_path %[1]s/one/ATLAS\nsocket %[1]s/x\n}\n", dir)); err == nil {
		t.Error("a file was taken for a directory")
	}
	wantRunning(t, 5)
	wantTold(t, c, "open open renew renew")
}

// TestRefusedReloadChangesNothing refuses a reload when a part of it has started: the node went on with the log, the drain
// timeout and the certificates of the refused configuration, and what it logged was lost with that.
func TestRefusedReloadChangesNothing(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	config := func(name, rest string) string {
		return fmt.Sprintf("log {\noutput file %[1]s/%[2]s.log\n}\natlas {\ncredentials x\ndb_path %[1]s/one\nfrontend pigeon %[3]s\n"+
			"listen 127.0.0.1:0 {\ntls %[1]s/cert %[1]s/key\n}\n%[4]s\n}\n", dir, name, t.Name(), rest)
	}
	writeCertificate(t, dir, "kept.test")
	mustLoad(t, config("kept", "drain_timeout 1h"))
	writeCertificate(t, dir, "refused.test")
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	err := load(t, config("refused", "drain_timeout 1m")+fmt.Sprintf("atlas {\nadvertise b:1\ncredentials x\ndb_path %[1]s/two\nsocket %[1]s/file\n}\n", dir))
	if err == nil || !strings.Contains(err.Error(), "taken by a file") {
		t.Fatalf("got %v", err)
	}
	wantRunning(t, 3)
	wantTold(t, c, "open renew renew")
	nodes.Range(func(_, value any) bool {
		n := value.(*node)
		if got := time.Duration(n.drain.Load()); got != time.Hour {
			t.Errorf("the drain timeout is %v, want that of the configuration that goes on", got)
		}
		n.log.Info("still here")
		return true
	})
	for name, want := range map[string]bool{"kept": true, "refused": false} {
		text, err := os.ReadFile(fmt.Sprintf("%s/%s.log", dir, name))
		if got := strings.Contains(string(text), "still here"); err != nil || got != want {
			t.Errorf("the %s log has what the node said afterwards: %v, %v", name, got, err)
		}
	}
	listeners.Range(func(_, value any) bool {
		if s, ok := value.(*frontend).served.(*socket.Server); ok {
			dialTLS(t, s.Addr().String(), "kept.test")
		}
		return true
	})
}

// TestConfigurationThatCaddyAbandons fails behind the start of the apps, where Caddy starts its remote endpoint and loads further
// configurations: it cleans up then, but stops no app. The node and its socket could not be closed any more but with the process.
func TestConfigurationThatCaddyAbandons(t *testing.T) {
	dir := t.TempDir()
	config := fmt.Sprintf("atlas {\ncredentials x\ndb_path %s/data\ndrain_timeout 1h\n}\n", dir)
	mustLoad(t, config)
	adapted, err := adapt("{\nadmin off\npersist_config off\nstorage file_system " + dir + "/caddy\n" + strings.Replace(config, "1h", "1m", 1) + "}\n")
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(adapted), `"config":{`, `"config":{"load":{"module":"nowhere"},`, 1)
	if err := caddy.Load([]byte(broken), true); err == nil || !strings.Contains(err.Error(), "caddy.config_loaders.nowhere") {
		t.Fatalf("got %v", err)
	}
	wantRunning(t, 2)
	nodes.Range(func(_, value any) bool {
		if got := time.Duration(value.(*node).drain.Load()); got != time.Hour {
			t.Errorf("the drain timeout is %v, want that of the configuration that goes on", got)
		}
		return true
	})
	mustLoad(t, "")
	wantRunning(t, 0)
}

// TestUnsafeIsLoggedByAReload turns authentication off while the node runs: that was said at start alone.
func TestUnsafeIsLoggedByAReload(t *testing.T) {
	dir := t.TempDir()
	config := func(options string) string {
		return fmt.Sprintf("log {\noutput file %[1]s/log\n}\natlas {\ndb_path %[1]s/data\n%[2]s\n}\n", dir, options)
	}
	said := func() int {
		text, err := os.ReadFile(dir + "/log")
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(string(text), `"option":"unsafe_no_credentials"`)
	}
	mustLoad(t, config("credentials x"))
	if got := said(); got != 0 {
		t.Errorf("said %d times before it is in force", got)
	}
	mustLoad(t, config("unsafe_no_credentials"))
	if got := said(); got != 1 {
		t.Errorf("said %d times after the reload, want once", got)
	}
	mustLoad(t, "")
	mustLoad(t, config("unsafe_no_credentials"))
	if got := said(); got != 2 {
		t.Errorf("said %d times after a start, too, want once more", got)
	}
}

// TestDrainTimeout stops a frontend that does not come to an end by itself: the newest configuration says how long it gets.
func TestDrainTimeout(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	c.slow = true
	config := fmt.Sprintf("atlas {\ncredentials x\ndb_path %s\nfrontend pigeon %s\ndrain_timeout 1h\n}\n", dir, t.Name())
	mustLoad(t, config)
	mustLoad(t, strings.Replace(config, "1h", "100ms", 1))
	mustLoad(t, "")
	wantTold(t, c, "open renew shutdown cut")
	wantRunning(t, 0)
}

// TestOneDirectoryByTwoNames writes a data directory and a socket through a symbolic link in a reload: they are the same.
func TestOneDirectoryByTwoNames(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(dir+"/real", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", dir+"/link"); err != nil {
		t.Fatal(err)
	}
	config := func(name string) string {
		return fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/%[2]s/data\nsocket %[1]s/%[2]s/s\n}\n", dir, name)
	}
	mustLoad(t, config("real"))
	var before any
	nodes.Range(func(_, value any) bool { before = value; return true })
	mustLoad(t, config("link"))
	wantRunning(t, 2)
	nodes.Range(func(_, value any) bool {
		if value != before {
			t.Error("the node was opened again")
		}
		return true
	})
	both := config("link") + strings.ReplaceAll(strings.Replace(config("real"), "credentials x", "credentials x\nadvertise b:1", 1), "/data", "/other")
	if err := load(t, both); err == nil || !strings.Contains(err.Error(), "two frontends listen on") {
		t.Errorf("one socket for two nodes: %v", err)
	}
}

// TestStatusWhileStarting asks for the status all the time that a node starts in: it is not ready until it is whole. The
// race detector once found the list of frontends read while it grew.
func TestStatusWhileStarting(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	var group sync.WaitGroup
	stop, asked := make(chan struct{}), make(chan struct{})
	c.opening = func(app *App) {
		group.Go(func() {
			for i := 0; ; i++ {
				if s := app.plans[0].status(); s.Ready && len(s.Frontends) != 3 {
					t.Errorf("ready with the frontends %q", s.Frontends)
				}
				if i == 0 {
					close(asked)
				}
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		<-asked
	}
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nfrontend pigeon %[2]s\nsocket %[1]s/a\nsocket %[1]s/b\n}\n", dir, t.Name()))
	close(stop)
	group.Wait()
	if s := c.app.plans[0].status(); !s.Ready || len(s.Frontends) != 3 {
		t.Errorf("status %+v", s)
	}
}

// TestFrontendThatStops makes a node not ready.
func TestFrontendThatStops(t *testing.T) {
	dir, c := t.TempDir(), newCoop(t)
	c.serveErr = errors.New("flown away")
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %s\nfrontend pigeon %s\n}\n", dir, t.Name()))
	app, err := caddy.ActiveContext().App(appName)
	if err != nil {
		t.Fatal(err)
	}
	plan := app.(*App).plans[0]
	plan.running.Load().frontends[0].group.Wait()
	if err := plan.ready(); err == nil || !strings.Contains(err.Error(), "flown away") {
		t.Errorf("ready: %v", err)
	}
	if s := plan.status(); s.Ready || s.NodeID != 1 || s.ClusterID == "" {
		t.Errorf("status %+v", s)
	}
}

// TestSocketThatWasRemoved takes a socket's file away, as programs do that tidy /tmp: the node said that it is ready, and no client could
// reach it.
func TestSocketThatWasRemoved(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nsocket %[1]s/s\n}\n", dir))
	app, err := caddy.ActiveContext().App(appName)
	if err != nil {
		t.Fatal(err)
	}
	plan := app.(*App).plans[0]
	if err := plan.ready(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(dir + "/s"); err != nil {
		t.Fatal(err)
	}
	if err := plan.ready(); err == nil || !strings.Contains(err.Error(), dir+"/s: no such file") {
		t.Errorf("with its socket gone: %v", err)
	}
	if err := os.WriteFile(dir+"/s", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := plan.ready(); err == nil || !strings.Contains(err.Error(), "something else has taken its place") {
		t.Errorf("with a file in its place: %v", err)
	}
	// What is to be done: remove it in one reload, and add it in the next.
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nsocket %[1]s/t\n}\n", dir))
	if err := os.Remove(dir + "/s"); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nsocket %[1]s/s\n}\n", dir))
	if app, err = caddy.ActiveContext().App(appName); err != nil {
		t.Fatal(err)
	}
	if err := app.(*App).plans[0].ready(); err != nil {
		t.Error(err)
	}
}

// TestMetricsOfEachConfiguration gathers after reloads: nothing is registered twice, and all nodes are told apart.
func TestMetricsOfEachConfiguration(t *testing.T) {
	dir := t.TempDir()
	config := fmt.Sprintf("atlas {\nadvertise a:1\ncredentials x\ndb_path %[1]s/1\n}\natlas {\nadvertise b:1\ncredentials x\ndb_path %[1]s/2\n"+
		"socket %[1]s/a\nsocket %[1]s/b\n}\n", dir)
	for range 3 {
		mustLoad(t, config)
		ctx := caddy.ActiveContext()
		families, err := ctx.GetMetricsRegistry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		seen := map[string]int{}
		for _, f := range families {
			seen[f.GetName()] = len(f.GetMetric())
		}
		for name, want := range map[string]int{"atlas_caddy_node_ready": 2, "atlas_engine_ready": 2, "atlas_socket_connections": 3, "go_goroutines": 1} {
			if seen[name] != want {
				t.Errorf("%s has %d series, want %d", name, seen[name], want)
			}
		}
	}
}

// TestMetricsOfAFrontendEndWithIt removes a frontend in one reload and adds it again in the next. One that registers a metric and does not
// care for its end could not be added again, and one that insists, by MustRegister, ended the process.
func TestMetricsOfAFrontendEndWithIt(t *testing.T) {
	dir := t.TempDir()
	newCoop(t)
	config := fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nsocket %[1]s/s\n%%s\n}\n", dir)
	series := func(name string) int {
		ctx := caddy.ActiveContext()
		families, err := ctx.GetMetricsRegistry().Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == name {
				return len(f.GetMetric())
			}
		}
		return 0
	}
	for range 2 {
		mustLoad(t, fmt.Sprintf(config, "frontend pigeon "+t.Name()+"\nsocket "+dir+"/t"))
		if p, s := series("pigeon_flights_total"), series("atlas_socket_connections"); p != 1 || s != 2 {
			t.Errorf("with the frontend there are %d and %d series, want 1 and 2", p, s)
		}
		mustLoad(t, fmt.Sprintf(config, ""))
		if p, s := series("pigeon_flights_total"), series("atlas_socket_connections"); p != 0 || s != 1 {
			t.Errorf("without the frontend there are %d and %d series, want 0 and 1", p, s)
		}
	}
}

// TestMetricsAreDocumented compares the metrics of a node with docs/reference/metrics.md: every name and kind, no other.
func TestMetricsAreDocumented(t *testing.T) {
	mustLoad(t, fmt.Sprintf("atlas {\ncredentials x\ndb_path %s\n}\n", t.TempDir()))
	ctx := caddy.ActiveContext()
	families, err := ctx.GetMetricsRegistry().Gather()
	if err != nil {
		t.Fatal(err)
	}
	has := map[string]bool{}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "atlas_") {
			has["| `"+f.GetName()+"` | "+strings.ToLower(f.GetType().String())+" |"] = true
		}
	}
	text, err := os.ReadFile("../docs/reference/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "| `atlas_") {
			continue
		}
		row := strings.Join(strings.SplitAfterN(line, "|", 4)[:3], "")
		if !has[row] {
			t.Errorf("documented, but no metric of a node: %s", row)
		}
		delete(has, row)
	}
	for row := range has {
		t.Errorf("not documented: %s", row)
	}
}

// TestTrustStoreIsLeftAlone loads configurations whose certificates Caddy's own authority issues, with the directive in
// every place that it may stand, and looks at what the authority would do at start.
func TestTrustStoreIsLeftAlone(t *testing.T) {
	const block = "atlas {\ncredentials x\ndb_path /tmp/never-made\n}\n"
	for name, c := range map[string]struct {
		text  string
		trust string
	}{
		"tls internal":         {"https://localhost:1 {\n" + block + "tls internal\n}\n", "false"},
		"automatic":            {"localhost:1 {\n" + block + "}\n", "false"},
		"nested":               {"https://localhost:1 {\nroute /x {\nhandle {\n" + block + "}\n}\ntls internal\n}\n", "false"},
		"another site's":       {"http://localhost:2 {\n" + block + "}\nhttps://localhost:1 {\ntls internal\n}\n", "false"},
		"an authority of ours": {"{\npki {\nca local {\nname Ours\n}\n}\n}\nhttps://localhost:1 {\n" + block + "tls internal\n}\n", "false"},
		"global node":          {"{\n" + block + "}\nhttps://localhost:1 {\ntls internal\n}\n", "false"},
		"without atlas":        {"https://localhost:1 {\ntls internal\n}\n", "null"},
	} {
		t.Run(name, func(t *testing.T) {
			adapted, err := adapt(c.text)
			if err != nil {
				t.Fatal(err)
			}
			if got := trust(t, adapted); got != c.trust {
				t.Errorf("install_trust is %s, want %s", got, c.trust)
			}
		})
	}
	t.Run("asked for", func(t *testing.T) {
		adapted, err := adapt("{\nskip_install_trust\n}\nhttps://localhost:1 {\n" + block + "tls internal\n}\n")
		if err != nil {
			t.Fatal(err)
		}
		adapted = []byte(strings.Replace(string(adapted), `"install_trust":false`, `"install_trust":true`, 1))
		if got := trust(t, adapted); got != "true" {
			t.Errorf("install_trust is %s, want true", got)
		}
	})
}

// trust provisions a configuration and gives the local authority's install_trust.
func trust(t *testing.T, adapted []byte) string {
	t.Helper()
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	config.StorageRaw = storage
	ctx, err := caddy.ProvisionContext(&config)
	if err != nil {
		t.Fatal(err)
	}
	app, err := ctx.AppIfConfigured("pki")
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(app.(*caddypki.PKI).CAs["local"].InstallTrust)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

// TestMissingCertificateIsLogged serves the native protocol where no site has a certificate: clients saw an internal error, and the log was
// silent. It says so once, however many clients come.
func TestMissingCertificateIsLogged(t *testing.T) {
	dir := t.TempDir()
	mustLoad(t, fmt.Sprintf("log {\noutput file %[1]s/log\n}\natlas {\ncredentials x\ndb_path %[1]s/data\nlisten 127.0.0.1:0\n}\n", dir))
	var address string
	listeners.Range(func(_, value any) bool {
		address = value.(*frontend).served.(*socket.Server).Addr().String()
		return true
	})
	for range 3 {
		if c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true}); err == nil {
			t.Error(c.Close(), "a certificate that nobody gave")
		}
	}
	text, err := os.ReadFile(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "no certificate for a client"); n != 1 || !strings.Contains(string(text), `"server_name":"127.0.0.1"`) {
		t.Errorf("said %d times, want once: %s", n, text)
	}
}

// TestCertificateFilesAreRead serves the native protocol with a certificate from files, replaces the files, and reloads:
// connections stay, and new ones see the new certificate.
func TestCertificateFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	config := fmt.Sprintf("atlas {\ncredentials x\ndb_path %[1]s/data\nlisten 127.0.0.1:0 {\ntls %[1]s/cert %[1]s/key\n}\n}\n", dir)
	writeCertificate(t, dir, "first.test")
	mustLoad(t, config)
	var address string
	listeners.Range(func(_, value any) bool {
		address = value.(*frontend).served.(*socket.Server).Addr().String()
		return true
	})
	first := dialTLS(t, address, "first.test")
	writeCertificate(t, dir, "second.test")
	mustLoad(t, config)
	dialTLS(t, address, "second.test")
	if _, err := io.WriteString(first, "HELLO 1.0 clientId=test\r\n"); err != nil {
		t.Error(err)
	}
	if line, err := bufio.NewReader(first).ReadString('\n'); err != nil || !strings.HasPrefix(line, "WELCOME") {
		t.Errorf("the first connection: %q, %v", line, err)
	}
	if err := os.WriteFile(dir+"/cert", []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := load(t, config); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("broken files: %v", err)
	}
	dialTLS(t, address, "second.test")
}

func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"cert": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "EC PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// dialTLS wants the certificate of a name, whoever issued it.
func dialTLS(t *testing.T, address, name string) net.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() }) // the node may have closed it
	if got := c.ConnectionState().PeerCertificates[0].DNSNames; !slices.Equal(got, []string{name}) {
		t.Errorf("certificate of %q, want %s", got, name)
	}
	return c
}
