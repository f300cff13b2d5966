// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// setting is what stands above every table: where, when and from what the figures came.
type setting struct {
	Command  string    `json:"command"`
	Commit   string    `json:"commit"`
	Date     time.Time `json:"date"`
	CPU      string    `json:"cpu"`
	Cores    int       `json:"cores"`
	MemoryMB int64     `json:"memory_mb"`
	Kernel   string    `json:"kernel"`
	Go       string    `json:"go"`
	Disk     string    `json:"disk"`
	// SyncMicros is the median time of appending 128 bytes to a file and fdatasync, before and after the run.
	SyncMicros []float64 `json:"sync_us"`
	Versions   []string  `json:"versions"`
	// Plan says what was measured for how long.
	Plan string `json:"plan"`
	Seed uint64 `json:"seed"`
}

// describe gathers the setting. What cannot be found out is "unknown": it does not stop a run.
func describe(ctx context.Context, env *environment, args []string) setting {
	s := setting{
		Command: strings.Join(append([]string{"go run ./conformance/compare"}, args...), " "),
		Commit:  commit(ctx),
		Date:    time.Now().UTC().Truncate(time.Second),
		CPU:     cmp.Or(procValue("/proc/cpuinfo", "model name"), "unknown"),
		Cores:   runtime.NumCPU(),
		Kernel:  "unknown",
		Go:      runtime.Version(),
		Disk:    fileSystem(env.dir),
		Seed:    env.seed,
	}
	if kib, err := strconv.ParseInt(strings.TrimSuffix(procValue("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		s.MemoryMB = kib * 1024 / 1e6
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		s.Kernel = strings.TrimSpace(string(b))
	}
	return s
}

// procValue finds the first "name : value" in a file of /proc.
func procValue(file, name string) string {
	b, err := os.ReadFile(file)
	if err != nil {
		return ""
	}
	for line := range bytes.Lines(b) {
		if before, after, ok := bytes.Cut(line, []byte{':'}); ok && string(bytes.TrimSpace(before)) == name {
			return string(bytes.TrimSpace(after))
		}
	}
	return ""
}

// commit is that of the working tree, with a mark when the tree differs from it.
func commit(ctx context.Context) string {
	b, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

// fileSystem names the type and device under dir.
func fileSystem(dir string) string {
	b, err := os.ReadFile("/proc/mounts")
	if err != nil {
		return "unknown"
	}
	found, longest := "unknown", -1
	for line := range strings.Lines(string(b)) {
		f := strings.Fields(line)
		if len(f) < 3 || len(f[1]) <= longest {
			continue
		}
		if rel, err := filepath.Rel(f[1], dir); err == nil && rel != ".." && !strings.HasPrefix(rel, "../") {
			found, longest = f[2]+" on "+f[0], len(f[1])
		}
	}
	return found
}

// version asks a program for its version and returns the first line.
func version(ctx context.Context, name string, args ...string) string {
	b, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return name + ": unknown version"
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// pebbleVersion is that of the module that this program was built with.
func pebbleVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "Pebble: unknown version"
	}
	for _, m := range info.Deps {
		if m.Path == "github.com/cockroachdb/pebble/v2" {
			return "Pebble " + m.Version
		}
	}
	return "Pebble: unknown version"
}

// syncTime is the median of 100 appends with fdatasync, in microseconds: what the disk gives to one writer.
func syncTime(dir string) (float64, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return 0, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	took := make([]float64, 100)
	for i := range took {
		began := time.Now()
		if _, err := f.Write(make([]byte, 128)); err != nil {
			return 0, err
		}
		if err := fdatasync(f); err != nil {
			return 0, err
		}
		took[i] = float64(time.Since(began).Nanoseconds()) / 1e3
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}
