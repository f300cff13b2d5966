// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/atlas-edge/atlas/engine"
)

// still answers at once and with nothing to do, so that a benchmark sees the frontend's own cost.
type still struct{ fakeSession }

func (s *still) NewSession(engine.SessionOptions) session { return s }
func (s *still) Fork() session                            { return s }
func (s *still) Close() error                             { return nil }

var stillValue = fakeValue(strings.Repeat("v", 100))

func (s *still) Get(context.Context, []byte) (item, error) {
	return item{version: 1, size: int64(len(stillValue)), value: stillValue}, nil
}
func (s *still) Put(context.Context, engine.PutRequest) (uint64, error) { return 1, nil }
func (s *still) PutLater(context.Context, engine.PutRequest) (write, error) {
	return fakeWrite{version: 1}, nil
}
func (s *still) InTxn() bool { return false }

// BenchmarkPipelined is the server's side and the kernel's: the client sends prepared bytes and counts what comes back.
func BenchmarkPipelined(b *testing.B) {
	get := "KEY GET users.alice\r\n"
	put := "KEY PUT users.alice " + strings.Repeat("v", 100) + "\r\n"
	got := "VALUE:" + strings.Repeat("v", 100) + "\r\nOK\r\n"
	for _, c := range []struct{ name, command, answer string }{
		{"get", get, got},
		{"put", put, "OK\r\n"},
		{"tagged-get", "[ID:1] " + get, "[ID:1] VALUE:" + strings.Repeat("v", 100) + "\r\n[ID:1] OK\r\n"},
		{"tagged-put", "[ID:1] " + put, "[ID:1] OK\r\n"},
	} {
		for _, depth := range []int{1, 16} {
			b.Run(fmt.Sprintf("%s/depth=%d", c.name, depth), func(b *testing.B) {
				s := start(b, &still{}, Options{})
				b.ReportAllocs()
				const conns = 8
				var wg sync.WaitGroup
				b.ResetTimer()
				for range conns {
					cl := dial(b, s)
					wg.Go(func() { ping(b, cl.nc, c.command, c.answer, depth, b.N/conns/depth+1) })
				}
				wg.Wait()
			})
		}
	}
}

func ping(b testing.TB, nc net.Conn, command, answer string, depth, rounds int) {
	out := []byte(strings.Repeat(command, depth))
	in := make([]byte, len(answer)*depth)
	for range rounds {
		if _, err := nc.Write(out); err != nil {
			b.Error(err)
			return
		}
		if _, err := io.ReadFull(nc, in); err != nil {
			b.Error(err)
			return
		}
	}
}

// BenchmarkCommand is parsing and answering alone: reader and outbox over memory.
func BenchmarkCommand(b *testing.B) {
	for _, line := range []string{
		"KEY GET users.alice",
		"KEY PUT users.alice " + strings.Repeat("v", 100),
		"[ID:1] KEY GET users.alice",
	} {
		b.Run(strings.Fields(strings.TrimPrefix(line, "[ID:1] "))[1]+fmt.Sprint(len(line)), func(b *testing.B) {
			s, err := newServer(&still{}, Options{Path: "/unused"})
			if err != nil {
				b.Fatal(err)
			}
			nc := &memConn{in: bytes.Repeat([]byte(line+"\r\n"), b.N)}
			c := s.admit(context.Background(), nc)
			c.sess = &still{}
			c.req.sess = c.sess
			b.ReportAllocs()
			b.ResetTimer()
			if err := c.commands(); err != io.EOF {
				b.Fatal(err)
			}
			b.StopTimer()
			c.finish(io.EOF)
			s.forget(c)
			s.workers.stop()
		})
	}
}

// memConn gives what is in memory, 4 KiB a read, and swallows what is written.
type memConn struct {
	net.Conn
	in []byte
}

func (m *memConn) Read(p []byte) (int, error) {
	if len(m.in) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 4096)], m.in)
	m.in = m.in[n:]
	return n, nil
}

func (m *memConn) Write(p []byte) (int, error) { return len(p), nil }
func (m *memConn) Close() error                { return nil }
func (m *memConn) RemoteAddr() net.Addr        { return &net.UnixAddr{Name: "@", Net: "unix"} }
