// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/dev"
	"github.com/atlas-edge/atlas/client/cli/repl"
)

// exitStatuses is the part of the helps that tells them.
const exitStatuses = `The exit status is
    0  when all was done
    1  when an answer was an ERROR, or a check failed
    2  when the node could not be reached, or the connection was lost
   64  when the command line is wrong: nothing was done
  130  when Ctrl-C, or a request to end, came first`

func registerCommand() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "atlas",
		Usage: "<socket>",
		Short: "Talks to an Atlas node",
		Long: `
Opens a shell on the node behind a socket, or runs one of the programs below.

<socket> is the path of a node's Unix socket, or unix:PATH, tls://HOST:PORT or
tcp://HOST:PORT. A path that is also the name of a program is written ./NAME.

Piped input runs as a script: just the answers are printed. A line that begins
with # is a comment.

` + exitStatuses,
		CobraFunc: setUpAtlas,
	})
}

func setUpAtlas(cmd *cobra.Command) {
	cmd.Example = `  atlasdb atlas /tmp/atlas2/socket
  echo "KEY GET a.b" | atlasdb atlas /tmp/atlas2/socket
  atlasdb atlas exec /tmp/atlas2/socket -- KEY GET a.b`
	shell(cmd)
	replCommand := &cobra.Command{
		Use:   "repl <socket>",
		Short: "Opens a shell, or runs piped input as a script",
		Long: `Opens a shell on the node: history, completion of commands and table names, HELP. Piped input runs as a script.
The same as atlas <socket>.`,
	}
	shell(replCommand)
	cmd.AddCommand(replCommand, execCommand(), benchCommand(), exportCommand(), importCommand(), conformanceCommand(),
		devCommand(), versionCommand())
}

// shell makes cmd the REPL.
func shell(cmd *cobra.Command) {
	var o repl.Options
	targetFlags(cmd, &o.Target)
	history := cmd.Flags().String("history", "", "keep typed lines in this `file` (default: one in the home directory)")
	noHistory := cmd.Flags().Bool("no-history", false, "keep no typed lines")
	cmd.MarkFlagsMutuallyExclusive("history", "no-history")
	cmd.Args = exactly("a socket")
	shellProgram(cmd, func(ctx context.Context, args []string) int {
		if o.HistoryPath = *history; o.HistoryPath == "" && !*noHistory {
			o.HistoryPath = repl.DefaultHistoryPath()
		}
		return target(cmd, &o.Target, args[0], func() int { return repl.Run(ctx, o, cli.OSStreams()) })
	})
}

func execCommand() *cobra.Command {
	var o repl.Options
	cmd := &cobra.Command{
		Use:   "exec <socket> -- <command>",
		Short: "Runs one command and prints what the node answers",
		Long: `Runs one command of the native protocol and prints its answer. The words after -- are joined by single blanks.
A WATCH runs until Ctrl-C.

` + exitStatuses,
		Example: `  atlasdb atlas exec /tmp/atlas2/socket -- KEY PUT sample.row hello world
  atlasdb atlas exec /tmp/atlas2/socket --principal alice -- SCAN users`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return usageError(cmd, "want a socket and a command")
			}
			return nil
		},
	}
	targetFlags(cmd, &o.Target)
	program(cmd, func(ctx context.Context, args []string) int {
		return target(cmd, &o.Target, args[0], func() int { return repl.Exec(ctx, o, args[1:], cli.OSStreams()) })
	})
	return cmd
}

func devCommand() *cobra.Command {
	var o dev.Options
	noHistory := false
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Starts a node of your own and opens a shell on it; the node stops with the shell",
		Long: `Starts a node that keeps everything in one directory, waits until it serves, and opens a shell on it, or runs piped
input. When the shell ends the node stops; the data stays. If a node runs on the directory already, that one is used.`,
		Example: `  atlasdb atlas dev --data .atlas`,
		Args:    exactly(),
	}
	cmd.Flags().StringVarP(&o.DataDir, "data", "d", ".atlas", "data `directory`; made when missing")
	cmd.Flags().StringVar(&o.Socket, "socket", "", "the node's socket `path` (default: DATA/socket)")
	cmd.Flags().BoolVar(&noHistory, "no-history", false, "keep no typed lines")
	cmd.Flags().DurationVar(&o.StartTimeout, "start-timeout", time.Minute, "how long the node may take to serve")
	cmd.Flags().DurationVar(&o.StopTimeout, "stop-timeout", 30*time.Second, "how long the node may take to stop before it is killed")
	shellProgram(cmd, func(ctx context.Context, _ []string) int {
		if !noHistory {
			o.HistoryPath = repl.DefaultHistoryPath()
		}
		return dev.Run(ctx, o, cli.OSStreams())
	})
	return cmd
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Prints the versions of Atlas, Caddy and Go",
		Args:  exactly(),
	}
	program(cmd, func(context.Context, []string) int {
		host, _ := caddy.Version()
		fmt.Fprintf(cmd.OutOrStdout(), "atlas %s\ncaddy %s\n%s %s/%s\n", Version(), hostVersion(host), runtime.Version(),
			runtime.GOOS, runtime.GOARCH)
		return cli.ExitOK
	})
	return cmd
}

// Version is that of this build: what the linker was told, else what the Go tool recorded.
func Version() string {
	if caddy.CustomVersion != "" {
		return caddy.CustomVersion
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

const modulePath = "github.com/atlas-edge/atlas"

// versionOf is the version of Atlas in a build, which may be somebody else's with Atlas in it: then the build's own version and
// revision are that program's.
func versionOf(info *debug.BuildInfo) string {
	for _, dep := range info.Deps {
		if dep.Path != modulePath {
			continue
		}
		if dep.Replace != nil {
			dep = dep.Replace
		}
		if dep.Version == "" || dep.Version == "(devel)" {
			return "devel"
		}
		return dep.Version
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			return s.Value[:12]
		}
	}
	return "devel"
}

// hostVersion is Caddy's own, which Caddy leaves out of its short version when the build has a custom one.
func hostVersion(reported string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == caddy.ImportPath {
				return dep.Version
			}
		}
	}
	return reported
}

// program makes run what cmd does, with its exit code, under a context that the first SIGINT or SIGTERM ends; a second
// one kills.
func program(cmd *cobra.Command, run func(ctx context.Context, args []string) int) {
	programUntil(cmd, run, os.Interrupt, syscall.SIGTERM)
}

// shellProgram is program for one that makes sense of Ctrl-C itself: it ends what runs in the shell, not the shell.
func shellProgram(cmd *cobra.Command, run func(ctx context.Context, args []string) int) {
	programUntil(cmd, run, syscall.SIGTERM, syscall.SIGHUP)
}

// programUntil is program with other signals. Requires: cmd.Args is set.
func programUntil(cmd *cobra.Command, run func(ctx context.Context, args []string) int, signals ...os.Signal) {
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return usageError(cmd, "%v", err) })
	checkArgs := cmd.Args
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		if err := cmd.ValidateFlagGroups(); err != nil { // here, since cobra's own look ends with status 1
			return usageError(cmd, "%v", err)
		}
		return checkArgs(cmd, args)
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, stop := signal.NotifyContext(cmd.Context(), signals...)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		return exit(cmd, run(ctx, args))
	}
}

// exit makes cobra's caller end the process with code, saying nothing: what went wrong has been said.
func exit(cmd *cobra.Command, code int) error {
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	if code == 1 {
		return errors.New("exiting with status 1")
	}
	return caddycmd.WrapCommandFuncForCobra(func(caddycmd.Flags) (int, error) { return code, nil })(cmd, nil)
}

func usageError(cmd *cobra.Command, format string, args ...any) error {
	fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\nusage: %s\n`%s --help` tells more\n", cmd.CommandPath(), fmt.Sprintf(format, args...),
		cmd.UseLine(), cmd.CommandPath())
	return exit(cmd, cli.ExitUsage)
}

// exactly wants an argument for each thing named.
func exactly(things ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) == len(things):
			return nil
		case len(things) == 0:
			return usageError(cmd, "takes no argument, found %d", len(args))
		default:
			return usageError(cmd, "want %s, found %d arguments", strings.Join(things, " and "), len(args))
		}
	}
}

// targetFlags add how to reach a node, and as whom.
func targetFlags(cmd *cobra.Command, t *cli.Target) {
	f := cmd.Flags()
	f.StringVar(&t.Principal, "principal", "", "act as this `name`")
	f.String("secret-file", "", "prove the principal with the secret in this `file`")
	f.StringVar(&t.CAFile, "ca", "", "trust the certificates in this PEM `file` for tls://")
	f.DurationVar(&t.DialTimeout, "dial-timeout", 10*time.Second, "how long connecting may take")
	_ = cmd.MarkFlagFilename("secret-file") // the flag exists
	_ = cmd.MarkFlagFilename("ca")          // the flag exists
}

const secretFileMax = 4096

// target fills t from the arguments and runs the program.
func target(cmd *cobra.Command, t *cli.Target, endpoint string, run func() int) int {
	t.Endpoint = endpoint
	if path, _ := cmd.Flags().GetString("secret-file"); path != "" {
		b, err := os.ReadFile(filepath.Clean(path))
		if err == nil && len(b) > secretFileMax {
			err = fmt.Errorf("secret in %s: length %d exceeds limit %d", path, len(b), secretFileMax)
		}
		if err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %v\n", cmd.CommandPath(), err)
			return cli.ExitUsage
		}
		t.Secret = strings.TrimRight(string(b), "\r\n")
	}
	return run()
}
