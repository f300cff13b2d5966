// SPDX-License-Identifier: AGPL-3.0-only

//go:build !linux

package main

import (
	"errors"
	"os"
	"syscall"
	"time"
)

// errNoProc is what everything that reads /proc answers elsewhere: there is nothing to compare without it.
var errNoProc = errors.New("measuring other processes needs Linux's /proc")

// memory is what is known of a process's resident memory, in bytes.
type memory struct {
	RSS, Peak int64
}

func childAttr() *syscall.SysProcAttr { return nil }

func ownCPU() (time.Duration, error) { return 0, errNoProc }

func processCPU(int) (time.Duration, error) { return 0, errNoProc }

func machineCPU() (busy, total time.Duration, err error) { return 0, 0, errNoProc }

func processMemory(int) (memory, error) { return memory{}, errNoProc }

func resetPeak(int) error { return errNoProc }

func inMemory(string) (bool, error) { return false, errNoProc }

func fdatasync(f *os.File) error { return f.Sync() }
