# The benchmarks; included by the Makefile, so that everything runs in the root of the repository.

.PHONY: bench bench-setup bench-build bench-gate bench-micro bench-lint bench-check

bench-setup:        ## install nginx and HAProxy; PEERS=all also Envoy, Traefik, Caddy and sozu
	@sh bench/setup.sh

bench-build:
	@$(CARGO) build --release --quiet --manifest-path bench/Cargo.toml

bench: build bench-build ## weir beside its peers: BENCH="l7-keepalive" PEERS="nginx" REPEAT=5 DURATION=2
	@bench/target/release/run

bench-gate: build   ## instructions and calls by unit of work; 2 % above the baseline fails: UNIT=http
	@$(CARGO) run --release --quiet --manifest-path bench/Cargo.toml --bin gate

bench-micro:        ## the pure cores, step by step: nanoseconds and instructions
	@$(CARGO) run --release --quiet --manifest-path bench/micro/Cargo.toml

bench-lint:         ## format and lints of the bench itself
	@for package in bench bench/micro; do \
	  $(CARGO) fmt --check --manifest-path $$package/Cargo.toml && \
	  $(CARGO) clippy --quiet --all-targets --manifest-path $$package/Cargo.toml -- -D warnings || exit 1; \
	done

bench-check: bench-lint ## the same, and its tests
	@for package in bench bench/micro; do \
	  $(CARGO) test --quiet --release --manifest-path $$package/Cargo.toml || exit 1; \
	done
