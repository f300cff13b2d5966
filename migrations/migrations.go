// SPDX-License-Identifier: AGPL-3.0-only

// Package migrations brings data directories that older versions of Atlas wrote to the format of this one.
//
// A format is a number. Each step leads from one format to the next; there is no way back. The package decides which
// steps run and in which order, and holds the steps themselves; the store that it changes is an interface, which
// engine/storage implements.
//
// What a step must keep true, so that a crash at any write only costs time:
//
//   - it writes through Store.Write alone, and its position goes into the same write as the records: after a crash it
//     goes on from there, and a record is never seen half changed;
//   - it is idempotent all the same: run from its beginning over its own results, it changes nothing;
//   - it holds its own copy of the encodings that it reads and writes, so that a later change to the product cannot change
//     what it means.
//
// Before a step's first write the store's marker is raised to the step's format, so that an older version refuses the
// directory from then on, half migrated or not; when the step has ended, and that is durable, the format record follows.
//
// The package starts no goroutine and keeps no state.
package migrations

import (
	"context"
	"fmt"
	"log/slog"
)

// Oldest and Newest are the formats that this version can read, after migration, and writes.
const (
	Oldest = 1
	Newest = 5
)

// Record is one stored record. Version is 0 for records that have none.
type Record struct {
	Key     []byte
	Version uint64
	Value   []byte
}

// Write is a record to be stored, or with Delete set to be removed.
type Write struct {
	Record
	Delete bool
}

// Store is what a step works on: raw records, ordered by key and, within a key, from the newest version to the oldest.
type Store interface {
	// Each calls fn for the records with lower <= key < upper until it returns false or an error. The record is valid
	// during the call only.
	Each(lower, upper []byte, fn func(Record) (bool, error)) error
	// Write stores the records and, in the same batch, the position of the step under way. It need not be durable at once,
	// but nothing later becomes durable before it.
	Write(records []Write, position []byte) error
	// Position is what the last Write for the format left, also before a crash; nil if there was none.
	Position(format uint32) ([]byte, error)
	// Begin makes the directory refuse versions older than the format. It is durable on return.
	Begin(format uint32) error
	// Finish records that all is now in the format, and forgets the position. It is durable on return.
	Finish(format uint32) error
}

// Step leads from the format before To to To.
type Step struct {
	To   uint32
	Name string
	Run  func(ctx context.Context, s Store, position []byte, progress func(done int64)) error
}

// Steps are all there are, in order.
func Steps() []Step {
	return []Step{
		{To: 2, Name: "mark version records and index their expiry", Run: markVersions},
		{To: 3, Name: "allow acceptor records of version 2", Run: nothing},
		{To: 4, Name: "allow change records of several changes", Run: nothing},
		{To: 5, Name: "allow versions that carry acceptor records", Run: nothing},
	}
}

// Run brings a store of the format from to Newest.
func Run(ctx context.Context, s Store, from uint32, log *slog.Logger) error {
	return run(ctx, s, from, Newest, Steps(), log)
}

func run(ctx context.Context, s Store, from, newest uint32, steps []Step, log *slog.Logger) error {
	if from < Oldest || from > newest {
		return fmt.Errorf("format %d is not in %d..%d", from, Oldest, newest)
	}
	for _, step := range steps {
		if step.To <= from {
			continue
		}
		if step.To != from+1 {
			return fmt.Errorf("no migration leads from format %d to %d", from, from+1)
		}
		if err := runStep(ctx, s, step, log); err != nil {
			return fmt.Errorf("migrating to format %d (%s): %w", step.To, step.Name, err)
		}
		from = step.To
	}
	if from != newest {
		return fmt.Errorf("no migration leads from format %d to %d", from, newest)
	}
	return nil
}

func runStep(ctx context.Context, s Store, step Step, log *slog.Logger) error {
	if err := s.Begin(step.To); err != nil {
		return err
	}
	position, err := s.Position(step.To)
	if err != nil {
		return err
	}
	log.Info("migration begins", "format", step.To, "step", step.Name, "resumed", position != nil)
	var total int64
	progress := func(done int64) {
		total = done
		log.Info("migration goes on", "format", step.To, "records", done)
	}
	if err := step.Run(ctx, s, position, progress); err != nil {
		return err
	}
	if err := s.Finish(step.To); err != nil {
		return err
	}
	log.Info("migration has ended", "format", step.To, "records", total)
	return nil
}
