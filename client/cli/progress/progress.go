// SPDX-License-Identifier: AGPL-3.0-only

// Package progress shows how far a long transfer has come, on a terminal and nowhere else.
package progress

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/atlas-edge/atlas/client/cli"
)

// Bar is a line on a terminal with count, rate and, when the total is known, the time left. A nil *Bar shows nothing. Not
// for concurrent use. It starts no goroutine.
type Bar struct{ bar *progressbar.ProgressBar }

// Bytes returns a Bar that counts bytes up to total (-1: not known), or nil when w is no terminal.
func Bytes(w io.Writer, label string, total int64) *Bar {
	return newBar(w, label, total, progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true))
}

// Items returns a Bar that counts things up to total (-1: not known), or nil when w is no terminal.
func Items(w io.Writer, label, unit string, total int64) *Bar {
	return newBar(w, label, total, progressbar.OptionShowIts(), progressbar.OptionSetItsString(unit))
}

func newBar(w io.Writer, label string, total int64, extra ...progressbar.Option) *Bar {
	if !cli.IsTerminal(w) {
		return nil
	}
	options := append([]progressbar.Option{
		progressbar.OptionSetWriter(w),
		progressbar.OptionSetDescription(label),
		progressbar.OptionSetWidth(24),
		progressbar.OptionThrottle(100 * time.Millisecond),
		progressbar.OptionShowCount(),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine
		progressbar.OptionClearOnFinish(),
	}, extra...)
	return &Bar{bar: progressbar.NewOptions64(total, options...)}
}

// Add counts n more.
func (b *Bar) Add(n int64) {
	if b != nil {
		_ = b.bar.Add64(n) // an error of showing progress does not stop the work
	}
}

// Set counts n in all.
func (b *Bar) Set(n int64) {
	if b != nil {
		_ = b.bar.Set64(n) // as in Add
	}
}

// Label changes the text before the bar.
func (b *Bar) Label(s string) {
	if b != nil {
		b.bar.Describe(s)
	}
}

// Done takes the line away.
func (b *Bar) Done() {
	if b != nil {
		_ = b.bar.Finish() // as in Add
	}
}

// Reader counts what is read from r.
func (b *Bar) Reader(r io.Reader) io.Reader {
	if b == nil {
		return r
	}
	return &counter{r: r, bar: b}
}

type counter struct {
	r   io.Reader
	bar *Bar
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.bar.Add(int64(n))
	return n, err
}
