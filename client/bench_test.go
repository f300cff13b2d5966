// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"testing"

	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

func BenchmarkGetParallel(b *testing.B) {
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, tag, _ string) (bool, error) {
		c.Raw("[ID:" + tag + "] BLOB 5\r\nhello[ID:" + tag + "] OK\r\n")
		return true, nil
	}
	c := dialNode(b, n.Start(b))
	b.ReportAllocs()
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := c.Get(b.Context(), "t.a"); err != nil {
				b.Error(err)
				return
			}
		}
	})
}
