// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/atlas-edge/atlas/engine"
)

// option reads the arguments of one option, whose name is the current token. Its errors tell the file and line.
type option func(d *caddyfile.Dispenser) error

// place is a dispenser that stays at one token: its errors tell the file and line of that.
func place(d *caddyfile.Dispenser) *caddyfile.Dispenser {
	at := caddyfile.NewDispenser([]caddyfile.Token{d.Token()})
	at.Next()
	return at
}

// places tell where the options of a block stand, for what is found wrong when all of it is read. An option that was given
// has a place for each of its arguments, and one if it has none.
type places struct {
	block   *caddyfile.Dispenser
	options map[string][]*caddyfile.Dispenser
}

// of is the place of an option's nth value, or that of the block if the option was not given.
func (p *places) of(option string, nth int) *caddyfile.Dispenser {
	if at := p.options[option]; nth < len(at) {
		return at[nth]
	}
	return p.block
}

// readBlock reads the block that may follow, an option a line, each at most once.
func readBlock(d *caddyfile.Dispenser, of string, options map[string]option) error {
	_, err := readPlaces(d, of, options)
	return err
}

// readPlaces is readBlock, and tells where the options stand. Requires: the current token is on the line before the block.
func readPlaces(d *caddyfile.Dispenser, of string, options map[string]option) (*places, error) {
	at := &places{block: place(d), options: make(map[string][]*caddyfile.Dispenser)}
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		read, known := options[name]
		if !known {
			return nil, d.Errf("%s has no option %q", of, visible(name))
		}
		if at.options[name] != nil && !repeatable[name] {
			return nil, d.Errf("option %s is given twice", name)
		}
		line := place(d)
		for range max(1, d.CountRemainingArgs()) {
			at.options[name] = append(at.options[name], line)
		}
		depth := d.Nesting()
		if err := read(d); err != nil {
			return nil, err
		}
		if !hasBlock[name] && d.NextBlock(depth) {
			return nil, d.Errf("option %s takes no block", name)
		}
	}
	return at, nil
}

// repeatable and hasBlock list the options that may be given more than once, and those that read a block themselves.
var (
	repeatable = map[string]bool{"connect": true, "frontend": true, "socket": true, "listen": true}
	hasBlock   = map[string]bool{"frontend": true, "socket": true, "listen": true}
)

// oneArg reads the only argument. Its error does not show arguments: one may be a secret.
func oneArg(d *caddyfile.Dispenser, to *string) error {
	name := d.Val()
	if !d.NextArg() {
		return d.Errf("%s takes one argument, found none", name)
	}
	*to = d.Val()
	if d.NextArg() {
		return d.Errf("%s takes one argument, found more", name)
	}
	return nil
}

func textOption(to *string) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if err := oneArg(d, to); err != nil {
			return err
		}
		if *to == "" {
			return d.Errf("%s is empty", name)
		}
		return nil
	}
}

func flagOption(to *bool) option {
	return func(d *caddyfile.Dispenser) error {
		name := d.Val()
		if d.NextArg() {
			return d.Errf("%s takes no argument", name)
		}
		*to = true
		return nil
	}
}

// parsedOption reads one argument into a bounded value.
func parsedOption[T ~int | ~int64](to *T, parse func(string) (T, error), check func(name string, got T) error) option {
	return func(d *caddyfile.Dispenser) error {
		name, text := d.Val(), ""
		if err := oneArg(d, &text); err != nil {
			return err
		}
		if err := checkPlain(name, text); err != nil {
			return d.WrapErr(err)
		}
		got, err := parse(visible(text))
		if err != nil {
			return d.Errf("%s: %w", name, err)
		}
		if err := check(name, got); err != nil {
			return d.WrapErr(err)
		}
		*to = got
		return nil
	}
}

func parseNumber(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("number %q: want digits, and no more than fit 64 bits", text)
	}
	return n, nil
}

func numberOption(to *int, least, most int) option {
	return parsedOption(to, parseNumber, func(name string, got int) error { return checkRange(name, got, least, most) })
}

func sizeOption(to *Size, least, most Size) option {
	return parsedOption(to, ParseSize, func(name string, got Size) error { return checkRange(name, got, least, most) })
}

func durationOption(to *caddy.Duration, least, most time.Duration) option {
	return parsedOption(to, parseDuration, func(name string, got caddy.Duration) error {
		return checkRange(name, time.Duration(got), least, most)
	})
}

// options are those of a node in the Caddyfile.
func (n *Node) options() map[string]option {
	frontend := func(name string) option {
		return func(d *caddyfile.Dispenser) error { return n.addFrontend(d, name) }
	}
	return map[string]option{
		"advertise":  textOption(&n.Advertise),
		"region":     textOption(&n.Region),
		"cluster_id": textOption(&n.ClusterID),
		"credentials": func(d *caddyfile.Dispenser) error {
			return textOption((*string)(&n.Credentials))(d)
		},
		"db_path": textOption(&n.DBPath),
		"connect": func(d *caddyfile.Dispenser) error {
			args := d.RemainingArgs()
			if len(args) == 0 {
				return d.Err("connect takes at least one address, found none")
			}
			n.Connect = append(n.Connect, args...)
			return nil
		},
		"socket": frontend("socket"),
		"listen": frontend("tcp"),
		"frontend": func(d *caddyfile.Dispenser) error {
			if !d.NextArg() {
				return d.Err("frontend takes a name, found none")
			}
			return n.addFrontend(d, d.Val())
		},
		"retention":                durationOption(&n.Retention, engine.RetentionMin, engine.RetentionMax),
		"sweep_interval":           durationOption(&n.SweepInterval, engine.SweepIntervalMin, engine.SweepIntervalMax),
		"cache_size":               sizeOption(&n.CacheSize, cacheSizeMin, cacheSizeMax),
		"min_free_space":           sizeOption(&n.MinFreeSpace, MinFreeSpaceMin, MinFreeSpaceMax),
		"loops":                    numberOption(&n.Loops, 1, engine.LoopsMax),
		"group_idle":               durationOption(&n.GroupIdle, engine.GroupIdleMin, engine.GroupIdleMax),
		"transaction_idle":         durationOption(&n.TransactionIdle, engine.TxnIdleMin, engine.TxnIdleMax),
		"transaction_memory":       sizeOption(&n.TransactionMemory, engine.TxnMemoryMin, engine.TxnMemoryMax),
		"drain_timeout":            durationOption(&n.DrainTimeout, DrainTimeoutMin, DrainTimeoutMax),
		"unsafe_no_credentials":    flagOption(&n.UnsafeNoCredentials),
		"unsafe_no_min_free_space": flagOption(&n.UnsafeNoMinFreeSpace),
	}
}

// checkRead finds at once what Validate would find when the configuration is loaded, so that `adapt` says it, each with the
// line of its option. It works on a copy: what was left out stays out of the JSON.
func (n *Node) checkRead(at *places) error {
	filled := *n
	filled.EnsureDefaults()
	var found []string
	for _, p := range filled.problems() {
		found = append(found, at.of(p.option, p.nth).WrapErr(p.err).Error())
	}
	if len(found) > 0 {
		return fmt.Errorf("atlas: %s", strings.Join(found, "; "))
	}
	return nil
}

// UnmarshalCaddyfile reads the directive
//
//	atlas [<matcher>] {
//	    advertise <host:port>
//	    region <name>
//	    credentials <secret>
//	    db_path <directory>
//	    socket <path> { ... }
//	    ...
//	}
//
// of which docs/reference/configuration.md has every option.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	if d.NextArg() {
		return d.Err("atlas takes no argument but a matcher")
	}
	options := h.options()
	options["status_from"] = func(d *caddyfile.Dispenser) error {
		h.StatusFrom = d.RemainingArgs()
		if len(h.StatusFrom) == 0 {
			return d.Err("status_from takes at least one address range, found none")
		}
		if _, err := parseRanges(h.StatusFrom); err != nil {
			return d.WrapErr(err)
		}
		return nil
	}
	at, err := readPlaces(d, "atlas", options)
	if err != nil {
		return err
	}
	return h.checkRead(at)
}

func parseDirective(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
}

// parseGlobal reads an `atlas` block of the global options: a node without HTTP. Several add up.
func parseGlobal(d *caddyfile.Dispenser, existing any) (any, error) {
	var app App
	if before, ok := existing.(httpcaddyfile.App); ok {
		if err := json.Unmarshal(before.Value, &app); err != nil {
			return nil, err
		}
	}
	d.Next()
	if d.NextArg() {
		return nil, d.Err("atlas takes no argument")
	}
	node := new(Node)
	options := node.options()
	options["status_from"] = func(d *caddyfile.Dispenser) error {
		return d.Err("status_from is an option in a site alone: a node among the global options has no HTTP endpoints")
	}
	at, err := readPlaces(d, "atlas", options)
	if err != nil {
		return nil, err
	}
	if err := node.checkRead(at); err != nil {
		return nil, err
	}
	app.Nodes = append(app.Nodes, node)
	raw, err := json.Marshal(&app)
	return httpcaddyfile.App{Name: appName, Value: raw}, err
}

var _ caddyfile.Unmarshaler = (*Handler)(nil)
