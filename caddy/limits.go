// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"time"

	"github.com/atlas-edge/atlas/engine"
)

// Bounds of options; docs/reference/configuration.md gives them to operators. Those of the engine's own options are the
// engine's.
const (
	// CredentialsLenMax bounds the shared secret, in bytes.
	CredentialsLenMax = 1024
	// ConnectMax bounds the addresses to join through.
	ConnectMax = 64
	// FrontendsMax bounds the frontends of one node.
	FrontendsMax = 64
	// MinFreeSpaceMin and MinFreeSpaceMax bound the free space below which writes are refused.
	MinFreeSpaceMin Size = 1 << 20
	MinFreeSpaceMax Size = 1 << 50
	// DrainTimeoutMin and DrainTimeoutMax bound the time that clients get when a frontend stops.
	DrainTimeoutMin = 100 * time.Millisecond
	DrainTimeoutMax = time.Hour
	// DrainTimeoutDefault stays below the 90 s after which systemd kills.
	DrainTimeoutDefault = 10 * time.Second
	// StatusFromMax bounds the address ranges that may read status and metrics.
	StatusFromMax = 64

	cacheSizeMin = Size(engine.CacheBytesMin)
	cacheSizeMax = Size(engine.CacheBytesMax)
)
