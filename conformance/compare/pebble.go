// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"
)

// pebblePeer is raw Pebble, committing from goroutines, in a process of its own so that its CPU time can be told from the load
// generator's and no other work disturbs its garbage collector: this program started again with childFlag. It has no
// network and no protocol: what it does is the ceiling of any store on Pebble.
//
// Parent and child exchange JSON values over the child's standard streams, one request and one answer at a time.
type pebblePeer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	to  *json.Encoder
	out *json.Decoder
}

var _ peer = (*pebblePeer)(nil)

// childFlag as the first argument makes this program a pebble child.
const childFlag = "pebble-child"

// childConfig is the first message to a child.
type childConfig struct {
	Dir  string
	Seed uint64
	Keys int
}

// childRequest is each later one.
type childRequest struct {
	Fill bool
	Slot slot
}

type childAnswer struct {
	Sample sample
	Error  string
}

func startPebble(_ context.Context, env *environment) (peer, error) {
	dir, err := env.freshDir("pebble")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, childFlag)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, childAttr()
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := startConversation(in, out)
	p.cmd = cmd
	return p, p.to.Encode(childConfig{Dir: dir, Seed: env.seed, Keys: env.keys})
}

// startConversation is with a child that reads what is written to in.
func startConversation(in io.WriteCloser, out io.Reader) *pebblePeer {
	return &pebblePeer{in: in, to: json.NewEncoder(in), out: json.NewDecoder(bufio.NewReader(out))}
}

func (p *pebblePeer) ask(r childRequest) (sample, error) {
	if err := p.to.Encode(r); err != nil {
		return sample{}, err
	}
	var a childAnswer
	if err := p.out.Decode(&a); err != nil {
		return sample{}, fmt.Errorf("raw Pebble ended: %w", err)
	}
	if a.Error != "" {
		return sample{}, errors.New("raw Pebble: " + a.Error)
	}
	return a.Sample, nil
}

func (p *pebblePeer) fill(context.Context) error {
	_, err := p.ask(childRequest{Fill: true})
	return err
}

func (p *pebblePeer) fillBlob(int) error { return errors.New("raw Pebble serves nothing") }

func (p *pebblePeer) measure(_ context.Context, l load, sl slot) (sample, error) {
	if l.Kind != kindPut {
		return sample{}, fmt.Errorf("raw Pebble has no %s", l.Kind)
	}
	return p.ask(childRequest{Slot: sl})
}

func (p *pebblePeer) stop() error { return errors.Join(p.in.Close(), p.cmd.Wait()) }

// pebbleOptions are those of engine/storage where they matter for writing: memtables, levels, compactions, filters. The
// comparer and the schema of keys are Pebble's own.
func pebbleOptions() *pebble.Options {
	o := &pebble.Options{
		FormatMajorVersion:          pebble.FormatTableFormatV6,
		MemTableSize:                16 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0CompactionFileThreshold:   500,
		L0StopWritesThreshold:       24,
		LBaseMaxBytes:               64 << 20,
		FlushSplitBytes:             4 << 20,
		BytesPerSync:                1 << 20,
		CompactionConcurrencyRange:  func() (int, int) { return 1, 2 },
		Logger:                      silent{},
	}
	o.TargetFileSizes[0] = 4 << 20
	for i := range o.Levels {
		l := &o.Levels[i]
		l.BlockSize, l.IndexBlockSize = 32<<10, 64<<10
		l.FilterPolicy, l.FilterType = bloom.FilterPolicy(10), pebble.TableFilter
		l.Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	}
	return o
}

// silent is a logger that says nothing but what ends the process.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

// pebbleStepper commits one key at a time, synced.
type pebbleStepper struct {
	db    *pebble.DB
	shape keyShape
	key   []byte
	value []byte
}

func (p *pebbleStepper) step(s *source) (int, error) {
	p.shape.put(p.key, s.key())
	s.value(p.value)
	return 1, p.db.Set(p.key, p.value, pebble.Sync)
}

func (p *pebbleStepper) close() error { return nil }

// pebbleChild serves its parent until its input ends.
func pebbleChild(in io.Reader, out io.Writer) (err error) {
	from, to := json.NewDecoder(in), json.NewEncoder(out)
	var c childConfig
	if err := from.Decode(&c); err != nil {
		return err
	}
	db, err := pebble.Open(c.Dir, pebbleOptions())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	text, shape := newText(c.Seed), prefixed(benchTable+".k")
	dial := func(i int) (stepper, *source, error) {
		st := &pebbleStepper{db: db, shape: shape, key: make([]byte, shape.len), value: make([]byte, valueLen)}
		return st, newSource(c.Seed, i, c.Keys, text), nil
	}
	for {
		var r childRequest
		if err := from.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		var a childAnswer
		var err error
		if r.Fill {
			err = fill(context.Background(), fillConns, c.Keys, dial)
		} else {
			a.Sample, err = measure(context.Background(), r.Slot, nil, dial)
		}
		if err != nil {
			a.Error = err.Error()
		}
		if err := to.Encode(a); err != nil {
			return err
		}
	}
}
