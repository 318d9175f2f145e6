# mdmesh: `make` alone lists the targets.
GO ?= go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
BINARIES = mdbroker mdworker mdservice mdsupervisor mdcli
MODULES = bench/peers bench/balance
PREFIX ?= /usr/local

.PHONY: help build run test check format vet staticcheck layers cross units fuzz bench bench-shapes bench-peers bench-balance bench-federation bench-faults bench-smoke profile bench-table man install clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build all binaries into ./bin
	@mkdir -p bin
	@CGO_ENABLED=0 $(GO) build -o bin/ $(BINARIES:%=./cmd/%)

run: build ## run the main job on this machine's own metrics; Ctrl-C ends it
	@exec examples/pipeline/run.sh

test: ## install what the tests need (when root) and run everything
	@exec test/run.sh

check: format vet staticcheck layers cross units ## the quick checks before a commit

format:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "run gofmt -w on:"; echo "$$out"; exit 1; }

vet: ## of the product, and of the benchmarks that are modules of their own
	@$(GO) vet ./...
	@for module in $(MODULES); do (cd $$module && $(GO) vet ./...) || exit 1; done

staticcheck:
	@$(GO) run $(STATICCHECK) ./...
	@for module in $(MODULES); do (cd $$module && $(GO) run $(STATICCHECK) ./...) || exit 1; done

layers: ## check that imports only go downwards
	@$(GO) test -count=1 ./test/layers

cross: ## check that everything builds for macOS, and what clients and workers need for Windows
	@CGO_ENABLED=0 GOOS=darwin $(GO) build ./...
	@CGO_ENABLED=0 GOOS=windows $(GO) build ./mdp/... ./zsock/... ./client/... ./worker/... ./cmd/mdcli

units: ## tests of the packages, without real processes
	@$(GO) test -short ./mdp/... ./zsock/... ./broker/... ./client/... ./worker/... ./supervisor/... ./internal/... ./services/... ./store/...

fuzz: ## run every fuzz target for FUZZTIME (default 20s)
	@test/fuzz.sh

bench: bench-shapes bench-peers bench-balance bench-federation bench-faults ## all benchmarks; they print and assert nothing

bench-shapes: build ## shapes i, ii, iii: calls, latency and CPU per call of each process
	@exec bench/shapes.sh

bench-peers: build ## beside NATS, gearmand and a raw relay (ROUNDS=5 DURATION=3s ...)
	@cd bench/peers && $(GO) build -o ../../bin/bench-peers .
	@exec bin/bench-peers

bench-balance: build ## waits of sleeping workers beside NATS and the ideal queue (36 min; POINTS=80 SEEDS=1 is 3)
	@cd bench/balance && $(GO) build -o ../../bin/bench-balance .
	@exec bin/bench-balance

bench-federation: build ## one pool out of four brokers beside one broker (18 min; POINTS=80 is 5)
	@$(GO) build -o bin/bench-federation ./bench/federation
	@exec bin/bench-federation

bench-faults: build ## time until each fault is overcome, beside the promise (N=30 rounds, 12 min; ONLY=worker is those named so)
	@$(GO) build -o bin/bench-faults ./bench/faults
	@exec env MD_TEST_BIN=bin bin/bench-faults

bench-smoke: ## run all benchmarks for a moment each, to see that they work
	@mkdir -p bin/smoke
	@cd bench/peers && $(GO) test ./...
	@ROUNDS=1 DURATION=100ms IDLE=50 MINUTES=0.01 OUT=bin/smoke/peers.json $(MAKE) -s bench-peers
	@CALLS=500 SEEDS=1 POINTS=80 OUT=bin/smoke/balance.json $(MAKE) -s bench-balance
	@CALLS=500 POINTS=80 DURATION=500ms OUT=bin/smoke/federation.json $(MAKE) -s bench-federation
	@N=1 OUT=bin/smoke/faults.json $(MAKE) -s bench-faults

profile: ## collect anew the profiles that mdbroker and bench-peers are built with (4 min)
	@rm -rf bin/profile && mkdir -p bin/profile
	@MD_CPUPROFILE=$(CURDIR)/bin/profile ROUNDS=3 DURATION=3s PARTS=grid OUT=bin/profile/peers.json $(MAKE) -s bench-peers
	@cd bench/peers && $(GO) run ./pgo $(CURDIR)/bin/profile $(CURDIR)

bench-table: ## write the tables in README.md and docs/BENCHMARKS.md from the last results
	@$(GO) run ./bench/table

man: build ## write manual pages and shell completions into ./bin/share
	@mkdir -p bin/share/man/man1 bin/share/bash-completion/completions bin/share/zsh/site-functions bin/share/fish/vendor_completions.d
	@set -e; for p in $(BINARIES); do \
		bin/$$p man bin/share/man/man1; \
		bin/$$p completion bash >bin/share/bash-completion/completions/$$p; \
		bin/$$p completion zsh >bin/share/zsh/site-functions/_$$p; \
		bin/$$p completion fish >bin/share/fish/vendor_completions.d/$$p.fish; \
	done

install: man ## install binaries, manual, completions and units with their user below PREFIX (DESTDIR works)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)/etc/systemd/system
	install -m 0755 $(BINARIES:%=bin/%) $(DESTDIR)$(PREFIX)/bin
	install -m 0644 deploy/systemd/*.service $(DESTDIR)/etc/systemd/system
	install -D -m 0644 deploy/systemd/mdmesh.conf $(DESTDIR)/etc/sysusers.d/mdmesh.conf
	@set -e; cd bin/share; for f in $$(find . -type f); do \
		install -D -m 0644 $$f $(abspath $(DESTDIR)$(PREFIX))/share/$$f; \
	done

clean: ## remove what was built
	rm -rf bin
