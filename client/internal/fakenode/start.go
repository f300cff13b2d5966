// SPDX-License-Identifier: AGPL-3.0-only

package fakenode

import (
	"net"
	"path/filepath"
	"testing"
)

// Start serves the node on a Unix socket until the test ends, and returns the socket's path.
func (n *Node) Start(t testing.TB) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "s")
	n.StartAt(t, path)
	return path
}

// StartAt serves the node on a Unix socket at path until the test ends.
func (n *Node) StartAt(t testing.TB, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	n.Serve(l)
	t.Cleanup(n.Close)
}
