// SPDX-License-Identifier: AGPL-3.0-only

//go:build unix

package wire

import (
	"net"
	"syscall"
)

// Idle tells whether c, on which nothing is awaited, is still open and silent: the server neither closed it nor sent
// anything. It does not wait. A connection whose descriptor cannot be reached counts as idle, and so does one of TLS with
// bytes waiting, for these may be the transport's own.
func Idle(c net.Conn) bool {
	secured := false
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c, secured = t.NetConn(), true
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return true
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	idle := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		n, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		idle = err == syscall.EAGAIN || err == nil && n > 0 && secured
		return true
	})
	return err == nil && idle
}
