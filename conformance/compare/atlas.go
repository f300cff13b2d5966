// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const mainPackage = "github.com/atlas-edge/atlas/caddy/cmd/atlasdb"

// buildAtlas builds the binary as `make` does, without the version.
func buildAtlas(ctx context.Context, dir string) (string, error) {
	out := filepath.Join(dir, "atlasdb")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, mainPackage)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", mainPackage, err, text)
	}
	return out, nil
}

// node is a running Atlas node: the real binary on a configuration of its own.
type node struct {
	server
	dir    string
	socket string
	admin  string // path of the socket of Caddy's admin endpoint; empty without profiles
}

// newNode prepares a node that startNode starts. Nothing but its options for directory and socket differs from the
// defaults; with profiles the host's admin endpoint is on, which costs nothing until it is asked.
func newNode(env *environment, profiles bool) (*node, error) {
	dir, err := env.freshDir("atlas")
	if err != nil {
		return nil, err
	}
	n := &node{dir: dir, socket: filepath.Join(dir, "s")}
	n.env = env
	admin := "off"
	if profiles {
		n.admin = filepath.Join(dir, "admin")
		admin = "unix/" + n.admin
	}
	n.dial = func(l load) (stepper, error) { return atlasStepper(n.socket, l, env.shape, env.keys) }
	n.putBlob = func(size int) error { return putAtlasBlob(n.socket, size, env.text) }
	config := fmt.Sprintf(`{
	admin %s
	persist_config off
	atlas {
		advertise localhost:4444
		region local
		unsafe_no_credentials
		db_path %s/db
		socket %s
	}
}
`, admin, dir, n.socket)
	return n, os.WriteFile(filepath.Join(dir, "Caddyfile"), []byte(config), 0o600)
}

// start starts the node, also a second time, and returns when it has answered.
func (n *node) start(ctx context.Context) error {
	p, err := start(n.dir, n.env.atlas, "run", "--config", filepath.Join(n.dir, "Caddyfile"), "--adapter", "caddyfile")
	if err != nil {
		return err
	}
	n.process = p
	if err := p.await(ctx, n.answers); err != nil {
		return errors.Join(err, p.kill())
	}
	return nil
}

// answers asks for a key that is not there.
func (n *node) answers() error {
	conn, err := dialAtlas(n.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(readyWait)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("KEY GET none.none\r\n")); err != nil {
		return err
	}
	const want = "NOT_FOUND\r\nOK\r\n"
	_, err = readAtLeast(conn, make([]byte, len(want)), []byte(want))
	return err
}

func startAtlas(ctx context.Context, env *environment, profiles bool) (*node, error) {
	n, err := newNode(env, profiles)
	if err != nil {
		return nil, err
	}
	return n, n.start(ctx)
}

// profileSeconds is how long each load runs once more while the node profiles itself.
const profileSeconds = 5

// profileUnder writes profiles of the node into a directory, of CPU and of allocations, each while load runs once more.
func (n *node) profileUnder(ctx context.Context, dir, name string, say func(string, ...any), load func(dur time.Duration) error) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, kind := range []string{"profile", "allocs"} {
		file := filepath.Join(dir, name+"-"+kind+".pb.gz")
		fetched := make(chan error, 1)
		go func() { fetched <- n.profile(ctx, kind, profileSeconds, file) }() // owner: this loop, which receives
		err := load((profileSeconds + 1) * time.Second)
		if err := errors.Join(err, <-fetched); err != nil {
			return err
		}
		say("wrote %s", file)
	}
	return nil
}

// profile fetches one of the node's profiles into a file; seconds is for those that take a time.
func (n *node) profile(ctx context.Context, name string, seconds int, file string) error {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", n.admin)
		},
		DisableKeepAlives: true,
	}}
	url := "http://127.0.0.1/debug/pprof/" + name
	if seconds > 0 {
		url += fmt.Sprintf("?seconds=%d", seconds)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile %s: %s", name, resp.Status)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}
