// SPDX-License-Identifier: AGPL-3.0-only

package lineedit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"
)

// Limits of a history.
const (
	// HistoryLinesMax is how many lines are kept.
	HistoryLinesMax = 2_000
	historyFileMax  = 4 << 20 // bytes; of a longer file the end is read
	historyLineMax  = 64 << 10
)

// History is the lines typed before, oldest first, in memory and, when it has a path, in a file of mode 0600, a line each.
// Several processes may add to one file.
type History struct {
	lines []string
	path  string
}

// OpenHistory reads the history in the file at path, which need not exist; its directory is made (0700). A history is
// returned also with an error, which is then in memory only.
func OpenHistory(path string) (*History, error) {
	h := &History{}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	defer func() { _ = f.Close() }() // only read from
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return h, errors.Join(fmt.Errorf("history: %s is not a regular file", path), err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return h, fmt.Errorf("history is readable by others: %w", err)
		}
	}
	if info.Size() > historyFileMax {
		if _, err := f.Seek(-historyFileMax, io.SeekEnd); err != nil {
			return h, fmt.Errorf("history: %w", err)
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, historyFileMax))
	if err != nil {
		return h, fmt.Errorf("history: %w", err)
	}
	for line := range bytes.Lines(data) {
		line = bytes.TrimRight(line, "\r\n")
		if len(line) > 0 && len(line) <= historyLineMax && utf8.Valid(line) {
			h.lines = append(h.lines, string(line))
		}
	}
	h.path = path
	if len(h.lines) > 2*HistoryLinesMax || info.Size() > historyFileMax {
		h.trim()
		return h, h.rewrite()
	}
	h.trim()
	return h, nil
}

func (h *History) trim() {
	if n := len(h.lines); n > HistoryLinesMax {
		h.lines = append([]string(nil), h.lines[n-HistoryLinesMax:]...)
	}
}

// rewrite replaces the file by the lines in memory.
func (h *History) rewrite() error {
	f, err := os.CreateTemp(filepath.Dir(h.path), ".history-*") // mode 0600
	if err != nil {
		return fmt.Errorf("history: %w", err)
	}
	_, err = f.WriteString(strings.Join(h.lines, "\n") + "\n")
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), h.path)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("history: %w", err), os.Remove(f.Name()))
	}
	return err
}

// Len is the number of lines; At is line i, the oldest being 0.
func (h *History) Len() int { return len(h.lines) }

// At is line i. Requires: 0 <= i < Len.
func (h *History) At(i int) string { return h.lines[i] }

// Add appends a line, unless it is empty, begins with a blank, is over long, or repeats the last one.
func (h *History) Add(line string) error {
	if line == "" || line[0] == ' ' || len(line) > historyLineMax || strings.ContainsAny(line, "\r\n\x00") {
		return nil
	}
	if n := len(h.lines); n > 0 && h.lines[n-1] == line {
		return nil
	}
	h.lines = append(h.lines, line)
	h.trim()
	if h.path == "" {
		return nil
	}
	f, err := os.OpenFile(h.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			h.path = ""
		}
		return fmt.Errorf("history: %w", err)
	}
	_, err = f.WriteString(line + "\n")
	return errors.Join(err, f.Close())
}
