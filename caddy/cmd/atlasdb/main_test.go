// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// patience is how long a story waits for anything; nothing takes it unless it hangs.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"atlasdb": main})
}

// TestScripts plays the stories of testdata/script against the real program. Besides testscript's own commands they have
//
//	start NAME ARGS...            runs atlasdb ARGS... meanwhile; what it says goes to NAME.log
//	signal NAME SIGNAL CODE       sends a signal and waits for the exit code; CODE signal: killed by it
//	raise NAME SIGNAL             sends a signal and waits for nothing
//	finish NAME CODE              waits for the exit code
//	logged NAME REGEXP            waits until the log matches
//	http SOCKET METHOD PATH CODE [REGEXP]   asks over a Unix socket until code and body fit
//	https URL CAFILE CODE [REGEXP]          asks over TLS until code and body fit
//	open CONN SOCKET [USER]       connects to a node and shakes hands
//	say CONN LINE REGEXP          sends a line and reads until the answer's last line, which all together must match
//	send CONN LINE                sends a line and reads nothing
//	fill CONN TABLE ROWS BYTES    stores so many rows of random bytes
//	hangup CONN                   wants the connection to be closed by the node
//	mode OCTAL FILE...            checks permissions
//	port VARIABLE                 sets it to a port that was free
//	flip FILE...                  flips a bit in the middle of files
//
// kill checks G1 and G30, second_process G29, corrupt G28 and drain G17.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			// Sockets have short paths: a story's own directory is too deep on some machines.
			dir, err := os.MkdirTemp("", "atlas")
			if err != nil {
				return err
			}
			env.Defer(func() {
				if err := os.RemoveAll(dir); err != nil {
					t.Error(err)
				}
			})
			env.Setenv("D", dir)
			env.Setenv("HOME", filepath.Join(dir, "home"))
			env.Values["story"] = &story{dir: dir, processes: map[string]*process{}, conns: map[string]*conn{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"start": start, "raise": raise, "signal": sendSignal, "finish": finish, "logged": logged, "http": httpUnix, "https": httpTLS,
			"open": open, "say": say, "send": send, "fill": fill, "hangup": hangup, "mode": mode, "port": port, "flip": flip,
		},
	})
}

// story is what one script has running.
type story struct {
	dir       string
	processes map[string]*process
	conns     map[string]*conn
}

type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{}
	code int // after done; minus the signal if one killed it
}

type conn struct {
	net.Conn
	r *bufio.Reader
}

func (s *story) process(ts *testscript.TestScript, name string) *process {
	p := s.processes[name]
	if p == nil {
		ts.Fatalf("nothing was started as %s", name)
	}
	return p
}

func storyOf(ts *testscript.TestScript) *story { return ts.Value("story").(*story) }

func need(ts *testscript.TestScript, neg bool, args []string, least, most int) {
	if neg || len(args) < least || len(args) > most {
		ts.Fatalf("wrong use: %q", args)
	}
}

func start(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 99)
	s, name := storyOf(ts), args[0]
	log, err := os.Create(ts.MkAbs(name + ".log"))
	ts.Check(err)
	path, err := exec.LookPath("atlasdb")
	ts.Check(err)
	p := &process{cmd: exec.Command(path, args[1:]...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	for _, v := range []string{"HOME", "PATH", "D", "WORK", "TMPDIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "SECRET", "P", "Q", "GORACE"} {
		if value := ts.Getenv(v); value != "" {
			p.cmd.Env = append(p.cmd.Env, v+"="+value)
		}
	}
	ts.Check(p.cmd.Start())
	s.processes[name] = p
	var group sync.WaitGroup
	group.Go(func() {
		defer close(p.done)
		var exited *exec.ExitError
		if err := p.cmd.Wait(); errors.As(err, &exited) {
			p.code = exited.ExitCode()
			if status, ok := exited.Sys().(syscall.WaitStatus); ok && status.Signaled() {
				p.code = -int(status.Signal())
			}
		}
	})
	group.Go(func() { p.nudge(filepath.Join(s.dir, "admin")) })
	ts.Defer(func() {
		_ = p.cmd.Process.Kill() // it may have ended
		group.Wait()
		if err := log.Close(); err != nil {
			ts.Logf("%v", err)
		}
		if text, err := os.ReadFile(p.log); err == nil {
			ts.Logf("[%s.log]\n%s", name, text)
		}
	})
}

// nudge connects to the admin socket from time to time. In a reload, Caddy 2.11 makes a listening Unix socket blocking for a moment, while it
// hands it over. Where an accept begins just then, on a busy machine, the reload waits until somebody connects.
func (p *process) nudge(admin string) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-p.done:
			return
		case <-tick.C:
		}
		if nc, err := net.Dial("unix", admin); err == nil {
			_ = nc.Close() // nothing was said on it
		}
	}
}

func (p *process) mustEnd(ts *testscript.TestScript, want int) {
	select {
	case <-p.done:
	case <-time.After(patience):
		ts.Fatalf("it does not end")
	}
	if p.code != want {
		ts.Fatalf("exit code %d, want %d", p.code, want)
	}
}

func (p *process) raise(ts *testscript.TestScript, name string) syscall.Signal {
	signal, ok := map[string]syscall.Signal{
		"TERM": syscall.SIGTERM, "INT": syscall.SIGINT, "QUIT": syscall.SIGQUIT, "KILL": syscall.SIGKILL, "USR1": syscall.SIGUSR1,
	}[name]
	if !ok {
		ts.Fatalf("unknown signal %s", name)
	}
	ts.Check(p.cmd.Process.Signal(signal))
	return signal
}

func raise(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 2)
	storyOf(ts).process(ts, args[0]).raise(ts, args[1])
}

func sendSignal(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, 3)
	p := storyOf(ts).process(ts, args[0])
	signal := p.raise(ts, args[1])
	want := -int(signal)
	if args[2] != "signal" {
		var err error
		want, err = strconv.Atoi(args[2])
		ts.Check(err)
	}
	p.mustEnd(ts, want)
}

func finish(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 2)
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	storyOf(ts).process(ts, args[0]).mustEnd(ts, want)
}

// poll tries until there is no error.
func poll(ts *testscript.TestScript, try func() error) {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // sleep: polls a condition of another process
		if err = try(); err == nil {
			return
		}
	}
	ts.Fatalf("%v", err)
}

func logged(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 2)
	p, want := storyOf(ts).process(ts, args[0]), regexp.MustCompile(args[1])
	poll(ts, func() error {
		text, err := os.ReadFile(p.log)
		if err == nil && !want.Match(text) {
			err = fmt.Errorf("the log of %s does not match %s", args[0], args[1])
		}
		return err
	})
}

func checkAnswer(r *http.Response, code, pattern string) error {
	body, err := io.ReadAll(r.Body)
	if err = errors.Join(err, r.Body.Close()); err != nil {
		return err
	}
	if strconv.Itoa(r.StatusCode) != code || !regexp.MustCompile(pattern).Match(body) {
		return fmt.Errorf("answer %d %q, want %s matching %s", r.StatusCode, body, code, pattern)
	}
	return nil
}

func httpUnix(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4, 5)
	pattern := ""
	if len(args) == 5 {
		pattern = args[4]
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", ts.MkAbs(args[0]))
	}}
	defer transport.CloseIdleConnections()
	poll(ts, func() error {
		request, err := http.NewRequest(args[1], "http://node"+args[2], nil)
		if err != nil {
			return err
		}
		response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
		if err != nil {
			return err
		}
		return checkAnswer(response, args[3], pattern)
	})
}

func httpTLS(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, 4)
	pem, err := os.ReadFile(ts.MkAbs(args[1]))
	ts.Check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	poll(ts, func() error {
		response, err := (&http.Client{Transport: transport, Timeout: patience}).Get(args[0])
		if err != nil {
			return err
		}
		return checkAnswer(response, args[2], strings.Join(args[3:], ""))
	})
}

func open(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 2)
	s := storyOf(ts)
	var c *conn
	poll(ts, func() error {
		nc, err := net.Dial("unix", ts.MkAbs(args[1]))
		if err != nil {
			return err
		}
		c = &conn{nc, bufio.NewReader(nc)}
		return nil
	})
	ts.Defer(func() { _ = c.Close() }) // hangup may have closed it
	ts.Check(c.SetDeadline(time.Now().Add(patience)))
	_, err := io.WriteString(c, "HELLO 1.0 clientId=story\r\n")
	ts.Check(err)
	for _, want := range []string{"WELCOME ", "READY\r\n"} {
		line, err := c.r.ReadString('\n')
		ts.Check(err)
		if !strings.HasPrefix(line, want) {
			ts.Fatalf("got %q, want %q", line, want)
		}
	}
	s.conns[args[0]] = c
}

func connOf(ts *testscript.TestScript, name string) *conn {
	c := storyOf(ts).conns[name]
	if c == nil {
		ts.Fatalf("%s is not open", name)
	}
	return c
}

func send(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 2)
	_, err := io.WriteString(connOf(ts, args[0]), args[1]+"\r\n")
	ts.Check(err)
}

func fill(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 4, 4)
	rows, err := strconv.Atoi(args[2])
	ts.Check(err)
	size, err := strconv.Atoi(args[3])
	ts.Check(err)
	blob := make([]byte, size)
	random := rand.NewChaCha8([32]byte{1}) // nothing depends on the bytes
	c := connOf(ts, args[0])
	for i := range rows {
		_, err := random.Read(blob)
		ts.Check(err)
		_, err = fmt.Fprintf(c, "KEY BLOB SET %s.%d %d\r\n%s", args[1], i, size, blob)
		ts.Check(err)
		if line, err := c.r.ReadString('\n'); err != nil || line != "OK\r\n" {
			ts.Fatalf("answer %q, %v", line, err)
		}
	}
}

func say(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 3, 3)
	c := connOf(ts, args[0])
	_, err := io.WriteString(c, args[1]+"\r\n")
	ts.Check(err)
	var answer strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		answer.WriteString(line)
		if err != nil {
			ts.Fatalf("answer %q, then %v", answer.String(), err)
		}
		if line == "OK\r\n" || strings.HasPrefix(line, "ERROR ") {
			break
		}
	}
	if got := strings.ReplaceAll(answer.String(), "\r\n", "\n"); !regexp.MustCompile(args[2]).MatchString(got) {
		ts.Fatalf("answer %q does not match %s", got, args[2])
	}
}

func hangup(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, 1)
	c := connOf(ts, args[0])
	rest, err := io.ReadAll(c.r)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		ts.Fatalf("not closed: %v", err)
	}
	ts.Logf("before it closed, the node said %q", rest)
}

func mode(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 2, 99)
	for _, path := range args[1:] {
		info, err := os.Lstat(ts.MkAbs(path))
		ts.Check(err)
		if got := fmt.Sprintf("%#o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", path, got, args[0])
		}
	}
}

func port(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, 1)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	_, number, err := net.SplitHostPort(l.Addr().String())
	ts.Check(errors.Join(err, l.Close()))
	ts.Setenv(args[0], number)
}

func flip(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, neg, args, 1, 99)
	for _, pattern := range args {
		paths, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(paths) == 0 {
			ts.Fatalf("no file is named %s", pattern)
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			ts.Check(err)
			b[len(b)/4] ^= 1
			ts.Check(os.WriteFile(path, b, 0o600))
		}
	}
}
