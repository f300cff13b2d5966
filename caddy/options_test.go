// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// TestBounds tries each bounded option one below its least, at it, at its most and one above.
func TestBounds(t *testing.T) {
	type bounds struct{ option, below, least, most, above string }
	node := []bounds{
		{"retention", "999999999ns", "1s", "365d", "8760h0m0.000000001s"},
		{"sweep_interval", "99999999ns", "100ms", "1h", "3600000000001ns"},
		{"cache_size", "1048575", "1MiB", "1TiB", "1099511627777"},
		{"min_free_space", "1048575B", "1024KiB", "1024TiB", "1125899906842625"},
		{"loops", "0", "1", "64", "65"},
		{"group_idle", "999999999ns", "1s", "60m", "3600000000001ns"},
		{"transaction_idle", "99999999ns", "100ms", "290s", "290000000001ns"},
		{"transaction_memory", "1048575", "1MiB", "1TiB", "1099511627777"},
		{"drain_timeout", "99999999ns", "100ms", "1h", "3600000000001ns"},
		{"advertise", "h:0", "h:1", "h:65535", "h:65536"},
		{"credentials", `""`, "x", strings.Repeat("x", 1024), strings.Repeat("x", 1025)},
		{"region", `""`, "x", strings.Repeat("x", 64), strings.Repeat("x", 65)},
		{"cluster_id", `""`, "x", strings.Repeat("x", 64), strings.Repeat("x", 65)},
		{"connect", "", "https://h", manyPeers(64), manyPeers(65)},
		{"status_from", "", "::1", strings.Repeat("::1 ", 64), strings.Repeat("::1 ", 65)},
		{"db_path", `""`, "/x", "/x/" + strings.Repeat("y/", 2000), "/"},
	}
	native := []bounds{
		{"max_connections", "0", "1", "1000000", "1000001"},
		{"max_memory", "1048575", "1048576", "1TiB", "1099511627777"},
		{"handshake_timeout", "9999999ns", "10ms", "1h", "3600000000001ns"},
		{"frame_timeout", "9999999ns", "10ms", "24h", "86400000000001ns"},
		{"write_timeout", "9999999ns", "10ms", "24h", "86400000000001ns"},
		{"idle_timeout", "9999999ns", "10ms", "365d", "8760h0m0.000000001s"},
		{"auth_delay", "999999ns", "1ms", "10s", "10000000001ns"},
		{"max_auth_failures", "0", "1", "1000", "1001"},
	}
	check := func(t *testing.T, b bounds, text func(value string) string) {
		for _, c := range []struct {
			value string
			ok    bool
		}{{b.below, false}, {b.least, true}, {b.most, true}, {b.above, false}} {
			_, err := adapt(text(c.value))
			if (err == nil) != c.ok {
				t.Errorf("%s %.40q: accepted %v, want %v; error: %v", b.option, c.value, err == nil, c.ok, err)
			}
			if err != nil && !strings.Contains(err.Error(), b.option) && !strings.Contains(err.Error(), "connect addresses") {
				t.Errorf("%s %.40q: the error does not name the option: %v", b.option, c.value, err)
			}
		}
	}
	for _, b := range node {
		t.Run(b.option, func(t *testing.T) {
			check(t, b, func(value string) string { return site(without(base, b.option) + "\t\t" + b.option + " " + value) })
		})
	}
	for _, b := range native {
		for _, frontend := range []string{"socket /tmp/s", "listen 127.0.0.1:0"} {
			t.Run(frontend+" "+b.option, func(t *testing.T) {
				check(t, b, func(value string) string {
					return site(base + "\t\t" + frontend + " {\n\t\t\t" + b.option + " " + value + "\n\t\t}")
				})
			})
		}
	}
}

func manyPeers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "https://h%d:1 ", i)
	}
	return b.String()
}

// without is text without the lines that begin with an option.
func without(text, option string) string {
	var out []string
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), option+" ") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "")
}

// TestBadCaddyfiles gives wrong blocks and what the error says. Each shows its line.
func TestBadCaddyfiles(t *testing.T) {
	for _, c := range []struct{ name, body, want string }{
		{"unknown option", base + "size 3", `atlas has no option "size"`},
		{"duplicate option", base + "region a\nregion b", "option region is given twice"},
		{"duplicate secret", base + "credentials again", "option credentials is given twice"},
		{"no argument", base + "region", "region takes one argument, found none"},
		{"two arguments", base + "region a b", "region takes one argument, found more"},
		{"block on a plain option", base + "region a {\nx\n}", "option region takes no block"},
		{"flag with argument", base + "unsafe_no_min_free_space yes", "unsafe_no_min_free_space takes no argument"},
		{"no db_path", "credentials x", "db_path is not set"},
		{"no credentials", "db_path /tmp/x", "credentials is empty: give a secret, or say unsafe_no_credentials"},
		{"misspelt placeholder", "credentials {evn.ATLAS_SECRET}\ndb_path /tmp/x", "credentials is a placeholder that is not replaced: {env.NAME} and {file./path} are"},
		{"placeholder that only others know", "credentials {system.hostname}\ndb_path /tmp/x", "credentials is a placeholder that is not replaced"},
		{"placeholder behind text", "credentials x{env.ATLAS_SECRET}\ndb_path /tmp/x", "credentials holds a placeholder beside other text: its whole value may be one"},
		{"placeholder before text", "credentials \"{file./etc/secret} \"\ndb_path /tmp/x", "credentials holds a placeholder beside other text"},
		{"two placeholders", "credentials {env.A}{env.B}\ndb_path /tmp/x", "credentials holds a placeholder beside other text"},
		{"credentials twice over", base + "unsafe_no_credentials", "credentials and unsafe_no_credentials exclude each other"},
		{"min_free_space twice over", base + "min_free_space 1GiB\nunsafe_no_min_free_space", "exclude each other"},
		{"size unit", base + "cache_size 3PB", `unit "PB" is none of`},
		{"size sign", base + "cache_size -1", "want a whole number"},
		{"size fraction", base + "cache_size 1.5GiB", "want a whole number"},
		{"size overflow", base + "cache_size 9223372036854775807KiB", "is above 9223372036854775807 bytes"},
		{"size of many digits", base + "cache_size " + strings.Repeat("9", 300), "want a whole number"},
		{"size exponent", base + "cache_size 1e9", "want a whole number"},
		{"full-width digits", base + "loops ５", "loops"},
		{"hexadecimal", base + "loops 0x10", "loops"},
		{"number too large", base + "loops 18446744073709551616", "loops"},
		{"duration without unit", base + "retention 10", "want a number and a unit"},
		{"duration not a number", base + "retention NaNd", "want a number and a unit"},
		{"duration infinite", base + "retention Infd", "want a number and a unit"},
		{"negative duration", base + "retention -1m", "is outside of 1s to"},
		{"cluster_id that the store refuses", base + "cluster_id my_cluster.1", `cluster_id "my_cluster.1" holds more than letters, digits and dashes`},
		{"cluster_id too long", base + "cluster_id " + strings.Repeat("x", 65), "cluster_id length 65 exceeds limit 64"},
		{"advertise without port", base + "advertise localhost", "want host:port"},
		{"advertise without host", base + "advertise :4444", "want host:port"},
		{"advertise with scheme", base + "advertise https://localhost:4444", "want host:port"},
		{"advertise port name", base + "advertise localhost:http", "port"},
		{"placeholder in path", "credentials x\ndb_path {env.HOME}/x", "placeholder"},
		{"placeholder beside a password", base + "connect https://u:CANARY@{env.HOST}:1", "holds a user or password"},
		{"root as path", "credentials x\ndb_path /../", "is the root of the file system"},
		{"path of a home directory", "credentials x\ndb_path ~/data", `db_path "~/data" begins with ~, which only a shell replaces: write the whole path`},
		{"socket in a home directory", base + "socket ~atlas/s", `socket "~atlas/s" begins with ~, which only a shell replaces`},
		{"abstract socket", base + "socket @s", `socket "@s" begins with @: abstract sockets have no permissions`},
		{"blank secret", "credentials \" \"\ndb_path /tmp/x", "credentials is blank"},
		{"connect itself", base + "advertise db:4444\nconnect https://DB:4444", "own advertise address"},
		{"connect itself by loopback", base + "advertise localhost:4444\nconnect https://127.0.0.1:4444", "own advertise address"},
		{"connect itself by default port", base + "advertise db:443\nconnect https://db", "own advertise address"},
		{"connect twice", base + "connect https://a:1\nconnect https://A:1/", "is given twice"},
		{"connect http", base + "connect http://a:1", "is not https"},
		{"connect without scheme", base + "connect a:1", "connect"},
		{"connect with path", base + "connect https://a:1/join", "want no more than"},
		{"connect with query", base + "connect https://a:1?x", "want no more than"},
		{"connect port", base + "connect https://a:99999", "port"},
		{"connect with password", base + "connect https://u:CANARY@a:1", "holds a user or password"},
		{"status_from", base + "status_from 10.0.0.0/33", "want an address"},
		{"status_from none", base + "status_from", "at least one address range"},
		{"frontend without name", base + "frontend", "frontend takes a name"},
		{"frontend unknown", base + "frontend carrier_pigeon", `frontend "carrier_pigeon" is not in this build, which has `},
		{"frontend of the registry by its module", base + "frontend registered", `frontend "registered" is not in this build, which has parrot, pigeon, socket, tcp`},
		{"registered, no JSON", base + "frontend parrot polly", `config of frontend "parrot" is no JSON`},
		{"registered, JSON in words", base + "frontend parrot `{}` `{}`", "as one word of JSON"},
		{"registered, block", base + "frontend parrot {\ncolour grey\n}", "as one word of JSON"},
		{"socket without path", base + "socket", "socket takes one argument"},
		{"socket option", base + "socket /tmp/s {\nsize 3\n}", `socket has no option "size"`},
		{"socket option twice", base + "socket /tmp/s {\nmode 0600\nmode 0600\n}", "option mode is given twice"},
		{"socket mode decimal", base + "socket /tmp/s {\nmode 0680\n}", "want octal digits"},
		{"socket mode sticky", base + "socket /tmp/s {\nmode 1777\n}", "outside of 0600 to 0777"},
		{"socket mode without owner", base + "socket /tmp/s {\nmode 0066\n}", "keeps its owner out"},
		{"listen without port", base + "listen localhost", "want host:port"},
		{"listen without host", base + "listen :4445", "name the interface"},
		{"listen tls", base + "listen localhost:1 {\ntls cert\n}", "a certificate file and a key file"},
		{"too many frontends", base + strings.Repeat("socket /tmp/s\n", 65), "65 frontends exceed limit 64"},
		{"argument to the directive", "", "atlas takes no argument but a matcher"},
		{"Caddyfile of 10 MiB", base + strings.Repeat("x", 10<<20), "has no option"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := site(c.body)
			if c.body == "" {
				text = "http://localhost:8080 {\n\tatlas here {\n" + base + "\n\t}\n}\n"
			}
			_, err := adapt(text)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			if !strings.Contains(err.Error(), "Caddyfile:") {
				t.Errorf("error %q does not tell the line", err)
			}
			if len(err.Error()) > 1000 {
				t.Errorf("error of %d bytes", len(err.Error()))
			}
			hasNoCanary(t, err.Error())
		})
	}
}

// TestErrorsTellTheLine gives what can be judged only with the whole block read: each error tells the line of its option, not
// that of the closing brace, as it once did. The body begins at line 3.
func TestErrorsTellTheLine(t *testing.T) {
	const secret = "credentials x\n"
	for _, c := range []struct{ name, body, want string }{
		{"advertise without port", secret + "advertise localhost\ndb_path /x\nregion a", `advertise "localhost": want host:port, at Caddyfile:4`},
		{"advertise port", secret + "advertise a:99999\ndb_path /x\nregion a", `port "99999" is outside of 1 to 65535, at Caddyfile:4`},
		{"region", "region a-{env.X}\n" + secret + "db_path /x", `the Caddyfile replaces {$NAME}, at Caddyfile:3`},
		{"cluster_id", "cluster_id a_b\n" + secret + "db_path /x", `letters, digits and dashes, at Caddyfile:3`},
		{"credentials", "db_path /x\ncredentials " + strings.Repeat("x", 1025) + "\nregion a", `credentials length 1025 exceeds limit 1024, at Caddyfile:4`},
		{"root", "db_path /\n" + secret + "region a", `db_path "/" is the root of the file system, at Caddyfile:3`},
		{"connect", secret + "connect http://a:1\ndb_path /x", `scheme "http" is not https, at Caddyfile:4`},
		{"second connect", secret + "connect https://a:1\ndb_path /x\n\nconnect https://b:1 http://c:1\nregion a", `"http" is not https, at Caddyfile:7`},
		{"connect twice", "connect https://a:1\n" + secret + "connect https://b:1\nconnect https://a:1\nconnect https://c:1\ndb_path /x", `connect "https://a:1" is given twice, at Caddyfile:6`},
		{"connect itself", "connect https://a:1 https://a:2\n" + secret + "connect https://b:1\nadvertise b:1\ndb_path /x", `own advertise address "b:1": a node does not join itself, at Caddyfile:5`},
		{"connect itself by default", "connect https://localhost:4444\n" + secret + "db_path /x", `a node does not join itself, at Caddyfile:3`},
		{"too many connects", secret + "connect " + manyPeers(60) + "\nconnect https://a https://b https://c https://d https://e\nconnect https://f\ndb_path /x", `66 connect addresses exceed limit 64, at Caddyfile:5`},
		{"too many frontends", secret + "db_path /x\n" + strings.Repeat("socket /tmp/s {\nmode 0600\n}\n", 66), `65 frontends exceed limit 64, at Caddyfile:197`},
		{"exclusive secrets", secret + "unsafe_no_credentials\ndb_path /x", `exclude each other, at Caddyfile:4`},
		{"exclusive free space", secret + "unsafe_no_min_free_space\ndb_path /x\nmin_free_space 1GiB", `exclude each other, at Caddyfile:4`},
		{"tls and plaintext", secret + "db_path /x\nlisten h:1 {\ntls a b\nunsafe_plaintext\nmax_connections 3\n}\nregion a", `tls and unsafe_plaintext exclude each other, at Caddyfile:7`},
		{"name and plaintext", secret + "db_path /x\nlisten h:1 {\nunsafe_plaintext\n\nserver_name a\n}\nregion a", `server_name and unsafe_plaintext exclude each other, at Caddyfile:6`},
		{"tls and name", secret + "db_path /x\nfrontend tcp h:1 {\nserver_name x\ntls a b\n}\nregion a", `tls with files and server_name exclude each other, at Caddyfile:6`},
		{"empty key", secret + "db_path /x\nlisten h:1 {\nmax_connections 3\ntls a \"\"\n}", `tls needs a certificate and a key, at Caddyfile:7`},
		{"what is missing", "\nregion a\n", `credentials is empty: give a secret, or say unsafe_no_credentials, at Caddyfile:2; db_path is not set, at Caddyfile:2`},
		{"all at once", "advertise a\n" + secret + "db_path /\nconnect b", `atlas: advertise "a": want host:port, at Caddyfile:3; db_path "/" is the root of the file system, at Caddyfile:5; connect "b": want https://host:port, at Caddyfile:6`},
	} {
		t.Run(c.name, func(t *testing.T) {
			for kind, text := range map[string]string{"directive": site(c.body), "global option": "{\natlas {\n" + c.body + "\n}\n}\n"} {
				_, err := adapt(text)
				if err == nil || !strings.HasSuffix(err.Error(), c.want) {
					t.Errorf("%s: error %.1000v does not end with %q", kind, err, c.want)
				}
			}
		})
	}
}

// status_from of a node without a site was told to be no option of atlas, though the documents list it.
func TestStatusFromTakesASite(t *testing.T) {
	_, err := adapt("{\natlas {\n" + base + "\nstatus_from any\n}\n}\n")
	if want := "status_from is an option in a site alone: a node among the global options has no HTTP endpoints"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v does not say %q", err, want)
	}
}

// TestErrorsTellTheFile imports an option from another file: the error tells that one.
func TestErrorsTellTheFile(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, []byte("\n\nadvertise localhost\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := adapt(site(base + "\timport " + other))
	if want := `want host:port, at ` + other + ":3 import chain"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v does not say %q", err, want)
	}
}

// TestBadConfigurations gives what only loading finds: across nodes, and in JSON.
func TestBadConfigurations(t *testing.T) {
	node := func(body string) string { return "{\natlas {\n" + body + "\n}\n}\n" }
	two := func(a, b string) string { return "{\natlas {\n" + a + "\n}\natlas {\n" + b + "\n}\n}\n" }
	long := "/tmp/" + strings.Repeat("s", 103)
	for _, c := range []struct{ name, text, want string }{
		{"same directory", two("credentials x\ndb_path /tmp/a", "credentials x\nregion b\ndb_path /tmp/./a/"), `used twice with different options: region "local" to "b"`},
		{"same directory, other secret", two("credentials CANARY1\ndb_path /tmp/a", "credentials CANARY2\ndb_path /tmp/a"), "credentials"},
		{"same directory, other frontends", two("credentials x\ndb_path /tmp/a", "credentials x\ndb_path /tmp/a\nsocket /tmp/b"), "frontends"},
		{"same advertise", two("credentials x\ndb_path /tmp/a", "credentials x\ndb_path /tmp/b"), "is that of the node in /tmp/a"},
		{"same socket", two("credentials x\ndb_path /tmp/a\nsocket /tmp/s", "advertise h:1\ncredentials x\ndb_path /tmp/b\nsocket /tmp/./s"), "two frontends listen on unix//tmp/s"},
		{"same socket in one node", node("credentials x\ndb_path /tmp/a\nsocket /tmp/s\nsocket /tmp/s"), "two frontends listen on unix//tmp/s"},
		{"long socket", node("credentials x\ndb_path /tmp/a\nsocket " + long), "socket path length 108"},
		{"long default socket", node("credentials x\ndb_path " + long), "socket path length"},
		{"JSON tls and plaintext", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[{"frontend":"tcp","listen":"h:1",` +
			`"certificate":"a","key":"b","unsafe_plaintext":true}]}]}}}`, "tls and unsafe_plaintext exclude each other"},
		{"JSON tls and name", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[{"frontend":"tcp","listen":"h:1",` +
			`"certificate":"a","key":"b","server_name":"x"}]}]}}}`, "tls with files and server_name exclude each other"},
		{"JSON certificate without key", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[{"frontend":"tcp","listen":"h:1",` +
			`"certificate":"a"}]}]}}}`, "tls needs a certificate and a key"},
		{"JSON unknown field", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","size":1}]}}}`, "unknown field"},
		{"JSON wrong type", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","loops":"2"}]}}}`, "loops"},
		{"JSON null", `{"apps":{"atlas":{"nodes":[null]}}}`, "node 1 is null"},
		{"JSON frontend", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[{}]}]}}}`, "frontend"},
		{"JSON frontend null", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[null]}]}}}`, "frontend"},
		{"JSON registered unknown", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","frontends":[{"frontend":"registered","name":"emu"}]}]}}}`, `frontend "emu" is not registered in this build, which has parrot, socket`},
		{"JSON negative", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","loops":-1}]}}}`, "loops -1 is outside of 1 to 64"},
		{"JSON size", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY","db_path":"/tmp/x","cache_size":"3 bytes"}]}}}`, "size"},
		{"JSON control character", `{"apps":{"atlas":{"nodes":[{"credentials":"CANARY\u0000","db_path":"/tmp/\u0000x"}]}}}`, "control character"},
		{"JSON all at once", `{"apps":{"atlas":{"nodes":[{"loops":65,"cache_size":1}]}}}`, "loops 65"},
	} {
		t.Run(c.name, func(t *testing.T) {
			adapted := []byte(c.text)
			if !strings.HasPrefix(c.text, `{"`) {
				var err error
				if adapted, err = adapt(c.text); err != nil {
					t.Fatal(err)
				}
			}
			err := validate(t, adapted)
			if err == nil {
				t.Fatal("accepted")
			}
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %q does not say %q", err, c.want)
			}
			hasNoCanary(t, err.Error())
		})
	}
}

// TestPlaceholders gives each option a placeholder that nothing replaces: it is refused, by its option and value, wherever it
// stands. `region {env.FOO}` once named the region so, and `db_path /tmp/a-{env.FOO}` a directory.
func TestPlaceholders(t *testing.T) {
	wantRefused := func(t *testing.T, err error, option, value string) {
		t.Helper()
		if err == nil {
			t.Fatalf("%s %s is accepted", option, value)
		}
		for _, want := range []string{option, value, "placeholders are not replaced"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s %s: error %q does not say %q", option, value, err, want)
			}
		}
	}
	node := map[string][]string{
		"advertise":          {"{env.FOO}", "{env.FOO}:4444", "localhost:{env.FOO}", "a.{env.FOO}.b:1"},
		"region":             {"{env.FOO}", "eu-{env.FOO}", "{env.FOO}-west"},
		"cluster_id":         {"{env.FOO}", "eu-{env.FOO}"},
		"db_path":            {"{env.FOO}/x", "/tmp/{env.FOO}", "/tmp/x/a-{env.FOO}", "/tmp/a-{file./x}-b/c", "/tmp/{env.FOO"},
		"connect":            {"{env.FOO}", "https://{env.FOO}:1", "https://a:{env.FOO}", "https://a:1{env.FOO}"},
		"retention":          {"{env.FOO}", "{env.FOO}s"},
		"sweep_interval":     {"{env.FOO}"},
		"cache_size":         {"{env.FOO}", "1{env.FOO}"},
		"min_free_space":     {"{env.FOO}"},
		"loops":              {"{env.FOO}"},
		"group_idle":         {"{env.FOO}"},
		"transaction_idle":   {"{env.FOO}"},
		"transaction_memory": {"{env.FOO}"},
		"drain_timeout":      {"{env.FOO}"},
		"status_from":        {"{env.FOO}", "10.0.0.0/{env.FOO}"},
		"socket":             {"{env.FOO}", "{env.FOO}/s", "/tmp/a-{env.FOO}"},
		"listen":             {"{env.FOO}", "{env.FOO}:1", "127.0.0.1:{env.FOO}"},
		"frontend":           {"{env.FOO}"},
	}
	for option := range new(Handler).options() {
		if node[option] == nil && option != "credentials" && !strings.HasPrefix(option, "unsafe_") {
			t.Errorf("option %s is not tried", option)
		}
	}
	for option, values := range node {
		t.Run(option, func(t *testing.T) {
			for _, value := range values {
				_, err := adapt(site(without(base, option) + "\t\t" + option + " " + value))
				wantRefused(t, err, option, value)
			}
		})
	}
	native := map[string]string{
		"mode": "socket", "server_name": "listen", "tls": "listen", "max_connections": "listen", "max_memory": "listen",
		"handshake_timeout": "socket", "frame_timeout": "socket", "write_timeout": "socket", "idle_timeout": "socket",
		"auth_delay": "socket", "max_auth_failures": "socket",
	}
	for option, frontend := range native {
		t.Run(frontend+" "+option, func(t *testing.T) {
			address, values := map[string]string{"socket": "/tmp/s", "listen": "h:1"}[frontend], []string{"a-{env.FOO}"}
			if option == "tls" {
				values = []string{"/x/{env.FOO}.pem /x/key", "/x/cert /x/a-{env.FOO}"}
			}
			for _, value := range values {
				_, err := adapt(site(base + frontend + " " + address + " {\n" + option + " " + value + "\n}"))
				for _, word := range strings.Fields(value) {
					if strings.Contains(word, "{") {
						wantRefused(t, err, option, word)
					}
				}
			}
		})
	}
	for option, values := range map[string]string{
		"region": `"region":"a-{env.FOO}"`, "cluster_id": `"cluster_id":"a-{env.FOO}"`, "advertise": `"advertise":"a-{env.FOO}"`,
		"connect":     `"connect":["a-{env.FOO}"]`,
		"socket":      `"frontends":[{"frontend":"socket","path":"/x/a-{env.FOO}"}]`,
		"mode":        `"frontends":[{"frontend":"socket","path":"/x","mode":"a-{env.FOO}"}]`,
		"listen":      `"frontends":[{"frontend":"tcp","listen":"a-{env.FOO}","unsafe_plaintext":true}]`,
		"server_name": `"frontends":[{"frontend":"tcp","listen":"h:1","server_name":"a-{env.FOO}"}]`,
		"certificate": `"frontends":[{"frontend":"tcp","listen":"h:1","certificate":"a-{env.FOO}","key":"/x"}]`,
		"key":         `"frontends":[{"frontend":"tcp","listen":"h:1","certificate":"/x","key":"a-{env.FOO}"}]`,
	} {
		t.Run("JSON "+option, func(t *testing.T) {
			wantRefused(t, validate(t, []byte(`{"apps":{"atlas":{"nodes":[{"credentials":"x","db_path":"/tmp/a",`+values+`}]}}}`)), option, "a-{env.FOO}")
		})
	}
}

// TestBadPaths gives paths that the file system refuses: the error says the option, its value and the cause, and begins
// with an option that was given. `socket: not a directory` was once said of a db_path.
func TestBadPaths(t *testing.T) {
	dir := t.TempDir()
	if err := errors.Join(os.WriteFile(dir+"/plain", nil, 0o600), os.Symlink("loop", dir+"/loop")); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 300)
	for _, c := range []struct{ name, body, want string }{
		{"db_path is a file", "db_path DIR/plain", `db_path "DIR/plain": its default socket "DIR/plain/socket": DIR/plain is not a directory`},
		{"db_path in a file", "db_path DIR/plain/a/b/", `db_path "DIR/plain/a/b/": DIR/plain is not a directory`},
		{"db_path in a file, with a socket", "db_path DIR/plain/a\nsocket DIR/s", `db_path "DIR/plain/a": DIR/plain is not a directory`},
		{"db_path in a loop", "db_path DIR/loop/a", `db_path "DIR/loop/a": EvalSymlinks: too many links`},
		{"db_path refused by the system", "db_path DIR/" + long, `db_path "DIR/` + long + `": lstat DIR/` + long + `: file name too long`},
		{"default socket too long", "db_path DIR/" + long[:110], `db_path "DIR/` + long[:110] + `": its default socket path length`},
		{"socket in a file", "db_path DIR/a\nsocket DIR/plain/x", `socket "DIR/plain/x": DIR/plain is not a directory`},
		{"socket in a loop", "db_path DIR/a\nsocket DIR/loop", `socket "DIR/loop": EvalSymlinks: too many links`},
		{"socket refused by the system", "db_path DIR/a\nsocket DIR/" + long, `socket "DIR/` + long + `": lstat DIR/` + long + `: file name too long`},
	} {
		t.Run(c.name, func(t *testing.T) {
			adapted, err := adapt(site("credentials x\n" + strings.ReplaceAll(c.body, "DIR", dir)))
			if err != nil {
				t.Fatal(err)
			}
			err = validate(t, adapted)
			if want := ": " + strings.ReplaceAll(c.want, "DIR", dir); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v does not say %q", err, want)
			}
		})
	}
}

func hasNoCanary(t *testing.T, text string) {
	t.Helper()
	if strings.Contains(text, "CANARY") {
		t.Errorf("the secret shows in %q", text)
	}
}

// TestSecretStaysHidden writes secrets wrongly in every way that a configuration may, and formats and logs the rest.
func TestSecretStaysHidden(t *testing.T) {
	for _, body := range []string{
		"credentials CANARY CANARY", "credentials CANARY {\nCANARY\n}", "credentials CANARY\ncredentials CANARY",
		"credentials CANARY", "credentials CANARY\nunsafe_no_credentials\ndb_path /x", "credentials CANARY\ndb_path",
		"credentials \"CANARY\nCANARY\"\ndb_path /x", "credentials " + strings.Repeat("CANARY", 400) + "\ndb_path /x",
		"db_path /x\ncredentials CANARY }", "credentials `CANARY\tCANARY`\ndb_path /x",
	} {
		_, err := adapt(site(body))
		if err == nil {
			t.Errorf("%q is accepted", body)
			continue
		}
		hasNoCanary(t, err.Error())
	}
	n := Node{Credentials: "CANARY"}
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", n.Credentials)
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", n.Credentials, "node", n)
	hasNoCanary(t, fmt.Sprintf("%v %+v %#v %s %q %x", n, n, n, n.Credentials, n.Credentials, n.Credentials)+log.String())
}

// TestSecretPlaceholder reads the secret from where a placeholder says, when it is started and not before.
func TestSecretPlaceholder(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte("from file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ATLAS_TEST_SECRET", "from env")
	t.Setenv("ATLAS_TEST_BLANK", " \n")
	for _, c := range []struct{ credentials, want, wrong string }{
		{credentials: "plain", want: "plain"},
		{credentials: "{env.ATLAS_TEST_SECRET}", want: "from env"},
		{credentials: "{file." + path + "}", want: "from file"},
		{credentials: "{env.ATLAS_TEST_MISSING}", wrong: "gives nothing"},
		{credentials: "{file." + path + ".missing}", wrong: "gives nothing"},
		{credentials: "{env.ATLAS_TEST_BLANK}", wrong: "credentials is blank"},
		{credentials: "{system.hostname}", want: "{system.hostname}"},
		{credentials: "x{env.ATLAS_TEST_SECRET}", want: "x{env.ATLAS_TEST_SECRET}"},
		{credentials: "{", want: "{"},
		{credentials: "env.X}", want: "env.X}"},
	} {
		n := Node{Credentials: Secret(c.credentials)}
		got, err := n.secret()
		if got != c.want || (err != nil) != (c.wrong != "") || (err != nil && !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%s: got %q, %v; want %q, %q", c.credentials, got, err, c.want, c.wrong)
		}
	}
}

// TestSizes reads sizes back from how they are shown.
func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1b": 1, "1KB": 1000, "1kib": 1024, "64MiB": 64 << 20, "2gb": 2e9, "3GiB": 3 << 30, "1TB": 1e12,
		"8388607TiB": 8388607 << 40, "9223372036854775807": 1<<63 - 1,
	} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("%s: shown as %s, read as %d, %v", text, got, again, err)
		}
		var fromNumber, fromText Size
		b, err := json.Marshal(got)
		if err = errors.Join(err, json.Unmarshal(b, &fromNumber), json.Unmarshal([]byte(`"`+text+`"`), &fromText)); err != nil ||
			fromNumber != want || fromText != want {
			t.Errorf("%s: JSON %s: %d and %d, %v", text, b, fromNumber, fromText, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5MiB", "1 MiB", "1PiB", "8388608TiB", "9223372036854775808", "0x1", "1MiBs", "١"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q is accepted as %d", text, got)
		}
	}
}

// FuzzCaddyfile reads any block: it must not panic, show the secret or accept what loading would refuse.
func FuzzCaddyfile(f *testing.F) {
	for _, path := range []string{"Caddyfile", "Caddyfile2", "testdata/adapt/every_option.Caddyfile", "testdata/adapt/global.Caddyfile"} {
		text, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		if _, block, ok := strings.Cut(string(text), "atlas {"); ok {
			f.Add("atlas {" + block)
		}
	}
	f.Add("atlas")
	f.Add("atlas {\ncredentials CANARY\ndb_path \"\x00\"\n}")
	f.Add("atlas { frontend socket { mode } }")
	f.Add("atlas {\nfrontend http.handlers.atlas\n}")
	f.Add("<<HERE\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := caddyfile.Tokenize([]byte(text), "Caddyfile") // what NewTestDispenser does, but it ends the process over an error
		if err != nil {
			return
		}
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil {
			return
		}
		raw, err := json.Marshal(h)
		if err != nil {
			t.Fatalf("accepted, but has no JSON: %v", err)
		}
		again := new(Handler)
		if err := caddy.StrictUnmarshalJSON(raw, again); err != nil {
			t.Fatalf("its JSON %s is not read: %v", raw, err)
		}
		second, err := json.Marshal(again)
		if err != nil || string(second) != string(raw) {
			t.Fatalf("its JSON changes:\n%s\n%s\n%v", raw, second, err)
		}
		again.EnsureDefaults()
		if err := again.Validate(); err != nil {
			t.Fatalf("accepted, but invalid: %v", err)
		}
		if again.Credentials == "" && !again.UnsafeNoCredentials {
			t.Fatal("accepted without a secret")
		}
	})
}
