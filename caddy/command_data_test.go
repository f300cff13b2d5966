// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"testing"
	"time"

	"github.com/atlas-edge/atlas/client/cli/bench"
)

// Who asked for no warm-up got one of a second.
func TestNoWarmUp(t *testing.T) {
	for given, want := range map[time.Duration]bool{0: false, time.Second: true} {
		o := bench.Options{WarmUp: noWarmUp(given)}
		o.EnsureDefaults()
		if got := o.WarmUp > 0; got != want {
			t.Errorf("--warm-up %v: %v", given, o.WarmUp)
		}
	}
}
