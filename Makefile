# `make help` lists the targets.

SHELL       := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Where Go's own installer puts it; not everybody's PATH has it.
export PATH := $(PATH):/usr/local/go/bin

MODULE  := github.com/agogsaas/holdfast
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X $(MODULE)/internal/version.set=$(VERSION)
GOBUILD := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'

# PKG narrows test and check: make test PKG=./internal/queue/...
PKG     ?= ./...
# Packages tested side by side. Each may run a PostgreSQL of its own. They wait a
# good deal, for cables that are cut above all: one more than there are processors.
JOBS    ?= $(shell expr $$(nproc) + 1)
# What takes longest of everything begins first, or it would run on alone at the end.
LONGEST := ./test/scenario ./test/sim
FUZZTIME ?= 10s

ASSETS  := internal/web/assets
NPM_DONE := $(ASSETS)/node_modules/.package-lock.json
# What is in git or about to be: never what npm brings.
GOFILES = $(shell git ls-files --cached --others --exclude-standard '*.go')

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install what this machine lacks (Debian 12 or 13)
	scripts/setup

.PHONY: build
build: ## Build the three programs into bin/
	$(GOBUILD) -o bin/ ./edge/cmd/... ./cloud/cmd/...

.PHONY: demo
demo: demo-build ## Start a region and two facilities here; Ctrl-C stops them
	@exec bin/holdfast-demo

.PHONY: demo-up
demo-up: demo-build ## The same in the background
	@bin/holdfast-demo up

.PHONY: demo-down
demo-down: ## Stop what demo-up has started
	@if [ -x bin/holdfast-demo ]; then bin/holdfast-demo down; else echo "There is no demo here."; fi

.PHONY: demo-clean
demo-clean: demo-down ## Remove the demo's data, .demo
	rm -rf .demo

.PHONY: demo-build
demo-build: demo-setup build
	$(GOBUILD) -o bin/holdfast-demo ./test/demo

.PHONY: demo-setup test-setup
demo-setup:
	@scripts/setup --for demo
test-setup:
	@scripts/setup --for test

.PHONY: test
# The tests are not vetted here: make check does it.
test: test-setup $(NPM_DONE) ## Run all tests, with the race detector
	go test -race -vet=off -ldflags=-w -shuffle=on -timeout 30m -p $(JOBS) $(if $(filter ./...,$(PKG)),$(LONGEST)) $(PKG)

.PHONY: check
check: ## Check format, mistakes, scripts and generated files
	@$(MAKE) --no-print-directory --keep-going check-format check-vet check-static check-errors check-scripts check-assets

.PHONY: check-format
check-format:
	@bad="$$(go tool gofumpt -l $(GOFILES))"; if [ -n "$$bad" ]; then \
	  echo "Not formatted; run make fmt:"; echo "$$bad"; exit 1; fi

.PHONY: check-vet
check-vet:
	go vet $(PKG)

.PHONY: check-static
check-static:
	go tool staticcheck $(PKG)
	@if command -v golangci-lint >/dev/null; then set -x; golangci-lint run $(PKG); fi

# Errors are wrapped with %w, not flattened with %v.
.PHONY: check-errors
check-errors:
	go tool go-errorlint -errorf -errorf-multi -asserts=false -comparison=false $(PKG)

.PHONY: check-scripts
check-scripts:
	@for f in scripts/* .ci/run; do bash -n "$$f"; done
	@if command -v shellcheck >/dev/null; then shellcheck scripts/* .ci/run; fi

.PHONY: check-assets
check-assets: $(NPM_DONE)
	cd $(ASSETS) && npm run --silent check

.PHONY: fmt
fmt: ## Format the Go files
	go tool gofumpt -w $(GOFILES)

.PHONY: generate
generate: architecture assets ## Remake everything that is made from something else

.PHONY: architecture
architecture: ## Rewrite the table of rooms in ARCHITECTURE.md
	go run ./internal/archtest/cmd/rooms

.PHONY: assets
assets: $(NPM_DONE)
	cd $(ASSETS) && npm run --silent build

$(NPM_DONE): $(ASSETS)/package-lock.json
	@scripts/setup --for assets
	cd $(ASSETS) && npm ci --no-audit --no-fund
	@touch $@

.PHONY: bench
bench: test-setup ## Measure; writes docs/bench.md and docs/bench.json
	go run ./test/bench

# SOAK is how long it is watched, KILLS how often it is killed, CROWD how many
# connections there are.
SOAK  ?= 30m
KILLS ?= 200
CROWD ?= 19000

.PHONY: soak
soak: test-setup ## Look for false alarms on bad lines for SOAK (30m)
	go run ./test/bench -only false_offline -soak $(SOAK)

.PHONY: crash
crash: test-setup ## Kill the alerter KILLS (200) times where it hurts
	go run ./test/bench -only killed -kills $(KILLS)

.PHONY: load
load: test-setup ## Connect CROWD (19000) boxes to a region, and measure it
	go run ./test/bench -only fleet -crowd $(CROWD)

# FROM is the first seed, SEEDS how many (0: until Ctrl-C), STEPS how long each is.
FROM  ?= 1
SEEDS ?= 0
STEPS ?= 30

.PHONY: sim
sim: test-setup ## Run the simulator: make sim, make sim FROM=7 SEEDS=1
	go test ./test/sim -count=1 -timeout 0 -v -run TestBothSidesComeOutAsTheBooksSay -args -sim.from=$(FROM) -sim.seeds=$(SEEDS) -sim.steps=$(STEPS) $(SIMFLAGS)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (10s)
	scripts/fuzz $(FUZZTIME)

.PHONY: clean
clean: ## Remove what was built; keeps the demo's data (demo-clean removes it)
	rm -rf bin
