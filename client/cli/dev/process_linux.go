// SPDX-License-Identifier: AGPL-3.0-only

//go:build linux

package dev

import (
	"io/fs"
	"os"
	"syscall"
)

// childAttributes put the child into a process group of its own, out of reach of the terminal's Ctrl-C, and end it when
// this process dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}

func ownedByUs(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == os.Getuid()
}
