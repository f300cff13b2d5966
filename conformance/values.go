// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

const valueMax = 128 << 20

// valueLengths stores values of every length that a boundary lies near, and refuses the first beyond the limit, with
// its bytes consumed. (G9, G25)
func (e *env) valueLengths(ctx context.Context) error {
	table := e.freshTable()
	lengths := []int{0, 1, 2, 1023, 1024, 1025}
	for _, boundary := range []int{4 << 10, 16 << 10, 32 << 10, 64 << 10, 256 << 10, 512 << 10, 1 << 20} {
		lengths = append(lengths, boundary-1, boundary, boundary+1)
	}
	lengths = append(lengths, 5<<20+12345, valueMax)
	return e.with(ctx, func(c *conn) error {
		for _, n := range lengths {
			key := fmt.Sprintf("%s.n%d", table, n)
			want := pattern(key, n)
			if err := c.upload(key, want); err != nil {
				return err
			}
			if err := c.wantBlob(key, want); err != nil {
				return err
			}
			e.operations.Add(2)
		}
		key := table + ".toolong"
		if err := c.send(fmt.Sprintf("KEY BLOB SET %s %d\r\n", key, valueMax+1)); err != nil {
			return err
		}
		chunk := strings.Repeat("x", 1<<20)
		for range valueMax >> 20 {
			if err := c.send(chunk); err != nil {
				return err
			}
		}
		if err := c.send("x"); err != nil {
			return err
		}
		r, err := c.answer("")
		if err != nil || r.word() != "too_large" || r.fatal {
			return fmt.Errorf("a value one byte too long: %+v, %w", r, err)
		}
		e.badInputs.Add(1)
		if err := c.want("KEY GET "+key, "NOT_FOUND", "OK"); err != nil {
			return err
		}
		return errors.Join(c.want("KEY DEL "+fmt.Sprintf("%s.n%d", table, valueMax), "OK"), e.lineTooLong(ctx))
	})
}

// lineTooLong sends a line that ends beyond the limit: a fatal error, and the end.
func (e *env) lineTooLong(ctx context.Context) error {
	return e.with(ctx, func(c *conn) error {
		if err := c.send("KEY PUT " + e.freshTable() + ".r "); err != nil {
			return err
		}
		chunk := strings.Repeat("x", 1<<20)
		for range valueMax>>20 + 1 {
			// The server may end the connection as soon as it has seen enough.
			if err := c.send(chunk); err != nil {
				break
			}
		}
		e.badInputs.Add(1)
		if err := c.expect("ERROR FATAL command exceeded maximum length"); err != nil {
			return err
		}
		return c.eof()
	})
}

// wantBlob reads a value byte for byte, by the exact frames of the protocol: nothing stands between the bytes and OK.
func (c *conn) wantBlob(key, want string) error {
	if err := c.send("KEY BLOB GET " + key + "\r\n"); err != nil {
		return err
	}
	if err := c.expect(fmt.Sprintf("BLOB %d", len(want))); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	got, err := c.bytes(len(want))
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if string(got) != want {
		return fmt.Errorf("%s: value differs at byte %d", key, differsAt(string(got), want))
	}
	return c.expect("OK")
}

// anyBytes stores values of random bytes, every byte value among them, and things that look like the protocol. Each comes
// back as it was, as a blob, in a scan, and inside of a transaction. (G9, G22)
func (e *env) anyBytes(ctx context.Context) error {
	table := e.freshTable()
	var all [256]byte
	for i := range all {
		all[i] = byte(i)
	}
	values := []string{
		string(all[:]), "OK\r\n", "ERROR FATAL x\r\n", "[ID:1] OK\r\n", "BLOB 10\r\n", "VALUE:x\r\nOK\r\n", "\x00", "\r", "\n", "\r\n", "\xff\xfe",
		"\xed\xa0\x80", "\u0085", "\u2028", "\ufeff", " lead", "trail ", "\t",
	}
	rng := e.rng(2)
	for range e.scaled(40) {
		values = append(values, randomBytes(rng, rng.IntN(3000)))
	}
	return e.with(ctx, func(c *conn) error {
		for i, v := range values {
			if err := c.upload(fmt.Sprintf("%s.r%04d", table, i), v); err != nil {
				return err
			}
		}
		for _, statement := range []string{"", "BEGIN", ""} {
			if statement != "" {
				if err := c.want(statement, "OK"); err != nil {
					return err
				}
			}
			for i, v := range values {
				if err := c.wantBlob(fmt.Sprintf("%s.r%04d", table, i), v); err != nil {
					return err
				}
			}
			if err := c.wantScan(table, values); err != nil {
				return err
			}
			e.operations.Add(int64(2 * len(values)))
			if statement != "" {
				if err := c.want("ROLLBACK", "OK"); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func randomBytes(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// wantScan expects the values under keys r0000, r0001 and so on, each as text or as a blob.
func (c *conn) wantScan(table string, values []string) error {
	r, err := c.do("SCAN " + table + " VALUES")
	if err != nil || r.fail != "" {
		return fmt.Errorf("scan: %s %w", r.fail, err)
	}
	if len(r.lines) != 1+2*len(values) || r.lines[0] != fmt.Sprintf("KEYS:%d", len(values)) {
		return fmt.Errorf("scan of %d values gives %d lines, the first %q", len(values), len(r.lines), r.lines[0])
	}
	blobs := r.blobs
	for i, want := range values {
		key, frame := r.lines[1+2*i], r.lines[2+2*i]
		if key != fmt.Sprintf("%s.r%04d", table, i) {
			return fmt.Errorf("scan gives key %q as number %d", key, i)
		}
		got, text := strings.CutPrefix(frame, "VALUE:")
		if !text {
			got, blobs = string(blobs[0]), blobs[1:]
		}
		if got != want {
			return fmt.Errorf("scan gives %s the value %.100q, want %.100q", key, got, want)
		}
	}
	return nil
}

// until asks again until the answer is as wanted, or patience ends.
func (c *conn) until(command string, lines ...string) error {
	deadline := time.Now().Add(patience)
	for {
		r, err := c.do(command)
		if err != nil {
			return err
		}
		if r.fail == "" && strings.Join(r.lines, "\n") == strings.Join(lines, "\n") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%.100q still answers %q %s", command, r.lines, r.fail)
		}
		time.Sleep(20 * time.Millisecond) // sleep: the pause between two polls
	}
}

// expiry writes a value that expires, and sees it go from every way of reading, without anybody touching it. (G11)
func (e *env) expiry(ctx context.Context) error {
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		steps := []struct {
			command string
			want    []string
		}{
			{"KEY PUT " + table + ".stays x", []string{"OK"}},
			{"COUNT " + table, []string{"COUNT:1", "OK"}},
		}
		for _, s := range steps {
			if err := c.want(s.command, s.want...); err != nil {
				return err
			}
		}
		lines, err := c.must("KEY WRITE " + table + ".goes TTL 1s VALUE x")
		if err != nil || versionIn(lines) == 0 {
			return fmt.Errorf("write with a TTL: %q %w", lines, err)
		}
		if err := c.until("KEY GET "+table+".goes", "NOT_FOUND"); err != nil {
			return err
		}
		// From now on it is gone for everybody, at once.
		for _, s := range []struct {
			command string
			want    []string
		}{
			{"KEY BLOB GET " + table + ".goes", []string{"EMPTY", "OK"}},
			{"COUNT " + table, []string{"COUNT:1", "OK"}},
			{"SCAN " + table, []string{"KEYS:1", table + ".stays", "OK"}},
			{"SAMPLE " + table + " 5", []string{"KEYS:1", table + ".stays", "OK"}},
			{"KEY GET " + table + ".stays", []string{"VALUE:x", "OK"}},
		} {
			if err := c.want(s.command, s.want...); err != nil {
				return err
			}
		}
		if err := c.refused(fmt.Sprintf("KEY WRITE %s.goes IF VERSION %d VALUE y", table, versionIn(lines)), "conflict"); err != nil {
			return err
		}
		if lines, err = c.must("KEY WRITE " + table + ".goes IF ABSENT VALUE z"); err != nil || versionIn(lines) == 0 {
			return fmt.Errorf("write over what expired: %q %w", lines, err)
		}
		e.operations.Add(10)
		return c.want("KEY GET "+table+".goes", "VALUE:z", "OK")
	})
}

// historyIsWhole asks for changes since a version from before there was anything, as a client would that was away for years: it is given all
// of them, in order, or is refused and told from where it can go on, which then holds. (G20)
func (e *env) historyIsWhole(ctx context.Context) error {
	table := e.freshTable()
	first, err := e.mark(ctx, table)
	if err != nil {
		return err
	}
	second, err := e.mark(ctx, table)
	if err != nil {
		return err
	}
	from := uint64(1)
	for {
		var line string
		err := e.with(ctx, func(c *conn) (err error) {
			w, err := c.watch(table, from)
			if err != nil {
				return err
			}
			if line, err = c.line(); err != nil || !strings.HasPrefix(line, "[ID:w] EVENT ") {
				return err
			}
			if want := fmt.Sprintf("[ID:w] EVENT PUT %d %s.mark", first, table); line != want {
				return fmt.Errorf("a watch from version %d begins with %q, want %q", from, line, want)
			}
			line = ""
			ev, err := w.next()
			if err == nil && ev.Version != second {
				err = fmt.Errorf("a watch from version %d goes on with version %d, want %d", from, ev.Version, second)
			}
			return err
		})
		if err != nil || line == "" {
			return err
		}
		text, refused := strings.CutPrefix(line, "[ID:w] ERROR WARN not_found: ")
		oldest, err := strconv.ParseUint(text[strings.LastIndexByte(text, ' ')+1:], 10, 64)
		switch {
		case !refused || err != nil || oldest <= from:
			return fmt.Errorf("a watch from version %d says %q", from, line)
		case oldest >= first:
			return nil // so slow a run that even the first change is gone
		}
		from = oldest // what is collected meanwhile makes it later
	}
}

// writeOnceEnds holds a write-once value against every way of changing it, until its time; then it is a value as any
// other. (G10)
func (e *env) writeOnceEnds(ctx context.Context) error {
	table := e.freshTable()
	return e.with(ctx, func(c *conn) error {
		begun := time.Now() // the two seconds begin no sooner
		if err := c.want("KEY PUT "+table+".w WORM TTL 2s first", "OK"); err != nil {
			return err
		}
		for _, s := range []string{
			"KEY PUT " + table + ".w second", "KEY SET " + table + ".w second", "KEY DEL " + table + ".w",
			"KEY WRITE " + table + ".w VALUE second", "KEY WRITE " + table + ".w TTL 1ms VALUE second",
			"KEY PUT " + table + ".w WORM TTL 1ms second", "KEY BLOB SET " + table + ".w 1\r\nx",
		} {
			// After the blob's byte comes an empty line, which is ignored.
			r, err := c.do(s)
			if err != nil {
				return err
			}
			if r.fail == "" && time.Since(begun) < time.Second {
				return fmt.Errorf("%q changed a write-once value", s)
			}
			e.operations.Add(1)
		}
		deadline := time.Now().Add(patience)
		for {
			r, err := c.do("KEY PUT " + table + ".w after")
			if err != nil {
				return err
			}
			if r.fail == "" {
				break
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("value is still write-once: %s", r.fail)
			}
			time.Sleep(20 * time.Millisecond) // sleep: the pause between two polls
		}
		if time.Since(begun) < time.Second {
			return errors.New("a value was write-once for less than half of its time")
		}
		return errors.Join(c.want("KEY GET "+table+".w", "VALUE:after", "OK"), c.want("KEY DEL "+table+".w", "OK"))
	})
}
