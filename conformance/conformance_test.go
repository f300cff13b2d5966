// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/frontends/socket"
)

var (
	endpoint = flag.String("endpoint", "", "judge this endpoint, unix:/path or tcp:host:port, instead of nodes of our own")
	rewrite  = flag.Bool("rewrite", false, "rewrite the transcripts with what a node says")
	seed     = flag.Uint64("seed", 0, "seed of all random choices; 0 draws one")
)

// long says whether the long rounds are asked for.
func long() bool { return os.Getenv("ATLAS_LONG") == "1" }

// total is what all tests of the process tried; printed at the end.
var total struct {
	sync.Mutex
	Report
	rounds map[string]int
}

// addRounds counts crashes of a kind that were survived, with everything checked afterwards.
func addRounds(kind string, n int) {
	total.Lock()
	defer total.Unlock()
	if total.rounds == nil {
		total.rounds = map[string]int{}
	}
	total.rounds[kind] += n
}

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if built != "" {
		if err := os.RemoveAll(built); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if total.Cases > 0 || len(total.rounds) > 0 {
		fmt.Println(total.Report)
		for _, kind := range slices.Sorted(maps.Keys(total.rounds)) {
			fmt.Printf("rounds survived, %s: %d\n", kind, total.rounds[kind])
		}
	}
	os.Exit(code)
}

// judge runs the cases whose names match against an endpoint, each as a subtest.
func judge(t *testing.T, o Options, filter string) {
	t.Helper()
	o.Seed, o.Long, o.Out = *seed, long(), t.Output()
	e, err := newEnv(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed=%d; replay with -seed %d", e.Seed, e.Seed)
	all, err := cases()
	if err != nil {
		t.Fatal(err)
	}
	match := regexp.MustCompile(filter)
	ran := 0
	for _, c := range all {
		if !match.MatchString(c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			err := c.run(e, t.Context())
			var skip errSkip
			if errors.As(err, &skip) {
				t.Skip(skip)
			}
			if err != nil {
				t.Error(err)
			}
			ran++
		})
	}
	if ran == 0 {
		t.Error("no case applied")
	}
	total.Lock()
	defer total.Unlock()
	var r Report
	e.count(&r)
	total.Cases += ran
	total.BadInputs += r.BadInputs
	total.Operations += r.Operations
	total.Permissions += r.Permissions
}

// TestEndpoint judges the endpoint that was named.
func TestEndpoint(t *testing.T) {
	if *endpoint == "" {
		t.Skip("no -endpoint")
	}
	network, address, ok := strings.Cut(*endpoint, ":")
	if !ok {
		t.Fatalf("endpoint %q: want unix:/path or tcp:host:port", *endpoint)
	}
	judge(t, Options{Network: network, Address: address}, "")
}

// own skips tests of our own nodes when another endpoint is judged.
func own(t *testing.T) {
	t.Helper()
	if *endpoint != "" {
		t.Skip("judging another endpoint")
	}
}

// TestNode judges a node in this process, and then what it logged: few lines, and nothing of keys, values or secrets.
func TestNode(t *testing.T) {
	own(t)
	log := &lockedBuffer{}
	n := startNode(t, nodeOptions{logger: slog.New(slog.NewTextHandler(log, nil))})
	judge(t, Options{Address: n.path, Fresh: true}, "")
	if lines := strings.Count(log.String(), "\n"); lines > 100 {
		t.Errorf("the node logged %d lines:\n%.4000s", lines, log.String())
	}
	for _, secret := range []string{"canary", "hello world", "a secret of word", "session", "forged"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%.4000s", secret, log.String())
		}
	}
}

// TestUntrusted judges a node over TCP, where it cannot know its clients: nobody is anybody without a secret. (G15)
func TestUntrusted(t *testing.T) {
	own(t)
	n := startNode(t, nodeOptions{})
	e := crashEnv(t, n.path)
	err := e.with(t.Context(), func(c *conn) error {
		if err := c.want("PRINCIPAL ASSUME admin", "OK"); err != nil {
			return err
		}
		return c.want("PRINCIPAL SECRET tester a long secret", "OK")
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, err := socket.New(n.engine, socket.Options{Listener: l})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(t.Context()) }() // owner: the cleanup waits for it
	t.Cleanup(func() {
		if err := errors.Join(s.Shutdown(context.Background()), <-served); err != nil {
			t.Error(err)
		}
	})
	o := Options{Network: "tcp", Address: l.Addr().String(), Principal: "tester", Secret: "a long secret"}
	judge(t, o, "transcripts|hostile/(ids|blobs)|secrets|tear")
}

// TestRun runs the suite as the command line does, and expects a case that must fail to fail it.
func TestRun(t *testing.T) {
	own(t)
	n := startNode(t, nodeOptions{})
	var out lockedBuffer
	r, err := Run(t.Context(), Options{Address: n.path, Filter: "transcripts/(keys|00_readme)", Out: &out, Verbose: true})
	if err != nil || r.Cases != 1 || r.Skipped != 1 || r.Failed != 0 {
		t.Errorf("got %+v, %v:\n%s", r, err, out.String())
	}
	r, err = Run(t.Context(), Options{Address: n.path, Fresh: true, Filter: "00_readme"})
	if err != nil || r.Cases != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
	// The readme's session lists the whole table users: over a row that should not be there it must fail.
	e := &env{network: "unix", address: n.path}
	if err := e.with(t.Context(), func(c *conn) error { return c.want("KEY PUT users.zoe x", "OK") }); err != nil {
		t.Fatal(err)
	}
	r, err = Run(t.Context(), Options{Address: n.path, Fresh: true, Filter: "00_readme"})
	if !errors.Is(err, ErrFailed) || r.Failed != 1 {
		t.Errorf("a failing case gives %+v, %v", r, err)
	}
	if _, err := Run(t.Context(), Options{Address: n.path + "nowhere"}); err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("an endpoint that is not there gives %v", err)
	}
}

// TestBinary judges the real binary, run from a Caddyfile.
func TestBinary(t *testing.T) {
	own(t)
	p := startProcess(t, filepath.Join(t.TempDir(), "data"), filepath.Join(socketDir(t), "s"), freePort(t))
	judge(t, Options{Address: p.socket, Fresh: true}, "transcripts|hostile/(handshake|blobs)|connections/(tagged answers|a claimed|a storm)|history/single")
	if t.Failed() {
		t.Logf("log of the node:\n%s", p.log.tail())
	}
}

// TestRewrite rewrites the transcripts when that is asked for.
func TestRewrite(t *testing.T) {
	own(t)
	if !*rewrite {
		t.Skip("no -rewrite")
	}
	n := startNode(t, nodeOptions{})
	e, err := newEnv(t.Context(), Options{Address: n.path, Fresh: true})
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/transcripts/*.atlas")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		out, err := e.rewriteTranscript(t.Context(), string(src))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := os.WriteFile(name, []byte(out), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRunnersSee proves that each runner fails what it should: answers that differ, in the middle, at the end, or by
// what comes after the last of them.
func TestRunnersSee(t *testing.T) {
	own(t)
	n := startNode(t, nodeOptions{})
	e, err := newEnv(t.Context(), Options{Address: n.path})
	if err != nil {
		t.Fatal(err)
	}
	run := map[string]func(context.Context, string) error{
		"transcript": e.runTranscript, "hostile": e.runHostile, "permissions": e.runPermissions,
	}
	for _, c := range []struct{ runner, name, src, want string }{
		{"transcript", "fine", "> KEY GET {T}.a\n< NOT_FOUND\n< OK\n", ""},
		{"transcript", "another line", "> KEY GET {T}.a\n< VALUE:x\n", `line 2: < VALUE:x: got "NOT_FOUND"`},
		{"transcript", "too little expected", "> KEY GET {T}.a\n< NOT_FOUND\n", "want the end of the connection"},
		{"transcript", "other bytes", ">= KEY GET {T}.a\\r\\n\n<= NOT_FOUND\\r\\nOX\n", "got bytes"},
		{"transcript", "not closed", "> KEY GET {T}.a\n< NOT_FOUND\n<.\n", "want the end"},
		{"transcript", "unknown name", "> KEY GET {nobody}\n", "is not known here"},
		{"transcript", "another number", "> KEY WRITE {T}.a VALUE x\n< VERSION:{v:int}\n< OK\n> KEY WRITE {T}.a VALUE y\n< VERSION:{v}\n", "line 5"},
		{"transcript", "no step", "KEY GET a.b\n", "is no step"},
		{"hostile", "fine", "warn invalid\tKEY GET nodot\\r\\n\n", ""},
		{"hostile", "another word", "warn denied\tKEY GET nodot\\r\\n\n", "want \"ERROR WARN denied\""},
		{"hostile", "stays", "fatal invalid\tKEY GET nodot\\r\\n\n", "want \"ERROR FATAL invalid\""},
		{"hostile", "no error", "warn invalid\tKEY GET {T}.x\\r\\n\n", "NOT_FOUND"},
		{"hostile", "state changed", "is OK\\r\\n\tKEY PUT {T}.new x\\r\\n\n", "another client"},
		{"hostile", "canary changed", "is OK\\r\\n\tKEY PUT {T}.canary canary\\r\\n\n", "another client"},
		{"permissions", "fine", "@principals a\nKEY GET {T}.x\tabsent\n", ""},
		{"permissions", "wrong cell", "@principals a\n@setup b> KEY PUT {T}.x 1\nKEY GET {T}.x\tabsent\n", "is [ok seen], want absent"},
		{"permissions", "missing cell", "@principals a b\nKEY GET {T}.x\tabsent\n", "a missing cell"},
	} {
		t.Run(c.runner+"/"+c.name, func(t *testing.T) {
			if e.patience = 0; c.name == "not closed" {
				e.patience = 100 * time.Millisecond // it waits for what does not come
			}
			err := run[c.runner](t.Context(), c.src)
			if c.want == "" && err != nil {
				t.Errorf("refused what is fine: %v", err)
			}
			if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("says %v, want %q", err, c.want)
			}
		})
	}
}
