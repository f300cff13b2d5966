// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"net"
	"os"
	"syscall"
)

// peerCredentials are what the kernel says of the process at the other end.
type peerCredentials struct {
	known bool
	uid   uint32
}

// readPeer asks the kernel who connected a Unix socket. Any other connection, and any doubt, gives no credentials.
func readPeer(nc net.Conn) peerCredentials {
	uc, ok := nc.(*net.UnixConn)
	if !ok {
		return peerCredentials{}
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return peerCredentials{}
	}
	var cred *syscall.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	if err != nil || credErr != nil {
		return peerCredentials{}
	}
	return peerCredentials{known: true, uid: cred.Uid}
}

// trusted says whether the peer is the server's own user, or root.
func (p peerCredentials) trusted() bool {
	return p.known && (p.uid == 0 || int(p.uid) == os.Geteuid())
}
