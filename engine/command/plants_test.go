// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package command

import (
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestPlantsAreFound: each planted bug of this package is seen by the histories, soon.
func TestPlantsAreFound(t *testing.T) {
	const seeds = 40
	for _, site := range []failpoint.Site{
		failpoint.CommandSkipWorm, failpoint.CommandSkipReadSet, failpoint.CommandForgetKeyGrants,
	} {
		t.Run(string(site), func(t *testing.T) {
			disarm, err := failpoint.Arm(site, 0.25, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			for seed := range uint64(seeds) {
				err := seededHistory(seed).run(100)
				if _, fired := failpoint.Counts(site); err != nil && fired > 0 {
					t.Logf("found at seed %d after it fired %d times: %v", seed, fired, err)
					return
				}
			}
			t.Errorf("not found in %d histories", seeds)
		})
	}
}
