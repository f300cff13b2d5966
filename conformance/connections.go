// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// together runs f(0) to f(n-1) at once and waits for all; it joins their errors.
func together(n int, f func(i int) error) error {
	errs := make([]error, n)
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { errs[i] = f(i) })
	}
	group.Wait()
	return errors.Join(errs...)
}

// rng is a stream of random choices for one part of one case.
func (e *env) rng(part uint64) *rand.Rand { return rand.New(rand.NewPCG(e.Seed, part)) }

// with opens a session, runs f on it and closes it.
func (e *env) with(ctx context.Context, f func(*conn) error) error {
	c, err := e.session(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(c), c.close())
}

// pattern is n bytes that tell where in which value they stand, so that bytes out of place are seen.
func pattern(name string, n int) string {
	const stretch = 4 << 10
	fill := strings.Repeat("<"+name+">", stretch/(len(name)+2)+1)
	var b strings.Builder
	b.Grow(n + stretch + 32)
	for b.Len() < n {
		fmt.Fprintf(&b, "<%s@%d>", name, b.Len())
		b.WriteString(fill[:min(stretch, max(0, n-b.Len()))])
	}
	return b.String()[:n]
}

// taggedNeverTear runs many tagged reads at once, blobs and lines mixed, with untagged commands between. Each answer must
// come whole, under its own id, with its own bytes. (G22, G9)
func (e *env) taggedNeverTear(ctx context.Context) error {
	const values, inFlight = 24, 64
	table := e.freshTable()
	want := make([]string, values)
	sizes := []int{0, 1, 100, 4096, 65 << 10, 300 << 10, 1 << 20}
	return e.with(ctx, func(c *conn) error {
		for i := range values {
			want[i] = pattern(fmt.Sprintf("v%d", i), sizes[i%len(sizes)])
			if err := c.upload(fmt.Sprintf("%s.r%d", table, i), want[i]); err != nil {
				return err
			}
		}
		commands := e.scaled(600)
		rng := e.rng(1)
		asked := make([]int, commands)
		for i := range asked {
			asked[i] = rng.IntN(values)
		}
		slots := make(chan struct{}, inFlight)
		stop := make(chan struct{})
		var group sync.WaitGroup
		var sendErr error
		group.Go(func() {
			for i, v := range asked {
				select {
				case slots <- struct{}{}:
				case <-stop:
					return
				}
				if sendErr = c.send(fmt.Sprintf("[ID:q%d] KEY BLOB GET %s.r%d\r\n", i, table, v)); sendErr != nil {
					return
				}
			}
		})
		err := c.readTagged(asked, want, slots)
		close(stop)
		if err != nil {
			err = errors.Join(err, c.close())
		}
		group.Wait()
		e.operations.Add(int64(commands))
		return errors.Join(err, sendErr)
	})
}

// readTagged reads one whole blob answer for each id q<i>; each line names its id, so that they may come in any order and
// may stand between one another, but never within.
func (c *conn) readTagged(asked []int, want []string, slots <-chan struct{}) error {
	state := map[int]int{} // 1: blob seen, 2: done
	for done := 0; done < len(asked); {
		line, err := c.line()
		if err != nil {
			return err
		}
		tag, frame, ok := strings.Cut(strings.TrimPrefix(line, "[ID:q"), "] ")
		id, err := strconv.Atoi(tag)
		if !ok || err != nil || id < 0 || id >= len(asked) {
			return fmt.Errorf("line %.200q has no id of ours", line)
		}
		text := want[asked[id]]
		switch {
		case frame == fmt.Sprintf("BLOB %d", len(text)) && state[id] == 0:
			got, err := c.bytes(len(text))
			if err != nil {
				return err
			}
			if string(got) != text {
				return fmt.Errorf("blob of id q%d differs from what was stored, at byte %d", id, differsAt(string(got), text))
			}
			state[id] = 1
		case frame == "OK" && state[id] == 1:
			state[id] = 2
			done++
			<-slots
		default:
			return fmt.Errorf("line %.200q is not what id q%d waits for", line, id)
		}
	}
	return nil
}

func differsAt(a, b string) int {
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return i
		}
	}
	return min(len(a), len(b))
}

// upload stores a value of any bytes.
func (c *conn) upload(key, value string) error {
	if err := c.send(fmt.Sprintf("KEY BLOB SET %s %d\r\n%s", key, len(value), value)); err != nil {
		return err
	}
	r, err := c.answer("")
	if err == nil && r.fail != "" {
		err = fmt.Errorf("upload of %d bytes to %s refused: %s", len(value), key, r.fail)
	}
	return err
}

// pipelined sends very many commands before it reads the first answer; answers come in the order of the commands. (G22)
func (e *env) pipelined(ctx context.Context) error {
	const reads = 20 // after each write
	n := e.scaled(500)
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		var group sync.WaitGroup
		var sendErr error
		group.Go(func() {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "KEY PUT %s.r%d value %d\r\n", table, i%50, i)
				b.WriteString(strings.Repeat(fmt.Sprintf("KEY GET %s.r%d\r\n", table, i%50), reads))
				if b.Len() > 32<<10 || i == n-1 {
					if sendErr = c.send(b.String()); sendErr != nil {
						return
					}
					b.Reset()
				}
			}
		})
		var err error
		for i := 0; i < n && err == nil; i++ {
			err = c.expect("OK")
			for j := 0; j < 2*reads && err == nil; j++ {
				err = c.expect([]string{fmt.Sprintf("VALUE:value %d", i), "OK"}[j%2])
			}
			if err != nil {
				err = errors.Join(fmt.Errorf("answers to write %d: %w", i, err), c.close())
			}
		}
		group.Wait()
		e.operations.Add(int64(n * (1 + reads)))
		return errors.Join(err, sendErr)
	})
}

// taggedBeyondLimit sends more tagged commands at once than may run: all are answered, none refused. (G25)
func (e *env) taggedBeyondLimit(ctx context.Context) error {
	const n = 3000
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		var group sync.WaitGroup
		var sendErr error
		group.Go(func() {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "[ID:%d] KEY PUT %s.r%d x\r\n", i, table, i)
			}
			sendErr = c.send(b.String())
		})
		seen := map[string]bool{}
		var err error
		for range n {
			var line string
			if line, err = c.line(); err != nil {
				break
			}
			if !strings.HasSuffix(line, "] OK") || seen[line] {
				err = fmt.Errorf("got line %.200q, want one OK for each id", line)
				break
			}
			seen[line] = true
		}
		if err != nil {
			err = errors.Join(err, c.close())
		}
		group.Wait()
		if err = errors.Join(err, sendErr); err != nil {
			return err
		}
		e.operations.Add(n)
		return c.want("COUNT "+table, "COUNT:"+strconv.Itoa(n), "OK")
	})
}

// endOfConnection closes our half after a burst of commands: all of them are answered first, then the connection ends.
// What was answered is there, what was in an open transaction is not. (G17)
func (e *env) endOfConnection(ctx context.Context) error {
	table := e.freshTable()
	const n = 200
	err := e.with(ctx, func(c *conn) error {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "KEY PUT %s.r%d x\r\n", table, i)
		}
		fmt.Fprintf(&b, "BEGIN\r\nKEY PUT %s.open x\r\n", table)
		if err := c.send(b.String()); err != nil {
			return err
		}
		if err := c.closeWrite(); err != nil {
			return err
		}
		for range n + 2 {
			if err := c.expect("OK"); err != nil {
				return err
			}
		}
		return c.eof()
	})
	if err != nil {
		return err
	}
	return e.with(ctx, func(c *conn) error {
		return c.want("COUNT "+table, fmt.Sprintf("COUNT:%d", n), "OK")
	})
}

// slowClients opens connections that behave badly, and measures that another is answered all the while: one sends a byte
// at a time, one asks for much and never reads, some say nothing, one leaves in the middle of a blob. (G26)
func (e *env) slowClients(ctx context.Context) error {
	table := e.freshTable()
	if err := e.with(ctx, func(c *conn) error { return c.upload(table+".big", pattern("big", 4<<20)) }); err != nil {
		return err
	}
	var bad []*conn
	defer func() {
		for _, c := range bad {
			_ = c.close() // what it thinks of its end is of no interest
		}
	}()
	open := func(dial func(context.Context) (*conn, error), n int) error {
		for range n {
			c, err := dial(ctx)
			if err != nil {
				return err
			}
			bad = append(bad, c)
		}
		return nil
	}
	if err := errors.Join(open(e.dial, 100), open(e.session, 100)); err != nil {
		return fmt.Errorf("idle connections: %w", err)
	}
	silent, greedy, trickle, leaver := bad[0], bad[100], bad[101], bad[102]
	if err := silent.send("HEL"); err != nil {
		return err
	}
	// 64 answers of 4 MiB wait for this one, which never reads: the server must stop reading instead of keeping them. It
	// may stop so early that not all commands can be sent.
	if err := greedy.nc.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		return err
	}
	if _, err := io.WriteString(greedy.nc, strings.Repeat("KEY BLOB GET "+table+".big\r\n", 64)); err != nil && !isTimeout(err) {
		return err
	}
	if err := leaver.send("KEY BLOB SET " + table + ".half 1000\r\nhalf"); err != nil {
		return err
	}
	if err := leaver.close(); err != nil {
		return err
	}
	line := "KEY PUT " + table + ".slow arrived\r\n"
	err := e.with(ctx, func(c *conn) error {
		for i := range e.scaled(300) {
			if i < len(line) {
				if err := trickle.send(line[i : i+1]); err != nil {
					return err
				}
			}
			if err := c.want(fmt.Sprintf("KEY PUT %s.k %d", table, i), "OK"); err != nil {
				return err
			}
			if err := c.want("KEY GET "+table+".k", fmt.Sprintf("VALUE:%d", i), "OK"); err != nil {
				return err
			}
			e.operations.Add(2)
		}
		return c.want("KEY GET "+table+".half", "NOT_FOUND", "OK")
	})
	return errors.Join(err, trickle.expect("OK"))
}

// claimedLength announces blobs of the largest size on many connections and sends next to nothing of them: memory must
// follow the bytes received. It looks at the server's process, where the system tells which that is. (G25)
func (e *env) claimedLength(ctx context.Context) error {
	const claims, each, boundBytes = 32, 128 << 20, 256 << 20
	probe, err := e.session(ctx)
	if err != nil {
		return err
	}
	pid, err := peerPID(probe.nc)
	if err = errors.Join(err, probe.close()); err != nil {
		return errSkip("the server's process is not known: " + err.Error())
	}
	before, err := residentBytes(pid)
	if err != nil {
		return errSkip("the server's memory is not known: " + err.Error())
	}
	table := e.freshTable()
	conns := make([]*conn, 0, claims)
	defer func() {
		for _, c := range conns {
			_ = c.close() // it was left in the middle of a blob on purpose
		}
	}()
	for i := range claims {
		c, err := e.session(ctx)
		if err != nil {
			return err
		}
		conns = append(conns, c)
		if err := c.send(fmt.Sprintf("KEY BLOB SET %s.r%d %d\r\nfirst bytes", table, i, each)); err != nil {
			return err
		}
		e.badInputs.Add(1)
	}
	// An answered command on a connection opened later: by then the claims were read.
	if err := e.with(ctx, func(c *conn) error { return c.want("COUNT "+table, "COUNT:0", "OK") }); err != nil {
		return err
	}
	after, err := residentBytes(pid)
	if err != nil {
		return err
	}
	if after-before > boundBytes {
		return fmt.Errorf("resident memory grew from %d to %d bytes by %d claims of %d bytes", before, after, claims, each)
	}
	return nil
}

// peerPID is the process at the other end of a Unix socket.
func peerPID(nc net.Conn) (int, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return 0, errors.New("not a socket of the system")
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return 0, err
	}
	var pid int
	var credErr error
	if err := raw.Control(func(fd uintptr) { pid, credErr = peerOf(int(fd)) }); err != nil {
		return 0, err
	}
	if credErr == nil && pid <= 0 {
		credErr = errors.New("the peer has no process id here")
	}
	return pid, credErr
}

// residentBytes reads how much memory a process has.
func residentBytes(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, fmt.Errorf("statm holds %q", b)
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// storm opens and drops connections at every stage of the handshake, quickly, and then expects an answer. (G26)
func (e *env) storm(ctx context.Context) error {
	stages := []string{"", "H", "HELLO 1.0", handshake, handshake + "KEY PUT ", handshake + "QUIT\r\n", handshake + "[ID:"}
	err := together(8, func(i int) error {
		for j := range e.scaled(60) {
			c, err := e.dial(ctx)
			if err != nil {
				return err
			}
			if stage := stages[(i+j)%len(stages)]; stage != "" {
				// The server may be gone already: that is what this is about.
				_ = c.send(stage) // judged by the last command below
			}
			if err := c.close(); err != nil {
				return err
			}
			e.badInputs.Add(1)
		}
		return nil
	})
	return errors.Join(err, e.with(ctx, func(c *conn) error {
		return c.want("COUNT "+e.freshTable(), "COUNT:0", "OK")
	}))
}
