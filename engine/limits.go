// SPDX-License-Identifier: AGPL-3.0-only

package engine

import (
	"time"

	"github.com/atlas-edge/atlas/engine/command"
)

// Limits of what a client may ask for. docs/reference/protocol.md gives them to users.
const (
	// ValueLenMax bounds a value, in bytes.
	ValueLenMax = command.ValueLenMax
	// TTLMax bounds a time to live and the time for which a key is write-once.
	TTLMax = 100 * 365 * 24 * time.Hour
	// TxnMutationsMax and TxnBytesMax bound what a transaction writes; TxnReadsMax the keys and ranges that it reads.
	TxnMutationsMax = 65_536
	TxnBytesMax     = 128 << 20
	TxnReadsMax     = 65_536
	// TxnAgeMax is how long a transaction may stay open: its snapshot holds old versions on the disk, and its reads can be
	// checked only against changes that are kept.
	TxnAgeMax = command.SnapshotAgeMax - 10*time.Second
	// SampleMax bounds the keys of one Sample.
	SampleMax = 10_000
	// RowsCountedMax is where TableInfo stops counting.
	RowsCountedMax = 100_000
	// TablesListedMax bounds one answer of Tables, Groups and of GroupInfo's tables.
	TablesListedMax = 10_000
	// SecretLenMin and SecretLenMax bound a secret, in bytes.
	SecretLenMin = 8
	SecretLenMax = 1024
)

const (
	// collectSlack is added to the retention before old versions are removed, for reads that began just before.
	collectSlack = 30 * time.Second
	// secretChecksMax bounds the secrets that are checked at once: each takes 19 MiB of memory.
	secretChecksMax = 2
	// scanCheckEvery is how many rows a scan reads between two looks at its context.
	scanCheckEvery = 1024
	// txnEntryCost is about what a write or read of a transaction takes in memory besides its bytes.
	txnEntryCost = 256
	// reapInterval is the pause, at the most, between two looks at idle transactions.
	reapInterval = time.Second
)
