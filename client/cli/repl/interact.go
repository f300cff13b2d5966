// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/lineedit"
)

const prompt = "> "

const localHelp = `In this shell:
  KEY BLOB SET <key> [options] < FILE   send a file (or @FILE), as in: KEY BLOB SET a.b TTL 5s < ~/picture
  KEY BLOB GET <key> > FILE             save a blob; other commands that read: their lines
  WATCH <table[.prefix]>                runs until Ctrl-C
  Tab completes, Ctrl-R searches the history, Ctrl-C stops a command, Ctrl-D or EXIT ends

At the server:
`

// interact is the shell on a terminal.
func (sh *shell) interact(ctx context.Context, in, out *os.File) int {
	history := &lineedit.History{}
	if sh.o.HistoryPath != "" {
		var err error
		if history, err = lineedit.OpenHistory(sh.o.HistoryPath); err != nil {
			sh.say("%v", err)
		}
	}
	var read func() (string, error)
	terminal, err := lineedit.OpenTerminal(ctx, in, out)
	if err == nil && os.Getenv("TERM") != "dumb" {
		defer func() { _ = terminal.Close() }() // each line has restored the mode already
		editor := lineedit.New(lineedit.Options{In: terminal, Out: out, Width: terminal.Width, History: history, Complete: sh.complete})
		read = func() (string, error) { return readEdited(terminal, editor) }
	} else {
		read = readPlain(in, out)
	}
	for {
		line, err := read()
		switch {
		case errors.Is(err, lineedit.ErrInterrupt):
			continue
		case err != nil:
			if !errors.Is(err, io.EOF) && !errors.Is(err, context.Canceled) {
				sh.say("%v", err)
				return cli.ExitError
			}
			return cli.ExitOK
		}
		if !secret(line) {
			if err := history.Add(line); err != nil {
				sh.say("%v", err)
			}
		}
		if err := sh.run(ctx, line); errors.Is(err, errQuit) || ctx.Err() != nil {
			return cli.ExitOK
		}
	}
}

func readEdited(t *lineedit.Terminal, e *lineedit.Editor) (line string, err error) {
	if err := t.Raw(); err != nil {
		return "", err
	}
	line, err = e.ReadLine(prompt)
	return line, errors.Join(err, t.Cooked())
}

// readPlain reads lines without editing them.
func readPlain(in io.Reader, out io.Writer) func() (string, error) {
	r := bufio.NewReaderSize(in, 4096)
	return func() (string, error) {
		if _, err := io.WriteString(out, prompt); err != nil {
			return "", err
		}
		line, err := r.ReadString('\n')
		if err != nil && line == "" {
			return "", err
		}
		return strings.TrimRight(line, "\r\n"), nil
	}
}
