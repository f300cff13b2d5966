// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/atlas-edge/atlas/frontends"
)

// RegisteredFrontend is a frontend of the registry of the package frontends (atlas.frontends.registered), so that one which knows
// nothing of Caddy needs no module of its own.
type RegisteredFrontend struct {
	// Name is what the frontend is registered as. Required.
	Name string `json:"name"`
	// Config is the frontend's own configuration. Default: none, which is the frontend's default.
	Config json.RawMessage `json:"config,omitempty"`
}

// CaddyModule names the module.
func (RegisteredFrontend) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: frontendNamespace + "." + registeredName, New: func() caddy.Module { return new(RegisteredFrontend) }}
}

// registeredName stands for the registry where Caddy names a module.
const registeredName = "registered"

// Provision gives a configuration one text, however it was laid out.
func (r *RegisteredFrontend) Provision(caddy.Context) error {
	if len(r.Config) == 0 {
		return nil
	}
	var b bytes.Buffer
	if err := json.Compact(&b, r.Config); err != nil {
		return fmt.Errorf("config of frontend %q: %w", visible(r.Name), err)
	}
	r.Config = b.Bytes()
	return nil
}

// Validate reports a name that nobody registered.
func (r *RegisteredFrontend) Validate() error {
	if !slices.Contains(frontends.Names(), r.Name) {
		return fmt.Errorf("frontend %q is not registered in this build, which has %s", visible(r.Name), strings.Join(frontends.Names(), ", "))
	}
	return nil
}

// Address tells frontends apart by name and configuration, as only they know what they listen on. It shows nothing of the configuration,
// which may hold a secret.
func (r *RegisteredFrontend) Address() string {
	if len(r.Config) == 0 {
		return r.Name
	}
	sum := sha256.Sum256(r.Config)
	return fmt.Sprintf("%s/%x", r.Name, sum[:4])
}

// Open makes the frontend. It listens once it serves, by the contract of a factory.
func (r *RegisteredFrontend) Open(host frontends.Host) (frontends.Frontend, error) {
	return frontends.New(r.Name, host, r.Config)
}

// UnmarshalCaddyfile reads
//
//	<name> [<JSON>]
func (r *RegisteredFrontend) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	r.Name = d.Val()
	if d.NextArg() {
		r.Config = json.RawMessage(d.Val())
		var checked json.RawMessage
		if err := json.Unmarshal(r.Config, &checked); err != nil {
			return d.Errf("config of frontend %q is no JSON: %v: quote it as one word, in backticks", visible(r.Name), err)
		}
	}
	if d.NextArg() || d.NextBlock(d.Nesting()) {
		return d.WrapErr(errors.New("a registered frontend takes its configuration as one word of JSON: quote it, in backticks"))
	}
	return nil
}

var (
	_ FrontendModule        = (*RegisteredFrontend)(nil)
	_ caddy.Provisioner     = (*RegisteredFrontend)(nil)
	_ caddy.Validator       = (*RegisteredFrontend)(nil)
	_ caddyfile.Unmarshaler = (*RegisteredFrontend)(nil)
)
