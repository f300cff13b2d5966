// SPDX-License-Identifier: AGPL-3.0-only

package transfer

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client"
	"github.com/atlas-edge/atlas/client/cli"
	"github.com/atlas-edge/atlas/client/cli/progress"
	"github.com/atlas-edge/atlas/client/wire"
)

// namedMax is how many differences are named; all are counted.
const namedMax = 20

// comparison goes through a file and through the server's tables side by side, for both are in the same order.
type comparison struct {
	c    *client.Client
	s    cli.Streams
	ends bool   // the file holds the ends of values
	scan string // the table being scanned, with its dot
	next func() (client.Row, error, bool)
	stop func()
	row  client.Row // the server's next row
	more bool

	grants *grantComparison // of the prefix at hand; nil: none

	same, missing, different, extra uint64
	expired                         uint64 // records that are absent by now wherever they are
	granted, ungranted              uint64
	ours, theirs                    [32 << 10]byte // of the values being compared
}

// verify compares the file with the server. Keys that only the server has are counted but are no failure.
func verify(ctx context.Context, o ImportOptions, s cli.Streams, rd *reader, bar *progress.Bar) (err error) {
	c, err := dial(ctx, &o.Target, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	v := &comparison{c: c, s: s, ends: rd.Format > 1, stop: func() {}}
	defer func() { v.stop() }()
	defer v.endGrants()
	for {
		r, err := rd.next()
		if errors.Is(err, io.EOF) {
			break
		}
		switch {
		case err != nil:
		case r.grant == nil:
			err = v.record(ctx, rd.Meta.Prefixes, r, rd)
		case !o.NoGrants:
			err = v.grant(ctx, rd.Meta.Prefixes, *r.grant)
		}
		if err != nil {
			return err
		}
	}
	if err := v.drain(); err != nil {
		return err
	}
	bar.Done()
	text := fmt.Sprintf("%d records are the same, %d missing, %d different; %d keys are only at the server", v.same, v.missing, v.different, v.extra)
	if v.expired > 0 {
		text += fmt.Sprintf("; %d records have expired", v.expired)
	}
	if v.granted+v.ungranted > 0 {
		text += fmt.Sprintf("; %d grants are the same, %d missing", v.granted, v.ungranted)
	}
	if v.missing+v.different+v.ungranted > 0 {
		return errors.New(text)
	}
	note(s, o.Quiet, "%s", text)
	return nil
}

func (v *comparison) record(ctx context.Context, prefixes []string, r record, value io.Reader) error {
	if p := covering(prefixes, r.key); p != v.scan {
		if err := v.drain(); err != nil {
			return err
		}
		v.begin(ctx, p)
		if err := v.step(); err != nil {
			return err
		}
	}
	for v.more && v.row.Key < r.key {
		v.extra++
		if err := v.step(); err != nil {
			return err
		}
	}
	there := v.more && v.row.Key == r.key
	same := false
	if there {
		var err error
		if same, err = v.equal(r.size, value); err != nil {
			return err
		}
		same = same && (!v.ends || sameEnds(r, v.row.Meta, time.Now()))
	}
	switch {
	case same:
		v.same++
	case !r.expires.IsZero() && !r.expires.After(time.Now()):
		v.expired++
	case there:
		v.different++
		v.name(v.different, "different", r.key)
	default:
		v.missing++
		v.name(v.missing, "missing", r.key)
	}
	if there {
		return v.step()
	}
	return nil
}

// sameEnds tells whether a value ends as the record says. A write-once end that has passed has no meaning any more.
func sameEnds(r record, m client.Meta, now time.Time) bool {
	return m.Expires.Equal(r.expires) && (m.WormUntil.Equal(r.wormUntil) || !m.WormUntil.After(now) && !r.wormUntil.After(now))
}

// covering is the prefix under which key was exported.
func covering(prefixes []string, key string) string {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return p
		}
	}
	table, _, _ := strings.Cut(key, ".")
	return table + "."
}

func (v *comparison) begin(ctx context.Context, prefix string) {
	v.stop()
	v.scan = prefix
	v.next, v.stop = iter.Pull2(v.c.Scan(ctx, prefix, client.ScanOptions{Values: true, Meta: v.ends, PageRows: -1, StreamMin: streamMin}))
}

func (v *comparison) step() error {
	row, err, ok := v.next()
	if err != nil {
		return fmt.Errorf("scan %s: %w", v.scan, err)
	}
	v.row, v.more = row, ok
	return nil
}

// drain counts what is left of the scan.
func (v *comparison) drain() error {
	for v.more {
		v.extra++
		if err := v.step(); err != nil {
			return err
		}
	}
	return nil
}

func (v *comparison) equal(size int64, value io.Reader) (bool, error) {
	if v.row.Size != size {
		return false, nil
	}
	theirs := v.row.Blob
	if theirs == nil {
		theirs = bytes.NewReader(v.row.Value)
	}
	for {
		n, err := io.ReadFull(value, v.ours[:])
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false, err
		}
		if n == 0 {
			return true, nil
		}
		if _, err := io.ReadFull(theirs, v.theirs[:n]); err != nil {
			return false, fmt.Errorf("scan %s: %w", v.scan, err)
		}
		if !bytes.Equal(v.ours[:n], v.theirs[:n]) {
			return false, nil
		}
	}
}

func (v *comparison) name(count uint64, what, key string) {
	if count <= namedMax {
		note(v.s, false, "%s: %s", what, wire.Visible(key))
	}
}

// grantComparison goes through the grants of a file and of the server side by side.
type grantComparison struct {
	prefix string
	next   func() (client.Grant, error, bool)
	stop   func()
	at     client.Grant
	more   bool
}

func (v *comparison) grant(ctx context.Context, prefixes []string, g client.Grant) error {
	p := covering(prefixes, g.Object)
	if v.grants == nil || v.grants.prefix != p {
		v.endGrants()
		v.grants = &grantComparison{prefix: p, more: true}
		v.grants.next, v.grants.stop = iter.Pull2(v.c.Grants(ctx, listed(p)))
		if err := v.grants.step(); err != nil {
			return err
		}
	}
	for v.grants.more && compareGrants(v.grants.at, g) < 0 {
		if err := v.grants.step(); err != nil {
			return err
		}
	}
	if v.grants.more && v.grants.at == g {
		v.granted++
		return nil
	}
	v.ungranted++
	v.name(v.ungranted, "not granted", strings.TrimSpace(g.Object+" "+g.Principal+" "+string(g.Perm)))
	return nil
}

func (v *comparison) endGrants() {
	if v.grants != nil {
		v.grants.stop()
	}
}

func (g *grantComparison) step() error {
	at, err, more := g.next()
	if err != nil {
		return fmt.Errorf("list the grants on %s: %w", g.prefix, err)
	}
	g.at, g.more = at, more
	return nil
}

// compareGrants is the order of ACL LIST.
func compareGrants(a, b client.Grant) int {
	order := []client.Perm{"", client.Read, client.Write, client.Owner}
	return cmp.Or(strings.Compare(a.Object, b.Object), strings.Compare(a.Principal, b.Principal),
		cmp.Compare(slices.Index(order, a.Perm), slices.Index(order, b.Perm)))
}
