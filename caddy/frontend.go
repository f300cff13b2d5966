// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/atlas-edge/atlas/frontends"
)

// frontendNamespace is where Caddy finds frontends.
const frontendNamespace = "atlas.frontends"

// FrontendModule is what a Caddy module in the namespace atlas.frontends must be. To be usable in the Caddyfile, as
// `frontend <name> ...`, it is a caddyfile.Unmarshaler too, whose first token is its name. Two of the same address with
// the same JSON are the same frontend: a reload keeps it. With different JSON the reload is refused.
type FrontendModule interface {
	caddy.Module
	// Address names what the frontend listens on, for example unix//run/atlas/socket. It belongs to one frontend at a
	// time in the whole process. It has no side effects.
	Address() string
	// Open listens, so that clients can connect once it returned. It is called at start, not for what a reload keeps.
	Open(host frontends.Host) (frontends.Frontend, error)
}

// Renewer is a FrontendModule that holds things of its configuration which change with each one, such as certificates.
// A reload that keeps a frontend calls Renew on the module that opened it, with the module of the new configuration. If the
// reload is refused after that, Renew is called again with the module of the configuration that goes on.
type Renewer interface {
	Renew(next FrontendModule) error
}

// loadFrontends provisions the frontends of n, and gives the default when there are none.
func (n *Node) loadFrontends(ctx caddy.Context) ([]FrontendModule, error) {
	if len(n.FrontendsRaw) == 0 {
		s := &SocketFrontend{Path: filepath.Join(n.DBPath, "socket")}
		err := s.Provision(ctx)
		if err == nil {
			err = s.Validate()
		}
		if err != nil {
			// No socket was given: what is wrong is wrong with the db_path. The error begins with the word socket.
			return nil, fmt.Errorf("db_path %q: its default %w", n.DBPath, err)
		}
		return []FrontendModule{s}, nil
	}
	loaded, err := ctx.LoadModule(n, "FrontendsRaw")
	if err != nil {
		return nil, fmt.Errorf("loading frontends: %w", err)
	}
	modules := loaded.([]any)
	out := make([]FrontendModule, len(modules))
	for i, m := range modules {
		f, ok := m.(FrontendModule)
		if !ok {
			return nil, fmt.Errorf("frontend %d: module %T is no frontend", i+1, m)
		}
		out[i] = f
	}
	return out, nil
}

// addFrontend reads one frontend whose name, or the word that stands for it, is the current token.
func (n *Node) addFrontend(d *caddyfile.Dispenser, name string) error {
	if err := checkFrontendCount(len(n.FrontendsRaw) + 1); err != nil {
		return d.WrapErr(err)
	}
	if err := checkPlain("frontend", name); err != nil {
		return d.WrapErr(err)
	}
	module, err := n.unmarshalFrontend(d, name)
	if err != nil {
		return err
	}
	caddyName := module.(caddy.Module).CaddyModule().ID.Name()
	var warnings []caddyconfig.Warning
	raw := caddyconfig.JSONModuleObject(module, "frontend", caddyName, &warnings)
	if len(warnings) > 0 {
		return d.Errf("frontend %s: %s", name, warnings[0].Message)
	}
	n.FrontendsRaw = append(n.FrontendsRaw, raw)
	return nil
}

// unmarshalFrontend reads a Caddy module of that name or, where there is none, what is registered with the package frontends.
func (n *Node) unmarshalFrontend(d *caddyfile.Dispenser, name string) (FrontendModule, error) {
	id := frontendNamespace + "." + name
	if _, err := caddy.GetModule(id); err != nil || name == registeredName {
		if name != registeredName && slices.Contains(frontends.Names(), name) {
			r := new(RegisteredFrontend)
			return r, r.UnmarshalCaddyfile(d.NewFromNextSegment())
		}
		return nil, d.Errf("frontend %q is not in this build, which has %s", visible(name), strings.Join(frontendNames(), ", "))
	}
	module, err := caddyfile.UnmarshalModule(d, id)
	if err != nil {
		return nil, err
	}
	f, ok := module.(FrontendModule)
	if !ok {
		return nil, d.Errf("frontend %s: module %T is no frontend", name, module)
	}
	return f, nil
}

// frontendNames are those of this build, as a Caddyfile names them.
func frontendNames() []string {
	have := frontends.Names()
	for _, m := range caddy.GetModules(frontendNamespace) {
		if name := m.ID.Name(); name != registeredName {
			have = append(have, name)
		}
	}
	slices.Sort(have)
	return slices.Compact(have)
}

// settingsOf is the JSON of a provisioned module, by which a reload tells whether it changed.
func settingsOf(f FrontendModule) (string, error) {
	b, err := json.Marshal(f)
	return string(f.CaddyModule().ID) + string(b), err
}

// canonicalPath is path without symbolic links, dots and relative parts, so that one file has one name whichever way it
// is written. What does not exist yet is taken as written. It opens nothing. Its errors name the option and the path.
func canonicalPath(option, given string) (string, error) {
	path, err := filepath.Abs(given)
	if err != nil {
		return "", fmt.Errorf("%s %q: %w", option, given, err)
	}
	for rest := ""; ; {
		real, err := filepath.EvalSymlinks(path)
		if err == nil {
			return filepath.Join(real, rest), nil
		}
		if parent := filepath.Dir(path); errors.Is(err, fs.ErrNotExist) && parent != path {
			path, rest = parent, filepath.Join(filepath.Base(path), rest)
			continue
		}
		if file := fileAmong(path); file != "" {
			return "", fmt.Errorf("%s %q: %s is not a directory", option, given, file)
		}
		return "", fmt.Errorf("%s %q: %w", option, given, err)
	}
}

// fileAmong is the parent of path that exists and is no directory; "" if there is none.
func fileAmong(path string) string {
	for parent := filepath.Dir(path); parent != path; path, parent = parent, filepath.Dir(parent) {
		if info, err := os.Stat(parent); err == nil && !info.IsDir() {
			return parent
		}
	}
	return ""
}
