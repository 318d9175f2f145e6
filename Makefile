# mdmesh: `make` alone lists the targets.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
BINARIES = mdbroker mdworker mdservice mdsupervisor mdcli
PREFIX ?= /usr/local

.PHONY: help build run test check format vet staticcheck layers units fuzz bench bench-shapes install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build all binaries into ./bin
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -o bin/ $(BINARIES:%=./cmd/%)

run: build ## run the main job on this machine's own metrics; Ctrl-C ends it
	@exec examples/pipeline/run.sh

test: ## install what the tests need (when root) and run everything
	@exec test/run.sh

check: format vet staticcheck layers units ## the quick checks before a commit

format:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "run gofmt -w on:"; echo "$$out"; exit 1; }

vet:
	@$(GO) vet ./...

staticcheck:
	@$(GO) run $(STATICCHECK) ./...

layers: ## check that imports only go downwards
	@$(GO) test -count=1 ./test/layers

units: ## tests of the packages, without real processes
	@$(GO) test -short ./mdp/... ./zsock/... ./broker/... ./client/... ./worker/... ./supervisor/... ./internal/... ./services/... ./store/...

fuzz: ## run every fuzz target for FUZZTIME (default 20s)
	@test/fuzz.sh

bench: bench-shapes ## all benchmarks; they print and assert nothing

bench-shapes: build ## shapes i, ii, iii: calls, latency and CPU per call of each process
	@exec bench/shapes.sh

install: build ## install binaries and units below PREFIX (DESTDIR works)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/etc/systemd/system
	install -m 0755 $(BINARIES:%=bin/%) $(DESTDIR)$(PREFIX)/bin
	install -m 0644 deploy/systemd/*.service $(DESTDIR)/etc/systemd/system

clean: ## remove what was built
	rm -rf bin
