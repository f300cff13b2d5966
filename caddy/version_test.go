// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"runtime/debug"
	"testing"
)

// TestVersionOfABuild tells the version of Atlas in builds of our own and in those that others make: xcaddy's said devel, and one with a
// version of its own said that.
func TestVersionOfABuild(t *testing.T) {
	revision := []debug.BuildSetting{{Key: "vcs.revision", Value: "0123456789abcdef"}}
	for name, c := range map[string]struct {
		info *debug.BuildInfo
		want string
	}{
		"our own":         {&debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "v1.2.3"}, Settings: revision}, "v1.2.3"},
		"of a revision":   {&debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "(devel)"}, Settings: revision}, "0123456789ab"},
		"of no revision":  {&debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "(devel)"}}, "devel"},
		"of a test":       {new(debug.BuildInfo), "devel"},
		"another's":       {other("v7.0.0", &debug.Module{Path: modulePath, Version: "v1.2.3"}, revision), "v1.2.3"},
		"another's devel": {other("(devel)", &debug.Module{Path: modulePath, Version: "v1.2.3"}, revision), "v1.2.3"},
		"a fork": {other("v7.0.0", &debug.Module{
			Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "example.com/fork", Version: "v1.2.4"},
		}, revision), "v1.2.4"},
		"a directory": {other("v7.0.0", &debug.Module{
			Path: modulePath, Version: "v1.2.3", Replace: &debug.Module{Path: "../atlas"},
		}, revision), "devel"},
		"a checkout": {other("v7.0.0", &debug.Module{Path: modulePath, Version: "v0.0.0", Replace: &debug.Module{Path: "../atlas", Version: "(devel)"}}, nil), "devel"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := versionOf(c.info); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// other is a build of somebody else's program, of which Atlas is a part.
func other(version string, atlas *debug.Module, settings []debug.BuildSetting) *debug.BuildInfo {
	return &debug.BuildInfo{
		Main:     debug.Module{Path: "example.com/program", Version: version},
		Deps:     []*debug.Module{{Path: "github.com/caddyserver/caddy/v2", Version: "v2.11.9"}, atlas},
		Settings: settings,
	}
}
