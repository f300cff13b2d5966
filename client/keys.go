// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/atlas-edge/atlas/client/wire"
)

// commands are the operations that a Client, a Session and a Txn have in common.
type commands struct{ x executor }

// Get returns the value of key, and ErrNotFound when there is none or the principal may not read it. While a large value
// comes, other answers on the same shared connection wait: Client.GetBlob streams it on one of its own.
func (c commands) Get(ctx context.Context, key string) ([]byte, error) {
	cl := newCall("KEY BLOB GET")
	cl.key(key)
	defer cl.release()
	if err := c.x.exec(ctx, cl); err != nil {
		return nil, err
	}
	if len(cl.frames) != 1 {
		return nil, protocolError("KEY BLOB GET answered with %d frames", len(cl.frames))
	}
	if !cl.frames[0].blob {
		if string(cl.text(0)) == "EMPTY" {
			return nil, notFound(key)
		}
		return nil, protocolError("KEY BLOB GET answered with %q", wire.Visible(shorten(string(cl.text(0)))))
	}
	return cl.own(0, 0), nil
}

func notFound(key string) error {
	return &Error{Class: wire.NotFound, Text: "no key " + wire.Visible(shorten(key))}
}

// Item is a value with its version.
type Item struct {
	Value   []byte
	Version uint64
}

// GetVersion returns the value of key with its version, and ErrNotFound as Get does.
func (c commands) GetVersion(ctx context.Context, key string) (Item, error) {
	item, err := c.getVersion(ctx, "KEY GET", key)
	if e, ok := asError(err); ok && e.Class == wire.Invalid && e.Cause == nil && strings.Contains(e.Text, "binary") {
		return c.getVersion(ctx, "KEY BLOB GET", key)
	}
	return item, err
}

func (c commands) getVersion(ctx context.Context, verb, key string) (Item, error) {
	cl := newCall(verb)
	cl.key(key)
	cl.literal(" VERSION")
	defer cl.release()
	if err := c.x.exec(ctx, cl); err != nil {
		return Item{}, err
	}
	var item Item
	switch {
	case len(cl.frames) == 1 && !cl.frames[0].blob && (string(cl.text(0)) == "NOT_FOUND" || string(cl.text(0)) == "EMPTY"):
		return Item{}, notFound(key)
	case len(cl.frames) != 2 || cl.frames[0].blob:
		return Item{}, protocolError("%s VERSION answered with %d frames", verb, len(cl.frames))
	}
	version, ok := cutNumber(cl.text(0), "VERSION:")
	isText, skip := bytes.HasPrefix(cl.text(1), []byte("VALUE:")), len("VALUE:")
	if cl.frames[1].blob {
		isText, skip = true, 0
	}
	if !ok || !isText {
		return Item{}, protocolError("%s VERSION answered with %q", verb, wire.Visible(shorten(string(cl.text(0)))))
	}
	item.Version = version
	item.Value = cl.own(1, skip)
	return item, nil
}

// WriteRequest is a write with conditions and options. At most one of IfAbsent and IfVersion, of TTL and
// Expires, and of WormTTL and WormUntil.
type WriteRequest struct {
	Key       string
	Value     []byte
	IfAbsent  bool          // only when the key does not exist
	IfVersion *uint64       // only when the key's version is this
	TTL       time.Duration // the key expires after this; 0: never
	Expires   time.Time     // the key expires then; zero: never
	WormTTL   time.Duration // write-once: nobody can change or delete the key for this long
	WormUntil time.Time     // write-once until then
	Principal string        // who writes, by the rules of PRINCIPAL ASSUME, for this command alone; "": the client's own
}

func (r *WriteRequest) options(cl *call) {
	switch {
	case r.IfAbsent && r.IfVersion != nil:
		cl.fail(&Error{Class: wire.Invalid, Text: "IfAbsent and IfVersion exclude each other"})
	case r.IfAbsent:
		cl.literal(" IF ABSENT")
	case r.IfVersion != nil:
		cl.literal(" IF VERSION")
		cl.unsigned(*r.IfVersion)
	}
	switch {
	case r.TTL != 0 && !r.Expires.IsZero():
		cl.fail(&Error{Class: wire.Invalid, Text: "TTL and Expires exclude each other"})
	case r.TTL != 0:
		cl.literal(" TTL " + duration(cl, r.TTL))
	case !r.Expires.IsZero():
		cl.literal(" EXPIRES " + r.Expires.UTC().Format(time.RFC3339Nano))
	}
	switch {
	case r.WormTTL != 0 && !r.WormUntil.IsZero():
		cl.fail(&Error{Class: wire.Invalid, Text: "WormTTL and WormUntil exclude each other"})
	case r.WormTTL != 0:
		cl.literal(" WORM TTL " + duration(cl, r.WormTTL))
	case !r.WormUntil.IsZero():
		cl.literal(" WORM EXPIRES " + r.WormUntil.UTC().Format(time.RFC3339Nano))
	}
	if r.Principal != "" {
		cl.literal(" PRINCIPAL")
		cl.word("principal", r.Principal)
	}
}

// duration writes d as a number and a unit, exactly.
func duration(cl *call, d time.Duration) string {
	if d <= 0 {
		cl.fail(&Error{Class: wire.Invalid, Text: "duration " + d.String() + " is not positive"})
	}
	for _, u := range []struct {
		name string
		unit time.Duration
	}{{"h", time.Hour}, {"m", time.Minute}, {"s", time.Second}, {"ms", time.Millisecond}} {
		if d%u.unit == 0 {
			return strconv.FormatInt(int64(d/u.unit), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(d), 10) + "ns"
}

// Put writes value under key, whatever was there, and returns its version: in a transaction 0, as Commit gives it.
func (c commands) Put(ctx context.Context, key string, value []byte) (version uint64, err error) {
	return c.Write(ctx, WriteRequest{Key: key, Value: value})
}

// Write writes a value with conditions and options, and returns its version. A condition that does not hold
// is ErrConflict. The value is read until Write returns, and not kept.
func (c commands) Write(ctx context.Context, r WriteRequest) (version uint64, err error) {
	if len(r.Value) > ValueLenMax {
		return 0, &Error{Class: wire.TooLarge, Text: "value length " + strconv.Itoa(len(r.Value)) + " exceeds limit " + strconv.Itoa(ValueLenMax)}
	}
	text := wire.Text(r.Value) && len(r.Value) <= textValueMax
	verb := "KEY WRITE"
	if !text {
		verb = "KEY BLOB SET"
	}
	cl := newWrite(verb)
	defer cl.release()
	cl.key(r.Key)
	if text {
		r.options(cl)
		cl.literal(" VALUE ")
		cl.out = append(cl.out, r.Value...)
	} else {
		cl.number(int64(len(r.Value)))
		r.options(cl)
		cl.literal(" VERSION")
		cl.body = r.Value
	}
	if err := c.x.exec(ctx, cl); err != nil {
		return 0, err
	}
	return optionalVersion(cl)
}

// textValueMax bounds the values that travel in the command's line, in bytes; longer ones go as blobs, which the server need
// not search for a line end.
const textValueMax = 64 << 10

// optionalVersion reads a reply that is empty or a VERSION line.
func optionalVersion(cl *call) (uint64, error) {
	if len(cl.frames) == 0 {
		return 0, nil
	}
	version, ok := cutNumber(cl.text(0), "VERSION:")
	if len(cl.frames) != 1 || cl.frames[0].blob || !ok {
		return 0, protocolError("%s answered with %q", shorten(string(cl.out)), wire.Visible(shorten(string(cl.text(0)))))
	}
	return version, nil
}

// Delete deletes key. Deleting what is absent is no error.
func (c commands) Delete(ctx context.Context, key string) error {
	return c.delete(ctx, key, nil)
}

// DeleteIf deletes key if its version is still this, and is ErrConflict if not.
func (c commands) DeleteIf(ctx context.Context, key string, version uint64) error {
	return c.delete(ctx, key, &version)
}

func (c commands) delete(ctx context.Context, key string, version *uint64) error {
	cl := newWrite("KEY DEL")
	defer cl.release()
	cl.key(key)
	if version != nil {
		cl.literal(" IF VERSION")
		cl.unsigned(*version)
	}
	if err := c.x.exec(ctx, cl); err != nil {
		return err
	}
	_, err := optionalVersion(cl)
	return err
}

// Count is the number of keys under a table or table.prefix that the principal may read.
func (c commands) Count(ctx context.Context, prefix string) (int64, error) {
	cl := newCall("COUNT")
	defer cl.release()
	cl.key(prefix)
	if err := c.x.exec(ctx, cl); err != nil {
		return 0, err
	}
	if len(cl.frames) == 1 {
		if n, ok := cutNumber(cl.text(0), "COUNT:"); ok && n <= 1<<62 {
			return int64(n), nil
		}
	}
	return 0, protocolError("COUNT answered with %d frames", len(cl.frames))
}

// Sample returns up to n keys under a table or table.prefix, picked at random.
func (c commands) Sample(ctx context.Context, prefix string, n int) ([]string, error) {
	cl := newCall("SAMPLE")
	defer cl.release()
	cl.key(prefix)
	cl.number(int64(n))
	if err := c.x.exec(ctx, cl); err != nil {
		return nil, err
	}
	if len(cl.frames) == 0 {
		return nil, protocolError("SAMPLE answered with no frames")
	}
	got, ok := cutNumber(cl.text(0), "KEYS:")
	if !ok || got != uint64(len(cl.frames)-1) {
		return nil, protocolError("SAMPLE answered with %q and %d keys", wire.Visible(shorten(string(cl.text(0)))), len(cl.frames)-1)
	}
	keys := make([]string, 0, got)
	for i := range cl.frames[1:] {
		key, ok := wire.ParseKey(cl.text(i + 1))
		if !ok {
			return nil, protocolError("SAMPLE answered with key %q", wire.Visible(shorten(string(cl.text(i+1)))))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// cutNumber reads a line `<prefix><decimal>`.
func cutNumber(line []byte, prefix string) (uint64, bool) {
	if len(line) < len(prefix) || string(line[:len(prefix)]) != prefix {
		return 0, false
	}
	n, err := strconv.ParseUint(string(line[len(prefix):]), 10, 64)
	return n, err == nil
}
