// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
	"github.com/atlas-edge/atlas/client/internal/realnode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func runScript(t *testing.T, path, script string) (out, errOut string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = Run(t.Context(), Options{Target: cli.Target{Endpoint: path}}, cli.Streams{In: strings.NewReader(script), Out: &o, Err: &e})
	return o.String(), e.String(), code
}

// The sessions of the protocol's section 2 come out exactly, without the prompt and what was typed.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no transcripts", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var script, want strings.Builder
			for line := range strings.Lines(string(data)) {
				switch {
				case strings.HasPrefix(line, "#"):
				case strings.HasPrefix(line, "> "):
					script.WriteString(line[2:])
				default:
					want.WriteString(line)
				}
			}
			out, errOut, code := runScript(t, (&fakenode.Node{}).Start(t), script.String())
			if out != want.String() || errOut != "" {
				t.Errorf("got\n%s%swant\n%s", out, errOut, want.String())
			}
			if real, realErr, _ := runScript(t, realnode.Start(t), script.String()); real != out || realErr != "" {
				t.Errorf("the real node answers\n%s%swant\n%s", real, realErr, out)
			}
			wantCode := cli.ExitOK
			if strings.Contains(want.String(), "ERROR ") {
				wantCode = cli.ExitError
			}
			if code != wantCode {
				t.Errorf("exit %d, want %d", code, wantCode)
			}
		})
	}
}

func TestScriptBlobs(t *testing.T) {
	n := &fakenode.Node{}
	path := n.Start(t)
	dir := t.TempDir()
	file, saved := filepath.Join(dir, "in put"), filepath.Join(dir, "out")
	content := "line\r\nOK\r\n\x00\x1b[2J"
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runScript(t, path, "KEY BLOB SET t.a 5\nab\ncdKEY BLOB GET t.a\nKEY BLOB SET t.b < "+file+"\nKEY BLOB SET t.c @"+file+
		"\nKEY BLOB GET t.b > "+saved+"\nKEY BLOB GET t.none > "+saved+".none\nSCAN t > \""+saved+".keys\"\nKEY GET t.a > x\n")
	want := "OK\nBLOB 5\nab\ncdOK\nOK\nOK\nOK\nEMPTY\nOK\nOK\nERROR WARN invalid: value is binary, use KEY BLOB GET\n"
	if out != want || code != cli.ExitError {
		t.Errorf("exit %d, got %q\nwant %q", code, out, want)
	}
	if !strings.Contains(errOut, "saved 15 bytes to "+saved) {
		t.Errorf("notes: %q", errOut)
	}
	for _, key := range []string{"t.b", "t.c"} {
		if v, _ := n.Get(key); v != content {
			t.Errorf("%s is %q", key, v)
		}
	}
	if got, err := os.ReadFile(saved); err != nil || string(got) != content {
		t.Errorf("saved %q, %v", got, err)
	}
	if got, err := os.ReadFile(saved + ".keys"); err != nil || string(got) != "KEYS:3\nt.a\nt.b\nt.c\n" {
		t.Errorf("saved %q, %v", got, err)
	}
	if _, err := os.Stat(saved + ".none"); err == nil {
		t.Error("a file for an absent value")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 3 {
		t.Errorf("files left: %v, %v", entries, err)
	}
}

// `KEY BLOB GET key VERSION > FILE` put the line with the version in front of the bytes, which were then not those of the
// value; and of SCAN VALUES > FILE the lines BLOB <length> were missing, so that nobody could tell bytes from keys.
func TestScriptSavesWhatWasAsked(t *testing.T) {
	dir := t.TempDir()
	content := "t.b\n\x00OK"
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("in"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runScript(t, realnode.Start(t), "KEY BLOB SET t.a < "+at("in")+"\nKEY PUT t.b x\nKEY BLOB GET t.a VERSION > "+at("blob")+
		"\nKEY GET t.b VERSION > "+at("text")+"\nSCAN t VALUES > "+at("rows")+"\nKEY BLOB GET t.none VERSION > "+at("none")+"\n")
	if !regexp.MustCompile(`^OK\nOK\nVERSION:[0-9]+\nOK\nOK\nOK\nEMPTY\nOK\n$`).MatchString(out) || code != cli.ExitOK {
		t.Errorf("exit %d, got %q, %q", code, out, errOut)
	}
	for name, want := range map[string]string{
		"blob": "^" + regexp.QuoteMeta(content) + "$",
		"text": `^VERSION:[0-9]+\nVALUE:x\n$`,
		"rows": `^KEYS:2\nt\.a\nBLOB 7\n` + regexp.QuoteMeta(content) + `t\.b\nVALUE:x\n$`,
	} {
		if got, err := os.ReadFile(at(name)); err != nil || !regexp.MustCompile(want).Match(got) {
			t.Errorf("%s: %q, %v; want %s", name, got, err, want)
		}
	}
	if _, err := os.Stat(at("none")); err == nil {
		t.Error("a file for an absent value")
	}
}

// `> FILE` put a new file of mode 0600 in the place of what was there: a symbolic link was gone, and its target as it was. Where
// it could not, the text named a file that nobody had asked for.
func TestScriptSavesInPlace(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(os.WriteFile(target, []byte("old"), 0o600), os.Chmod(target, 0o640), os.Symlink("target", link)); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runScript(t, (&fakenode.Node{}).Start(t), "KEY PUT t.a x\nKEY GET t.a > "+link+"\nKEY GET t.a > "+dir+"/none/x\n")
	if out != "OK\nOK\nOK\n" || code != cli.ExitError || !strings.HasSuffix(errOut, "\nsave to "+dir+"/none/x: no such file or directory\n") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
	if got, err := os.ReadFile(target); err != nil || string(got) != "VALUE:x\n" {
		t.Errorf("behind the link: %q, %v", got, err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is none any more: %v", err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("another mode: %v, %v", info.Mode(), err)
	}
}

func TestScriptEnds(t *testing.T) {
	n := &fakenode.Node{}
	path := n.Start(t)
	for _, tt := range []struct {
		name, script, out, err string
		code                   int
	}{
		{"empty", "", "", "", cli.ExitOK},
		{"blank lines, CRLF, no end", "\r\n\n  \nKEY GET t.a\r\nKEY GET t.a", "NOT_FOUND\nOK\nNOT_FOUND\nOK\n", "", cli.ExitOK},
		{"goes on after an error", "NONSENSE\nKEY GET t.a\n", "ERROR WARN invalid: unknown command\nNOT_FOUND\nOK\n", "", cli.ExitError},
		{"comments", "# a comment\nKEY GET t.a\n  # [ID:1] another\nKEY GET t.a\n", "NOT_FOUND\nOK\nNOT_FOUND\nOK\n", "", cli.ExitOK},
		{"watch into a file", "WATCH t > w\nKEY GET t.a\n", "NOT_FOUND\nOK\n", "a WATCH is not saved by > FILE", cli.ExitError},
		{"quit", "QUIT\nKEY GET t.a\n", "OK\n", "", cli.ExitOK},
		{"own ids are shown", "[ID:7] KEY GET t.a\n", "[ID:7] NOT_FOUND\n[ID:7] OK\n", "", cli.ExitOK},
		{"missing file", "KEY BLOB SET t.a < /nonexistent/file\nKEY GET t.a\n", "NOT_FOUND\nOK\n", "no such file", cli.ExitError},
		{"unwritable target", "KEY GET t.a\nHELP > /nonexistent/file\n", "NOT_FOUND\nOK\nOK\n", "save to /nonexistent/file", cli.ExitError},
		{"script ends in a blob", "KEY BLOB SET t.cut 10\nabc", "", "end after 3 of 10", cli.ExitError},
		{"exit is the server's business", "EXIT\n", "ERROR WARN invalid: unknown command\n", "", cli.ExitError},
		{"watch of its own", "[ID:w] WATCH t\nKEY PUT t.w 1\n[ID:w] UNWATCH\nKEY GET t.w\n", "", "", cli.ExitOK},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, errOut, code := runScript(t, path, tt.script)
			if tt.out != "" && out != tt.out || code != tt.code || !strings.Contains(errOut, tt.err) || tt.err == "" && errOut != "" {
				t.Errorf("exit %d\n%s\nnotes: %s", code, out, errOut)
			}
		})
	}
	if _, ok := n.Get("t.cut"); ok {
		t.Error("an incomplete blob was applied")
	}
}

func TestScriptConnections(t *testing.T) {
	out, errOut, code := runScript(t, filepath.Join(t.TempDir(), "none"), "KEY GET a.b\n")
	if out != "" || code != cli.ExitConnect || !strings.Contains(errOut, "is the node running") {
		t.Errorf("no server: exit %d, %q, %q", code, out, errOut)
	}
	if _, _, code = runScript(t, "http://x", ""); code != cli.ExitUsage {
		t.Errorf("bad endpoint: exit %d", code)
	}
	n := &fakenode.Node{Hook: func(c *fakenode.Conn, _, line string) (bool, error) {
		switch {
		case strings.HasPrefix(line, "KEY PUT"):
			return true, errors.New("cut")
		case strings.HasPrefix(line, "COUNT"):
			c.Raw("COUNT:1\r\nERROR FATAL unavailable: stopping\r\n")
			return true, errors.New("cut")
		}
		return false, nil
	}}
	path := n.Start(t)
	out, errOut, code = runScript(t, path, "KEY GET a.b\nKEY PUT a.b c\nKEY GET a.b\n")
	if out != "NOT_FOUND\nOK\n" || code != cli.ExitConnect || !strings.Contains(errOut, "may have been applied") {
		t.Errorf("cut: exit %d, %q, %q", code, out, errOut)
	}
	out, errOut, code = runScript(t, path, "COUNT a\nKEY GET a.b\n")
	if out != "COUNT:1\nERROR FATAL unavailable: stopping\n" || code != cli.ExitConnect {
		t.Errorf("fatal: exit %d, %q, %q", code, out, errOut)
	}
}

// Commands of a script that are there already are sent together, and it makes no difference.
func TestScriptGoesAhead(t *testing.T) {
	var script strings.Builder
	for i := range 400 {
		fmt.Fprintf(&script, "KEY PUT t.%d value %d\nKEY GET t.%d\n", i, i, i)
		switch i % 100 {
		case 10:
			script.WriteString("NONSENSE\n\n  \nPRINCIPAL ASSUME alice\nPRINCIPAL WHOAMI\n")
		case 20:
			fmt.Fprintf(&script, "KEY BLOB SET b.%d 9\nOK\r\nx\nOK\nKEY BLOB GET b.%d\nCOUNT t\n", i, i)
		case 30:
			fmt.Fprintf(&script, "BEGIN\nKEY PUT t.x %d\nKEY GET t.x\nROLLBACK\nKEY GET t.x\nCOMMIT\n", i)
		case 40:
			script.WriteString("[ID:7] KEY GET t.1\n[ID:w] WATCH none\nKEY GET t.2\n[ID:w] UNWATCH\n")
		case 50:
			fmt.Fprintf(&script, "KEY PUT t.long %s\nSCAN t LIMIT 3\nKEY BLOB GET t.%d > %s\n", strings.Repeat("x", 40_000), i, os.DevNull)
		}
	}
	script.WriteString("QUIT\nKEY GET t.1\n")
	run := func(path string, in io.Reader) (string, int) {
		var o, e bytes.Buffer
		code := Run(t.Context(), Options{Target: cli.Target{Endpoint: path}}, cli.Streams{In: in, Out: &o, Err: &e})
		return o.String(), code
	}
	want, wantCode := run(realnode.Start(t), &lineReader{strings.NewReader(script.String())})
	if got, code := run(realnode.Start(t), strings.NewReader(script.String())); got != want || code != wantCode || code != cli.ExitError {
		t.Errorf("exit %d, a command at a time %d; %d and %d bytes", code, wantCode, len(got), len(want))
	}

	held := 0
	n := &fakenode.Node{Hook: func(c *fakenode.Conn, _, line string) (bool, error) {
		switch {
		case strings.HasPrefix(line, "KEY GET"):
			if held++; held == 3 {
				c.Raw("NOT_FOUND\r\nOK\r\nNOT_FOUND\r\nOK\r\nNOT_FOUND\r\nOK\r\n")
			}
			return true, nil
		case strings.HasPrefix(line, "KEY DEL"):
			return true, errors.New("cut")
		}
		return false, nil
	}}
	out, errOut, code := runScript(t, n.Start(t), "KEY GET t.a\nKEY GET t.a\nKEY GET t.a\nKEY PUT t.a x\nKEY DEL t.a\nKEY PUT t.a y\n")
	if out != strings.Repeat("NOT_FOUND\nOK\n", 3)+"OK\n" || code != cli.ExitConnect ||
		!strings.Contains(errOut, "the last 2 commands were sent and not answered: those that write may have been applied") {
		t.Errorf("exit %d, %q, %q", code, out, errOut)
	}
}

// lineReader gives a line at a time, so that no line is there before the one in front of it was run.
type lineReader struct{ r *strings.Reader }

func (l *lineReader) Read(p []byte) (n int, err error) {
	for n < len(p) {
		if p[n], err = l.r.ReadByte(); err != nil {
			return n, err
		}
		if n++; p[n-1] == '\n' {
			break
		}
	}
	return n, nil
}

// That standard output could not be written was said twice.
func TestScriptCannotWrite(t *testing.T) {
	var e bytes.Buffer
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this system has no full device:", err)
	}
	defer func() { _ = full.Close() }() // nothing was written
	path := (&fakenode.Node{}).Start(t)
	code := Run(t.Context(), Options{Target: cli.Target{Endpoint: path}}, cli.Streams{In: strings.NewReader("KEY GET t.a\nKEY GET t.a\n"), Out: full, Err: &e})
	if code != cli.ExitError || e.String() != "write: write /dev/full: no space left on device\n" {
		t.Errorf("exit %d, %q", code, e.String())
	}
}

// A script that waits for its next line ends with its context.
func TestScriptEndsWithContext(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	path := (&fakenode.Node{}).Start(t)
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan struct{}, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if code := Run(ctx, Options{Target: cli.Target{Endpoint: path}}, cli.Streams{In: r, Out: notifier(answered), Err: io.Discard}); code != cli.ExitInterrupted {
			t.Errorf("exit %d", code)
		}
	})
	if _, err := io.WriteString(w, "KEY GET a.b\n"); err != nil {
		t.Fatal(err)
	}
	<-answered
	cancel()
	wg.Wait()
	if err := errors.Join(w.Close(), r.Close()); err != nil {
		t.Error(err)
	}
}

type notifier chan struct{}

func (n notifier) Write(p []byte) (int, error) {
	select {
	case n <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestExec(t *testing.T) {
	n := &fakenode.Node{}
	path := n.Start(t)
	exec := func(stdin string, args ...string) (string, int) {
		var o, e bytes.Buffer
		code := Exec(context.Background(), Options{Target: cli.Target{Endpoint: path, Principal: "alice"}}, args, cli.Streams{In: strings.NewReader(stdin), Out: &o, Err: &e})
		return o.String() + e.String(), code
	}
	for _, tt := range []struct {
		stdin string
		args  []string
		want  string
		code  int
	}{
		{"", []string{"KEY", "PUT", "a.b", "hello world"}, "OK\n", 0},
		{"", []string{"KEY", "GET", "a.b"}, "VALUE:hello world\nOK\n", 0},
		{"", []string{"PRINCIPAL WHOAMI"}, "PRINCIPAL alice\nOK\n", 0},
		{"some\nbytes", []string{"KEY", "BLOB", "SET", "a.c", "@-"}, "OK\n", 0},
		{"", []string{"KEY", "BLOB", "GET", "a.c"}, "BLOB 10\nsome\nbytesOK\n", 0},
		{"", []string{"NOPE"}, "ERROR WARN invalid: unknown command\n", 1},
		{"", nil, "a command is one line: give its words after --\n", cli.ExitUsage},
		{"", []string{"KEY GET a.b\nKEY DEL a.b"}, "a command is one line: give its words after --\n", cli.ExitUsage},
	} {
		if got, code := exec(tt.stdin, tt.args...); got != tt.want || code != tt.code {
			t.Errorf("%q: exit %d, %q", tt.args, code, got)
		}
	}
}

// Ctrl-C under one command ended it with the status of an ERROR, and not a word on what became of a write.
func TestExecInterrupted(t *testing.T) {
	for command, want := range map[string]string{
		"WATCH t":        "",
		"[ID:w] WATCH t": "", // ended at once, and as if all were well
		"KEY GET t.a":    "",
		"KEY PUT t.a x":  "interrupt signal received; the command may have been applied, or not\n",
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		n := &fakenode.Node{Hook: func(_ *fakenode.Conn, _, line string) (bool, error) {
			cancel(errors.New("interrupt signal received"))
			return line != "WATCH t", nil
		}}
		var o, e bytes.Buffer
		code := Exec(ctx, Options{Target: cli.Target{Endpoint: n.Start(t)}}, []string{command}, cli.Streams{In: strings.NewReader(""), Out: &o, Err: &e})
		if code != cli.ExitInterrupted || o.String() != "" || e.String() != want {
			t.Errorf("%s: exit %d, %q, %q", command, code, o.String(), e.String())
		}
	}
}

// A WATCH within a transaction was refused for a request id that nobody had typed; and after a COMMIT that met a conflict the
// shell took the transaction for open.
func TestWatchInTransaction(t *testing.T) {
	out, errOut, code := runScript(t, realnode.Start(t), "BEGIN\nWATCH t\nKEY PUT t.a x\nCOMMIT\n")
	if !regexp.MustCompile(`^OK\nOK\nVERSION:[0-9]+\nOK\n$`).MatchString(out) || errOut != "a transaction is open: COMMIT or ROLLBACK before a WATCH\n" || code != cli.ExitError {
		t.Errorf("exit %d, got\n%s%s", code, out, errOut)
	}
	n := &fakenode.Node{Hook: func(c *fakenode.Conn, tag, line string) (bool, error) {
		switch {
		case line == "COMMIT":
			c.Raw("ERROR WARN conflict: no\r\n")
		case line == "COMMIT now":
			c.Raw("ERROR WARN invalid: usage\r\n")
		case strings.HasPrefix(line, "WATCH"):
			c.Raw("[ID:" + tag + "] ERROR WARN denied: no\r\n")
		default:
			return false, nil
		}
		return true, nil
	}}
	out, errOut, _ = runScript(t, n.Start(t), "BEGIN\nCOMMIT now\nWATCH t\nCOMMIT\nWATCH t\n")
	if out != "OK\nERROR WARN invalid: usage\nERROR WARN conflict: no\nERROR WARN denied: no\n" || strings.Count(errOut, "\n") != 1 {
		t.Errorf("got\n%s%s", out, errOut)
	}
}

func TestSecretLines(t *testing.T) {
	for line, want := range map[string]bool{
		"PRINCIPAL AUTH bob hunter2":            true,
		"principal  auth bob hunter2":           true,
		"[ID:3] Principal Auth bob hunter2":     true,
		"PRINCIPAL SECRET bob hunter2":          true,
		"PRINCIPAL ASSUME bob":                  false,
		"PRINCIPAL WHOAMI":                      false,
		"KEY GET a.b":                           false,
		"SQL CREATE USER x IDENTIFIED BY 'y'":   true,
		"SQL ALTER USER x SET PASSWORD = 'y'":   true,
		"KEY PUT users.a {\"password\":\"x\"}":  true,
		"[ID:PRINCIPAL] KEY GET principal.auth": false,
	} {
		if secret(line) != want {
			t.Errorf("%q: %v", line, !want)
		}
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]string{
		"  key get a.b ":                "|key get a.b |KEY GET||",
		"KEY BLOB SET a.b < some file":  "|KEY BLOB SET a.b|KEY BLOB|some file|",
		`KEY BLOB SET a.b < "q f"`:      "|KEY BLOB SET a.b|KEY BLOB|q f|",
		"KEY BLOB SET a.b <f":           "|KEY BLOB SET a.b|KEY BLOB|f|",
		"KEY BLOB SET a.b @f":           "|KEY BLOB SET a.b|KEY BLOB|f|",
		"KEY BLOB SET a.b 5":            "|KEY BLOB SET a.b 5|KEY BLOB||",
		"KEY PUT a.b x > y":             "|KEY PUT a.b x > y|KEY PUT||",
		"[ID:1] SCAN t VALUES > o":      "1|SCAN t VALUES|SCAN T||o",
		"WATCH t":                       "watch|WATCH t|WATCH T||",
		"[ID:x] WATCH t":                "x|WATCH t|WATCH T||",
		"KEY BLOB GET a.b > 'my file' ": "|KEY BLOB GET a.b|KEY BLOB||my file",
		"[ID:x]KEY GET a.b":             "|[ID:x]KEY GET a.b|[ID:X]KEY GET||",
	} {
		c := parse(line)
		if got := strings.Join([]string{c.tag, c.line, c.verb + " " + c.sub, c.from, c.into}, "|"); got != want {
			t.Errorf("%q: got %s, want %s", line, got, want)
		}
	}
}

// A blob with options had no form in the shell: what was typed cost the connection.
func TestBlobWithOptions(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	if err := os.WriteFile(filepath.Join(home, "in"), []byte("ab\r\nc"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errOut, code := runScript(t, realnode.Start(t), `KEY BLOB SET t.a TTL 1h < ~/in
key blob set	t.b	if absent	WORM TTL 1h <~/in
KEY BLOB SET t.a IF ABSENT @~/in
KEY BLOB SET t.a NONSENSE < ~/in
KEY BLOB GET t.a > ~/out
KEY BLOB GET t.b
`)
	out = regexp.MustCompile(`(VERSION:|found version |version )[0-9]+`).ReplaceAllString(out, "${1}V")
	want := regexp.MustCompile(`^VERSION:V\nOK\nVERSION:V\nOK\nERROR WARN conflict: .*\nERROR WARN invalid: .*\nOK\nBLOB 5\nab\r\ncOK\n$`)
	if !want.MatchString(out) || code != cli.ExitError || errOut != "saved 5 bytes to "+filepath.Join(home, "out")+"\n" {
		t.Errorf("exit %d, got\n%s%s", code, out, errOut)
	}
	n := &fakenode.Node{}
	if out, errOut, code := runScript(t, n.Start(t), "KEY BLOB SET t.a PRINCIPAL <x TTL 5s < "+home+"/in\n"); out != "VERSION:1\nOK\n" || code != cli.ExitOK {
		t.Errorf("exit %d, got\n%s%s", code, out, errOut)
	}
}

// What is told of a command that was sent and not answered rests on whether it may change something.
func TestWrites(t *testing.T) {
	for line, want := range map[string]bool{
		"KEY GET t.a": false, "key blob get t.a": false, "SCAN t": false, "PRINCIPAL WHOAMI": false, "PRINCIPAL AUTH a secretly": false,
		"TABLE LIST": false, "NODE PING 1": false, "HELP": false, "BEGIN": false, "# KEY PUT t.a x": false,
		"KEY PUT t.a x": true, "key blob set t.a 1": true, "KEY DEL t.a": true, "ACL GRANT t a PERMS READ": true, "COMMIT": true,
		"principal secret a secretly": true, "[ID:1] KEY WRITE t.a VALUE x": true, "TABLE MOVE t TO 1": true, "SQL DELETE": true,
	} {
		if c := parse(line); c.writes() != want {
			t.Errorf("%s: %v", line, !want)
		}
	}
}

// Every command that HELP lists for this version is completed, with its options.
func TestCompletion(t *testing.T) {
	sh := &shell{}
	for line, want := range map[string]string{
		"principal s":        "SECRET",
		"quorum info users ": "SURVIVES",
		"key w":              "WRITE",
		"scan users rev":     "REVERSE",
		"[ID:1] unw":         "UNWATCH",
		"help scan":          "SCAN",
		"help key bl":        "BLOB",
	} {
		_, got := sh.complete(line, len(line))
		if len(got) != 1 || got[0].Text != want {
			t.Errorf("%s: %v, want %s", line, got, want)
		}
	}
}

// Behind < and > a Tab did nothing, or told of tables.
func TestCompletionOfFiles(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HOME", dir)
	t.Chdir(dir)
	for _, name := range []string{"one file", "other", "more/inside", ".hidden", "bad\nname"} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o700), os.WriteFile(name, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	sh := &shell{}
	for line, want := range map[string]string{
		"KEY BLOB SET a.b < ":                "KEY BLOB SET a.b < [more/ one file other]",
		"key blob set a.b ttl 5s <o":         "key blob set a.b ttl 5s <[one file other]",
		"KEY BLOB SET a.b @one f":            "KEY BLOB SET a.b @[one file]",
		"KEY BLOB SET a.b < ~/m":             "KEY BLOB SET a.b < [~/more/]",
		"KEY BLOB GET a.b > more/":           "KEY BLOB GET a.b > [more/inside]",
		"[ID:1] SCAN t > " + dir + "/oth":    "[ID:1] SCAN t > [" + dir + "/other]",
		"KEY GET a.b > .":                    "KEY GET a.b > [.hidden]",
		"KEY BLOB GET a.b > none/":           "KEY BLOB GET a.b > []",
		`KEY BLOB GET a.b > "o`:              `KEY BLOB GET a.b > []`,
		"KEY BLOB SET a.b PRINCIPAL @o":      "KEY BLOB SET a.b PRINCIPAL []",
		"KEY PUT a.b > o":                    "KEY PUT a.b > []",
		"KEY BLOB SET a.b < one file behind": "KEY BLOB SET a.b < []",
	} {
		start, got := sh.complete(line, len(line))
		var names []string
		for _, c := range got {
			names = append(names, c.Text)
		}
		if shown := line[:start] + "[" + strings.Join(names, " ") + "]"; shown != want {
			t.Errorf("%q: %q, want %q", line, shown, want)
		}
	}
}
