// SPDX-License-Identifier: AGPL-3.0-only

package conformance

import "syscall"

// peerOf asks the kernel which process listens at the other end.
func peerOf(fd int) (int, error) {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return 0, err
	}
	return int(cred.Pid), nil
}
