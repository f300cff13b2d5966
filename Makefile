# SPDX-License-Identifier: AGPL-3.0-only
#
# Every target is explained by `make help`. Nothing here needs a variable set; those below can be given on the command
# line, as in `make test RACE= P=4`.

GO      ?= go
MAIN    := ./caddy/cmd/atlasdb
DATA    ?= .atlas
# Packages compiled and tested at once; race builds of big dependencies are hungry.
P       ?= 2
# Set to nothing where no C compiler is at hand: the race detector needs one.
RACE    ?= -race
# How long each fuzz target runs in `make long`.
FUZZTIME ?= 30s

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w $(if $(VERSION),-X github.com/caddyserver/caddy/v2.CustomVersion=$(VERSION))
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)"

# What generators wrote, by the marker that Go's tools go by.
GENERATED = grep -rl --include='*.go' '^// Code generated .* DO NOT EDIT' . | LC_ALL=C sort | xargs -r cat | cksum

.DEFAULT_GOAL := help
.PHONY: help run test check lint format long conformance bench caddy atlasdb bin/atlasdb generate clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z\/]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: bin/atlasdb ## start a node with its data under DATA (.atlas) and open a REPL on it; the node stops with the REPL
	@./bin/atlasdb atlas dev --data "$(DATA)"

# Property tests draw the same cases each time here, so that what fails is what was changed; `make long` draws fresh ones.
test: export RAPID_SEED ?= 1
test: ## run the default suite under the race detector
	$(GO) test $(RACE) -p $(P) -timeout 15m ./...

check: ## vet, staticcheck, format, tidy modules, generated files, import and style rules
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@unformatted=$$($(GO) tool gofumpt -l .); test -z "$$unformatted" || \
		{ echo "not formatted, run make format:"; echo "$$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) mod verify
	@before=$$($(GENERATED)); $(MAKE) -s generate; after=$$($(GENERATED)); test "$$before" = "$$after" || \
		{ echo "make generate changed files: commit them"; exit 1; }
	$(MAKE) -s lint

lint: ## the rules of STYLE that a machine can check, alone
	$(GO) test -count=1 ./internal/lint

format: ## rewrite the sources as gofumpt has them
	$(GO) tool gofumpt -l -w .

long: ## the default suite with its long rounds, then each fuzz target for FUZZTIME
	.ci/long $(FUZZTIME)

conformance: ## judge nodes of our own, or the one at ENDPOINT=unix:/path, and print what was tried
	cd conformance && $(GO) test -count=1 -timeout 30m $(if $(ENDPOINT),-args -endpoint $(ENDPOINT))

bench: bin/atlasdb ## measure this machine: Atlas beside raw Pebble, and Redis and etcd where installed; BENCH=-quick: a minute
	CGO_ENABLED=0 $(GO) run ./conformance/compare speed -atlas bin/atlasdb $(BENCH)

caddy: ## build bin/caddy, the Atlas-enabled Caddy
	$(BUILD) -o bin/caddy $(MAIN)

atlasdb: format ## format, lint, and build the stripped ./atlasdb
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(MAKE) -s lint
	$(BUILD) -o atlasdb $(MAIN)

bin/atlasdb: ## build bin/atlasdb, which is what make run runs
	@$(BUILD) -o $@ $(MAIN)

generate: ## run the generators
	$(GO) generate ./...

clean: ## remove what was built; the data under DATA stays
	rm -rf bin atlasdb artifacts .cache
