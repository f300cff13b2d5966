// SPDX-License-Identifier: AGPL-3.0-only

//go:build linux

package repl

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

// terminal is a pseudo-terminal with the shell on one end and the test on the other.
type terminal struct {
	t          *testing.T
	master     *os.File
	interrupts chan os.Signal
	exit       chan int

	mu  sync.Mutex
	out bytes.Buffer
}

func openTerminal(t *testing.T, path string, change func(*Options)) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip("no pseudo-terminals here: ", err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, master: master, interrupts: make(chan os.Signal, 1), exit: make(chan int, 1)}
	o := Options{Target: cli.Target{Endpoint: path}, Interrupts: term.interrupts, NoColor: true}
	if change != nil {
		change(&o)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		term.exit <- Run(ctx, o, cli.Streams{In: slave, Out: slave, Err: slave})
		_ = slave.Close()
	})
	wg.Go(func() {
		var chunk [4096]byte
		for {
			n, err := master.Read(chunk[:])
			term.mu.Lock()
			term.out.Write(chunk[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		_ = master.Close()
	})
	return term
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[A-Za-z]")

// shown is what was written, as lines: a redrawn line once, in its last state.
func (term *terminal) shown() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	var b strings.Builder
	for line := range strings.SplitSeq(strings.ReplaceAll(term.out.String(), "\r\n", "\n"), "\n") {
		if i := strings.LastIndex(line, "\r\x1b[K"); i >= 0 {
			line = line[i:]
		}
		line = escapes.ReplaceAllString(line, "")
		b.WriteString(strings.NewReplacer("\a", "", "\r", "").Replace(line) + "\n")
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// expect waits until what is shown ends so.
func (term *terminal) expect(end string) {
	term.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; {
		got := term.shown()
		if strings.HasSuffix(got, end) {
			return
		}
		if time.Now().After(deadline) {
			term.mu.Lock()
			defer term.mu.Unlock()
			term.t.Fatalf("shown:\n%s\nwant it to end:\n%s\nraw: %q", got, end, term.out.String())
		}
		time.Sleep(time.Millisecond) // sleep: a poll with a deadline
	}
}

func (term *terminal) send(keys string) {
	term.t.Helper()
	if _, err := term.master.WriteString(keys); err != nil {
		term.t.Fatal(err)
	}
}

func (term *terminal) ends(code int) {
	term.t.Helper()
	select {
	case got := <-term.exit:
		if got != code {
			term.t.Errorf("exit %d, want %d", got, code)
		}
	case <-time.After(10 * time.Second):
		term.t.Fatal("the shell does not end; shown:\n" + term.shown())
	}
}

func TestInteractive(t *testing.T) {
	n := &fakenode.Node{}
	n.Put("users.alice", "x")
	n.Put("t.bin", "\x00\x01binary \x1b[31m"+strings.Repeat("z", 300))
	n.Put("t.esc", "\x7fdel")
	history := filepath.Join(t.TempDir(), "h")
	term := openTerminal(t, n.Start(t), func(o *Options) { o.HistoryPath = history })
	term.expect("> ")
	term.send("PRINCIPAL ASSUME alice\r")
	term.expect("> PRINCIPAL ASSUME alice\nOK\n> ")
	term.send("key get us\t\t")
	term.expect("> key get users.")
	term.send("alice\r")
	term.expect("> key get users.alice\nVALUE:x\nOK\n> ")
	term.send("KEY GET t.esc\r")
	term.expect("VALUE:\\x7fdel\nOK\n> ")
	term.send("KEY BLOB GET t.bin\r")
	term.expect("FILE\nOK\n> ")
	if got := term.shown(); !strings.Contains(got, "BLOB 314\n00000000  00 01 62 69 6e 61 72 79  20 1b 5b 33 31 6d 7a 7a  |..binary .[31mzz|\n") ||
		!strings.Contains(got, "... 58 more bytes; save them all with: KEY BLOB GET <key> > FILE\nOK\n> ") {
		t.Errorf("hex preview:\n%s", got)
	}
	term.send("KEY BLOB SET t.x 5\r")
	term.expect("to send a file: KEY BLOB SET <key> [options] < FILE\n> ")
	for _, line := range []string{"KEY BLOB SET t.x", "key blob set", "KEY BLOB SET t.x TTL 5s", "KEY BLOB SET t.x -5", "KEY BLOB SET t.x <"} {
		term.send(line + "\r")
		term.expect("> " + line + "\nto send a file: KEY BLOB SET <key> [options] < FILE\n> ")
	}
	term.send("PRINCIPAL AUTH bob secret\r")
	term.expect("OK\n> ")
	term.send("abc\x03")
	term.expect("> abc^C\n> ")
	term.send("\x1b[200~KEY PUT t.1 one\nKEY PUT t.2 two\nCOUNT t\n\x1b[201~")
	term.expect("> KEY PUT t.1 one\nOK\n> KEY PUT t.2 two\nOK\n> COUNT t\nCOUNT:4\nOK\n> ")
	term.send("HELP\r")
	term.expect("At the server:\nKEY GET <key> [VERSION]\n[ID:xyz] COMMAND ... runs beside others\nOK\n> ")
	if !strings.Contains(term.shown(), "\n  KEY BLOB SET <key> [options] < FILE  ") {
		t.Error("HELP does not name blobs with options")
	}
	term.send("\x04")
	term.ends(cli.ExitOK)
	kept, err := os.ReadFile(history)
	if err != nil || strings.Contains(string(kept), "secret") || !strings.Contains(string(kept), "COUNT t\n") {
		t.Errorf("history %q, %v", kept, err)
	}
}

func TestInteractiveWatchAndInterrupt(t *testing.T) {
	n := &fakenode.Node{Plain: true}
	release := make(chan struct{})
	released := sync.OnceFunc(func() { close(release) })
	heard := make(chan string, 2)
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		switch line {
		case "KEY GET t.slow":
			heard <- line
			<-release
			c.Raw("VALUE:late\r\nOK\r\n")
			return true, nil
		case "KEY PUT t.never x":
			heard <- line
			return true, nil
		}
		return false, nil
	}
	term := openTerminal(t, n.Start(t), nil)
	t.Cleanup(released) // whatever comes: the node waits for it
	term.expect("> ")
	term.send("WATCH t\r")
	term.expect("> WATCH t\n")
	var want strings.Builder
	for i := range 3 {
		// The watch may not stand yet: the first put is repeated until it is seen.
		for deadline := time.Now().Add(10 * time.Second); ; {
			version := n.Put(fmt.Sprintf("t.%d", i), "v")
			line := fmt.Sprintf("EVENT PUT %d t.%d\n", version, i)
			ok := false
			for until := time.Now().Add(200 * time.Millisecond); time.Now().Before(until) && !ok; {
				time.Sleep(time.Millisecond) // sleep: a poll with a deadline
				ok = strings.HasSuffix(term.shown(), line)
			}
			if ok {
				want.WriteString(line)
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("no event; shown:\n" + term.shown())
			}
		}
	}
	term.interrupts <- os.Interrupt
	term.expect(want.String() + "\nOK\n> ")
	term.send("KEY GET t.slow\r")
	term.expect("> KEY GET t.slow\n")
	<-heard // one that comes before the command has been sent is taken for an old one
	term.interrupts <- os.Interrupt
	term.expect("> KEY GET t.slow\n\n") // the shell has heard it
	released()
	// It said OK, as if all had been shown.
	term.expect("> KEY GET t.slow\n\nstopped: the rest of the answer is not shown\n> ")
	term.send("KEY GET t.0\r")
	term.expect("> KEY GET t.0\nVALUE:v\nOK\n> ")
	term.send("KEY PUT t.never x\r")
	term.expect("> KEY PUT t.never x\n")
	<-heard
	term.interrupts <- os.Interrupt
	term.expect("stopped waiting: the command may have been applied, or not\n> ")
	term.send("KEY GET t.0\r")
	term.expect("VALUE:v\nOK\n> ")
	term.send("exit\r")
	term.ends(cli.ExitOK)
}

func TestInteractiveReconnects(t *testing.T) {
	n := &fakenode.Node{}
	n.Hook = func(_ *fakenode.Conn, _, line string) (bool, error) {
		if line == "KEY PUT t.cut x" {
			return true, errors.New("cut")
		}
		return false, nil
	}
	path := n.Start(t)
	term := openTerminal(t, path, func(o *Options) { o.WhenGone = "look there" })
	term.expect("> ")
	term.send("PRINCIPAL ASSUME alice\r")
	term.expect("OK\n> ")
	term.send("KEY PUT t.cut x\r")
	term.expect("connection to " + path + " lost; the command may have been applied, or not\n> ")
	term.send("PRINCIPAL WHOAMI\r")
	term.expect("connection lost; connected anew to " + path + "\nrepeating: PRINCIPAL ASSUME alice\nOK\nPRINCIPAL alice\nOK\n> ")
	term.send("BEGIN\r")
	term.expect("> BEGIN\nOK\n> ")
	n.CutAll()
	term.send("KEY PUT t.a in-txn\r")
	term.expect("the transaction that was open is rolled back; the command was not sent\n> ")
	if _, ok := n.Get("t.a"); ok {
		t.Error("sent outside the transaction")
	}
	n.Close()
	term.send("KEY GET t.a\r")
	term.expect("is the node running, and is this its socket?\n  look there\n> ")
	(&fakenode.Node{}).StartAt(t, path)
	term.send("PRINCIPAL WHOAMI\r")
	term.expect("PRINCIPAL alice\nOK\n> ")
	term.send("QUIT\r")
	term.ends(cli.ExitOK)
}
