// SPDX-License-Identifier: AGPL-3.0-only

package socket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"time"

	"github.com/atlas-edge/atlas/frontends"
)

// config is the JSON form of the Options that are values. Durations are strings like "10s", the mode is octal like "0660".
type config struct {
	Path             string   `json:"path"`
	Mode             string   `json:"mode,omitempty"`
	ConnectionsMax   int      `json:"connections_max,omitempty"`
	MemoryMax        int64    `json:"memory_max,omitempty"`
	HandshakeTimeout duration `json:"handshake_timeout,omitempty"`
	FrameTimeout     duration `json:"frame_timeout,omitempty"`
	WriteTimeout     duration `json:"write_timeout,omitempty"`
	IdleTimeout      duration `json:"idle_timeout,omitempty"`
	AuthDelay        duration `json:"auth_delay,omitempty"`
	AuthFailuresMax  int      `json:"auth_failures_max,omitempty"`
}

type duration time.Duration

// UnmarshalJSON reads a duration as Go writes it.
func (d *duration) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	parsed, err := time.ParseDuration(text)
	*d = duration(parsed)
	return err
}

// factory makes a server from its JSON configuration.
func factory(host frontends.Host, raw json.RawMessage) (frontends.Frontend, error) {
	o, err := parseConfig(raw)
	if err != nil {
		return nil, err
	}
	o.Logger, o.Registry = host.Logger, host.Registry
	return New(host.Engine, o)
}

func parseConfig(raw json.RawMessage) (Options, error) {
	var c config
	if len(raw) == 0 {
		return Options{}, errors.New("configuration is missing: a path is needed")
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Options{}, fmt.Errorf("configuration: %w", err)
	}
	o := Options{
		Path: c.Path, ConnectionsMax: c.ConnectionsMax, MemoryMax: c.MemoryMax,
		HandshakeTimeout: time.Duration(c.HandshakeTimeout), FrameTimeout: time.Duration(c.FrameTimeout),
		WriteTimeout: time.Duration(c.WriteTimeout), IdleTimeout: time.Duration(c.IdleTimeout),
		AuthDelay: time.Duration(c.AuthDelay), AuthFailuresMax: c.AuthFailuresMax,
	}
	if c.Mode != "" {
		mode, err := strconv.ParseUint(c.Mode, 8, 12)
		if err != nil {
			return Options{}, fmt.Errorf("configuration: socket mode %q is not octal like 0600", c.Mode)
		}
		o.Mode = fs.FileMode(mode)
	}
	return o, nil
}
