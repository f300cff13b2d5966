// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// kind says what a connection does.
type kind string

const (
	kindPut  kind = "put"
	kindGet  kind = "get"
	kindScan kind = "scan"
	kindBlob kind = "blob"
)

// load is what the connections of a slot do.
type load struct {
	Kind  kind
	Depth int // requests sent at once by one connection
	Size  int // bytes of a blob
}

// peer is a store under measurement. The word is the report's: none is a node of a cluster here.
type peer interface {
	// fill writes every key once.
	fill(ctx context.Context) error
	// fillBlob stores a blob for loads that read one.
	fillBlob(size int) error
	measure(ctx context.Context, l load, sl slot) (sample, error)
	stop() error
}

const (
	benchTable = "bench"
	fillConns  = 64
)

// environment is what all peers of a run share.
type environment struct {
	dir   string // of all data; on a disk
	seed  uint64
	keys  int
	text  []byte
	shape keyShape
	atlas string // path of the binary
	dirs  int
}

// newEnvironment makes a directory below parent, which is refused when its files live in memory: there a sync costs
// nothing, and the durable figures would mean nothing.
func newEnvironment(parent string, seed uint64, keys int) (*environment, error) {
	inMem, err := inMemory(parent)
	if err != nil {
		return nil, err
	}
	if inMem {
		return nil, fmt.Errorf("%s is not on a disk: name a directory that is with -dir", parent)
	}
	dir, err := os.MkdirTemp(parent, "atlas-compare-")
	if err != nil {
		return nil, err
	}
	return &environment{dir: dir, seed: seed, keys: keys, text: newText(seed), shape: prefixed(benchTable + ".k")}, nil
}

// freshDir makes an empty directory. Its name is short: paths of Unix sockets have a low limit.
func (e *environment) freshDir(name string) (string, error) {
	e.dirs++
	dir := filepath.Join(e.dir, fmt.Sprintf("%s%d", name, e.dirs))
	return dir, os.Mkdir(dir, 0o700)
}

func (e *environment) remove() error { return os.RemoveAll(e.dir) }

// server is a peer that is reached over connections.
type server struct {
	env     *environment
	process *process
	dial    func(load) (stepper, error)
	putBlob func(size int) error
}

var _ peer = (*server)(nil)

func (s *server) connect(l load) func(i int) (stepper, *source, error) {
	return func(i int) (stepper, *source, error) {
		st, err := s.dial(l)
		return st, newSource(s.env.seed, i, s.env.keys, s.env.text), err
	}
}

func (s *server) fill(ctx context.Context) error {
	return fill(ctx, fillConns, s.env.keys, s.connect(load{Kind: kindPut, Depth: 1}))
}

func (s *server) fillBlob(size int) error {
	if s.putBlob == nil {
		return fmt.Errorf("no blobs")
	}
	return s.putBlob(size)
}

func (s *server) measure(ctx context.Context, l load, sl slot) (sample, error) {
	got, err := measure(ctx, sl, s.process.cpu, s.connect(l))
	if err != nil {
		select {
		case <-s.process.done:
			err = fmt.Errorf("%w; the server ended: %w\n%s", err, ended(s.process.err), s.process.tail())
		case <-time.After(100 * time.Millisecond): // a connection is seen to break before the process has ended
		}
	}
	return got, err
}

func (s *server) stop() error {
	if err := s.process.stop(); err != nil {
		return errors.Join(err, errors.New(string(s.process.tail())))
	}
	return nil
}
