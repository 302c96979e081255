# Builds for other machines, and packages. Included by Makefile.

MACHINE   = $(shell uname -m)
PACKAGES := target/packages
CROSS    := sh conf/build/cross.sh
MUSL_amd64 := x86_64
MUSL_arm64 := aarch64
HOST_ARCH = $(shell dpkg --print-architecture 2>/dev/null || echo amd64)
ARCH     ?= $(HOST_ARCH)

.PHONY: static cross cross-check deb deb-check dist image

static:             ## build a program that needs no library: target/cross/$(uname -m)-unknown-linux-musl
	@$(CROSS) $(MACHINE) $(OPTIONS)

cross:              ## the same for TARGET=aarch64|armv7|armv6|i686|mipsel|riscv64|x86_64: OPTIONS=--no-default-features
	@$(CROSS) $(or $(TARGET),$(error which? TARGET=aarch64)) $(OPTIONS)

cross-check:        ## what `make cross` has built serves, decrypts, reloads and drains, by qemu-user
	@python3 tests/real/cross.py target/cross/*/release/weir

# For this machine with its C library, for another one static. Where a panic happened is told without
# the folders of whoever has built the program.
PACKAGED := target/packaged
deb:                ## make a Debian package: ARCH=amd64|arm64
ifeq ($(ARCH),$(HOST_ARCH))
	@CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$${HOME:-}/.cargo}/registry/src=crates" \
	    $(CARGO) build --release --target-dir $(PACKAGED)
	@sh conf/debian/build.sh $(ARCH) $(MACHINE)-unknown-linux-gnu $(PACKAGED)/release/weir $(PACKAGES)
else
	@program=$$($(CROSS) $(MUSL_$(ARCH))) && \
	sh conf/debian/build.sh $(ARCH) $(MUSL_$(ARCH))-unknown-linux-musl $$program $(PACKAGES)
endif

deb-check: build    ## install, upgrade, take back and purge the package in a Debian of its own, as root
	@sh tests/real/deb.sh $(WEIR) $(MACHINE)-unknown-linux-gnu

dist:               ## target/dist: sources, programs of `make cross`, SHA256SUMS, lists of components
	@sh conf/build/dist.sh target/dist

# Whoever makes images here, docker only with its daemon; IMAGE_TOOL=docker says another one.
IMAGE_TOOL ?= $(shell command -v podman || { docker version >/dev/null 2>&1 && command -v docker; } || \
	command -v buildah || echo podman)

image:              ## make a container image of the static program, weir:latest, with podman, docker or buildah
	@program=$$($(CROSS) $(MACHINE)) && rm -rf target/image && mkdir -p target/image && \
	cp $$program conf/container/weir.yaml conf/container/Containerfile target/image
	$(IMAGE_TOOL) build -t weir:latest -f target/image/Containerfile target/image
