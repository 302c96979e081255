# Builds for other machines, and packages. Included by Makefile.

MACHINE   = $(shell uname -m)
CROSS    := sh conf/build/cross.sh

.PHONY: static cross cross-check

static:             ## build a program that needs no library: target/cross/$(uname -m)-unknown-linux-musl
	@$(CROSS) $(MACHINE) $(OPTIONS)

cross:              ## the same for TARGET=aarch64|armv7|armv6|i686|riscv64|x86_64: OPTIONS=--no-default-features
	@$(CROSS) $(or $(TARGET),$(error which? TARGET=aarch64)) $(OPTIONS)

cross-check:        ## what `make cross` has built serves, decrypts, reloads and drains, by qemu-user
	@python3 tests/real/cross.py target/cross/*/release/weir
