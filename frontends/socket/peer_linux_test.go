// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

// dialAs connects as another user. The kernel takes the credentials of the thread that connects, and a raw system call
// changes those of one thread only.
func dialAs(t *testing.T, path string, uid int) net.Conn {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		t.Fatal(errno)
	}
	nc, err := net.Dial("unix", path)
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SETRESUID, keep, 0, keep); errno != 0 {
		t.Fatal(errno)
	}
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// G15: another user who may open the socket is known by his uid, and trusted with nothing. Needs root, to be another user.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	s := start(t, openEngine(t), Options{Mode: 0o666})
	path := s.Addr().String()
	if err := os.Chmod(path[:strings.LastIndex(path, "/")], 0o755); err != nil {
		t.Fatal(err)
	}
	c := wrap(t, dialAs(t, path, 12345))
	c.greet()
	for _, nc := range s.snapshot(nil) {
		if nc.source != "uid 12345" || nc.peer.trusted() {
			t.Errorf("peer %+v", nc.peer)
		}
	}
	own := dial(t, s)
	own.do("PRINCIPAL ASSUME alice")
	for command, want := range map[string]string{
		"PRINCIPAL SECRET alice a secret of alice": "OK\n", "KEY PUT users.alice 1": "OK\n",
	} {
		if got := own.do(command); got != want {
			t.Fatalf("%s: %q", command, got)
		}
	}
	for _, command := range []string{
		"PRINCIPAL ASSUME alice", "KEY GET users.alice", "KEY PUT users.alice 2", "KEY PUT users.alice PRINCIPAL alice 2", "SCAN users",
		"COUNT users", "SAMPLE users 1", "[ID:1] WATCH users", "TABLE LIST", "NODE LIST", "BEGIN", "PRINCIPAL AUTH alice wrong",
		"PRINCIPAL SECRET alice mine from now on", "ACL GRANT users bob PERMS OWNER",
	} {
		if got := c.do(command); !strings.Contains(got, "ERROR WARN denied: ") {
			t.Errorf("%s: %q", command, got)
		}
	}
	if got := c.do("PRINCIPAL AUTH alice a secret of alice"); got != "OK\n" {
		t.Errorf("the right secret: %q", got)
	}
	if got := c.do("KEY GET users.alice"); got != "VALUE:1\nOK\n" {
		t.Errorf("as alice: %q", got)
	}
	if got := c.do("PRINCIPAL ASSUME root"); !strings.HasPrefix(got, "ERROR WARN denied: ") {
		t.Errorf("assuming another: %q", got)
	}
}
