// SPDX-License-Identifier: AGPL-3.0-only

package invariants_test

import (
	"errors"
	"testing"

	"github.com/atlas-edge/atlas/internal/invariants"
)

func TestCheck(t *testing.T) {
	invariants.Check(true, "never said")
	defer func() {
		err, ok := recover().(error)
		var v invariants.Violation
		if !ok || !errors.As(err, &v) || err.Error() != "invariant broken: slot 7 follows 5" {
			t.Errorf("panic value %v", err)
		}
	}()
	invariants.Check(false, "slot %d follows %d", 7, 5)
	t.Error("a broken invariant went unseen")
}
