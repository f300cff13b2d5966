// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

// Every operation against every way a server can answer wrongly: an error each time, no panic, no hang, nothing kept.
func TestHostileServer(t *testing.T) {
	answers := []string{
		"", "\r\n", "OK\r\n", "OK\r\nOK\r\n", "{tag}OK\r\n{tag}OK\r\n", "[ID:9999] OK\r\n", "[ID:1023] OK\r\n", "[ID:-1] OK\r\n", "[ID:x] OK\r\n", "[ID:",
		"[ID:" + strings.Repeat("1", 5000) + "] OK\r\n", "{tag}BLOB 99999999999\r\n", "{tag}BLOB 134217728\r\nabc", "{tag}BLOB 3\r\nabc{tag}BLOB 3\r\nabc{tag}OK\r\n",
		"{tag}VALUE:x\r\n{tag}VALUE:y\r\n{tag}OK\r\n", "{tag}VERSION:x\r\n{tag}VALUE:y\r\n{tag}OK\r\n", "{tag}VERSION:99999999999999999999999\r\n{tag}OK\r\n",
		"{tag}KEYS:5\r\n{tag}a.b\r\n{tag}OK\r\n", "{tag}KEYS:0\r\n{tag}a.b\r\n{tag}OK\r\n", "{tag}KEYS:99999999999999999999\r\n{tag}OK\r\n", "{tag}KEYS:-1\r\n{tag}OK\r\n",
		"{tag}KEYS:18446744073709551615\r\n{tag}OK\r\n", "{tag}KEYS:1\r\n{tag}BLOB 1\r\nx{tag}OK\r\n", "{tag}KEYS:1\r\n{tag}a.b\r\n{tag}WHAT\r\n{tag}OK\r\n",
		"{tag}KEYS:1\r\n{tag}a.b\r\n{tag}META version=1\r\n{tag}OK\r\n", "{tag}KEYS:1\r\n{tag}a.b\r\n{tag}META version=1 size=-1\r\n{tag}VALUE:\r\n{tag}OK\r\n",
		"{tag}META version=1 size=99999999999999999999\r\n{tag}OK\r\n", "{tag}META version=1 size=1 expires=never\r\n{tag}OK\r\n", "{tag}META\r\n{tag}META\r\n{tag}OK\r\n",
		"{tag}ACL\r\n{tag}OK\r\n", "{tag}ACL a.b alice\r\n{tag}OK\r\n", "{tag}ACL a.b alice PERMS ALL\r\n{tag}OK\r\n", "{tag}ACL .\" (none)\r\n{tag}OK\r\n",
		"{tag}COUNT:\r\n{tag}OK\r\n", "{tag}COUNT:9223372036854775808\r\n{tag}OK\r\n", "{tag}NODE id=x\r\n{tag}OK\r\n", "{tag}Q1 size=5\r\n{tag}OK\r\n", "{tag}id=1\r\n{tag}OK\r\n",
		"{tag}PRINCIPAL\r\n{tag}OK\r\n", "{tag}EVENT\r\n", "{tag}EVENT PUT x a.b\r\n", "{tag}EVENT NOP 1 a.b\r\n", "{tag}EVENT PUT 0 a.b\r\n", "{tag}EVENT PUT 1 .\"\r\n", "{tag}KEYS:1\r\n{tag}.\"\\q\"\r\n{tag}VALUE:x\r\n{tag}OK\r\n", "{tag}ERROR WARN \x1b]0;x\x07\r\n", "{tag}ERROR \r\n", "ERROR FATAL unavailable: stopping\r\n",
		"\xff\xfe\x00\r\n", strings.Repeat("x", 100_000) + "\r\n",
	}
	n := &fakenode.Node{}
	answer := ""
	n.Hook = func(c *fakenode.Conn, tag, line string) (bool, error) {
		prefix := ""
		if tag != "" {
			prefix = "[ID:" + tag + "] "
		}
		c.Raw(strings.ReplaceAll(answer, "{tag}", prefix))
		return true, errors.New("cut")
	}
	operations := map[string]func(context.Context, *Client) error{
		"get":         func(ctx context.Context, c *Client) error { _, err := c.Get(ctx, "t.a"); return err },
		"get version": func(ctx context.Context, c *Client) error { _, err := c.GetVersion(ctx, "t.a"); return err },
		"meta":        func(ctx context.Context, c *Client) error { _, err := c.Meta(ctx, "t.a"); return err },
		"put":         func(ctx context.Context, c *Client) error { _, err := c.Put(ctx, "t.a", []byte("x")); return err },
		"put binary":  func(ctx context.Context, c *Client) error { _, err := c.Put(ctx, "t.a", []byte("\x00")); return err },
		"delete":      func(ctx context.Context, c *Client) error { return c.Delete(ctx, "t.a") },
		"count":       func(ctx context.Context, c *Client) error { _, err := c.Count(ctx, "t"); return err },
		"sample":      func(ctx context.Context, c *Client) error { _, err := c.Sample(ctx, "t", 2); return err },
		"who":         func(ctx context.Context, c *Client) error { _, err := c.WhoAmI(ctx); return err },
		"assume":      func(ctx context.Context, c *Client) error { return c.Assume(ctx, "x") },
		"nodes":       func(ctx context.Context, c *Client) error { _, err := c.Nodes(ctx); return err },
		"node":        func(ctx context.Context, c *Client) error { _, err := c.Node(ctx, 1); return err },
		"ping":        func(ctx context.Context, c *Client) error { _, err := c.PingNode(ctx, 1); return err },
		"quorum":      func(ctx context.Context, c *Client) error { _, err := c.Quorum(ctx, "t"); return err },
		"tables":      func(ctx context.Context, c *Client) error { _, err := c.Tables(ctx); return err },
		"do":          func(ctx context.Context, c *Client) error { _, err := c.Do(ctx, "HELP", nil); return err },
		"txn":         func(ctx context.Context, c *Client) error { _, err := c.Begin(ctx); return err },
		"put blob": func(ctx context.Context, c *Client) error {
			_, err := c.PutBlob(ctx, "t.a", strings.NewReader("body"), 4)
			return err
		},
		"get blob": func(ctx context.Context, c *Client) error {
			b, err := c.GetBlob(ctx, "t.a")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, b)
			return err
		},
		"grants": func(ctx context.Context, c *Client) (err error) {
			for _, err = range c.Grants(ctx, "t") {
			}
			return err
		},
		"scan meta": func(ctx context.Context, c *Client) (err error) {
			for _, err = range c.Scan(ctx, "t", ScanOptions{Meta: true}) {
			}
			return err
		},
		"scan": func(ctx context.Context, c *Client) (err error) {
			for _, err = range c.Scan(ctx, "t", ScanOptions{Values: true}) {
			}
			return err
		},
		"watch": func(ctx context.Context, c *Client) (err error) {
			for _, err = range c.Watch(ctx, "t", WatchOptions{NoResume: true}) {
			}
			return err
		},
	}
	path := n.Start(t)
	for _, answer = range answers {
		for name, op := range operations {
			c := dialNode(t, path)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			err := op(ctx, c)
			if ctx.Err() != nil {
				t.Errorf("%s hangs on %q", name, answer)
			}
			cancel()
			// A bare or tagged OK, or lines of text, are what some commands expect.
			if err == nil && !strings.Contains(answer, "OK\r\n") {
				t.Errorf("%s takes %q", name, answer)
			}
			if err != nil && (strings.ContainsAny(err.Error(), "\x1b\x07") || !utf8.ValidString(err.Error())) {
				t.Errorf("%s on %q: raw bytes in %q", name, answer, err)
			}
			if name == "put" && err != nil && !errors.Is(err, ErrUnknown) && !strings.Contains(answer, "{tag}") {
				t.Errorf("put on %q: %v is not unknown", answer, err)
			}
			_ = c.Close()
		}
	}
}

// A server that talks without being asked.
func TestUninvitedAnswers(t *testing.T) {
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		if strings.HasPrefix(line, "PRINCIPAL ASSUME") {
			c.Raw("OK\r\nOK\r\nOK\r\n")
			return true, nil
		}
		return false, nil
	}
	path := n.Start(t)
	c, err := Dial(t.Context(), Options{Address: path, Principal: "x", BackOffMax: time.Millisecond})
	if err == nil {
		_, err = c.Put(t.Context(), "t.a", []byte("v"))
		if err == nil || errors.Is(err, ErrConflict) {
			t.Errorf("got %v", err)
		}
		_ = c.Close()
	}
}
