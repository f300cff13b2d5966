// SPDX-License-Identifier: AGPL-3.0-only

package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/atlas-edge/atlas/client/internal/fakenode"
	"github.com/atlas-edge/atlas/client/wire"
)

func TestBlobs(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t), func(o *Options) { o.ExclusiveMax = 1 })
	ctx := t.Context()
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	if _, err := c.PutBlob(ctx, "t.big", bytes.NewReader(big), int64(len(big))); err != nil {
		t.Fatal(err)
	}
	b, err := c.GetBlob(ctx, "t.big")
	if err != nil || b.Size != int64(len(big)) {
		t.Fatalf("size %d, %v", b.Size, err)
	}
	got, err := io.ReadAll(b)
	if err != nil || !bytes.Equal(got, big) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	// Given up early, twice: the one exclusive connection is there again.
	for range 2 {
		b, err := c.GetBlob(ctx, "t.big")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, b, 10); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := b.Read(got); !errors.Is(err, ErrClosed) {
			t.Errorf("read after close: %v", err)
		}
	}
	if _, err := c.GetBlob(ctx, "t.none"); !errors.Is(err, ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := c.PutBlob(ctx, "t.none", strings.NewReader("short"), 10); !errors.Is(err, ErrInvalid) {
		t.Errorf("short body: %v", err)
	}
	if _, err := c.PutBlob(ctx, "t.none", io.MultiReader(strings.NewReader("abc"), failing{}), 10); !errors.Is(err, ErrInvalid) || !errors.Is(err, errBody) {
		t.Errorf("failing body: %v", err)
	}
	if _, err := c.PutBlob(ctx, "t.empty", strings.NewReader(""), 0); err != nil {
		t.Error(err)
	}
	if v, err := c.Get(ctx, "t.empty"); err != nil || len(v) != 0 {
		t.Errorf("empty: %q, %v", v, err)
	}
	if _, ok := n.Get("t.none"); ok {
		t.Error("an incomplete upload was applied")
	}
	for _, size := range []int64{-1, ValueLenMax + 1} {
		if _, err := c.PutBlob(ctx, "t.x", nil, size); err == nil {
			t.Errorf("size %d taken", size)
		}
	}
}

var errBody = errors.New("body failed")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBody }

func TestScan(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t), func(o *Options) { o.ExclusiveMax = 2 })
	ctx := t.Context()
	for i := range 25 {
		n.Put(fmt.Sprintf("t.%02d", i), fmt.Sprintf("value %d", i))
	}
	n.Put("t.99", "binary\n\x00")
	collect := func(o ScanOptions) string {
		t.Helper()
		var keys []string
		for row, err := range c.Scan(ctx, "t", o) {
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, strings.TrimPrefix(row.Key, "t."))
		}
		return strings.Join(keys, " ")
	}
	all := "00 01 02 03 04 05 06 07 08 09 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 99"
	for _, tt := range []struct {
		o    ScanOptions
		want string
	}{
		{ScanOptions{}, all},
		{ScanOptions{PageRows: 7}, all},
		{ScanOptions{PageRows: 13}, all},
		{ScanOptions{PageRows: -1}, all},
		{ScanOptions{Limit: 3}, "00 01 02"},
		{ScanOptions{Limit: 5, PageRows: 2}, "00 01 02 03 04"},
		{ScanOptions{After: "t.22"}, "23 24 99"},
		{ScanOptions{Reverse: true, Limit: 3, PageRows: 1}, "99 24 23"},
		{ScanOptions{After: "t.99"}, ""},
		{ScanOptions{Values: true, PageRows: 4, After: "t.20"}, "21 22 23 24 99"},
	} {
		if got := collect(tt.o); got != tt.want {
			t.Errorf("%+v: got %s", tt.o, got)
		}
	}
	for row, err := range c.Scan(ctx, "t", ScanOptions{Values: true}) {
		want, _ := n.Get(row.Key)
		if err != nil || string(row.Value) != want || row.Size != int64(len(want)) {
			t.Errorf("%s: %q, %v", row.Key, row.Value, err)
		}
	}
	for row, err := range c.Scan(ctx, "t", ScanOptions{Values: true, StreamMin: 1, After: "t.24"}) {
		if err != nil || row.Value != nil || row.Blob == nil {
			t.Fatalf("%+v, %v", row, err)
		}
		if b, err := io.ReadAll(row.Blob); err != nil || string(b) != "binary\n\x00" {
			t.Errorf("%q, %v", b, err)
		}
	}
	// A consumer that stops gives the connection back, whether it stopped in the page or not.
	for range 5 {
		for range c.Scan(ctx, "t", ScanOptions{Values: true}) {
			break
		}
	}
	s, err := c.Session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	count := 0
	for row, err := range s.Scan(ctx, "t", ScanOptions{PageRows: 5, Values: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(ctx, row.Key); err != nil {
			t.Fatal(err)
		}
		count++
	}
	if count != 26 {
		t.Errorf("session scan: %d rows", count)
	}
}

func TestTransactions(t *testing.T) {
	n := &fakenode.Node{}
	c := dialNode(t, n.Start(t))
	ctx := t.Context()
	txn, err := c.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txn.Put(ctx, "t.a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.Get("t.a"); ok {
		t.Error("seen before the commit")
	}
	rows := 0
	for _, err := range txn.Scan(ctx, "t", ScanOptions{}) {
		if err != nil {
			t.Error(err)
		}
		rows++
	}
	if version, err := txn.Commit(ctx); err != nil || version == 0 || rows != 1 {
		t.Errorf("version %d, %d rows, %v", version, rows, err)
	}
	if err := txn.Rollback(ctx); err != nil {
		t.Error(err)
	}
	if _, err := txn.Get(ctx, "t.a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := c.Transact(ctx, 1, func(txn *Txn) error {
		if err := txn.Delete(ctx, "t.a"); err != nil {
			return err
		}
		return errBody
	}); !errors.Is(err, errBody) {
		t.Error(err)
	}
	if _, ok := n.Get("t.a"); !ok {
		t.Error("rolled back, yet applied")
	}
	tries := 0
	n.SetHook(func(c *fakenode.Conn, _, line string) (bool, error) {
		if line == "COMMIT" && tries < 3 {
			c.Raw("ERROR WARN conflict: t.a changed\r\n")
			return true, nil
		}
		return false, nil
	})
	if _, err := c.Transact(ctx, 5, func(*Txn) error { tries++; return nil }); err != nil || tries != 3 {
		t.Errorf("%d tries, %v", tries, err)
	}
	n.SetHook(func(_ *fakenode.Conn, _, line string) (bool, error) {
		if line == "COMMIT" {
			return true, errors.New("cut")
		}
		return false, nil
	})
	tries = 0
	if _, err := c.Transact(ctx, 5, func(*Txn) error { tries++; return nil }); !errors.Is(err, ErrUnknown) || tries != 1 {
		t.Errorf("%d tries, %v", tries, err)
	}
}

// A commit on a connection that the server had closed long before was told to be unknown, though it was never sent: the
// transaction was rolled back. So was a write in a session.
func TestCommitAfterTheServerLeft(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = filepath.Join(t.TempDir(), "s")
			}
			l, err := net.Listen(network, address)
			if err != nil {
				t.Fatal(err)
			}
			n := (&fakenode.Node{}).Serve(l)
			defer n.Close()
			c := dialNode(t, l.Addr().String(), func(o *Options) { o.Network = network })
			txn, err := c.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := txn.Put(t.Context(), "t.a", []byte("1")); err != nil {
				t.Fatal(err)
			}
			s, err := c.Session(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			n.CutAll()
			eventually(t, "the connections are cut", func() bool { return !wire.Idle(txn.session.rc.nc) && !wire.Idle(s.rc.nc) })
			if _, err := txn.Commit(t.Context()); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
				t.Errorf("commit: %v", err)
			}
			if _, err := s.Put(t.Context(), "t.a", []byte("1")); !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknown) {
				t.Errorf("write in a session: %v", err)
			}
			if _, ok := n.Get("t.a"); ok {
				t.Error("it was applied")
			}
		})
	}
}

// A watch that loses its connection again and again gives every event once, in order.
func TestWatchResumes(t *testing.T) {
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain=%v", plain), func(t *testing.T) {
			n := &fakenode.Node{Plain: plain}
			c := dialNode(t, n.Start(t))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			const events = 60
			from := n.Put("other.x", "")
			var got []string
			written := 0
			write := func() { n.Put(fmt.Sprintf("t.%d", written), "v"); written++ }
			write()
			for e, err := range c.Watch(ctx, "t", WatchOptions{After: &from}) {
				if err != nil {
					if !errors.Is(err, context.Canceled) {
						t.Fatal(err)
					}
					break
				}
				got = append(got, e.Key)
				switch {
				case len(got) == events:
					cancel()
				case written < events:
					if len(got)%7 == 0 {
						n.CutAll()
					}
					write()
				}
			}
			for i, key := range got {
				if key != fmt.Sprintf("t.%d", i) {
					t.Fatalf("event %d is %s: %q", i, key, got)
				}
			}
			if len(got) != events {
				t.Errorf("%d events", len(got))
			}
		})
	}
}

func TestWatchEnds(t *testing.T) {
	n := &fakenode.Node{Plain: true}
	c := dialNode(t, n.Start(t))
	// Lost before there was anything to go on from.
	n.SetHook(func(_ *fakenode.Conn, _, line string) (bool, error) {
		return strings.HasPrefix(line, "WATCH"), map[bool]error{true: errors.New("cut")}[strings.HasPrefix(line, "WATCH")]
	})
	for _, err := range c.Watch(t.Context(), "t", WatchOptions{}) {
		if !errors.Is(err, ErrUnavailable) {
			t.Error(err)
		}
	}
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if strings.HasPrefix(line, "WATCH") {
			c.Raw("[ID:" + tag + "] ERROR WARN denied: no\r\n")
			return true, nil
		}
		return false, nil
	})
	for _, err := range c.Watch(t.Context(), "t", WatchOptions{}) {
		if !errors.Is(err, ErrDenied) {
			t.Error(err)
		}
	}
	// What is no longer kept does not come back: the watch ends rather than ask for ever.
	long := uint64(1)
	n.SetHook(func(c *fakenode.Conn, tag, line string) (bool, error) {
		if strings.HasPrefix(line, "WATCH") {
			c.Raw("[ID:" + tag + "] ERROR WARN not_found: changes after version 1 are no longer all kept\r\n")
			return true, nil
		}
		return false, nil
	})
	for _, err := range c.Watch(t.Context(), "t", WatchOptions{After: &long}) {
		if !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	}
	n.SetHook(nil)
	n.Put("t.a", "")
	one := uint64(0)
	for e, err := range c.Watch(t.Context(), "t", WatchOptions{After: &one}) {
		if err != nil || e.Key != "t.a" || e.Kind != EventPut {
			t.Errorf("%v, %v", e, err)
		}
		break
	}
}

func TestClose(t *testing.T) {
	var heard atomic.Int32
	n := &fakenode.Node{Hook: func(_ *fakenode.Conn, _, line string) (bool, error) {
		if strings.HasPrefix(line, "PRINCIPAL") {
			return false, nil
		}
		heard.Add(1)
		return true, nil
	}}
	c := dialNode(t, n.Start(t))
	var wg sync.WaitGroup
	errs := make(chan error, 20)
	for range 10 {
		wg.Go(func() { _, err := c.Put(t.Context(), "t.a", []byte("x")); errs <- err })
		wg.Go(func() { _, err := c.Get(t.Context(), "t.a"); errs <- err })
	}
	// One that has only taken its slot would rightly say of its write that it was never sent.
	eventually(t, "the node has heard all", func() bool { return heard.Load() == 20 })
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	unknown, unavailable := 0, 0
	for range 20 {
		switch err := <-errs; {
		case errors.Is(err, ErrUnknown):
			unknown++
		case errors.Is(err, ErrUnavailable):
			unavailable++
		default:
			t.Error(err)
		}
	}
	if unknown != 10 || unavailable != 10 {
		t.Errorf("%d unknown, %d unavailable", unknown, unavailable)
	}
	if _, err := c.Get(t.Context(), "t.a"); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
	if _, err := c.Begin(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

func TestParseEndpoint(t *testing.T) {
	for in, want := range map[string]string{
		"/tmp/a":             "unix /tmp/a false",
		"./a":                "unix ./a false",
		"unix:/tmp/a":        "unix /tmp/a false",
		"unix:///tmp/a":      "unix /tmp/a false",
		"tcp://h:1":          "tcp h:1 false",
		"tls://[::1]:4444":   "tcp [::1]:4444 true",
		"":                   "invalid",
		"tcp://h":            "invalid",
		"http://x:1":         "invalid",
		"/tmp/a\nb":          "invalid",
		"unix://":            "invalid",
		"relative/path.sock": "unix relative/path.sock false",
	} {
		e, err := ParseEndpoint(in)
		got := fmt.Sprintf("%s %s %v", e.Network, e.Address, e.TLS)
		if err != nil {
			got = "invalid"
		}
		if got != want {
			t.Errorf("%q: got %s, want %s", in, got, want)
		}
	}
}

// A context that ends while something streams ends the streaming, with its own error, and no connection is left in use.
func TestCancelledStreams(t *testing.T) {
	n := &fakenode.Node{}
	n.Hook = func(c *fakenode.Conn, _, line string) (bool, error) {
		switch {
		case strings.HasPrefix(line, "KEY BLOB GET"):
			c.Raw("BLOB 100\r\nabc")
		case strings.HasPrefix(line, "SCAN"):
			c.Raw("KEYS:2\r\nt.a\r\n")
		case strings.HasPrefix(line, "KEY BLOB SET"), strings.HasPrefix(line, "COUNT"):
		default:
			return false, nil
		}
		return true, nil
	}
	c := dialNode(t, n.Start(t), func(o *Options) { o.ExclusiveMax = 1 })
	for what, run := range map[string]func(ctx context.Context, cancel func()) error{
		"blob": func(ctx context.Context, cancel func()) error {
			b, err := c.GetBlob(ctx, "t.a")
			if err != nil {
				return err
			}
			if _, err := io.CopyN(io.Discard, b, 3); err != nil {
				return err
			}
			cancel()
			_, err = io.Copy(io.Discard, b)
			return err
		},
		"scan": func(ctx context.Context, cancel func()) (err error) {
			for _, err = range c.Scan(ctx, "t", ScanOptions{}) {
				cancel()
			}
			return err
		},
		"upload": func(ctx context.Context, cancel func()) error {
			_, err := c.PutBlob(ctx, "t.a", io.MultiReader(strings.NewReader("abc"), readerFunc(cancel)), 100<<20)
			return err
		},
		"session": func(ctx context.Context, cancel func()) error {
			s, err := c.Session(t.Context())
			if err != nil {
				return err
			}
			defer s.Close()
			cancel()
			_, err = s.Count(ctx, "t")
			return err
		},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		err := run(ctx, cancel)
		cancel()
		if !errors.Is(err, context.Canceled) || errors.Is(err, ErrUnknown) {
			t.Errorf("%s: %v", what, err)
		}
		if len(c.exclusive) > 1 {
			t.Errorf("%s: %d connections in use", what, len(c.exclusive))
		}
	}
	n.SetHook(nil)
	if _, err := c.PutBlob(t.Context(), "t.a", strings.NewReader("abc"), 3); err != nil {
		t.Error(err)
	}
}

// readerFunc calls itself and gives zeros.
type readerFunc func()

func (f readerFunc) Read(p []byte) (int, error) {
	f()
	clear(p)
	return len(p), nil
}
