// SPDX-License-Identifier: AGPL-3.0-only

// Package repl is the shell of the native protocol: interactive on a terminal, a script runner on a pipe, and Exec for one
// command.
//
// What the server says is printed as it came, a line a line. On a terminal, bytes that would steer it are made visible and
// blobs are shown as a hex preview; elsewhere blobs are written verbatim. Lines are sent as they were typed, but for these
// conveniences, which use what the protocol gives no meaning:
//
//	KEY BLOB SET <key> [options] < FILE
//	                             sends a file (also @FILE), with its length before the options
//	KEY GET ... > FILE           and other commands that read: the blob, or the data lines, go to a file
//	WATCH <prefix>               without a request id gets one, and runs until Ctrl-C
//	# ...                        is a comment
//
// A FILE that begins with ~/ is in the home directory, unless it is in quotes.
//
// One command runs at a time; of a script, commands that are there already are sent together, and answered in order. Ctrl-C
// ends the waiting for it: its answer is awaited for a moment, so that the connection stays in step, and else the connection
// is closed. After a lost connection the next command makes a new one, says so, and takes on the same principal again.
//
// While a command runs one goroutine waits for Ctrl-C; it ends with the command.
package repl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"

	"github.com/atlas-edge/atlas/client/cli"
)

// Options configure Run and Exec.
type Options struct {
	cli.Target
	// HistoryPath is the file that keeps typed lines (mode 0600); lines that hold secrets are not kept. Empty: no file.
	// See DefaultHistoryPath.
	HistoryPath string
	// NoColor shows no colours, as the environment variable NO_COLOR does.
	NoColor bool
	// WhenGone is what to do when the node cannot be reached any more; "": nothing is known.
	WhenGone string
	// Interrupts gives Ctrl-C while a command runs. nil: on a terminal SIGINT is caught for the duration of Run; a script
	// is ended by it, as programs are.
	Interrupts <-chan os.Signal
}

// DefaultHistoryPath is the per-user history file, or "" when there is no home directory.
func DefaultHistoryPath() string {
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "atlas", "history")
	}
	home, err := os.UserHomeDir()
	if err != nil || home == "" {
		return ""
	}
	return filepath.Join(home, ".local", "state", "atlas", "history")
}

// Run is the shell when s.In and s.Out are terminals, else it runs s.In as a script: it prints the answers and nothing
// else, goes on after an error, and stops when the connection is lost. It returns cli.ExitOK; cli.ExitError when a script
// met an ERROR; cli.ExitConnect when there was no connection or, in a script, it was lost; cli.ExitInterrupted when a script was
// ended by its context; cli.ExitUsage.
func Run(ctx context.Context, o Options, s cli.Streams) int {
	in, inFile := s.In.(*os.File)
	out, outFile := s.Out.(*os.File)
	interactive := inFile && outFile && cli.IsTerminal(in) && cli.IsTerminal(out)
	sh, code := start(ctx, o, s, interactive)
	if sh == nil {
		return code
	}
	defer sh.close()
	if interactive {
		return sh.interact(ctx, in, out)
	}
	return sh.script(ctx, s.In)
}

// Exec runs one command, its words in args, and prints what the server answers. A word @FILE at the end of KEY BLOB SET
// sends a file, @- standard input. The exit codes are those of Run.
func Exec(ctx context.Context, o Options, args []string, s cli.Streams) int {
	line := strings.Join(args, " ")
	if strings.TrimSpace(line) == "" || strings.ContainsAny(line, "\r\n\x00") {
		_, _ = fmt.Fprintln(s.Err, "a command is one line: give its words after --") // there is nowhere else to say it
		return cli.ExitUsage
	}
	sh, code := start(ctx, o, s, false)
	if sh == nil {
		return code
	}
	defer sh.close()
	sh.stdin, sh.single = s.In, true
	return sh.finish(sh.run(ctx, line))
}

// start connects.
func start(ctx context.Context, o Options, s cli.Streams, interactive bool) (*shell, int) {
	sh := &shell{o: o, streams: s, interactive: interactive, interrupts: o.Interrupts}
	sh.print = newPrinter(s.Out, interactive && !o.NoColor && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb")
	if _, err := o.ClientOptions(); err != nil {
		_, _ = fmt.Fprintln(s.Err, err) // there is nowhere else to say it
		return nil, cli.ExitUsage
	}
	if err := sh.connect(ctx); err != nil {
		_, _ = fmt.Fprintln(s.Err, o.Explain(err)) // as above
		return nil, cli.ExitConnect
	}
	if sh.interrupts == nil && interactive {
		signals := make(chan os.Signal, 1)
		signal.Notify(signals, os.Interrupt)
		sh.stopSignals = func() { signal.Stop(signals) }
		sh.interrupts = signals
	}
	return sh, cli.ExitOK
}

// finish makes an exit code of how the last command, and all before it, ended.
func (sh *shell) finish(err error) int {
	if ferr := sh.print.flush(); ferr != nil {
		sh.say("write: %v", ferr)
		return cli.ExitError
	}
	switch {
	case errors.Is(err, errLost):
		return cli.ExitConnect
	case errors.Is(err, errInterrupted):
		return cli.ExitInterrupted
	case err != nil && !errors.Is(err, errQuit), sh.failures > 0:
		return cli.ExitError
	}
	return cli.ExitOK
}

// say tells the user something that the server did not say.
func (sh *shell) say(format string, args ...any) {
	_ = sh.print.flush() // finish reports what cannot be written
	text := fmt.Sprintf(format, args...)
	if sh.print.color {
		text = colorNote + text + colorOff
	}
	_, _ = io.WriteString(sh.streams.Err, text+"\n") // there is nowhere else to say it
}
