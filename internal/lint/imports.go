// SPDX-License-Identifier: AGPL-3.0-only

package lint

import (
	"slices"
	"strings"
)

// third is a third-party import path that a package may use, with what lies below it.
type third struct {
	path string
	why  string
	// file narrows it to one file name; empty means all.
	file string
	// wraps says that the package is the one that wraps this dependency: its types may show in exported signatures.
	wraps bool
	// test narrows it to _test.go files.
	test bool
}

// layer is one row of the table of packages: what the package at dir (and below, unless a longer row matches) may import.
type layer struct {
	dir string
	why string
	// internal lists paths of this module; a trailing /... takes what lies below.
	internal []string
	// testInternal is what only its tests may import besides.
	testInternal []string
	third        []third
}

const (
	pebble     = "github.com/cockroachdb/pebble/v2"
	prometheus = "github.com/prometheus/client_golang"
)

// everywhere may be imported by every package.
var everywhere = []string{"internal/invariants", "internal/failpoint"}

// testOnly may be imported by every test.
var testOnly = []third{
	{path: "pgregory.net/rapid", why: "properties and state machines"},
	{path: "github.com/cockroachdb/datadriven", why: "transcripts"},
	{path: "github.com/rogpeppe/go-internal/testscript", why: "command line stories"},
	{path: "go.uber.org/goleak", why: "leaked goroutines"},
	{path: "github.com/anishathalye/porcupine", why: "linearizability"},
}

// layers is STYLE section 1 as data. Dependencies run one way: caddy -> frontends/* -> engine -> consensus ->
// consensus/quorum; never up, and never between frontends.
var layers = []layer{
	{dir: "consensus/quorum", why: "quorum arithmetic: pure functions"},
	{
		dir: "consensus", why: "the core of one group: a pure state machine",
		internal:     []string{"consensus/quorum", "consensus/consensuspb"},
		testInternal: []string{"internal/story"},
		third:        []third{{path: "google.golang.org/protobuf", why: "records on the wire", wraps: true}},
	},
	{
		dir: "consensus/consensuspb", why: "records on the wire and on disk, generated",
		third: []third{{path: "google.golang.org/protobuf", why: "what the generated code stands on", wraps: true}},
	},
	{
		dir: "consensus/consensuspb/gen", why: "the generator of consensuspb; no part of the node",
		third: []third{
			{path: "google.golang.org/protobuf", why: "descriptors and the plugin's protocol"},
			{path: "github.com/bufbuild/protocompile", why: "the compiler of .proto files"},
		},
	},
	{
		dir: "consensus/liveness", why: "epochs, support and what leases rest on: a pure state machine of the node",
		internal:     []string{"consensus", "consensus/quorum"},
		testInternal: []string{"internal/story"},
	},
	{dir: "consensus/session", why: "exactly once: the replicated table of sessions", internal: []string{"consensus"}},
	{dir: "consensus/ownership", why: "where a group's owner should stand: a pure policy", internal: []string{"consensus", "consensus/quorum"}},
	{
		dir: "consensus/reconfig", why: "the steps from one configuration to the next: a pure driver",
		internal: []string{"consensus", "consensus/quorum", "consensus/consensuspb"},
	},
	{
		dir: "consensus/sim", why: "virtual network, disk and clock around the core",
		internal: []string{"consensus/..."}, testInternal: []string{"internal/story"}, third: testOnly,
	},
	{
		dir: "consensus/explore", why: "all schedules of the core to a stated bound",
		internal: []string{"consensus/..."}, third: testOnly,
	},
	{
		dir: "consensus/wan", why: "what regions far apart see: latencies in the simulator",
		internal: []string{"consensus/..."}, third: testOnly,
	},
	{
		dir: "engine", why: "the database that frontends use",
		internal:     []string{"engine/...", "consensus/...", "migrations"},
		testInternal: []string{"engine/..."},
		third: []third{
			{path: prometheus, why: "metrics on the registry passed in", wraps: true},
			{path: pebble + "/vfs", why: "a disk that crashes", test: true},
		},
	},
	{dir: "engine/key", why: "names: parsing only"},
	{dir: "engine/hlc", why: "the node's clock", internal: []string{"consensus"}},
	{
		dir: "engine/authz", why: "the one decision function",
		internal: []string{"engine/key"},
		third:    []third{{path: "golang.org/x/crypto/argon2", why: "the slow hash of secrets"}},
	},
	{
		dir: "engine/command", why: "the replicated state machine",
		internal: []string{"engine/key", "engine/authz", "consensus"},
	},
	{
		dir: "engine/storage", why: "acceptor state, log and versioned data on disk",
		internal: []string{"engine/key", "consensus", "migrations"},
		third: []third{
			{path: pebble, why: "the storage engine", wraps: true},
			{path: prometheus, why: "metrics on the registry passed in", file: "metrics.go", wraps: true},
			{path: "github.com/cockroachdb/crlib", why: "Pebble's own interfaces name its types"},
		},
	},
	{
		dir: "engine/replication", why: "event loops that drive the cores",
		internal: []string{"engine/storage", "engine/command", "engine/key", "engine/hlc", "engine/authz", "consensus/..."},
		third: []third{
			{path: prometheus, why: "metrics on the registry passed in", file: "metrics.go", wraps: true},
			{path: pebble + "/vfs", why: "a disk that crashes", test: true},
		},
	},
	{
		dir: "engine/peer", why: "node-to-node transport",
		internal: []string{"consensus/...", "engine/key", "engine/hlc"},
		third:    []third{{path: "google.golang.org/grpc", why: "the transport", wraps: true}},
	},
	{
		dir: "frontends", why: "the Frontend interface and the registry",
		internal: []string{"engine"},
		third:    []third{{path: prometheus, why: "the host passes its registry to each frontend", wraps: true}},
	},
	{
		dir: "frontends/socket", why: "the native text protocol",
		internal:     []string{"frontends", "engine", "engine/key", "engine/authz"},
		testInternal: []string{"engine/..."},
		third: []third{
			{path: prometheus, why: "metrics on the registry passed in", wraps: true},
			{path: pebble + "/vfs", why: "an engine in memory under test", test: true},
		},
	},
	{
		dir: "frontends/sql", why: "SQL over the engine",
		internal:     []string{"frontends", "engine", "engine/key", "engine/authz", "engine/record"},
		testInternal: []string{"engine/..."},
	},
	{
		dir: "client", why: "the Go client: it knows the protocol and nothing of the server",
		testInternal: []string{"client/internal/realnode"},
	},
	{
		dir: "client/internal/realnode", why: "a real node for the client's tests",
		internal: []string{"engine", "frontends/socket"},
	},
	{
		dir: "client/cli", why: "the command line over the client",
		internal: []string{"client/...", "conformance"},
		third: []third{
			{path: "github.com/schollz/progressbar/v3", why: "progress of long work"},
			{path: "github.com/HdrHistogram/hdrhistogram-go", why: "latency percentiles of the load generator"},
			{path: "golang.org/x/term", why: "whether output is a terminal"},
			{path: "golang.org/x/sys/unix", why: "raw mode of a terminal"},
			{path: "github.com/rivo/uniseg", why: "how wide text stands on a terminal"},
			{path: pebble, why: "the raw store that the comparing load generator measures beside"},
		},
	},
	{
		dir: "caddy", why: "the process: wiring, life cycle, command line; the only main",
		internal: []string{"engine/...", "frontends/...", "client/...", "conformance", "migrations"},
		third: []third{
			{path: "github.com/caddyserver/caddy/v2", why: "the host", wraps: true},
			{path: "github.com/caddyserver/certmagic", why: "the host's certificates", wraps: true},
			{path: "github.com/spf13/cobra", why: "the host's command line"},
			{path: "go.uber.org/zap", why: "the host's logger", wraps: true},
			{path: prometheus, why: "the host's registry", wraps: true},
		},
	},
	{dir: "migrations", why: "numbered upgrades of stored formats", internal: []string{"engine/key", "engine/storage"}},
	{
		dir: "conformance", why: "black-box suites; only what it starts in its own process needs more",
		internal:     []string{"conformance/..."},
		testInternal: []string{"engine", "engine/storage", "frontends", "frontends/socket"},
		third: []third{
			{path: "github.com/anishathalye/porcupine", why: "linearizability of histories"},
			{path: pebble + "/vfs", why: "a disk that crashes", test: true},
		},
	},
	{
		dir: "conformance/compare", why: "the node beside other stores: a black box like them",
		third: []third{{path: pebble, why: "raw Pebble, one of the stores"}},
	},
	{
		dir: "internal/story", why: "stories of the cores and the planted mistakes that they name; for tests",
		third: []third{{path: "github.com/cockroachdb/datadriven", why: "the commands of a story", wraps: true}},
	},
	{dir: "internal", why: "invariants, failpoint, lint; nothing with behaviour of its own"},
}

// layerOf is the row with the longest dir that holds the folder; nil when there is none.
func layerOf(dir string) *layer {
	var best *layer
	for i := range layers {
		if l := &layers[i]; under(dir, l.dir) && (best == nil || len(l.dir) > len(best.dir)) {
			best = l
		}
	}
	return best
}

// checkImports holds every import against the table.
func checkImports(t *Tree, report reporter) {
	for _, f := range t.files {
		l := layerOf(f.dir)
		if l == nil {
			report(f.path, 1, "folder %s has no row in the table", f.dir)
			continue
		}
		for _, spec := range f.syntax.Imports {
			p := importPath(spec)
			switch rel, ours := strings.CutPrefix(p, t.module+"/"); {
			case ours && !l.allowsInternal(rel, f):
				report(f.path, t.line(spec), "%s (%s) may not import %s", f.dir, l.why, rel)
			case !ours && isThird(p) && l.allowsThird(p, f) == nil:
				report(f.path, t.line(spec), "%s (%s) may not import %s", f.dir, l.why, p)
			}
		}
	}
}

func (l *layer) allowsInternal(rel string, f *goFile) bool {
	// A package's folders belong to it: its tests import it, and it its own parts that have no row of their own.
	if rel == f.dir || (layerOf(rel) == l && under(rel, l.dir)) {
		return true
	}
	allowed := slices.Concat(everywhere, l.internal)
	if f.test {
		allowed = append(allowed, l.testInternal...)
	}
	return slices.ContainsFunc(allowed, func(a string) bool {
		if below, ok := strings.CutSuffix(a, "/..."); ok {
			return under(rel, below)
		}
		return rel == a
	})
}

// allowsThird finds the entry that allows the import; nil when there is none.
func (l *layer) allowsThird(p string, f *goFile) *third {
	match := func(x *third) bool {
		return under(p, x.path) && (!x.test || f.test) && (x.file == "" || f.test || strings.HasSuffix(f.path, "/"+x.file))
	}
	for i := range l.third {
		if match(&l.third[i]) {
			return &l.third[i]
		}
	}
	for i := range testOnly {
		if f.test && match(&testOnly[i]) {
			return &testOnly[i]
		}
	}
	return nil
}

// isThird says whether an import path is neither the standard library's nor C's: its first part holds a dot.
func isThird(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return strings.Contains(first, ".")
}
