// SPDX-License-Identifier: AGPL-3.0-only

// Command atlasdb is Caddy with Atlas: `atlasdb run` starts the nodes of a configuration, `atlasdb atlas` talks to one.
// It names the packages that it is made of and itself, and leaves all else to them; it starts no goroutine.
package main

import (
	"os"
	"path/filepath"

	"github.com/caddyserver/caddy/v2"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/atlas-edge/atlas/caddy"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

const description = `Atlas is an edge database: one binary that keeps data close to its users, strongly consistent, in one place or many.
This program is Caddy with Atlas in it: Caddy starts, configures and reloads nodes, and serves their HTTP endpoints.

  atlasdb run --config Caddyfile     runs the nodes and sites of a configuration, in the foreground
  atlasdb atlas <socket>             opens a shell on a node
  atlasdb atlas dev                  starts a node of your own, with a shell
  atlasdb atlas --help               lists the other programs

All commands of Caddy work as its documents say.`

func main() {
	if len(os.Args) > 0 {
		caddy.CustomBinaryName = filepath.Base(os.Args[0])
	}
	caddy.CustomLongDescription = description
	caddycmd.Main()
}
