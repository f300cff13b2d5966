// SPDX-License-Identifier: AGPL-3.0-only

package dev

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"
)

// node is a child process.
type node struct {
	process *os.Process
	exited  chan struct{} // closed when it has
	err     error         // how; read after exited
	wg      sync.WaitGroup
}

// start runs the node and waits until it answers.
func (p *place) start(ctx context.Context) (*node, error) {
	if err := p.configure(); err != nil {
		return nil, fmt.Errorf("write the node's configuration: %w", err)
	}
	if err := os.Rename(p.log, p.log+".1"); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("node's log: %w", err)
	}
	log, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("node's log: %w", err)
	}
	cmd := exec.Command(p.exe, "run", "--config", p.config, "--adapter", "caddyfile")
	cmd.Dir = p.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = childAttributes()
	n, err := launch(cmd)
	if err = errors.Join(err, log.Close()); err != nil {
		return nil, fmt.Errorf("start the node: %w", err)
	}
	if err := p.await(ctx, n); err != nil {
		return nil, errors.Join(err, n.stop(p.o.StopTimeout))
	}
	return n, nil
}

// launch starts cmd and waits for it in a goroutine. The goroutine keeps its thread: the system ends the child with the
// thread that started it.
func launch(cmd *exec.Cmd) (*node, error) {
	n := &node{exited: make(chan struct{})}
	started := make(chan error, 1)
	n.wg.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		n.process = cmd.Process
		started <- err
		if err == nil {
			n.err = cmd.Wait()
		}
		close(n.exited)
	})
	return n, <-started
}

// await waits until the node answers.
func (p *place) await(ctx context.Context, n *node) error {
	timeout := time.NewTimer(p.o.StartTimeout)
	defer timeout.Stop()
	tick := time.NewTicker(probePause)
	defer tick.Stop()
	for {
		select {
		case <-n.exited:
			return p.failed(fmt.Sprintf("the node ended before it served: %v", n.err))
		case <-timeout.C:
			return p.failed(fmt.Sprintf("the node does not answer after %v", p.o.StartTimeout))
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
			if p.answers(ctx) {
				return nil
			}
		}
	}
}

// failed says why a start failed, with the end of the log.
func (p *place) failed(what string) error {
	tail := p.tail()
	hint := "look into " + p.log
	for _, known := range [...]struct{ text, hint string }{ // the last that fits counts
		{"permission", "the directory or a file in it belongs to another user, or cannot be written to"},
		{"read-only", "the directory or a file in it belongs to another user, or cannot be written to"},
		{"not an atlas data directory", p.database + " holds something else"},
		{"data directory is locked", "another process uses " + p.database},
		{"newer format", "the data was written by a newer version"},
		{"another cluster", "the directory holds another cluster's data"},
		{"address already", "another process listens there"},
		{"is in use by", "another process listens on " + p.socket},
		{"stored data is corrupt", p.database + " is damaged: keep a copy before anything else"},
		{"no space", "the disk is full"},
		{"unknown command", p.exe + " is not an Atlas program"},
	} {
		if strings.Contains(strings.ToLower(tail), known.text) {
			hint = known.hint
		}
	}
	return fmt.Errorf("%s\n%s  hint: %s", what, tail, hint)
}

// stop ends the node, if it still runs: it asks, and kills when that takes longer than timeout.
func (n *node) stop(timeout time.Duration) error {
	defer n.wg.Wait()
	select {
	case <-n.exited:
		return nil // n.err says how
	default:
	}
	if err := n.process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the node: %w", err)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case <-n.exited:
		return nil
	case <-timer.C:
	}
	err := n.process.Kill()
	<-n.exited
	return errors.Join(fmt.Errorf("the node did not stop within %v and was killed", timeout), err)
}
