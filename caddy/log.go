// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
)

// sink is a log handler whose destination can be exchanged: a node outlives the configuration, and its logs, that
// opened it. Attributes and groups given to it hold for each destination.
type sink struct {
	target *atomic.Pointer[slog.Handler]
	chain  func(slog.Handler) slog.Handler
	// derived is chain applied to the target it was last used with.
	derived atomic.Pointer[derivedHandler]
}

type derivedHandler struct {
	from    *slog.Handler
	handler slog.Handler
}

func newSink(h slog.Handler) *sink {
	s := &sink{target: new(atomic.Pointer[slog.Handler]), chain: func(h slog.Handler) slog.Handler { return h }}
	s.set(h)
	return s
}

// set makes h the destination of this handler and of all derived from it.
func (s *sink) set(h slog.Handler) { s.target.Store(&h) }

func (s *sink) handler() slog.Handler {
	target := s.target.Load()
	if d := s.derived.Load(); d != nil && d.from == target {
		return d.handler
	}
	d := &derivedHandler{from: target, handler: s.chain(*target)}
	s.derived.Store(d)
	return d.handler
}

func (s *sink) with(next func(slog.Handler) slog.Handler) slog.Handler {
	return &sink{target: s.target, chain: func(h slog.Handler) slog.Handler { return next(s.chain(h)) }}
}

// Enabled asks the destination.
func (s *sink) Enabled(ctx context.Context, level slog.Level) bool {
	return s.handler().Enabled(ctx, level)
}

// Handle passes the record to the destination.
func (s *sink) Handle(ctx context.Context, r slog.Record) error {
	out := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		out.AddAttrs(brief(a))
		return true
	})
	return s.handler().Handle(ctx, out)
}

// brief makes an error its text. Handlers show all that an error can say of itself, and those of Pebble can say the stack of
// calls that made them, in dozens of lines.
func brief(a slog.Attr) slog.Attr {
	if err, ok := a.Value.Any().(error); ok {
		return slog.String(a.Key, err.Error())
	}
	return a
}

// WithAttrs adds attributes.
func (s *sink) WithAttrs(attrs []slog.Attr) slog.Handler {
	attrs = slices.Clone(attrs)
	for i, a := range attrs {
		attrs[i] = brief(a)
	}
	return s.with(func(h slog.Handler) slog.Handler { return h.WithAttrs(attrs) })
}

// WithGroup opens a group.
func (s *sink) WithGroup(name string) slog.Handler {
	return s.with(func(h slog.Handler) slog.Handler { return h.WithGroup(name) })
}
