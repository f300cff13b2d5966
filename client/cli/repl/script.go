// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/wire"
)

// script runs the lines of in.
func (sh *shell) script(ctx context.Context, in io.Reader) int {
	if f, ok := in.(*os.File); ok {
		input, err := cli.NewInput(ctx, f)
		if err != nil {
			sh.say("%v", err)
			return cli.ExitError
		}
		defer func() { _ = input.Close() }() // only read from
		in = input
	}
	r := bufio.NewReaderSize(in, 64<<10)
	sh.stdin = r
	for {
		line, err := readScriptLine(r)
		if errors.Is(err, io.EOF) && line == "" {
			return sh.finish(nil)
		}
		if ctx.Err() != nil {
			return sh.finish(errInterrupted)
		}
		if err != nil && !errors.Is(err, io.EOF) {
			sh.say("read the script: %v", err)
			return cli.ExitError
		}
		if err := sh.runAhead(ctx, line, r); err != nil && !errors.Is(err, errLocal) {
			return sh.finish(err)
		}
	}
}

// Bounds of what is sent before the first answer is read: fewer bytes than any socket's buffers hold, so that sending never
// waits for a server that waits for us to read.
const (
	aheadMax      = 512
	aheadBytesMax = 32 << 10
)

// runAhead runs a line, and together with it those behind it that are there already and whose sending need not wait for an
// answer. The answers come in the order of the commands, and a script goes on after an ERROR in any case; so all that
// differs from one command at a time is that a lost connection may leave several commands without an answer.
func (sh *shell) runAhead(ctx context.Context, line string, r *bufio.Reader) error {
	c := parse(line)
	if sh.interrupts != nil || !c.mayGoAhead() {
		return sh.run(ctx, line)
	}
	batch := []command{c}
	for size := len(line); len(batch) < aheadMax && size < aheadBytesMax; {
		ahead, _ := r.Peek(r.Buffered()) // of what is there already
		end := bytes.IndexByte(ahead, '\n')
		if end < 0 || size+end > aheadBytesMax {
			break
		}
		c := parse(string(ahead[:end]))
		if c.verb != "" {
			if !c.mayGoAhead() {
				break
			}
			batch = append(batch, c)
		}
		size += end
		_, _ = r.Discard(end + 1) // it was peeked at
	}
	if len(batch) == 1 {
		return sh.run(ctx, line)
	}
	return sh.flushed(sh.dispatchAll(ctx, batch))
}

// mayGoAhead tells whether the next command may be sent before this one is answered: it brings no bytes, saves nothing to
// a file, has no id, and does not end the connection.
func (c *command) mayGoAhead() bool {
	if c.tag != "" || c.into != "" || c.from != "" || len(c.line) > wordsWithin {
		return false
	}
	switch c.verb {
	case "", "QUIT", "WATCH", "UNWATCH":
		return false
	case "KEY":
		return !c.setsBlob()
	case "PRINCIPAL":
		return c.sub != "AUTH" && c.sub != "SECRET" // slow on purpose
	}
	return true
}

// dispatchAll sends commands and prints their answers.
func (sh *shell) dispatchAll(ctx context.Context, batch []command) error {
	if err := sh.reconnect(ctx); err != nil {
		return err
	}
	conn := sh.conn
	disarm := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) }) // a connection that is gone fails anyhow
	defer disarm()
	var out []byte
	for _, c := range batch {
		out = append(append(out, c.line...), "\r\n"...)
	}
	_, err := sh.conn.Write(out)
	if err != nil {
		err = sh.lastWord(err)
	}
	for ; err == nil && len(batch) > 0; batch = batch[1:] {
		if sh.closing { // what is behind an ERROR FATAL is not run
			sh.drop()
			sh.say("connection to %s lost%s", sh.o.Endpoint, sh.whenGone())
			return errLost
		}
		if err = sh.answer(batch[0]); err != nil {
			break
		}
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errLocal):
		sh.failures++
		sh.drop() // it is out of step
		return err
	}
	writes := slices.ContainsFunc(batch, func(c command) bool { return c.writes() })
	if ctx.Err() != nil {
		sh.endedDuring(ctx, writes)
		return errInterrupted
	}
	sh.drop()
	sh.lostDuring(err, writes, len(batch))
	return errLost
}

var errLongLine = errors.New("line exceeds the protocol's limit")

func readScriptLine(r *bufio.Reader) (string, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > wire.CommandLenMax {
			return "", errLongLine
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return strings.TrimRight(string(line), "\r\n"), err
		}
	}
}
