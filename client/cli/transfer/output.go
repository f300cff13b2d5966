// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
)

// partialSuffix makes the name of the file under way from that of the file asked for.
const partialSuffix = ".partial"

// output is the file under way.
//
//	plan      looks at what is there, and changes nothing: whether the export may begin, and where
//	goOn      compares the node with the one whose export is continued
//	open      makes or opens PATH.partial and writes its head; only now is a file touched. Requires: the node answered
//	finish    gives it the name PATH, which is replaced only now
//	abandon   instead of finish: keeps PATH.partial for --resume, unless no record is in it
//
// Standard output, and what is no regular file, is written itself.
type output struct {
	path    string // what was asked for, behind symbolic links; "": standard output
	part    string // "": path is written itself
	found   string // the file that an earlier export left: part or, if that wrote path itself, path; "": none
	replace bool   // there may be a file at path when this one is whole
	f       *os.File
	to      io.Writer
	w       *writer
	at      position // where an earlier export stopped
	node    string   // the identity of the node that was exported then; "": the file does not say
	damage  error    // behind at, nil when the file just ends there
}

// plan returns nil for an export that is whole already.
func plan(o ExportOptions, s cli.Streams, prefixes []string) (*output, error) {
	if o.Path == "" || o.Path == "-" {
		if o.Resume {
			return nil, fmt.Errorf("%w: only a file can be continued", errUsage)
		}
		if cli.IsTerminal(s.Out) {
			return nil, fmt.Errorf("%w: an export is not for a terminal: name a file with --output", errUsage)
		}
		return &output{to: s.Out}, nil
	}
	out := &output{path: o.Path, replace: o.Force}
	if real, err := filepath.EvalSymlinks(o.Path); err == nil {
		out.path = real
	}
	info, err := exists(out.path)
	if err != nil {
		return nil, err
	}
	regular := info == nil || info.Mode().IsRegular()
	if regular {
		out.part = out.path + partialSuffix
	}
	part, err := exists(out.path + partialSuffix)
	switch {
	case err != nil:
		return nil, err
	case o.Resume && !regular:
		return nil, fmt.Errorf("%w: only a file can be continued", errUsage)
	case o.Resume:
		return out.resume(o, s, prefixes, info, part)
	case o.Force:
	case info != nil && part == nil:
		return nil, fmt.Errorf("%w: %s exists: replace it by --force, or go on with it by --resume if it is not whole", errUsage, o.Path)
	case info != nil:
		return nil, fmt.Errorf("%w: %s exists: replace it by --force, or by --resume go on with %s, which will replace it", errUsage, o.Path, out.part)
	case part != nil:
		return nil, fmt.Errorf("%w: %s exists: go on with it by --resume, or begin anew by --force", errUsage, out.part)
	}
	return out, nil
}

// exists returns nil for a file that is not there.
func exists(path string) (fs.FileInfo, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is nothing to say of it
	}
	return info, err
}

// resume finds out where to go on. info and part are of the file asked for and of that under way, nil if not there.
func (out *output) resume(o ExportOptions, s cli.Streams, prefixes []string, info, part fs.FileInfo) (*output, error) {
	switch {
	case part != nil:
		out.found, out.replace = out.part, info != nil
	case info != nil:
		out.found = out.path // it moves to part
	default:
		note(s, o.Quiet, "%s: there is nothing to go on with: beginning with the first record", o.Path)
		return out, nil
	}
	f, err := os.Open(out.found)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if found, err := f.Stat(); err != nil || found.Size() == 0 {
		return out, err
	}
	rd, at, complete, damage, err := resumeAt(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; begin anew by --force", out.found, err)
	}
	if !complete && rd.Format != FormatVersion {
		return nil, fmt.Errorf("%w: %s is of format %d, without what format %d holds: begin anew by --force", errUsage, out.found, rd.Format, FormatVersion)
	}
	if !slices.Equal(rd.Meta.Prefixes, prefixes) {
		return nil, fmt.Errorf("%w: %s is an export of %q, not of %q", errUsage, out.found, rd.Meta.Prefixes, prefixes)
	}
	if !complete {
		out.at, out.node, out.damage = at, rd.Meta.Server, damage
		return out, nil
	}
	note(s, o.Quiet, "%s is complete: %d records", o.Path, at.records)
	if out.found == out.part {
		return nil, os.Rename(out.part, out.path)
	}
	return nil, nil //nolint:nilnil // as the comment of plan says
}

// resumed tells whether records of an earlier export are kept.
func (out *output) resumed() bool { return out.at.offset > 0 }

// goOn says where an earlier export is continued. node is what it must have exported.
func (out *output) goOn(o ExportOptions, s cli.Streams, node string) error {
	switch {
	case !out.resumed():
		return nil
	case node == "":
		return fmt.Errorf("%w: this node does not show by what it could be known again: begin anew by --force", errUsage)
	case out.node == "":
		return fmt.Errorf("%w: %s does not say which node it is an export of: begin anew by --force", errUsage, out.found)
	case out.node != node:
		return fmt.Errorf("%w: %s is an export of another node, or of this one before it was set up or configured anew: begin anew by --force", errUsage, out.found)
	}
	if out.damage != nil {
		note(s, o.Quiet, "%s: %v; going on before it", out.found, out.damage)
	}
	note(s, o.Quiet, "%s: going on after %d records", out.found, out.at.records)
	if out.replace {
		note(s, o.Quiet, "%s will be replaced", out.path)
	}
	return nil
}

// open writes the head, or goes to where an earlier export stopped.
func (out *output) open(meta Meta) (err error) {
	switch {
	case out.path == "":
	case out.part == "":
		out.f, err = os.OpenFile(out.path, os.O_WRONLY, 0)
	default:
		if out.found == out.path {
			if err := os.Rename(out.path, out.part); err != nil {
				return err
			}
		}
		out.f, err = os.OpenFile(out.part, os.O_RDWR|os.O_CREATE, 0o600)
	}
	if err != nil {
		return err
	}
	if out.f != nil {
		out.to = out.f
	}
	if out.part != "" {
		if err := out.f.Truncate(out.at.offset); err != nil {
			return err
		}
		if _, err := out.f.Seek(out.at.offset, io.SeekStart); err != nil {
			return err
		}
	}
	if out.resumed() {
		out.w, err = resumeWriter(out.to, out.at)
		return err
	}
	meta.Created = time.Now().UTC().Format(time.RFC3339)
	out.w, err = newWriter(out.to, meta)
	return err
}

// finish ends the file and gives it its name.
func (out *output) finish() error {
	if err := out.w.end(); err != nil {
		return err
	}
	if out.part == "" {
		return out.close()
	}
	old, err := exists(out.path)
	switch {
	case err != nil:
		return err
	case old != nil && !out.replace:
		return fmt.Errorf("%s was made meanwhile: the export is %s", out.path, out.part)
	case old != nil:
		if err := out.f.Chmod(old.Mode().Perm()); err != nil {
			return err
		}
	}
	if err := errors.Join(out.f.Sync(), out.close()); err != nil {
		return err
	}
	return os.Rename(out.part, out.path)
}

// close closes what open opened. Closing twice is allowed.
func (out *output) close() error {
	f := out.f
	if out.f = nil; f == nil {
		return nil
	}
	return f.Close()
}

// abandon ends an export that failed and adds to the reason what is left of it.
func (out *output) abandon(why error) error {
	if out.w == nil {
		return errors.Join(why, out.close())
	}
	flushed := out.w.w.Flush()
	if flushed != nil && !errors.Is(why, flushed) { // else it is the reason already
		why = errors.Join(why, flushed)
	}
	err := out.close()
	switch {
	case out.part == "":
		why = fmt.Errorf("%w\n  what was written is not whole", why)
	case flushed != nil:
		why = fmt.Errorf("%w\n  the records that are whole in %s are kept; go on with --resume", why, out.part)
	case out.w.records == 0:
		err = errors.Join(err, os.Remove(out.part))
	default:
		why = fmt.Errorf("%w\n  %d records are in %s; go on with --resume", why, out.w.records, out.part)
	}
	return errors.Join(why, err)
}

func (out *output) row(row client.Row) error {
	if err := out.w.key(record{key: row.Key, size: row.Size, expires: row.Meta.Expires, wormUntil: row.Meta.WormUntil}); err != nil {
		return err
	}
	if row.Blob == nil {
		_, err := out.w.Write(row.Value)
		return err
	}
	n, err := io.Copy(out.w, row.Blob)
	if err == nil && n < row.Size {
		err = io.ErrUnexpectedEOF
	}
	return err
}
