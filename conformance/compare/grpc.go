// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
)

// grpcConn makes unary gRPC calls of one method over HTTP/2, one after the other, and knows no more of either than that
// needs (RFC 9113, RFC 7541 and gRPC's PROTOCOL-HTTP2). google.golang.org/grpc spends about three times the CPU on
// a call (docs/performance.md) and, on a machine that client and server share, takes it from the server that is measured.
//
// Frames are 9 bytes (length:be24 type flags stream:be32) and a payload. The headers of the first call enter the peer's
// table; later calls name them by one byte each, as other clients do.
type grpcConn struct {
	conn      net.Conn
	r         *bufio.Reader
	out       []byte
	answer    []byte
	authority string
	path      string
	stream    uint32
	received  uint32 // bytes of data since the windows were last filled
}

const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	frameGoAway   = 7
	frameWindow   = 8

	flagEnd        = 1 // END_STREAM; ACK on SETTINGS and PING
	flagEndHeaders = 4

	settingWindow = 4
	windowMax     = 1<<31 - 1
	windowDefault = 1<<16 - 1
	streamMax     = 1<<31 - 3
	frameMax      = 16 << 10 // what a peer may send unless told otherwise
)

func newGRPCConn(conn net.Conn, authority, path string) (*grpcConn, error) {
	c := &grpcConn{conn: conn, r: bufio.NewReaderSize(conn, 2*frameMax), authority: authority, path: path, stream: 1}
	out := []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	out = appendFrame(out, frameSettings, 0, 0, 6)
	out = binary.BigEndian.AppendUint16(out, settingWindow)
	out = binary.BigEndian.AppendUint32(out, windowMax)
	out = appendWindow(out, windowMax-windowDefault)
	_, err := conn.Write(out)
	return c, err
}

func appendFrame(dst []byte, kind, flags byte, stream uint32, length int) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), kind, flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendWindow(dst []byte, more uint32) []byte {
	return binary.BigEndian.AppendUint32(appendFrame(dst, frameWindow, 0, 0, 4), more)
}

// appendHeaders appends the header block of a call. Numbers below 62 are the static table's; the four headers that the
// first call adds are 62 and on, the newest first.
func (c *grpcConn) appendHeaders(dst []byte) []byte {
	const post, http = 0x80 | 3, 0x80 | 6
	if c.stream > 1 {
		return append(dst, post, http, 0x80|65, 0x80|64, 0x80|63, 0x80|62)
	}
	add := func(name byte, value string) {
		dst = append(dst, 0x40|name, byte(len(value)))
		dst = append(dst, value...)
	}
	dst = append(dst, post, http)
	add(4, c.path)
	add(1, c.authority)
	add(31, "application/grpc")
	dst = append(dst, 0x40, byte(len("te")))
	dst = append(dst, "te"...)
	return append(append(dst, byte(len("trailers"))), "trailers"...)
}

// call sends a message and returns the answer's, which is valid until the next call. A call that the server refused has
// no message: a refusal is headers alone.
func (c *grpcConn) call(message []byte) ([]byte, error) {
	if c.stream > streamMax {
		return nil, errors.New("stream numbers are used up")
	}
	const prefix = 5 // not compressed:1 length:be32
	const header = 9
	c.out = append(c.out[:0], make([]byte, header)...)
	c.out = c.appendHeaders(c.out)
	appendFrame(c.out[:0], frameHeaders, flagEndHeaders, c.stream, len(c.out)-header)
	c.out = appendFrame(c.out, frameData, flagEnd, c.stream, prefix+len(message))
	c.out = append(c.out, 0)
	c.out = binary.BigEndian.AppendUint32(c.out, uint32(len(message)))
	c.out = append(c.out, message...)
	if c.received > windowMax/2 {
		c.out = appendWindow(c.out, c.received)
		c.received = 0
	}
	if _, err := c.conn.Write(c.out); err != nil {
		return nil, err
	}
	c.answer = c.answer[:0]
	for {
		ended, err := c.readFrame()
		if err != nil {
			return nil, err
		}
		if ended {
			break
		}
	}
	c.stream += 2
	if len(c.answer) < prefix || int(binary.BigEndian.Uint32(c.answer[1:])) != len(c.answer)-prefix {
		return nil, fmt.Errorf("the call was refused, or its answer is cut: %d bytes", len(c.answer))
	}
	return c.answer[prefix:], nil
}

// readFrame handles one frame and tells whether it ends the call.
func (c *grpcConn) readFrame() (ended bool, err error) {
	h, err := c.r.Peek(9)
	if err != nil {
		return false, err
	}
	length := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags, stream := h[3], h[4], binary.BigEndian.Uint32(h[5:])
	if length > frameMax {
		return false, fmt.Errorf("frame length %d exceeds limit %d", length, frameMax)
	}
	if _, err := c.r.Discard(9); err != nil {
		return false, err
	}
	payload, err := c.r.Peek(length)
	if err != nil {
		return false, err
	}
	switch {
	case kind == frameGoAway:
		return false, fmt.Errorf("the server ends the connection: %q", payload)
	case kind == frameReset && stream == c.stream:
		return false, errors.New("the server reset the call")
	case kind == framePing && flags&flagEnd == 0:
		_, err = c.conn.Write(append(appendFrame(nil, framePing, flagEnd, 0, length), payload...))
	case kind == frameSettings && flags&flagEnd == 0:
		_, err = c.conn.Write(appendFrame(nil, frameSettings, flagEnd, 0, 0))
	case kind == frameData && stream == c.stream: // never padded by gRPC
		c.answer = append(c.answer, payload...)
		c.received += uint32(length)
		ended = flags&flagEnd != 0
	case kind == frameHeaders && stream == c.stream:
		ended = flags&flagEnd != 0
	}
	if err != nil {
		return false, err
	}
	_, err = c.r.Discard(length)
	return ended, err
}
