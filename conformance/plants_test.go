// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package conformance

import (
	"errors"
	"regexp"
	"testing"

	"github.com/atlas-edge/atlas/internal/failpoint"
)

// TestPlants gives a node one fault at a time, and expects the cases that are there to see it to fail:
//
//	go test -tags plants -run TestPlants ./conformance
func TestPlants(t *testing.T) {
	for _, p := range []struct {
		site  failpoint.Site
		cases string
	}{
		{failpoint.CommandSkipWorm, "transcripts/worm"},
		{failpoint.CommandSkipWorm, "time/write-once ends"},
		{failpoint.CommandSkipReadSet, "transcripts/transactions"},
		{failpoint.CommandSkipReadSet, "history/no write skew"},
		{failpoint.CommandForgetKeyGrants, "permissions/key"},
		{failpoint.CommandForgetKeyGrants, "permissions/both"},
		{failpoint.CommandForgetKeyGrants, "transcripts/acl"},
	} {
		t.Run(string(p.site)+"/"+p.cases, func(t *testing.T) {
			n := startNode(t, nodeOptions{})
			e := crashEnv(t, n.path)
			all, err := cases()
			if err != nil {
				t.Fatal(err)
			}
			disarm, err := failpoint.Arm(p.site, 1, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer disarm()
			seen := 0
			for _, c := range all {
				if !regexp.MustCompile(p.cases).MatchString(c.name) {
					continue
				}
				err := c.run(e, t.Context())
				var skip errSkip
				if err == nil || errors.As(err, &skip) {
					t.Errorf("%s does not see it: %v", c.name, err)
				} else {
					t.Logf("%s sees it: %.200v", c.name, err)
					seen++
				}
			}
			if _, fired := failpoint.Counts(p.site); fired == 0 || seen == 0 {
				t.Errorf("the fault happened %d times and was seen by %d cases", fired, seen)
			}
		})
	}
}
