// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"encoding/json"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/atlas-edge/atlas/engine"
	"github.com/atlas-edge/atlas/frontends"
	"github.com/prometheus/client_golang/prometheus"
)

func TestFactory(t *testing.T) {
	if !slices.Contains(frontends.Names(), Name) {
		t.Fatalf("names are %q", frontends.Names())
	}
	host := frontends.Host{Engine: new(engine.Engine), Registry: prometheus.NewRegistry()}
	path := filepath.Join(socketDir(t), "s")
	quoted, err := json.Marshal(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := frontends.New(Name, host, json.RawMessage(`{"path":`+string(quoted)+`,"mode":"0660","connections_max":7,"memory_max":2097152,
		"handshake_timeout":"1s","frame_timeout":"2s","write_timeout":"3s","idle_timeout":"4s","auth_delay":"5ms","auth_failures_max":6}`))
	if err != nil {
		t.Fatal(err)
	}
	want := Options{
		Path: path, Mode: 0o660, ConnectionsMax: 7, MemoryMax: 2 << 20, HandshakeTimeout: time.Second, FrameTimeout: 2 * time.Second,
		WriteTimeout: 3 * time.Second, IdleTimeout: 4 * time.Second, AuthDelay: 5 * time.Millisecond, AuthFailuresMax: 6,
		Registry: host.Registry,
	}
	got := f.(*Server).opts
	got.Logger = nil
	if got != want {
		t.Errorf("options are %+v, want %+v", got, want)
	}
	if f.Name() != Name {
		t.Errorf("name is %q", f.Name())
	}
	for config, text := range map[string]string{
		``:                                   "configuration is missing",
		`null`:                               "socket path is not set",
		`{}`:                                 "socket path is not set",
		`{"path":"/x","mode":"rw"}`:          "not octal",
		`{"path":"/x","mode":"0999"}`:        "not octal",
		`{"path":"/x","mode":"0400"}`:        "socket mode",
		`{"path":"/x","mode":"4600"}`:        "socket mode",
		`{"path":"/x","port":1}`:             "unknown field",
		`{"path":"/x","write_timeout":"1"}`:  "missing unit",
		`{"path":"/x","write_timeout":1}`:    "cannot unmarshal",
		`{"path":"/x","connections_max":-1}`: "connections -1 is outside of 1 to 1000000",
	} {
		if _, err := frontends.New(Name, host, json.RawMessage(config)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: error %v, want %q", config, err, text)
		}
	}
}

// Every bound of the options: at it is taken, one past it is refused, and all problems are told at once.
func TestOptionBounds(t *testing.T) {
	try := func(change func(*Options)) error {
		o := Options{Path: "/x"}
		o.EnsureDefaults()
		change(&o)
		return o.Validate()
	}
	durations := map[string]struct {
		set         func(*Options, time.Duration)
		least, most time.Duration
	}{
		"handshake": {func(o *Options, d time.Duration) { o.HandshakeTimeout = d }, TimeoutMin, HandshakeMax},
		"frame":     {func(o *Options, d time.Duration) { o.FrameTimeout = d }, TimeoutMin, TimeoutMax},
		"write":     {func(o *Options, d time.Duration) { o.WriteTimeout = d }, TimeoutMin, TimeoutMax},
		"idle":      {func(o *Options, d time.Duration) { o.IdleTimeout = d }, TimeoutMin, IdleTimeoutMax},
		"delay":     {func(o *Options, d time.Duration) { o.AuthDelay = d }, AuthDelayMin, AuthDelayMax},
	}
	for name, c := range durations {
		for d, want := range map[time.Duration]bool{c.least: true, c.most: true, c.least - 1: false, c.most + 1: false, -1: false} {
			if err := try(func(o *Options) { c.set(o, d) }); (err == nil) != want {
				t.Errorf("%s %v: %v", name, d, err)
			}
		}
	}
	for n, want := range map[int]bool{1: true, ConnectionsMaxMax: true, 0: false, ConnectionsMaxMax + 1: false} {
		if err := try(func(o *Options) { o.ConnectionsMax = n }); (err == nil) != want {
			t.Errorf("%d connections: %v", n, err)
		}
	}
	for n, want := range map[int64]bool{MemoryMaxMin: true, MemoryMaxMax: true, MemoryMaxMin - 1: false, MemoryMaxMax + 1: false} {
		if err := try(func(o *Options) { o.MemoryMax = n }); (err == nil) != want {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for n, want := range map[int]bool{1: true, AuthFailuresMaxMax: true, 0: false, AuthFailuresMaxMax + 1: false} {
		if err := try(func(o *Options) { o.AuthFailuresMax = n }); (err == nil) != want {
			t.Errorf("%d failures: %v", n, err)
		}
	}
	for mode, want := range map[fs.FileMode]bool{0o600: true, 0o660: true, 0o777: true, 0o400: false, 0o066: false, fs.ModeSetuid | 0o600: false, 0o10600: false} {
		if err := try(func(o *Options) { o.Mode = mode }); (err == nil) != want {
			t.Errorf("mode %#o: %v", uint32(mode), err)
		}
	}
	err := try(func(o *Options) { o.Path, o.ConnectionsMax, o.Mode = "", -1, 0o100 })
	if err == nil || strings.Count(err.Error(), "\n") != 2 {
		t.Errorf("three problems: %v", err)
	}
	if err := try(func(o *Options) { o.Path, o.Listener = "", &net.TCPListener{} }); err != nil {
		t.Errorf("a listener and no path: %v", err)
	}
}

// Two servers count on one registry, as across a reload; verbs are labels from a fixed list, whatever clients send.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	one := start(t, newFake(), Options{Registry: reg})
	two := start(t, newFake(), Options{Registry: reg})
	for _, s := range []*Server{one, two} {
		c := dial(t, s)
		for _, command := range []string{"KEY GET a.b", "KEY PUT a.b x", "NOSUCH", "\x1b[31m", "KEY GET", "KEY WRITE a.b IF ABSENT VALUE x"} {
			c.do(command)
		}
		c.send("[ID:\r\n")
		c.wantPrefix("ERROR FATAL")
		c.wantClosed()
	}
	eventually(t, "connections end", func() bool { return len(one.snapshot(nil))+len(two.snapshot(nil)) == 0 })
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			name := family.GetName()
			for _, label := range m.GetLabel() {
				name += " " + label.GetValue()
			}
			switch {
			case m.GetHistogram() != nil:
				got[name] = float64(m.GetHistogram().GetSampleCount())
			case m.GetGauge() != nil:
				got[name] = m.GetGauge().GetValue()
			default:
				got[name] = m.GetCounter().GetValue()
			}
		}
	}
	for name, want := range map[string]float64{
		"atlas_socket_connections": 0, "atlas_socket_connections_total accepted": 2,
		"atlas_socket_command_seconds key_get": 4, "atlas_socket_command_seconds key_put": 2, "atlas_socket_command_seconds key_write": 2,
		"atlas_socket_command_seconds invalid": 4,
		"atlas_socket_errors_total invalid":    6, "atlas_socket_errors_total conflict": 2, "atlas_socket_errors_total fatal": 2,
	} {
		if got[name] != want {
			t.Errorf("%s is %v, want %v", name, got[name], want)
		}
	}
	if got["atlas_socket_received_bytes_total"] < 100 || got["atlas_socket_sent_bytes_total"] < 100 {
		t.Errorf("bytes: %v received, %v sent", got["atlas_socket_received_bytes_total"], got["atlas_socket_sent_bytes_total"])
	}
}
