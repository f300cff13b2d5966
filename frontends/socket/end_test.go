// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
)

// roomyListener gives its connections large send buffers, so that an answer can be handed over before the client takes it.
type roomyListener struct{ net.Listener }

func (l roomyListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		err = nc.(*net.TCPConn).SetWriteBuffer(1 << 20)
	}
	return nc, err
}

// An answer that is on its way when the server stops, or the client quits, arrives whole, though the client has sent more that
// nobody will read: on TCP, closing over unread bytes resets the connection and drops what the client has yet to receive.
func TestEndKeepsAnswers(t *testing.T) {
	const size = 200 << 10
	for name, between := range map[string]string{"shutdown": "", "quit": "QUIT\r\n"} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f := newFake()
			f.rows["b.v"] = fakeRow{value: bytes.Repeat([]byte("v"), size), version: 1}
			inside, leave := make(chan struct{}), make(chan struct{})
			f.hook = func(context.Context, string, []byte) error {
				close(inside)
				<-leave
				return nil
			}
			s := start(t, f, Options{Listener: roomyListener{l}})
			nc, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if err := nc.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
				t.Fatal(err)
			}
			c := wrap(t, nc)
			c.greet()
			c.send("KEY BLOB GET b.v\r\n" + between)
			<-inside
			c.send(strings.Repeat("KEY GET b.none\r\n", 10*bufferSize))
			want := fmt.Sprintf("BLOB %d\r\n%sOK\r\n", size, strings.Repeat("v", size))
			if between == "" {
				s.drain()
			} else {
				want += "OK\r\n"
			}
			close(leave)
			got, err := io.ReadAll(c.r)
			if string(got) != want || err != nil {
				t.Errorf("%d of %d bytes, %v", len(got), len(want), err)
			}
		})
	}
}
