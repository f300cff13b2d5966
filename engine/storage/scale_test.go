// SPDX-License-Identifier: AGPL-3.0-only

package storage

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/internal/invariants"
)

const (
	scaleGroups    = 1_000_000
	scaleHelperEnv = "ATLAS_TEST_SCALE_DIR"
)

func groupName(i int) string { return fmt.Sprintf("table%07d", i) }

// residentMiB reads what the kernel says of this process.
func residentMiB(t *testing.T) (mib int) {
	t.Helper()
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &mib); err == nil {
			return mib / 1024
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestMillionGroups opens a store of a million groups with an acceptor record and one row each, in a process of its own,
// and looks at the time and the memory that this takes.
func TestMillionGroups(t *testing.T) {
	if !long() {
		t.Skip("a million groups: ATLAS_LONG=1")
	}
	if invariants.Enabled {
		t.Skip("its bounds are those of a build without the race detector")
	}
	dir := t.TempDir() + "/atlas"
	s := mustOpen(t, Options{Dir: dir})
	began := time.Now()
	b := s.NewBatch()
	defer b.Close()
	record, val := bytes.Repeat([]byte("r"), 120), bytes.Repeat([]byte("v"), 100)
	for i := range scaleGroups {
		b.SetRecord(groupName(i), record)
		b.PutVersion(groupName(i), []byte(".row"), Timestamp(i+1), 0, Version{Value: val})
		if b.Len() > 1<<20 || i == scaleGroups-1 {
			if err := b.Commit(i == scaleGroups-1); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	t.Logf("written in %v, %d MiB on disk", time.Since(began).Round(time.Millisecond), s.Metrics().DiskBytes>>20)
	mustClose(t, s)
	cmd := exec.Command(os.Args[0], "-test.run", "^TestScaleHelper$", "-test.v")
	cmd.Env = append(os.Environ(), scaleHelperEnv+"="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var openMS, answerMS, before, opened, walked, groups int
	for line := range strings.Lines(string(out)) {
		if _, err := fmt.Sscanf(line, "scale: %d %d %d %d %d %d", &openMS, &answerMS, &before, &opened, &walked, &groups); err == nil {
			break
		}
	}
	t.Logf("open %d ms, first answer %d ms later; resident %d MiB before, %d after, %d after a walk over all %d records", openMS, answerMS, before, opened, walked, groups)
	if groups != scaleGroups || openMS+answerMS > 3000 || opened > 300 || walked > 300 {
		t.Errorf("out of bounds:\n%s", out)
	}
}

// TestScaleHelper is the other process of TestMillionGroups.
func TestScaleHelper(t *testing.T) {
	dir := os.Getenv(scaleHelperEnv)
	if dir == "" {
		t.Skip("runs in a process of its own")
	}
	before := residentMiB(t)
	began := time.Now()
	s := mustOpen(t, Options{Dir: dir})
	opened := time.Since(began)
	v, ok, err := s.GetAt(groupName(scaleGroups/2), []byte(".row"), newest)
	if err != nil || !ok || v.Close() != nil {
		t.Fatal(ok, err)
	}
	answered := time.Since(began) - opened
	after := residentMiB(t)
	gs, err := s.Groups("")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for gs.Next() {
		n++
	}
	if gs.Err() != nil || gs.Close() != nil {
		t.Fatal(gs.Err())
	}
	fmt.Printf("scale: %d %d %d %d %d %d\n", opened.Milliseconds(), answered.Milliseconds(), before, after, residentMiB(t), n)
	mustClose(t, s)
}
