// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/progress"
	"github.com/atlas-edge/atlas/client/wire"
)

// systemTable is not exported unless asked for: only the system may write it back.
const systemTable = "atlas"

// streamMin is the length of values from which on they are streamed rather than held, in bytes.
const streamMin = 1 << 20

func export(ctx context.Context, o ExportOptions, s cli.Streams) (err error) {
	if o.PageRows < 0 || o.Resume && o.Force {
		return fmt.Errorf("%w: --page-rows %d is negative, or --resume and --force exclude each other", errUsage, o.PageRows)
	}
	prefixes, err := normalize(o.Prefixes)
	if err != nil {
		return err
	}
	out, err := plan(o, s, prefixes)
	if err != nil || out == nil {
		return err
	}
	c, err := dial(ctx, &o.Target, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	node, err := identity(ctx, c)
	if err != nil {
		return err
	}
	if err := out.goOn(o, s, node); err != nil {
		return err
	}
	todo := prefixes
	if len(todo) == 0 {
		if todo, err = allTables(ctx, c, o.Principal != ""); err != nil {
			return err
		}
	}
	todo = slices.DeleteFunc(slices.Clone(todo), func(p string) bool {
		return out.at.lastKey != "" && p < out.at.lastKey && !strings.HasPrefix(out.at.lastKey, p)
	})
	if len(prefixes) > 0 {
		if err := anyKeys(ctx, c, todo, out.at.lastKey); err != nil {
			return err
		}
	}
	began := time.Now()
	err = out.open(Meta{Prefixes: prefixes, Server: node})
	if err == nil {
		err = exportAll(ctx, c, o, out, s, todo)
	}
	if err == nil {
		err = out.finish()
	}
	if err != nil {
		return out.abandon(reason(ctx, err))
	}
	granted := ""
	if out.w.grants > 0 {
		granted = fmt.Sprintf(", and %d grants", out.w.grants)
	}
	note(s, o.Quiet, "exported %d records, %d bytes of values%s, in %v", out.w.records, out.w.bytes, granted, time.Since(began).Round(time.Millisecond))
	if o.Principal == "" {
		note(s, o.Quiet, "no principal was given: what only some may read is left out, and so is what was granted; --principal admin exports all")
	}
	return nil
}

// normalize reads quoted names, makes `table.` of a table, sorts, and drops what another prefix covers.
func normalize(prefixes []string) ([]string, error) {
	out := make([]string, 0, len(prefixes))
	for _, given := range prefixes {
		p, ok := wire.ParseKey([]byte(given))
		if !ok || p == "" || len(p) > client.KeyLenMax || strings.HasPrefix(p, ".") {
			return nil, fmt.Errorf("%w: %q is no table or table.prefix", errUsage, given)
		}
		if !strings.Contains(p, ".") {
			p += "."
		}
		out = append(out, p)
	}
	slices.Sort(out)
	kept := out[:0]
	for _, p := range out {
		if len(kept) == 0 || !strings.HasPrefix(p, kept[len(kept)-1]) {
			kept = append(kept, p)
		}
	}
	return kept, nil
}

// allTables lists the tables that have a row and, where there may be grants to be shown, those that are named as their group:
// what is granted on one of these is closed after an import, too, though it is empty.
func allTables(ctx context.Context, c *client.Client, granted bool) ([]string, error) {
	tables, err := c.Tables(ctx)
	if err == nil && granted {
		var groups []string
		groups, err = c.Groups(ctx)
		tables = append(tables, groups...)
		slices.Sort(tables)
		tables = slices.Compact(tables)
	}
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	tables = slices.DeleteFunc(tables, func(t string) bool { return t == systemTable })
	for i, t := range tables { // as normalize has them from the user
		tables[i] = string(wire.AppendKey(nil, t))
	}
	return normalize(tables)
}

// anyKeys refuses prefixes that no key has, and under which nothing is granted: a name that was mistyped makes no backup. That of an
// earlier export's last key had one.
func anyKeys(ctx context.Context, c *client.Client, prefixes []string, lastKey string) error {
	var none []string
	for _, p := range prefixes {
		found := strings.HasPrefix(lastKey, p)
		for _, err := range c.Scan(ctx, p, client.ScanOptions{Limit: 1}) {
			if err != nil {
				return fmt.Errorf("scan %s: %w", p, err)
			}
			found = true
		}
		for _, err := range c.Grants(ctx, listed(p)) {
			if err != nil {
				return fmt.Errorf("list the grants on %s: %w", p, err)
			}
			found = true
			break
		}
		if !found {
			none = append(none, p)
		}
	}
	if len(none) > 0 {
		return fmt.Errorf("no key that may be read begins with %s: nothing is exported", strings.Join(none, " or "))
	}
	return nil
}

func exportAll(ctx context.Context, c *client.Client, o ExportOptions, out *output, s cli.Streams, todo []string) error {
	var bar *progress.Bar
	if !o.Quiet && cli.IsTerminal(s.Err) {
		total := int64(out.at.records)
		for _, p := range todo {
			n, err := c.Count(ctx, p)
			if err != nil {
				return fmt.Errorf("count %s: %w", p, err)
			}
			total += n
		}
		bar = progress.Items(s.Err, "export", "rows", total)
		bar.Set(int64(out.at.records))
		defer bar.Done()
	}
	for _, p := range todo {
		options := client.ScanOptions{Values: true, Meta: true, PageRows: int64(o.PageRows), StreamMin: streamMin}
		if o.PageRows == 0 {
			options.PageRows = -1
		}
		if strings.HasPrefix(out.at.lastKey, p) {
			options.After = out.at.lastKey
		} else if err := exportGrants(ctx, c, out, p); err != nil {
			return err
		}
		bar.Label(p)
		for row, err := range c.Scan(ctx, p, options) {
			if err != nil {
				return fmt.Errorf("scan %s: %w", p, err)
			}
			if err := out.row(row); err != nil {
				return fmt.Errorf("write %s: %w", row.Key, err)
			}
			bar.Add(1)
		}
	}
	return nil
}

// exportGrants writes what is granted under a prefix, as far as the principal may see it.
func exportGrants(ctx context.Context, c *client.Client, out *output, prefix string) error {
	for g, err := range c.Grants(ctx, listed(prefix)) {
		if err != nil {
			return fmt.Errorf("list the grants on %s: %w", prefix, err)
		}
		if err := out.w.grant(g); err != nil {
			return fmt.Errorf("write a grant on %s: %w", wire.Visible(g.Object), err)
		}
	}
	return nil
}

// listed is a prefix for ACL LIST: that of a whole table is its name, for the list on the table itself.
func listed(prefix string) string {
	if table, row, _ := strings.Cut(prefix, "."); row == "" {
		return table
	}
	return prefix
}
