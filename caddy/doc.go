// SPDX-License-Identifier: AGPL-3.0-only

// Package caddy is the process around Atlas: the Caddy modules that configure, start and stop nodes, and the command line.
//
// It adds to Caddy
//
//   - the HTTP handler `atlas` (http.handlers.atlas), a directive in the Caddyfile, which carries the options of one node
//     and answers /healthz, /readyz, /status and /metrics;
//   - the app `atlas`, which starts the nodes that handlers or its own `nodes` describe;
//   - the frontends of a node, guest modules in the namespace atlas.frontends, of which `socket` and `tcp` are here,
//     and `registered`, by which a frontend of the package frontends needs none;
//   - the command `atlas`.
//
// Provisioning is pure: it makes no directory and opens no file, so that `validate` and `adapt` change nothing. All of
// that happens in the app's Start. A node and each of its frontends are held in reference-counted pools, under the real
// path of the data directory and the address listened on: a new configuration takes its references before the old one
// lets go of its own, so that a reload keeps nodes, data and connections. What cannot change while it runs makes the
// reload fail, and the old configuration goes on.
//
// Goroutines: each node and each frontend owns one, ended and waited for when its last reference goes.
package caddy
