// SPDX-License-Identifier: AGPL-3.0-only

// Package dev runs a node for development as a child process, with a shell on it.
//
// The node is this program itself, run with a configuration that dev writes into the data directory:
//
//	DIR/dev.caddyfile   the configuration, written anew at each start (0600)
//	DIR/credentials     a random secret, made once (0600)
//	DIR/node.log        what the node prints; the one before is node.log.1
//	DIR/db/             the node's data
//	DIR/socket          its Unix socket, unless Options.Socket names another place
//
// It listens on the socket alone, and stops, gracefully, when the shell ends; should dev be killed, the system ends it. The
// goroutine that waits for the child is awaited before Run returns.
package dev

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/repl"
)

// Options configure Run.
type Options struct {
	// DataDir is where the node keeps everything; made (0700) when missing.
	DataDir string
	// Socket is the node's Unix socket; "": DataDir/socket.
	Socket string
	// HistoryPath is the shell's history file; "": none.
	HistoryPath string
	// Executable is run as `<Executable> run --config FILE --adapter caddyfile`; "": this program.
	Executable string
	// StartTimeout bounds the wait for the node to answer. Default 60 s.
	StartTimeout time.Duration
	// StopTimeout bounds the wait for it to stop before it is killed. Default 30 s.
	StopTimeout time.Duration
	// Interrupts is as in repl.Options.
	Interrupts <-chan os.Signal
}

const (
	socketPathMax = 107 // of a Unix socket's address, without its NUL
	probeTimeout  = 2 * time.Second
	probePause    = 20 * time.Millisecond
	logTailLen    = 4 << 10
)

// Run starts a node (or finds the one that runs on DataDir), runs the shell or the script on s.In, and stops what it
// started. It returns an exit code of package cli.
func Run(ctx context.Context, o Options, s cli.Streams) int {
	p, err := prepare(o)
	if err != nil {
		say(s, "%v", err)
		return cli.ExitUsage
	}
	if p.answers(ctx) {
		say(s, "a node runs on %s already: using it, at %s", p.dir, p.socket)
		return p.shell(ctx, s)
	}
	n, err := p.start(ctx)
	if err != nil {
		say(s, "%v", err)
		return cli.ExitConnect
	}
	say(s, "node on %s, socket %s, log %s", p.dir, p.socket, p.log)
	code := p.shell(ctx, s)
	switch err := n.stop(p.o.StopTimeout); {
	case err != nil:
		say(s, "%v", err)
		code = max(code, cli.ExitError)
	case n.err != nil:
		say(s, "the node did not end well: %v; its log says why: %s", n.err, p.log)
		code = max(code, cli.ExitConnect)
	}
	return code
}

func say(s cli.Streams, format string, args ...any) {
	_, _ = fmt.Fprintf(s.Err, format+"\n", args...) // there is nowhere else to say it
}

// place is where a node lives.
type place struct {
	o                          Options
	dir, socket, config, log   string
	credentials, database, exe string
}

// prepare makes the directory and finds the paths.
func prepare(o Options) (*place, error) {
	if o.StartTimeout == 0 {
		o.StartTimeout = time.Minute
	}
	if o.StopTimeout == 0 {
		o.StopTimeout = 30 * time.Second
	}
	if o.DataDir == "" {
		return nil, errors.New("name a data directory")
	}
	dir, err := filepath.Abs(o.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	p := &place{
		o: o, dir: dir, socket: filepath.Join(dir, "socket"), config: filepath.Join(dir, "dev.caddyfile"),
		log: filepath.Join(dir, "node.log"), credentials: filepath.Join(dir, "credentials"), database: filepath.Join(dir, "db"),
		exe: o.Executable,
	}
	switch {
	case o.Socket != "":
		if p.socket, err = filepath.Abs(o.Socket); err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
	case len(p.socket) > socketPathMax:
		sum := fnv.New64a()
		_, _ = io.WriteString(sum, dir) // a hash takes everything
		private := filepath.Join(os.TempDir(), fmt.Sprintf("atlas-%d-%x", os.Getuid(), sum.Sum64()))
		if err := makePrivate(private); err != nil {
			return nil, fmt.Errorf("socket's directory: %w", err)
		}
		p.socket = filepath.Join(private, "socket")
	}
	if len(p.socket) > socketPathMax {
		return nil, fmt.Errorf("socket path %s of %d bytes exceeds the system's limit %d: choose another with --socket", p.socket, len(p.socket), socketPathMax)
	}
	if p.exe == "" {
		if p.exe, err = os.Executable(); err != nil {
			return nil, fmt.Errorf("find this program: %w", err)
		}
	}
	for _, path := range []string{p.dir, p.socket} {
		if strings.ContainsAny(path, "\r\n\x00`{}") {
			return nil, fmt.Errorf("%q cannot stand in a configuration: choose a path without control characters, backquotes and braces", path)
		}
	}
	return p, nil
}

// makePrivate makes a directory whose name others can guess, and refuses one that is not our own.
func makePrivate(path string) error {
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() || info.Mode().Perm()&0o077 != 0 || !ownedByUs(info) {
		return fmt.Errorf("%s is not a directory of ours alone: choose a socket with --socket", path)
	}
	return nil
}

func (p *place) target() cli.Target { return cli.Target{Endpoint: "unix:" + p.socket} }

// answers tells whether a node serves the socket.
func (p *place) answers(ctx context.Context) bool {
	t := p.target()
	t.DialTimeout = probeTimeout
	o, err := t.ClientOptions()
	if err != nil {
		return false
	}
	c, err := client.Connect(ctx, o)
	if err != nil {
		return false
	}
	_ = c.Close() // nothing was sent on it
	return true
}

func (p *place) shell(ctx context.Context, s cli.Streams) int {
	return repl.Run(ctx, repl.Options{
		Target: p.target(), HistoryPath: p.o.HistoryPath, Interrupts: p.o.Interrupts,
		WhenGone: "if the node has ended, its log says why: " + p.log + "; end this shell and start make run (atlas dev) again",
	}, s)
}

// configure writes the configuration.
func (p *place) configure() error {
	secret, err := p.secret()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(p.socket), 0o700); err != nil {
		return fmt.Errorf("socket's directory: %w", err)
	}
	config := fmt.Sprintf(`# Written by atlas dev at each start: changes are lost.
{
	admin off
	persist_config off
	storage file_system %[1]s
	storage_clean_interval off
	atlas {
		advertise localhost:4444
		region local
		credentials %[2]s
		db_path %[3]s
		socket %[4]s
	}
}
`, quote(filepath.Join(p.dir, "caddy")), secret, quote(p.database), quote(p.socket))
	return os.WriteFile(p.config, []byte(config), 0o600)
}

// quote makes one word of a path. Requires: it holds no backquote.
func quote(path string) string { return "`" + path + "`" }

// secret reads the credentials, or makes them.
func (p *place) secret() (string, error) {
	data, err := os.ReadFile(p.credentials)
	if err == nil {
		if s := strings.TrimSpace(string(data)); s != "" && !strings.ContainsAny(s, " \t\r\n`{}\"") {
			return s, nil
		}
		return "", fmt.Errorf("%s holds no usable secret: remove it to have one made", p.credentials)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	s := rand.Text()
	return s, os.WriteFile(p.credentials, []byte(s+"\n"), 0o600)
}

// tail is the end of what the node printed.
func (p *place) tail() string {
	f, err := os.Open(p.log)
	if err != nil {
		return ""
	}
	defer func() { _ = f.Close() }() // only read
	if info, err := f.Stat(); err == nil && info.Size() > logTailLen {
		if _, err := f.Seek(-logTailLen, io.SeekEnd); err != nil {
			return ""
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, logTailLen))
	if err != nil {
		return ""
	}
	var b strings.Builder
	for line := range strings.Lines(string(data)) {
		b.WriteString("  | " + strings.TrimRight(line, "\r\n") + "\n")
	}
	return b.String()
}
