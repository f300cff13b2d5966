// SPDX-License-Identifier: AGPL-3.0-only

package caddy

import (
	"bytes"
	"encoding/json"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

var rewrite = flag.Bool("rewrite", false, "write what adapting gives into testdata/adapt") // shared: set by the flag package alone

func adapt(text string) ([]byte, error) {
	out, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	return out, err
}

// site makes a Caddyfile of the body of an atlas block.
func site(body string) string { return "http://localhost:8080 {\n\tatlas {\n" + body + "\n\t}\n}\n" }

// base is the least that a node needs.
const base = "\t\tcredentials mySecret\n\t\tdb_path /tmp/atlas-test-never-made\n"

// TestAdapt compares the JSON of Caddyfiles with files: the samples, the Caddyfile of the readme as it was asked for,
// and those in testdata/adapt. -rewrite writes the files.
func TestAdapt(t *testing.T) {
	paths, err := filepath.Glob("testdata/adapt/*.Caddyfile")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range append(paths, "Caddyfile", "Caddyfile2") {
		t.Run(filepath.Base(path), func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			adapted, err := adapt(string(text))
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			if err := json.Indent(&got, adapted, "", "\t"); err != nil {
				t.Fatal(err)
			}
			got.WriteByte('\n')
			golden := filepath.Join("testdata/adapt", strings.TrimSuffix(filepath.Base(path), ".Caddyfile")+".json")
			if *rewrite {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got.Bytes(), want) {
				t.Errorf("JSON differs from %s (-rewrite writes it); got\n%s", golden, got.Bytes())
			}
		})
	}
}

// TestValidateHasNoSideEffects provisions and validates configurations, as `validate` does, in an empty directory.
func TestValidateHasNoSideEffects(t *testing.T) {
	for name, body := range map[string]string{
		"default socket": "credentials x\ndb_path DIR/missing/data/",
		"relative path":  "credentials x\ndb_path data",
		"frontends": "credentials {file.DIR/missing}\ndb_path DIR/a/b\nsocket DIR/c/d/socket\n" +
			"listen 127.0.0.1:0 {\nunsafe_plaintext\n}\nlisten 127.0.0.1:1 {\ntls DIR/no DIR/no\n}\nlisten 127.0.0.1:2",
		"connect": "credentials {env.ATLAS_TEST_IS_NOT_SET}\ndb_path DIR/a\nconnect https://other:1",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Chdir(dir)
			adapted, err := adapt(site(strings.ReplaceAll(body, "DIR", dir)))
			if err != nil {
				t.Fatal(err)
			}
			mustValidate(t, adapted)
			if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if path != dir {
					t.Errorf("%s was made", path)
				}
				return err
			}); err != nil {
				t.Error(err)
			}
		})
	}
}

func validate(t *testing.T, adapted []byte) error {
	t.Helper()
	var config caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	// Caddy's own authorities are made in its storage even when a configuration is only validated.
	storage, err := json.Marshal(map[string]string{"module": "file_system", "root": t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	config.StorageRaw = storage
	return caddy.Validate(&config)
}

func mustValidate(t *testing.T, adapted []byte) {
	t.Helper()
	if err := validate(t, adapted); err != nil {
		t.Fatal(err)
	}
}

// TestGoldenJSONValidates loads each golden file, so that what the adapter writes is what the modules read.
func TestGoldenJSONValidates(t *testing.T) {
	paths, err := filepath.Glob("testdata/adapt/*.json")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			adapted, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			mustValidate(t, adapted)
		})
	}
}
