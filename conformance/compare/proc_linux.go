// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// tick is the unit of the CPU times under /proc: the kernel's USER_HZ, 100 on every architecture that Go runs on. The
// kernel counts in nanoseconds and shows ticks, so that only the last digit is lost.
const tick = time.Second / 100

// childAttr ends a child with this process, whatever ends this process.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// ownCPU is the CPU time of this process.
func ownCPU() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// processCPU is the CPU time of another process, user and system.
func processCPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the program's name in parentheses and may hold anything; utime and stime are the 14th and 15th.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	return sumTicks(fields[11:13])
}

func sumTicks(fields [][]byte) (time.Duration, error) {
	sum := uint64(0)
	for _, f := range fields {
		n, err := strconv.ParseUint(string(f), 10, 63)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}

// machineCPU is how long the machine's CPUs were busy since it started, and how long they have been there in all.
func machineCPU() (busy, total time.Duration, err error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	line, _, _ := bytes.Cut(stat, []byte{'\n'})
	// cpu user nice system idle iowait irq softirq steal guest guest_nice; the guests' are also in user and nice.
	fields := bytes.Fields(line)
	if len(fields) < 9 {
		return 0, 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	idle, err := sumTicks(fields[4:6])
	if err != nil {
		return 0, 0, err
	}
	total, err = sumTicks(fields[1:9])
	return total - idle, total, err
}

// memory is what /proc says of a process's resident memory, in bytes.
type memory struct {
	RSS, Peak int64
}

func processMemory(pid int) (memory, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range bytes.Lines(status) {
		name, rest, _ := bytes.Cut(line, []byte{':'})
		var to *int64
		switch string(name) {
		case "VmRSS":
			to = &m.RSS
		case "VmHWM":
			to = &m.Peak
		default:
			continue
		}
		kib, err := strconv.ParseInt(string(bytes.TrimSuffix(bytes.TrimSpace(rest), []byte(" kB"))), 10, 64)
		if err != nil {
			return memory{}, err
		}
		*to = kib << 10
	}
	return m, nil
}

// resetPeak makes the peak of a process's resident memory what is resident now.
func resetPeak(pid int) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0)
}

// inMemory tells whether a directory's files live in memory only.
func inMemory(dir string) (bool, error) {
	const tmpfs, ramfs = 0x01021994, 0x858458f6
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return false, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	kind := uint32(s.Type)
	return kind == tmpfs || kind == ramfs, nil
}

func fdatasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
