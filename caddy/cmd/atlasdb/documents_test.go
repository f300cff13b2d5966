// SPDX-License-Identifier: AGPL-3.0-only

package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../../.."

// versions are times, which no document can know.
var versions = regexp.MustCompile(`VERSION:[0-9]+`)

// blocks gives the fenced blocks of a document in a language; "" is those without one.
func blocks(t *testing.T, document, language string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	parts := strings.Split("\n"+string(text), "\n```")
	for i := 1; i < len(parts); i += 2 {
		if name, body, _ := strings.Cut(parts[i], "\n"); name == language {
			out = append(out, body+"\n")
		}
	}
	return out
}

// TestDocumentedSessions types the sessions of documents into the shell of a fresh node, one for each document, and wants
// the same answers. The first of the readme are those of the protocol's document.
func TestDocumentedSessions(t *testing.T) {
	t.Parallel()
	for _, document := range []string{"README.md", "docs/quickstart.md"} {
		t.Run(document, func(t *testing.T) {
			t.Parallel()
			data, err := os.MkdirTemp("", "atlas")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := os.RemoveAll(data); err != nil {
					t.Error(err)
				}
			})
			played := 0
			for _, block := range blocks(t, document, "") {
				var typed, want strings.Builder
				for line := range strings.Lines(block) {
					if command, ok := strings.CutPrefix(line, "> "); ok {
						typed.WriteString(command)
					} else {
						want.WriteString(line)
					}
				}
				if typed.Len() == 0 {
					continue
				}
				if got := shell(t, data, typed.String()); versions.ReplaceAllString(got, "VERSION:v") != versions.ReplaceAllString(want.String(), "VERSION:v") {
					t.Errorf("session\n%s\nwas answered\n%s", block, got)
				}
				played++
			}
			if played == 0 {
				t.Error("no session was found")
			}
		})
	}
}

// shell runs lines through `atlasdb atlas dev`, which is what `make run` runs, with no home directory.
func shell(t *testing.T, data, lines string) string {
	t.Helper()
	cmd := exec.Command("atlasdb", "atlas", "dev", "--data", data)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	cmd.Stdin = strings.NewReader(lines)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Errorf("shell: %v\n%s", err, said.Bytes())
	}
	return out.String()
}

// TestDocumentedCaddyfiles adapts the Caddyfiles of documents. That of the readme is the one of testdata/adapt/issue, and
// that of the configuration's document the sample, but for their comments and the spaces that begin their lines.
func TestDocumentedCaddyfiles(t *testing.T) {
	t.Parallel()
	for document, sample := range map[string]string{
		"README.md":                       "caddy/testdata/adapt/issue.Caddyfile",
		"docs/reference/configuration.md": "caddy/Caddyfile2",
	} {
		found := blocks(t, document, "caddyfile")
		if len(found) != 1 {
			t.Fatalf("%s has %d Caddyfiles, want 1", document, len(found))
		}
		text, err := os.ReadFile(filepath.Join(root, sample))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := bare(found[0]), bare(string(text)); got != want {
			t.Errorf("the Caddyfile of %s differs from %s:\n%s", document, sample, got)
		}
	}
	for _, json := range blocks(t, "docs/reference/configuration.md", "json") {
		path := filepath.Join(t.TempDir(), "config.json")
		if err := os.WriteFile(path, []byte(json), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("atlasdb", "validate", "--config", path)
		cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("JSON of the document is not valid: %v\n%s", err, out)
		}
	}
}

func bare(caddyfile string) string {
	var out strings.Builder
	for line := range strings.Lines(caddyfile) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			out.WriteString(line + "\n")
		}
	}
	return out.String()
}

// TestDocumentedCommands asks for the help of each command line of atlasdb that the documents show: it exists.
func TestDocumentedCommands(t *testing.T) {
	t.Parallel()
	asked := map[string]bool{}
	for _, document := range []string{"README.md", "docs/quickstart.md"} {
		for _, block := range blocks(t, document, "sh") {
			for line := range strings.Lines(block) {
				for _, command := range strings.Split(line, "|") {
					words := strings.Fields(command)
					if len(words) < 2 || (words[0] != "bin/atlasdb" && words[0] != "bin/caddy") {
						continue
					}
					args := append(flagless(words[1:]), "--help")
					key := strings.Join(args, " ")
					if asked[key] {
						continue
					}
					asked[key] = true
					if out, err := exec.Command("atlasdb", args...).CombinedOutput(); err != nil {
						t.Errorf("%s: %s: %v\n%s", document, command, err, out)
					}
				}
			}
		}
	}
}

// flagless keeps the words of a command line as far as its names go, and its flags without values.
func flagless(words []string) []string {
	var out []string
	for _, w := range words {
		if w == "--" || w == "<" || w == "&" || w == "#" {
			break
		}
		if strings.HasPrefix(w, "/") {
			continue
		}
		out = append(out, w)
	}
	return out
}
