# weir: the commands. `make help` lists them.

CARGO ?= cargo
# An archive of a release has the program in place of the sources.
SOURCES := $(wildcard Cargo.toml)
WEIR  ?= $(if $(SOURCES),target/release/weir,./weir)
PREFIX ?= /usr/local
# Seeds of the simulation in `make test`; `make sim SEED=7` replays one, `make sim SEEDS=10000` runs more.
SEEDS ?= 500
# Tests at a time: half of them wait rather than compute.
TEST_THREADS ?= $(or $(RUST_TEST_THREADS),$(shell echo $$((2 * $$(nproc)))))
# A line for each test that could not be run here. ALLOW_SKIPS=0 makes that an error, as CI does.
SKIPPED := $(CURDIR)/target/skipped.txt
# What the stripped binary may take of the flash of a small gateway, with TLS and without.
SIZE_KIB_MAX := 3328
SIZE_KIB_MAX_WITHOUT_TLS := 2048
WITHOUT_TLS := target/without-tls

.PHONY: help build run check size test test-real sim fuzz fmt lint docs test-setup install \
	install-files install-systemd install-logrotate install-procd install-none uninstall clean

help:               ## list the commands
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build:              ## build the release binary, target/release/weir
	$(if $(SOURCES),$(CARGO) build --release,@test -x $(WEIR))

run: build          ## build weir and start it on conf/demo.yaml; prints what to try
	@mkdir -p target && sed 's#target/release/weir#$(WEIR)#' conf/demo.txt
	@exec $(WEIR) -c conf/demo.yaml -p target/demo.pid

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
	WEIR_SIM_SEEDS=$(SEEDS) WEIR_SKIPPED=$(SKIPPED) RUST_TEST_THREADS=$(TEST_THREADS) \
	    $(CARGO) test --profile fast
	@sh tests/skipped.sh $(SKIPPED)

test-real: build    ## try weir on real servers, scanners, a CA, Prometheus (takes minutes): ALLOW_SKIPS=1
	@sh tests/real/setup.sh
	@python3 tests/real/checks.py $(WEIR)
	@python3 tests/real/tls.py $(WEIR)
	@python3 tests/real/metrics.py $(WEIR)
	$(CARGO) test --profile fast --test memory -- --ignored --test-threads 1

sim:                ## the deterministic simulation: SEED=n replays one, SEEDS=n runs that many
	WEIR_SIM_SEED=$(SEED) WEIR_SIM_SEEDS=$(SEEDS) $(CARGO) test --profile fast --test sim -- --nocapture

# Needs cargo-fuzz and a nightly toolchain. What it finds of interest stays below target.
fuzz: TARGET ?= head_request
fuzz: SECONDS ?= 60
FUZZ_SEEDS = tests/fuzz/corpus/$(TARGET) $(if $(filter configuration,$(TARGET)),tests/golden conf)
fuzz:               ## fuzz a parser, led by coverage, where cargo-fuzz is: TARGET=head_request SECONDS=60
	mkdir -p target/fuzz/$(TARGET)
	$(CARGO) +nightly fuzz run --fuzz-dir tests/fuzz $(TARGET) target/fuzz/$(TARGET) $(FUZZ_SEEDS) \
	    -- -max_total_time=$(SECONDS)

# Who starts weir: systemd, procd (OpenWrt) or none. Found out; a package for another host says it.
INIT ?= $(shell if command -v systemctl >/dev/null 2>&1; then echo systemd; \
	elif [ -x /sbin/procd ]; then echo procd; else echo none; fi)
UNITDIR ?= $(PREFIX)/lib/systemd/system
SHARED  := $(DESTDIR)$(PREFIX)/share
DOCS    := $(SHARED)/doc/weir
UNITS   := weir.service weir.socket weir@.service
ETC     := $(DESTDIR)/etc
# put FILE TO: with the paths of this installation in it.
put = install -d "$(dir $(2))" && sed 's\#/usr/local/\#$(PREFIX)/\#g' $(1) > "$(2)" && chmod 644 "$(2)"

install: build install-files ## install below PREFIX, in DESTDIR: binary, /etc/weir, units for INIT, docs

install-files:
	install -d $(DESTDIR)$(PREFIX)/sbin $(SHARED)/weir $(DOCS)/docs
	install -m 755 $(WEIR) $(DESTDIR)$(PREFIX)/sbin/weir
	install -m 644 conf/*.yaml $(SHARED)/weir
	install -m 644 README.md CHANGELOG.md LICENSE-* $(wildcard SECURITY.md) $(DOCS)
	install -m 644 docs/*.md docs/*.svg $(DOCS)/docs
	ln -sfn ../../weir $(DOCS)/conf
	for page in $(wildcard docs/man/*.[58]); do \
	    install -D -m 644 $$page $(SHARED)/man/man$${page##*.}/$${page##*/} || exit 1; \
	done
	install -D -m 644 conf/completions/weir.bash $(SHARED)/bash-completion/completions/weir
	install -D -m 644 conf/completions/_weir $(SHARED)/zsh/site-functions/_weir
	install -D -m 644 conf/completions/weir.fish $(SHARED)/fish/vendor_completions.d/weir.fish
	[ -e $(ETC)/weir/weir.yaml ] || install -D -m 644 conf/installed.yaml $(ETC)/weir/weir.yaml
	$(MAKE) --no-print-directory install-$(INIT)

install-systemd: install-logrotate
	$(foreach unit,$(UNITS),$(call put,conf/$(unit),$(DESTDIR)$(UNITDIR)/$(unit)) &&) true

install-logrotate:
	[ -e $(ETC)/logrotate.d/weir ] || { $(call put,conf/weir.logrotate,$(ETC)/logrotate.d/weir); }

install-procd:
	install -d $(ETC)/init.d
	sed 's#^PROG=.*#PROG=$(PREFIX)/sbin/weir#' conf/openwrt/weir.init > $(ETC)/init.d/weir
	chmod 755 $(ETC)/init.d/weir

install-none:
	@echo "no init system that weir has a unit for; see conf/"

uninstall:          ## remove what `make install` has laid, but not what is in /etc/weir and /var
	rm -f $(DESTDIR)$(PREFIX)/sbin/weir $(addprefix $(DESTDIR)$(UNITDIR)/,$(UNITS))
	rm -f $(ETC)/logrotate.d/weir $(ETC)/init.d/weir
	rm -f $(SHARED)/man/man5/weir.yaml.5 $(SHARED)/man/man8/weir.8
	rm -f $(SHARED)/bash-completion/completions/weir $(SHARED)/zsh/site-functions/_weir
	rm -f $(SHARED)/fish/vendor_completions.d/weir.fish
	rm -rf $(SHARED)/weir $(DOCS)

clean:              ## remove what was built
	$(CARGO) clean

include conf/package.mk
# An archive that is installed from has no bench.
-include bench/bench.mk
