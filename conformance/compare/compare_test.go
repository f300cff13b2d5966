// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers connections on a Unix socket with handle until the test ends.
func serve(t *testing.T, handle func(r *bufio.Reader, w io.Writer) error) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if err := handle(bufio.NewReader(c), c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
					t.Logf("server: %v", err)
				}
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return socket
}

// fakeNode answers PUT and GET of the native protocol from memory.
func fakeNode(t *testing.T, answer func(line string) string) string {
	return serve(t, func(r *bufio.Reader, w io.Writer) error {
		if _, err := io.WriteString(w, "WELCOME 1.0 Chronalys/1.0\r\n"); err != nil {
			return err
		}
		for ready := false; ; ready = true {
			line, err := r.ReadString('\n')
			if err != nil {
				return err
			}
			text := "READY\r\n"
			if ready {
				text = answer(strings.TrimSuffix(line, "\r\n"))
			} else if !strings.HasPrefix(line, "HELLO 1.0 ") {
				text = "ERROR FATAL invalid handshake\r\n"
			}
			if _, err := io.WriteString(w, text); err != nil {
				return err
			}
		}
	})
}

func testSource(keys int) *source { return newSource(1, 0, keys, newText(1)) }

func TestAtlasPutAndGet(t *testing.T) {
	var mu sync.Mutex
	values := map[string]string{}
	socket := fakeNode(t, func(line string) string {
		mu.Lock()
		defer mu.Unlock()
		f := strings.SplitN(line, " ", 4)
		switch {
		case len(f) == 4 && f[1] == "PUT":
			values[f[2]] = f[3]
			return "OK\r\n"
		case len(f) == 3 && f[1] == "GET":
			if v, ok := values[f[2]]; ok {
				return "VALUE:" + v + "\r\nOK\r\n"
			}
			return "NOT_FOUND\r\nOK\r\n"
		}
		return "ERROR WARN invalid: " + line + "\r\n"
	})
	const keys = 50
	shape := prefixed("bench.k")
	dial := func(l load) func(int) (stepper, *source, error) {
		return func(i int) (stepper, *source, error) {
			st, err := atlasStepper(socket, l, shape, keys)
			return st, newSource(1, i, keys, newText(1)), err
		}
	}
	if err := fill(t.Context(), 7, keys, dial(load{Kind: kindPut, Depth: 1})); err != nil {
		t.Fatal(err)
	}
	if len(values) != keys || len(values["bench.k00000049"]) != valueLen {
		t.Fatalf("%d keys were written, want %d of %d bytes", len(values), keys, valueLen)
	}
	for _, depth := range []int{1, 16} {
		s, err := measure(t.Context(), slot{Conns: 3, Dur: 20 * time.Millisecond}, nil, dial(load{Kind: kindGet, Depth: depth}))
		if err != nil {
			t.Fatalf("depth %d: %v", depth, err)
		}
		if s.Units < float64(depth) || s.rate() <= 0 || s.P99 < s.P50 || s.P50 <= 0 {
			t.Errorf("depth %d: %+v", depth, s)
		}
	}
}

// What a server refuses must end the run with its words, and not be counted.
func TestRefusedIsNotCounted(t *testing.T) {
	socket := fakeNode(t, func(line string) string {
		if strings.HasPrefix(line, "KEY GET") {
			return "NOT_FOUND\r\nOK\r\n"
		}
		return "ERROR WARN unavailable: disk is full\r\n"
	})
	for k, want := range map[kind]string{kindPut: "disk is full", kindGet: "NOT_FOUND"} {
		dial := func(int) (stepper, *source, error) {
			st, err := atlasStepper(socket, load{Kind: k, Depth: 2}, prefixed("bench.k"), 10)
			return st, testSource(10), err
		}
		_, err := measure(t.Context(), slot{Conns: 2, Dur: time.Hour}, nil, dial)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q in it", k, err, want)
		}
	}
}

func TestScanAndBlobAreCounted(t *testing.T) {
	const rows, size = 1000, 3 << 20
	answer := fmt.Sprintf("KEYS:%d\r\n", rows)
	for i := range rows {
		answer += fmt.Sprintf("bench.k%d\r\nVALUE:x\r\n", i)
	}
	cut := false
	socket := fakeNode(t, func(line string) string {
		switch {
		case strings.HasPrefix(line, "SCAN bench VALUES"):
			return answer + "OK\r\n"
		case cut:
			return fmt.Sprintf("BLOB %d\r\n%sKO\r\n", size, strings.Repeat("b", size))
		}
		return fmt.Sprintf("BLOB %d\r\n%sOK\r\n", size, strings.Repeat("b", size))
	})
	for _, l := range []load{{Kind: kindScan}, {Kind: kindBlob, Size: size}} {
		st, err := atlasStepper(socket, l, prefixed("bench.k"), rows)
		if err != nil {
			t.Fatal(err)
		}
		units, x := 0, st.(*stream)
		for turns := 0; turns < 3; {
			n, err := x.step(nil)
			if err != nil {
				t.Fatalf("%s: %v", l, err)
			}
			units += n
			if x.left == 0 {
				turns++
			}
		}
		st.close()
		// The first and the last line of a scan make one row too many.
		if want := map[kind]int{kindScan: 3 * (rows + 1), kindBlob: 3 * (size + len("BLOB 3145728\r\nOK\r\n"))}[l.Kind]; units != want {
			t.Errorf("%s: %d units, want %d", l, units, want)
		}
	}
	cut = true
	st, err := atlasStepper(socket, load{Kind: kindBlob, Size: size}, keyShape{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	for err == nil {
		_, err = st.step(nil)
	}
	if !strings.Contains(err.Error(), "unexpected answer") {
		t.Error(err)
	}
}

// The gRPC client speaks to the standard library's HTTP/2 server, which checks what it is sent.
func TestGRPCCalls(t *testing.T) {
	refuse := false
	var calls []string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(body) < 5 || r.ProtoMajor != 2 || r.Header.Get("Te") != "trailers" {
			t.Errorf("request %v %d bytes %v: %v", r.Proto, len(body), r.Header, err)
		}
		calls = append(calls, fmt.Sprintf("%s %s %s", r.URL.Path, r.Host, r.Header.Get("Content-Type")))
		w.Header().Set("Content-Type", "application/grpc")
		if refuse {
			w.Header().Set("Grpc-Status", "14")
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Header().Set("Trailer", "Grpc-Status")
		key := body[5+2 : 5+2+len("bench.k00000000")]
		pair, _ := bytesField(nil, 1, len(key))
		copy(pair[2:], key)
		pair = append(pair, make([]byte, 20)...) // the value's field, more than two bytes of length
		message := append([]byte{1<<3 | 2, 2, 8, 1, 2<<3 | 2, byte(len(pair))}, pair...)
		message = append(message, bytes.Repeat([]byte{'v'}, 100)...)
		frame := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))
		w.Write(append(frame, message...))
		w.Header().Set("Grpc-Status", "0")
	})
	var protocols http.Protocols
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{Handler: handler, Protocols: &protocols}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { s.Serve(l) })
	defer wg.Wait()
	defer s.Close()
	st, err := etcdStepper(l.Addr().String(), load{Kind: kindGet, Depth: 1}, prefixed("bench.k"))
	if err != nil {
		t.Fatal(err)
	}
	defer st.close()
	src := testSource(1000)
	for range 200 {
		if _, err := st.step(src); err != nil {
			t.Fatal(err)
		}
	}
	want := etcdRange + " " + l.Addr().String() + " application/grpc"
	if len(calls) != 200 || calls[0] != want || calls[199] != want {
		t.Errorf("%d calls, the first %q, the last %q, want 200 of %q", len(calls), calls[0], calls[len(calls)-1], want)
	}
	refuse = true
	if _, err := st.step(src); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a refused call gave %v", err)
	}
}

func TestRawPebbleChild(t *testing.T) {
	in, toChild := io.Pipe()
	fromChild, out := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := pebbleChild(in, out); err != nil {
			t.Error(err)
		}
	})
	p := startConversation(toChild, fromChild)
	if err := p.to.Encode(childConfig{Dir: t.TempDir(), Seed: 1, Keys: 100}); err != nil {
		t.Fatal(err)
	}
	if err := p.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, err := p.measure(t.Context(), load{Kind: kindPut, Depth: 1}, slot{Conns: 4, Dur: 50 * time.Millisecond})
	if err != nil || s.Units == 0 || s.ServerCPU <= 0 {
		t.Errorf("%+v, %v", s, err)
	}
	toChild.Close()
	wg.Wait()
}

func TestHistogram(t *testing.T) {
	for ns := uint64(1); ns < 1<<62; ns += ns/4 + 1 {
		if got := bucketMiddle(bucketOf(ns)); math.Abs(got-float64(ns)) > float64(ns)/16 {
			t.Errorf("%d ns stands as %.0f", ns, got)
		}
	}
	var h, sum histogram
	for i := range 1000 {
		h.record(time.Duration(i+1) * time.Microsecond)
	}
	sum.add(&h)
	sum.add(&h)
	for q, want := range map[float64]float64{0.5: 500e3, 0.99: 990e3, 1: 1000e3} {
		if got := sum.quantile(q); math.Abs(got-want) > want/16 {
			t.Errorf("quantile %v is %.0f, want about %.0f", q, got, want)
		}
	}
	if got := new(histogram).quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestSpreadAndRatio(t *testing.T) {
	if got, want := spreadOf([]float64{3, 1, 2}), (spread{2, 1, 3}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got, want := spreadOf([]float64{4, 1, 2, 3}), (spread{2.5, 1, 4}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	at := func(rates ...float64) (all []sample) {
		for _, r := range rates {
			all = append(all, sample{Units: r * 2, Seconds: 2, ServerCPU: 1})
		}
		return all
	}
	// Noise that halves both in one round leaves the ratio as it is.
	if got, want := ratioOf(at(100, 50, 100), at(200, 100, 200)), (spread{0.5, 0.5, 0.5}); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	if got := cpuPerUnit(at(500_000, 500_000)); got != 1 {
		t.Errorf("%v us, want 1", got)
	}
}

func TestAims(t *testing.T) {
	c := &cell{
		load: load{Kind: kindGet, Depth: 1}, conns: aimConns, peers: []string{atlasName, redisName},
		samples: [][]sample{{{Units: 80, Seconds: 1, ServerCPU: 0.0008, Latency: &histogram{}}}, {{Units: 100, Seconds: 1}}},
	}
	marks := map[string]string{}
	for _, a := range speedAims([]*cell{c}, []int{1 << 20}) {
		marks[a.Name] = a.mark()
	}
	for name, want := range map[string]string{
		"GET against Redis GET, 64 connections":    "pass",
		"GET level with Redis GET, 64 connections": "short",
		"server CPU of a GET, 64 connections":      "pass",
		"SCAN VALUES":                              "not measured",
		"KEY BLOB GET of 1 MiB":                    "not measured",
	} {
		if marks[name] != want {
			t.Errorf("%s: %q, want %q", name, marks[name], want)
		}
	}
	var b bytes.Buffer
	r := report{Cells: cellReports([]*cell{c}), Aims: speedAims([]*cell{c}, nil)}
	if err := r.print(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"0.80x (0.80 .. 0.80)", "get ", "redis", ">= 0.7 x"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in\n%s", want, b.String())
		}
	}
}

func TestKeyShapes(t *testing.T) {
	for _, c := range []struct {
		shape keyShape
		k     int
		want  string
	}{
		{prefixed("bench.k"), 123, "bench.k00000123"},
		{oneRowKeys(), 99_999_999, "t99999999.r"},
		{fewTablesKeys('x'), 1234, "t00000004.x0000123"},
		{groupedKeys(), 1234, "group4/t0000123.r"},
	} {
		got := make([]byte, c.shape.len)
		c.shape.put(got, c.k)
		if string(got) != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestParse(t *testing.T) {
	for args, want := range map[string]string{
		"":                          "",
		"-quick":                    "",
		"scale -tables 1000":        "",
		"speed -only put,get":       "",
		"fly":                       "no mode",
		"-only puts":                "choose from",
		"-conns 0":                  "-conns 0",
		"-conns 1,,2":               "-conns ",
		"-keys -1":                  "-keys -1",
		"-slot 1ms":                 "-slot 1ms",
		"-quick extra":              "too much",
		"-peers redis,mongo":        "-peers mongo",
		"scale -tables 2":           "-tables 2",
		"-blobs 4096":               "-blobs 4096",
		"-rounds x":                 "invalid value",
		"speed -atlas x -seed 3":    "",
		"-json out.json -strict":    "",
		"-conns 1,64 -slot 2s -dir": "flag needs an argument",
	} {
		_, err := parse(strings.Fields(args), io.Discard)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", args, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q in it", args, err, want)
		}
	}
	o, err := parse([]string{"-quick", "-rounds", "9"}, io.Discard)
	if err != nil || o.keys != 20_000 || o.speed.rounds != 9 || o.scale.rounds != 9 {
		t.Errorf("%+v, %v", o, err)
	}
}

// A server that ends at once is reported with its last words, and no process is left.
func TestServerThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	p, err := start(dir, "sh", "-c", "echo no such option; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.await(context.Background(), func() error { return errors.New("not yet") })
	if err == nil || !strings.Contains(err.Error(), "no such option") || !strings.Contains(err.Error(), "exit status 3") {
		t.Error(err)
	}
	if err := p.stop(); err != nil {
		t.Error(err)
	}
}
