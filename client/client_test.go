// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/atlas-edge/atlas/client/internal/fakenode"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func dialNode(t testing.TB, path string, change ...func(*Options)) *Client {
	t.Helper()
	o := Options{Address: path, BackOffMax: 20 * time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	c, err := Dial(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// eventually polls ok until it holds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
		time.Sleep(time.Millisecond) // sleep: a poll with a deadline
	}
}

func TestKeys(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	ctx := t.Context()
	values := map[string][]byte{
		"t.text": []byte("hello world"), "t.blanks": []byte("  two  "), "t.empty": {}, "t.word": []byte("VALUE PRINCIPAL x"),
		"t.binary": []byte("a\r\nOK\r\n\x00"), "t.unicode": []byte("漢字 ä"), "t.invalid": []byte("\xff\xfe"),
		"t.blank key": []byte("v"), "t.\xff\x00\r\nOK": []byte("odd key"), `t."\`: []byte("quotes"),
		"t.large": bytes.Repeat([]byte("x"), 300<<10), "t.largebinary": bytes.Repeat([]byte{0, '\n'}, 200<<10),
	}
	for key, value := range values {
		version, err := c.Put(ctx, key, value)
		if err != nil {
			t.Fatalf("put %s: %v", key, err)
		}
		got, err := c.Get(ctx, key)
		if err != nil || !bytes.Equal(got, value) {
			t.Errorf("get %s: %d bytes, %v", key, len(got), err)
		}
		item, err := c.GetVersion(ctx, key)
		if err != nil || !bytes.Equal(item.Value, value) || version != 0 && item.Version != version {
			t.Errorf("get version %s: %d bytes at %d, put at %d, %v", key, len(item.Value), item.Version, version, err)
		}
	}
	if _, err := c.Get(ctx, "t.none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := c.GetVersion(ctx, "t.none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	version, err := c.Write(ctx, WriteRequest{Key: "t.new", Value: []byte("1"), IfAbsent: true, TTL: time.Minute, WormTTL: time.Hour, Principal: "alice"})
	if err != nil || version == 0 {
		t.Fatalf("write: %d, %v", version, err)
	}
	if _, err := c.Write(ctx, WriteRequest{Key: "t.new", Value: []byte("2"), IfAbsent: true}); !errors.Is(err, ErrConflict) {
		t.Errorf("if absent: %v", err)
	}
	wrong := version + 5
	if _, err := c.Write(ctx, WriteRequest{Key: "t.new", Value: []byte("\x00"), IfVersion: &wrong}); !errors.Is(err, ErrConflict) {
		t.Errorf("if version, binary: %v", err)
	}
	if err := c.DeleteIf(ctx, "t.new", wrong); !errors.Is(err, ErrConflict) {
		t.Errorf("delete if: %v", err)
	}
	if err := c.DeleteIf(ctx, "t.new", version); err != nil {
		t.Error(err)
	}
	if err := c.Delete(ctx, "t.new"); err != nil {
		t.Error(err)
	}
	if count, err := c.Count(ctx, "t"); err != nil || count != int64(len(values)) {
		t.Errorf("count %d, %v", count, err)
	}
	rows := 0
	for row, err := range c.Scan(ctx, "t", ScanOptions{Values: true, PageRows: 1}) {
		if err != nil || !bytes.Equal(row.Value, values[row.Key]) {
			t.Fatalf("scan: %q, %v", row.Key, err)
		}
		rows++
	}
	if rows != len(values) {
		t.Errorf("scanned %d rows", rows)
	}
	if keys, err := c.Sample(ctx, "t", 3); err != nil || len(keys) != 3 {
		t.Errorf("sample %q, %v", keys, err)
	}
}

// What cannot stand in a line never reaches the server.
func TestBadArguments(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	ctx := t.Context()
	bad := map[string]error{}
	for _, key := range []string{"", strings.Repeat("k", KeyLenMax+1)} {
		_, err := c.Get(ctx, key)
		bad["get "+shorten(key)] = err
		_, err = c.Put(ctx, key, []byte("x"))
		bad["put "+shorten(key)] = err
		for _, err := range c.Scan(ctx, key, ScanOptions{}) {
			bad["scan "+shorten(key)] = err
		}
		for _, err := range c.Watch(ctx, key, WatchOptions{}) {
			bad["watch "+shorten(key)] = err
		}
		_, err = c.GetBlob(ctx, key)
		bad["blob "+shorten(key)] = err
	}
	v := uint64(1)
	_, bad["both"] = c.Write(ctx, WriteRequest{Key: "a.b", IfAbsent: true, IfVersion: &v})
	_, bad["ttl"] = c.Write(ctx, WriteRequest{Key: "a.b", TTL: -1})
	_, bad["worm"] = c.Write(ctx, WriteRequest{Key: "a.b", WormTTL: 1, WormUntil: time.Now()})
	_, bad["principal"] = c.Write(ctx, WriteRequest{Key: "a.b", Principal: "a b"})
	_, bad["line end"] = c.Do(ctx, "KEY GET a.b\nKEY DEL a.b", nil)
	_, bad["tag"] = c.Do(ctx, "[ID:1] KEY GET a.b", nil)
	_, bad["begin"] = c.Do(ctx, "begin", nil)
	_, bad["assume"] = c.Do(ctx, "PRINCIPAL  assume x", nil)
	bad["assume 2"] = c.Assume(ctx, "a b")
	bad["auth"] = c.Authenticate(ctx, "a", "")
	bad["perm"] = c.Grant(ctx, "a.b", "x", "READ WRITE")
	for what, err := range bad {
		if !errors.Is(err, ErrInvalid) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%q: %v", what, err)
		}
	}
	if keys := n.Keys(); len(keys) != 0 {
		t.Errorf("something was written: %q", keys)
	}
	for _, o := range []Options{
		{},
		{Address: "x", Network: "udp"},
		{Address: "x", PoolSize: -1},
		{Address: "x", InFlightMax: 1025},
		{Address: "x", ExclusiveMax: 5000},
		{Address: strings.Repeat("x", 108)},
		{Address: "x", Secret: "s"},
		{Address: "x", ClientID: "a b"},
		{Address: "x", DialTimeout: -1},
	} {
		if _, err := Dial(ctx, o); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// Many goroutines over two connections each see their own values, and nothing else.
func TestConcurrent(t *testing.T) {
	c := dialNode(t, (&fakenode.Node{}).Start(t), func(o *Options) { o.InFlightMax = 16 })
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := range 50 {
				key, value := fmt.Sprintf("t.%d-%d", g, i), fmt.Sprintf("value of %d-%d", g, i)
				if _, err := c.Put(t.Context(), key, []byte(value)); err != nil {
					t.Error(err)
					return
				}
				got, err := c.Get(t.Context(), key)
				if err != nil || string(got) != value {
					t.Errorf("got %q, %v", got, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A cancelled wait leaves the connection usable; its late answer reaches nobody; a write among them is unknown.
func TestCancelledWait(t *testing.T) {
	release := make(chan struct{})
	n := &fakenode.Node{}
	var aside sync.WaitGroup
	defer aside.Wait()
	n.Hook = func(c *fakenode.Conn, tag, line string) (bool, error) {
		if !strings.Contains(line, "slow") {
			return false, nil
		}
		aside.Go(func() {
			<-release
			c.Raw("[ID:" + tag + "] BLOB 4\r\nlate[ID:" + tag + "] OK\r\n")
		})
		return true, nil
	}
	c := dialNode(t, n.Start(t), func(o *Options) { o.PoolSize, o.InFlightMax = 1, 4 })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Get(ctx, "t.slow"); !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	done := make(chan error, 1)
	aside.Go(func() { _, err := c.Put(ctx, "t.slow", []byte("x")); done <- err })
	eventually(t, "two slots are taken", func() bool { return len(c.lanes[0].conn.slots) == 2 })
	cancel()
	if err := <-done; !errors.Is(err, ErrUnknown) || !errors.Is(err, context.Canceled) {
		t.Errorf("write: %v", err)
	}
	if _, err := c.Put(ctx, "t.fast", nil); !errors.Is(err, ErrUnavailable) {
		t.Errorf("write with a context that has ended: %v", err)
	}
	conn := c.lanes[0].conn
	for range 10 {
		if _, err := c.Put(t.Context(), "t.fast", []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	eventually(t, "slots come back", func() bool { return len(conn.slots) == 4 })
	for range 10 {
		if v, err := c.Get(t.Context(), "t.fast"); err != nil || string(v) != "v" {
			t.Fatalf("got %q, %v", v, err)
		}
	}
	if c.lanes[0].conn != conn {
		t.Error("the connection was replaced")
	}
}

// When every slot is taken, callers wait their turn and contexts are heeded.
func TestBackPressure(t *testing.T) {
	var running, most atomic.Int64
	gate := make(chan struct{})
	var aside sync.WaitGroup
	defer aside.Wait()
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, tag, line string) (bool, error) {
		now := running.Add(1)
		for m := most.Load(); now > m && !most.CompareAndSwap(m, now); m = most.Load() {
		}
		aside.Go(func() {
			<-gate
			running.Add(-1)
			c.Raw("[ID:" + tag + "] OK\r\n")
		})
		return true, nil
	}
	c := dialNode(t, n.Start(t), func(o *Options) { o.PoolSize, o.InFlightMax = 1, 8 })
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if err := c.Delete(t.Context(), "t.x"); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "eight run", func() bool { return running.Load() == 8 })
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if err := c.Delete(ctx, "t.x"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("a ninth: %v", err)
	}
	close(gate)
	wg.Wait()
	if most.Load() > 8 {
		t.Errorf("%d ran at once", most.Load())
	}
}

// A connection lost under a command: a write that left is unknown and is not sent again; a read is.
func TestConnectionLost(t *testing.T) {
	var writes, reads atomic.Int64
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		switch {
		case strings.HasPrefix(line, "KEY WRITE"):
			writes.Add(1)
			return true, errors.New("cut")
		case strings.HasPrefix(line, "KEY BLOB GET") && reads.Add(1) == 1:
			return true, errors.New("cut")
		}
		return false, nil
	}
	c := dialNode(t, n.Start(t), func(o *Options) { o.PoolSize = 1 })
	n.Put("t.a", "v")
	if _, err := c.Put(t.Context(), "t.a", []byte("w")); !errors.Is(err, ErrUnknown) || errors.Is(err, ErrUnavailable) {
		t.Errorf("write: %v", err)
	}
	if writes.Load() != 1 {
		t.Errorf("the write was sent %d times", writes.Load())
	}
	if v, err := c.Get(t.Context(), "t.a"); err != nil || string(v) != "v" {
		t.Errorf("read: %q, %v", v, err)
	}
	if reads.Load() != 2 {
		t.Errorf("the read was sent %d times", reads.Load())
	}
	s, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Put(t.Context(), "t.a", []byte("w")); !errors.Is(err, ErrUnknown) {
		t.Errorf("write in a session: %v", err)
	}
	if _, err := s.Get(t.Context(), "t.a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("the session goes on: %v", err)
	}
}

// The server goes away and comes back; so does the client, without being told.
func TestReconnect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	first := (&fakenode.Node{}).Serve(l)
	c := dialNode(t, path, func(o *Options) { o.Principal = "alice" })
	if _, err := c.Put(t.Context(), "t.a", []byte("x")); err != nil {
		t.Fatal(err)
	}
	first.Close()
	if _, err := c.Get(t.Context(), "t.a"); !errors.Is(err, ErrUnavailable) {
		t.Errorf("while away: %v", err)
	}
	(&fakenode.Node{}).StartAt(t, path)
	eventually(t, "the server answers again", func() bool { return c.Ping(t.Context()) == nil })
	if who, err := c.WhoAmI(t.Context()); err != nil || who != "alice" {
		t.Errorf("principal %q, %v", who, err)
	}
}

func TestDialFails(t *testing.T) {
	if _, err := Dial(t.Context(), Options{Address: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("no server: %v", err)
	}
	path := (&fakenode.Node{}).Start(t)
	if _, err := Dial(t.Context(), Options{Address: path, Principal: "nobody"}); !errors.Is(err, ErrDenied) {
		t.Errorf("principal refused: %v", err)
	}
	if _, err := Dial(t.Context(), Options{Address: path, Principal: "a", Secret: "wrong"}); !errors.Is(err, ErrDenied) {
		t.Errorf("secret refused: %v", err)
	}
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "silent"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := Dial(t.Context(), Options{Address: l.Addr().String(), DialTimeout: 20 * time.Millisecond}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("silent server: %v", err)
	}
}

// A server that has too many connections was taken for one of another protocol.
func TestDialFull(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "full"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() { // owner: this test
		nc, err := l.Accept()
		if err == nil {
			_, err = nc.Write([]byte("ERROR FATAL unavailable: too many connections\r\n"))
			err = errors.Join(err, nc.Close())
		}
		served <- err
	}()
	if _, err := Dial(t.Context(), Options{Address: l.Addr().String()}); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrProtocol) {
		t.Errorf("full server: %v", err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestIdentity(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	ctx := t.Context()
	who := func(x interface {
		WhoAmI(context.Context) (string, error)
	},
	) string {
		name, err := x.WhoAmI(ctx)
		if err != nil {
			t.Error(err)
		}
		return name
	}
	if got := who(c); got != "" {
		t.Errorf("at first: %q", got)
	}
	s, err := c.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(s.Assume(ctx, "bob"), s.SetConsistency(ctx, "LOCAL")); err != nil || who(s) != "bob" {
		t.Errorf("session: %v", err)
	}
	if got := who(c); got != "" {
		t.Errorf("the session's principal leaks: %q", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(ctx, "t.a"); !errors.Is(err, ErrClosed) {
		t.Errorf("closed session: %v", err)
	}
	if err := c.Assume(ctx, "alice"); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if got := who(c); got != "alice" {
			t.Fatalf("after assume: %q", got)
		}
	}
	if err := c.Assume(ctx, "nobody"); !errors.Is(err, ErrDenied) || who(c) != "alice" {
		t.Errorf("refused: %v", err)
	}
	if err := c.Authenticate(ctx, "carol", "secret"); err != nil || who(c) != "carol" {
		t.Errorf("authenticate: %v", err)
	}
}

// A shared connection that was being made when the identity changed was used with the old one.
func TestAssumeDuringDial(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t), func(o *Options) { o.Principal = "old" })
	entered, release := make(chan struct{}), make(chan struct{})
	n.SetHook(func(_ *fakenode.Conn, _, line string) (bool, error) {
		if line == "PRINCIPAL ASSUME old" {
			close(entered)
			<-release
		}
		return false, nil
	})
	begun := make(chan error, 1)
	go func() { begun <- c.Ping(t.Context()) }() // owner: this test; on the second lane, which is not connected yet
	<-entered
	if err := c.Assume(t.Context(), "new"); err != nil {
		t.Error(err)
	}
	close(release)
	for range 4 {
		if who, err := c.WhoAmI(t.Context()); err != nil || who != "new" {
			t.Errorf("after Assume: %q, %v", who, err)
		}
	}
	if err := <-begun; err != nil {
		t.Errorf("the command that began before: %v", err)
	}
}

// With every exclusive connection taken, Assume on a client that was closed waited for ever.
func TestAssumeOfClosedClient(t *testing.T) {
	c := dialNode(t, (&fakenode.Node{}).Start(t), func(o *Options) { o.ExclusiveMax = 1 })
	s, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := c.Assume(ctx, "alice"); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A body that did not fit its command's line was taken for the next commands of the connection, which others share.
func TestDoBody(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	s := session(t, c)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	blanks := strings.Repeat(" ", 5000)
	for _, tt := range []struct{ line, body string }{
		{"KEY GET t.a", "KEY PUT t.forged x\r\n"},
		{"KEY BLOB GET t.a", "KEY PUT t.forged x\r\n"},
		{"KEY BLOB SET t.a 0", "KEY PUT t.forged x\r\n"},
		{"key\tblob set t.a 1", "xKEY PUT t.forged x\r\n"},
		{"KEY" + blanks + "BLOB SET t.a 1", "xKEY PUT t.forged x\r\n"},
		{"KEY BLOB SET t.a 99", "x"},
		{"KEY BLOB SET t.a", ""},
		{"KEY BLOB SET t.a -1", ""},
		{"KEY BLOB SET t.a 01", "x"},
		{"KEY BLOB SET t.a\u00a0 1", ""},
		{" [ID:1] KEY GET t.a", ""},
		{blanks + "[ID:1] KEY GET t.a", ""},
	} {
		for _, x := range []interface {
			Do(context.Context, string, []byte) (*Reply, error)
		}{c, s} {
			if _, err := x.Do(ctx, tt.line, []byte(tt.body)); !errors.Is(err, ErrInvalid) {
				t.Errorf("%.30q with %q on %T: %v", tt.line, tt.body, x, err)
			}
		}
	}
	if _, err := c.Do(ctx, blanks+"BEGIN", nil); !errors.Is(err, ErrInvalid) || err.Error() != "invalid: BEGIN changes the state of a connection: use a Session" {
		t.Errorf("BEGIN behind blanks: %v", err)
	}
	if _, err := c.Do(ctx, blanks+"KEY  BLOB\tSET t.a 1", []byte("x")); err != nil {
		t.Errorf("a body that fits: %v", err)
	}
	if got := n.Keys(); len(got) != 1 || got[0] != "t.a" {
		t.Errorf("the node holds %q", got)
	}
}

// A PRINCIPAL SECRET that was sent and not answered was reported as not applied.
func TestSecretMayBeApplied(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	n.SetHook(func(*fakenode.Conn, string, string) (bool, error) { return true, errors.New("cut") })
	for name, x := range map[string]interface {
		Do(context.Context, string, []byte) (*Reply, error)
	}{"client": c, "session": session(t, c)} {
		if _, err := x.Do(t.Context(), "PRINCIPAL SECRET bob correct horse", nil); !errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func session(t *testing.T, c *Client) *Session {
	t.Helper()
	s, err := c.Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestAdministration(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	ctx := t.Context()
	n.Put("shop/users.1", "x")
	n.Put("plain.1", "x")
	want := func(what string, got any, err error, text string) {
		t.Helper()
		if err != nil || fmt.Sprint(got) != text {
			t.Errorf("%s: %v, %v; want %s", what, got, err, text)
		}
	}
	tables, err := c.Tables(ctx)
	want("tables", tables, err, "[plain shop/users]")
	groups, err := c.Groups(ctx)
	want("groups", groups, err, "[plain shop]")
	nodes, err := c.Nodes(ctx)
	want("nodes", len(nodes), err, "1")
	node, err := c.Node(ctx, 1)
	want("node", fmt.Sprint(node.ID, node.Region, node.Status, node.Addr, node.Port), err, "1localACTIVElocalhost4444")
	pong, err := c.PingNode(ctx, 1)
	want("ping", pong["rtt_ms"], err, "0")
	q, err := c.Quorum(ctx, "plain")
	want("quorum", fmt.Sprint(len(q.Q1), len(q.Q2), q.Q2[0].ID), err, "1 1 1")
	info, err := c.Table(ctx, "plain")
	want("table", info.Fields["owner"], err, "1")
	info, err = c.Group(ctx, "shop")
	want("group", info.Lines, err, "[GROUP shop owner=1]")
	want("grant", nil, errors.Join(c.Grant(ctx, "plain", "bob", Read), c.Revoke(ctx, "plain", "bob", Read)), "<nil>")
	if _, err := c.Node(ctx, 9); !errors.Is(err, ErrNotFound) {
		t.Errorf("no such node: %v", err)
	}
	reply, err := c.Do(ctx, "KEY BLOB GET plain.1", nil)
	want("do", fmt.Sprintf("%q", reply.Frames), err, `[{"BLOB 1" "x"}]`)
	reply, err = c.Do(ctx, "KEY BLOB SET plain.2 3", []byte("a\nb"))
	want("do with body", len(reply.Frames), err, "0")
	for _, line := range []string{"TABLES:3", ""} {
		want("heading", ListedName("TABLE", line), nil, "")
	}
	for _, line := range []string{"TABLE users group=users", "TABLE name=users", "users", "name=users owner=1"} {
		want("listed", ListedName("TABLE", line), nil, "users")
	}
	want("quoted", ListedName("TABLE", `TABLE ."[ID:a" group=x`), nil, "[ID:a")
	want("badly quoted", ListedName("GROUP", `GROUP ."a`), nil, `."a`)
}
