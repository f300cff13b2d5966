// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package replication

import (
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestTellingTooSoonIsFound: a round that is made known before its sync has returned is seen.
func TestTellingTooSoonIsFound(t *testing.T) {
	for depth := 1; depth <= 2; depth++ {
		disarm, err := failpoint.Arm(failpoint.ReplicationTellBeforeSync, 1, 1)
		if err != nil {
			t.Fatal(err)
		}
		o := startOverlap(t, depth)
		eventually(t, "something told too soon", func() bool { return o.check() != nil })
		t.Logf("depth %d: %v", depth, o.check())
		if _, fired := failpoint.Counts(failpoint.ReplicationTellBeforeSync); fired == 0 {
			t.Fatal("it never fired: nothing was tested")
		}
		disarm()
		o.letGo()
		if got := <-o.first; got.err != nil {
			t.Fatal(got.err)
		}
	}
}
