// SPDX-License-Identifier: AGPL-3.0-only

//go:build plants

package failpoint

import (
	"strings"
	"testing"
)

func run(t *testing.T, probability float64, seed uint64, n int) string {
	t.Helper()
	disarm, err := Arm(CommandSkipWorm, probability, seed)
	if err != nil {
		t.Fatal(err)
	}
	defer disarm()
	var pattern strings.Builder
	var want uint64
	for range n {
		if Enabled(CommandSkipWorm) {
			pattern.WriteByte('x')
			want++
		} else {
			pattern.WriteByte('.')
		}
	}
	if reached, fired := Counts(CommandSkipWorm); reached != uint64(n) || fired != want {
		t.Errorf("Counts = %d, %d; want %d, %d", reached, fired, n, want)
	}
	return pattern.String()
}

func TestArm(t *testing.T) {
	if Enabled(CommandSkipWorm) {
		t.Error("fires unarmed")
	}
	if got := run(t, 1, 1, 20); got != strings.Repeat("x", 20) {
		t.Errorf("probability 1: %s", got)
	}
	if got := run(t, 0, 1, 20); got != strings.Repeat(".", 20) {
		t.Errorf("probability 0: %s", got)
	}
	first, second, other := run(t, 0.25, 7, 400), run(t, 0.25, 7, 400), run(t, 0.25, 8, 400)
	if first != second {
		t.Error("one seed, two runs")
	}
	if first == other {
		t.Error("two seeds, one run")
	}
	if n := strings.Count(first, "x"); n < 60 || n > 140 {
		t.Errorf("fired %d of 400 at probability 0.25", n)
	}
	if Enabled(CommandSkipWorm) {
		t.Error("fires after it was disarmed")
	}
	if reached, fired := Counts(CommandSkipWorm); reached != 0 || fired != 0 {
		t.Errorf("counts of a disarmed site: %d, %d", reached, fired)
	}
}

func TestArmRefuses(t *testing.T) {
	if _, err := Arm("no-such-site", 1, 1); err == nil {
		t.Error("an unregistered site was armed")
	}
	for _, p := range []float64{-0.1, 1.1} {
		if _, err := Arm(CommandSkipWorm, p, 1); err == nil {
			t.Errorf("probability %v was taken", p)
		}
	}
	for _, list := range []string{"no-such-site", "command-skip-worm=x", "command-skip-worm=NaN", "command-skip-worm=1@x", "command-skip-worm=2"} {
		if err := Parse(list); err == nil {
			t.Errorf("Parse(%q) was taken", list)
		}
	}
}

func TestParse(t *testing.T) {
	if err := Parse("command-skip-worm=0.5@9,,command-skip-read-set"); err != nil {
		t.Fatal(err)
	}
	defer disarmSite(CommandSkipWorm)
	defer disarmSite(CommandSkipReadSet)
	if !Enabled(CommandSkipReadSet) || Enabled(CommandForgetKeyGrants) {
		t.Error("Parse armed something else")
	}
	if st := registry.armed[CommandSkipWorm]; st == nil || st.probability != 0.5 {
		t.Errorf("armed %+v", st)
	}
}
