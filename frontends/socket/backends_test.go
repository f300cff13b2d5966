// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"context"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/atlas-edge/atlas/engine"
)

// openEngine opens a real engine in memory until the test ends.
func openEngine(t testing.TB) backend {
	e, err := engine.Open(context.Background(), engine.Options{Dir: "data", FS: vfs.NewMem(), MinFreeBytes: -1, CacheBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return engineBackend{e}
}
