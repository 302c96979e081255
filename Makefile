# weir: the commands. `make help` lists them.

CARGO ?= cargo
WEIR  := target/release/weir
PREFIX ?= /usr/local
# Seeds of the simulation in `make test`; `make sim SEED=7` replays one, `make sim SEEDS=10000` runs more.
SEEDS ?= 500
# A line for each test that could not be run here. ALLOW_SKIPS=0 makes that an error, as CI does.
SKIPPED := $(CURDIR)/target/skipped.txt
# What the stripped binary may take of the flash of a small gateway, with TLS and without.
SIZE_KIB_MAX := 3328
SIZE_KIB_MAX_WITHOUT_TLS := 2048
WITHOUT_TLS := target/without-tls

.PHONY: help build run check size test test-real sim fuzz fmt lint docs test-setup install \
	install-systemd install-procd install-none clean

help:               ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build:              ## build the release binary, target/release/weir
	$(CARGO) build --release

run: build          ## build weir and start it on conf/demo.yaml; prints what to try
	@cat conf/demo.txt
	@exec $(WEIR) -c conf/demo.yaml

check: fmt lint     ## format, lints, unit tests, import rules and docs: quick
	$(CARGO) test --lib --test tidy
	$(MAKE) docs

# weigh FILE KIB_MAX
weigh = kib=$$(( ($$(wc -c < $(1)) + 1023) / 1024 )); \
	if [ $$kib -gt $(2) ]; then \
	    echo "$(1) has $$kib KiB, and may have $(2)" >&2; exit 1; \
	fi; \
	echo "$(1): $$kib of $(2) KiB"

size: build         ## the release binary is small enough for the flash of a gateway, also without TLS
	$(CARGO) build --release --no-default-features --target-dir $(WITHOUT_TLS)
	@$(call weigh,$(WEIR),$(SIZE_KIB_MAX))
	@$(call weigh,$(WITHOUT_TLS)/release/weir,$(SIZE_KIB_MAX_WITHOUT_TLS))

fmt:
	$(CARGO) fmt --check

lint:
	$(CARGO) clippy --all-targets -- -D warnings
	$(CARGO) clippy --no-default-features -- -D warnings

docs:
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --no-deps --document-private-items --quiet

test-setup:         ## install what the tests need and is missing (Debian packages)
	@sh tests/setup.sh

test: test-setup    ## install what the tests need, then run them all
	@mkdir -p target && : > $(SKIPPED)
	WEIR_SIM_SEEDS=$(SEEDS) WEIR_SKIPPED=$(SKIPPED) $(CARGO) test --profile fast
	@sh tests/skipped.sh $(SKIPPED)

test-real: build    ## try weir on real servers, scanners, a CA, a browser (takes minutes): ALLOW_SKIPS=1
	@sh tests/real/setup.sh
	@python3 tests/real/checks.py $(WEIR)
	@python3 tests/real/tls.py $(WEIR)
	$(CARGO) test --profile fast --test memory -- --ignored --test-threads 1

sim:                ## the deterministic simulation: SEED=n replays one, SEEDS=n runs that many
	WEIR_SIM_SEED=$(SEED) WEIR_SIM_SEEDS=$(SEEDS) $(CARGO) test --profile fast --test sim -- --nocapture

fuzz:               ## fuzz the parsers with cargo-fuzz, where it is installed: TARGET=head_request SECONDS=60
	cd tests/fuzz && $(CARGO) fuzz run $(or $(TARGET),head_request) -- -max_total_time=$(or $(SECONDS),60)

# Who starts weir: systemd, procd (OpenWrt) or none. Found out; a package for another host says it.
INIT ?= $(shell if command -v systemctl >/dev/null 2>&1; then echo systemd; \
	elif [ -x /sbin/procd ]; then echo procd; else echo none; fi)
UNITDIR ?= $(PREFIX)/lib/systemd/system
SHARE   := $(DESTDIR)$(PREFIX)/share/weir
DOCS    := $(DESTDIR)$(PREFIX)/share/doc/weir

install: build      ## install below PREFIX, in DESTDIR: binary, examples, and units for INIT
	install -d $(DESTDIR)$(PREFIX)/sbin $(SHARE) $(DOCS)/docs $(DESTDIR)/etc/weir
	install -m 755 $(WEIR) $(DESTDIR)$(PREFIX)/sbin/weir
	install -m 644 conf/*.yaml README.md $(SHARE)
	install -m 644 README.md $(DOCS)
	install -m 644 docs/*.md $(DOCS)/docs
	install -D -m 644 conf/completions/weir.bash \
	    $(DESTDIR)$(PREFIX)/share/bash-completion/completions/weir
	install -D -m 644 conf/completions/_weir $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_weir
	install -D -m 644 conf/completions/weir.fish \
	    $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/weir.fish
	$(MAKE) --no-print-directory install-$(INIT)

install-systemd:
	install -d $(DESTDIR)$(UNITDIR)
	for unit in weir.service weir@.service; do \
	    sed 's#/usr/local/#$(PREFIX)/#' "conf/$$unit" > "$(DESTDIR)$(UNITDIR)/$$unit" || exit 1; \
	    chmod 644 "$(DESTDIR)$(UNITDIR)/$$unit"; \
	done

install-procd:
	install -d $(DESTDIR)/etc/init.d
	sed 's#^PROG=.*#PROG=$(PREFIX)/sbin/weir#' conf/openwrt/weir.init > $(DESTDIR)/etc/init.d/weir
	chmod 755 $(DESTDIR)/etc/init.d/weir

install-none:
	@echo "no init system that weir has a unit for; see conf/"

clean:              ## remove what was built
	$(CARGO) clean

include bench/bench.mk
