// SPDX-License-Identifier: AGPL-3.0-only

package repl

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/wire"
)

// shell runs commands on one connection.
type shell struct {
	o           Options
	streams     cli.Streams
	interactive bool
	single      bool // one command, whose end is awaited
	print       *printer
	stdin       io.Reader // what @- and the bytes of a script's blobs are read from
	interrupts  <-chan os.Signal
	stopSignals func()

	conn     *client.Connection // nil: lost
	identity string             // the PRINCIPAL line that worked last, to be sent again
	setting  string             // the CONSISTENCY line that worked last, likewise
	inTxn    bool
	failures int // ERRORs so far
	tables   tableNames
	watches  int  // that a script's own request ids have running
	closing  bool // the last ERROR was FATAL: the server closes
}

var (
	errLost        = errors.New("connection lost")
	errQuit        = errors.New("quit")
	errInterrupted = errors.New("interrupted")
	errLocal       = errors.New("refused here")
)

// How long an answer that is no longer wanted is awaited, so that the connection stays in step.
const drainWait = time.Second

// slow is how long a command must take for its time to be shown.
const slow = 250 * time.Millisecond

func (sh *shell) connect(ctx context.Context) error {
	o, err := sh.o.ClientOptions()
	if err != nil {
		return err
	}
	conn, err := client.Connect(ctx, o)
	if err != nil {
		return err
	}
	sh.conn, sh.closing = conn, false
	return nil
}

func (sh *shell) close() {
	sh.drop()
	if sh.stopSignals != nil {
		sh.stopSignals()
	}
}

func (sh *shell) drop() {
	if sh.conn != nil {
		_ = sh.conn.Close() // everything that mattered was answered, or reported as not
		sh.conn = nil
	}
}

// reconnect makes a new connection when the old one was lost, and takes on who we were.
func (sh *shell) reconnect(ctx context.Context) error {
	if sh.conn != nil {
		if sh.conn.Reader.Buffered() > 0 || sh.tables.asked || sh.watches > 0 || wire.Idle(sh.conn.Conn) {
			return nil
		}
		if f, err := sh.conn.Reader.Next(); err == nil { // the server's last word
			sh.print.frame(f.Kind, string(f.Raw))
			_ = sh.print.flush() // finish reports it
		}
		sh.drop()
		if !sh.interactive {
			sh.say("connection to %s lost%s", sh.o.Endpoint, sh.whenGone())
			return errLost
		}
	} else if !sh.interactive {
		return errLost
	}
	if err := sh.connect(ctx); err != nil {
		sh.say("%s%s", sh.o.Explain(err), sh.whenGone())
		return errLost
	}
	sh.say("connection lost; connected anew to %s", sh.o.Endpoint)
	if sh.inTxn {
		sh.inTxn = false
		sh.say("the transaction that was open is rolled back; the command was not sent")
		return errLocal
	}
	for _, line := range []string{sh.identity, sh.setting} {
		if line == "" {
			continue
		}
		shown := line
		if secret(line) {
			shown = "PRINCIPAL AUTH ..."
		}
		sh.say("repeating: %s", shown)
		if err := sh.command(ctx, parse(line), nil); err != nil {
			return err
		}
		if sh.identity == "" && sh.setting == "" {
			return errLocal
		}
	}
	return nil
}

// run runs a line. Its error is nil also when the server answered ERROR: that is counted in failures.
func (sh *shell) run(ctx context.Context, line string) error {
	c := parse(line)
	if c.verb == "" {
		return nil
	}
	began := time.Now()
	err := sh.dispatch(ctx, c)
	if errors.Is(err, errLocal) {
		sh.failures++
	}
	if took := time.Since(began); sh.interactive && took >= slow && c.verb != "WATCH" && err == nil {
		sh.say("(%.2f s)", took.Seconds())
	}
	return sh.flushed(err)
}

// flushed shows what was printed, unless more is about to be, and returns err.
func (sh *shell) flushed(err error) error {
	if sh.moreInput() {
		return err
	}
	if ferr := sh.print.flush(); ferr != nil {
		if sh.interactive { // else finish says it
			sh.say("write: %v", ferr)
		}
		return errQuit
	}
	return err
}

// moreInput tells whether a script's next line is there already, so that what was printed can wait and go out with more.
func (sh *shell) moreInput() bool {
	r, ok := sh.stdin.(*bufio.Reader)
	if !ok {
		return false
	}
	ahead, _ := r.Peek(r.Buffered()) // of what is there already
	return bytes.IndexByte(ahead, '\n') >= 0
}

func (sh *shell) dispatch(ctx context.Context, c command) error {
	switch {
	case sh.interactive && (c.verb == "EXIT" || c.verb == "\\Q"):
		return errQuit
	case sh.interactive && c.verb == "HELP" && c.sub == "":
		sh.print.text(localHelp)
	case c.verb == "WATCH" && strings.Contains(c.line, " > "):
		sh.say("a WATCH is not saved by > FILE: run it by itself, as in: exec SOCKET -- WATCH PREFIX > FILE")
		return errLocal
	case c.verb == "WATCH" && c.ours && sh.inTxn: // the server would speak of the request id, which is not the user's
		sh.say("a transaction is open: COMMIT or ROLLBACK before a WATCH")
		return errLocal
	}
	body, err := sh.body(&c)
	if err != nil {
		sh.say("%v", err)
		return errLocal
	}
	if body != nil {
		defer body.close()
	}
	if err := sh.reconnect(ctx); err != nil {
		if errors.Is(err, errLost) && body != nil {
			_ = body.skip() // the connection is gone anyhow
		}
		return err
	}
	return sh.command(ctx, c, body)
}

// command sends a command and prints its answer.
func (sh *shell) command(ctx context.Context, c command, b *body) error {
	wait, cancel := context.WithCancel(ctx)
	defer cancel()
	stopped := sh.onInterrupt(wait, cancel)
	defer stopped()
	conn := sh.conn
	fired := make(chan struct{})
	disarm := context.AfterFunc(wait, func() {
		defer close(fired)
		_ = conn.SetDeadline(time.Unix(1, 0)) // fails the read or write under way; a connection that is gone fails anyhow
	})
	err := sh.exchange(c, b)
	if !disarm() {
		<-fired
		_ = conn.SetDeadline(time.Time{}) // as above
		if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
			return sh.interrupted(c, b)
		}
	}
	var nerr net.Error
	switch {
	case err == nil && c.verb == "QUIT":
		return errQuit
	case err == nil, errors.Is(err, errLocal):
		return err
	case ctx.Err() != nil:
		if b == nil || b.sent {
			sh.endedDuring(ctx, c.writes())
		}
		return errInterrupted
	case errors.As(err, &nerr), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, wire.ErrProtocol), errors.Is(err, net.ErrClosed):
		sh.drop()
		if c.verb == "QUIT" {
			return errQuit
		}
		sh.lostDuring(err, c.writes(), 1)
		return errLost
	}
	sh.drop()
	sh.say("%v", err)
	return errLocal
}

// onInterrupt calls cancel at the first interrupt. The returned function ends that.
func (sh *shell) onInterrupt(ctx context.Context, cancel func()) (stop func()) {
	for {
		select {
		case <-sh.interrupts: // an old one
			continue
		default:
		}
		break
	}
	var waiting sync.WaitGroup
	quit := make(chan struct{})
	waiting.Go(func() {
		select {
		case <-sh.interrupts:
			cancel()
		case <-ctx.Done():
		case <-quit:
		}
	})
	return func() {
		close(quit)
		waiting.Wait()
	}
}

// endedDuring tells that ctx ended when commands were sent and not answered; writes: some of them may change data.
func (sh *shell) endedDuring(ctx context.Context, writes bool) {
	if writes {
		sh.say("%v; the command may have been applied, or not", context.Cause(ctx))
	}
}

// lostDuring tells that commands were sent and not answered; writes: some of them may change data.
func (sh *shell) lostDuring(err error, writes bool, commands int) {
	outcome := ""
	switch {
	case writes && commands > 1:
		outcome = fmt.Sprintf("; the last %d commands were sent and not answered: those that write may have been applied, or not", commands)
	case writes:
		outcome = "; the command may have been applied, or not"
	}
	reason := ""
	if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		reason = ": " + wire.Visible(err.Error())
	}
	when := ""
	if !sh.interactive { // which tries to connect at the next command
		when = sh.whenGone()
	}
	sh.say("connection to %s lost%s%s%s", sh.o.Endpoint, reason, outcome, when)
}

// whenGone is a line that says what to do without a node, if that is known.
func (sh *shell) whenGone() string {
	if sh.o.WhenGone == "" {
		return ""
	}
	return "\n  " + sh.o.WhenGone
}

// exchange sends the command and reads to the end of its answer.
func (sh *shell) exchange(c command, b *body) error {
	head := c.wire()
	if _, err := io.WriteString(sh.conn, head+"\r\n"); err != nil {
		return sh.lastWord(err)
	}
	if b != nil {
		err := b.send(sh.conn, sh.streams.Err)
		if errors.Is(err, errShort) {
			sh.drop() // the server waits for bytes that will not come
			sh.say("%v", err)
			return errLocal
		}
		if err != nil {
			return sh.lastWord(err)
		}
	}
	if c.verb == "WATCH" && !c.ours && !sh.single {
		sh.watches++ // a script goes on; what it says is printed as it comes
		return nil
	}
	return sh.answer(c)
}

// lastWord prints what the server said before it closed the connection, if anything.
func (sh *shell) lastWord(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	_ = sh.conn.SetReadDeadline(time.Now().Add(drainWait)) // without it the read ends with the connection
	if f, rerr := sh.conn.Reader.Next(); rerr == nil {
		sh.print.frame(f.Kind, string(f.Raw))
	}
	return err
}

// answer prints the answer to c.
func (sh *shell) answer(c command) (err error) {
	sink := &sink{path: c.into, bare: c.sub == "BLOB"}
	defer func() {
		note, serr := sink.close(err == nil)
		switch {
		case serr != nil:
			sh.failures++
			sh.say("%v", serr)
		case note != "":
			sh.say("%s", note)
		}
	}()
	for {
		if sh.conn.Reader.Buffered() == 0 && !sh.moreInput() {
			if err := sh.print.flush(); err != nil {
				return fmt.Errorf("%w: %w", errLocal, err)
			}
		}
		f, err := sh.conn.Reader.Next()
		if err != nil {
			return err
		}
		if string(f.Tag) == tablesTag {
			sh.tables.take(f)
			continue
		}
		if err := sh.show(c, f, sink); err != nil {
			return err
		}
		if f.Kind == wire.KindError {
			sh.failures++
			sh.closing = bytes.HasPrefix(f.Text, []byte("ERROR FATAL"))
		}
		if f.End() && (string(f.Tag) == c.tag || f.Tag == nil && f.Kind == wire.KindError) {
			sh.note(c, f)
			return nil
		}
	}
}

// show prints a frame, or puts it where the sink says.
func (sh *shell) show(c command, f wire.Frame, sink *sink) error {
	text := string(f.Raw)
	if c.ours && string(f.Tag) == c.tag {
		text = string(f.Text)
	}
	if sink.active() && !f.End() {
		return sink.take(sh, f, text)
	}
	sh.print.frame(f.Kind, text)
	if f.Kind == wire.KindBlob {
		return sh.print.blob(sh.conn.Reader, f.Size)
	}
	return nil
}

// note remembers what a command that ended changed.
func (sh *shell) note(c command, f wire.Frame) {
	if f.Kind != wire.KindOK {
		if c.verb == "COMMIT" && !bytes.HasPrefix(f.Text, []byte("ERROR WARN invalid")) {
			sh.inTxn = false // whatever else the answer is, the transaction is over
		}
		if c.plain == sh.identity {
			sh.identity = ""
		}
		return
	}
	switch c.verb + " " + c.sub {
	case "PRINCIPAL ASSUME", "PRINCIPAL AUTH":
		sh.identity = c.plain
	}
	switch c.verb {
	case "CONSISTENCY":
		sh.setting = c.plain
	case "BEGIN":
		sh.inTxn = true
	case "COMMIT", "ROLLBACK":
		sh.inTxn = false
	case "UNWATCH":
		sh.watches = max(0, sh.watches-1)
	}
}

// interrupted ends the waiting for c: a watch is told to end; any other answer is passed over if it comes soon.
func (sh *shell) interrupted(c command, b *body) error {
	_ = sh.conn.SetDeadline(time.Now().Add(drainWait)) // a connection that is gone fails below
	if sh.interactive {
		sh.print.text("\n")  // the terminal has shown ^C
		_ = sh.print.flush() // finish reports what cannot be written
	}
	switch {
	case b != nil && !b.sent:
		sh.drop()
		sh.say("stopped: the upload is incomplete and was not applied")
		return errInterrupted
	case c.verb == "WATCH":
		unwatch := parse("[ID:" + c.tag + "] UNWATCH")
		unwatch.ours = true
		if _, err := io.WriteString(sh.conn, unwatch.wire()+"\r\n"); err == nil {
			if err := sh.answer(unwatch); err == nil {
				_ = sh.conn.SetDeadline(time.Time{}) // it worked until now
				return nil
			}
		}
		sh.drop()
		return errInterrupted
	}
	for {
		f, err := sh.conn.Reader.Next()
		if err != nil {
			break
		}
		if f.End() && string(f.Tag) == c.tag {
			sh.note(c, f)
			_ = sh.conn.SetDeadline(time.Time{})           // it worked until now
			if f.Kind == wire.KindOK && c.redirectable() { // an OK would say that all of it was shown
				sh.say("stopped: the rest of the answer is not shown")
			} else {
				sh.print.frame(f.Kind, string(f.Raw))
			}
			return errInterrupted
		}
	}
	sh.drop()
	if c.writes() {
		sh.say("stopped waiting: the command may have been applied, or not")
	} else {
		sh.say("stopped waiting")
	}
	return errInterrupted
}

// secret tells whether a line holds a secret, so that it must not be kept.
func secret(line string) bool {
	upper := strings.ToUpper(line)
	if rest, ok := strings.CutPrefix(upper, "[ID:"); ok {
		_, upper, _ = strings.Cut(rest, "]")
	}
	words := strings.Fields(upper)
	if len(words) >= 2 && words[0] == "PRINCIPAL" && words[1] != "WHOAMI" && words[1] != "ASSUME" {
		return true
	}
	for _, w := range []string{"PASSWORD", "SECRET", "IDENTIFIED", "CREDENTIAL", "TOKEN"} {
		if strings.Contains(upper, w) {
			return true
		}
	}
	return false
}
