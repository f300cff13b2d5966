// SPDX-License-Identifier: AGPL-3.0-only

//go:build !plants

package failpoint

import "testing"

func TestOffMisbehavesNowhere(t *testing.T) {
	for _, s := range sites() {
		if Enabled(s) {
			t.Errorf("%s is enabled in a build without the tag", s)
		}
	}
	if Built {
		t.Error("Built")
	}
	if n := testing.AllocsPerRun(100, func() { Enabled(CommandSkipWorm) }); n != 0 {
		t.Errorf("%v allocations a question", n)
	}
}

// BenchmarkOff must show the cost of an empty loop: the site is not compiled in.
func BenchmarkOff(b *testing.B) {
	for b.Loop() {
		if Enabled(CommandSkipWorm) {
			b.Fatal("enabled")
		}
	}
}
