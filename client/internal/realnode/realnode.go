// SPDX-License-Identifier: AGPL-3.0-only

// Package realnode runs a real node, engine and socket, in the process of a test of the client or of its programs. The node
// ends with the test, which fails if it does not end well.
package realnode

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends/socket"
)

// Start starts a node without data and returns the path of its socket.
func Start(t testing.TB) (path string) {
	t.Helper()
	dir := t.TempDir()
	e, err := engine.Open(t.Context(), engine.Options{Dir: filepath.Join(dir, "db")})
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(dir, "s")
	s, err := socket.New(e, socket.Options{Path: path})
	if err == nil {
		err = s.Listen()
	}
	if err != nil {
		t.Fatal(errors.Join(err, e.Close()))
	}
	var serving sync.WaitGroup
	var served error
	serving.Go(func() { served = s.Serve(context.Background()) })
	t.Cleanup(func() {
		err := s.Shutdown(context.Background())
		serving.Wait()
		if err = errors.Join(err, served, e.Close()); err != nil {
			t.Error(err)
		}
	})
	return path
}
