// SPDX-License-Identifier: AGPL-3.0-only

//go:build !linux

package bench

import (
	"errors"
	"net"
	"time"
)

func canLoop(net.Conn) bool { return false }

func driveLoops(*clock, []*conn, []net.Conn, int, <-chan struct{}) ([]*stats, error) {
	return nil, errors.ErrUnsupported
}

func peerPID(net.Conn) int { return 0 }

func ownCPU() time.Duration { return 0 }
