#!/bin/sh
# Builds a static weir for another machine: cross.sh TARGET [CARGO_OPTION...]. Prints the program's path.
#
# TARGET is aarch64, armv7, armv6, i686, mipsel, riscv64 or x86_64, also with -unknown-linux-musl. Where
# the Rust that is installed has the target's library, it is taken; else one that can build it is
# unpacked from Debian's packages, which are asked for where a compiler is missing.
set -eu
cd "$(dirname "$0")/../.."

name=${1%%-*}
shift
flags="" rust=""
case $name in
aarch64) target=aarch64-unknown-linux-musl cc=aarch64-linux-gnu-gcc ;;
armv7) target=armv7-unknown-linux-musleabihf cc=arm-linux-gnueabihf-gcc ;;
# Without a unit for floating point, so that it runs on each of them.
armv6) target=arm-unknown-linux-musleabi cc=arm-linux-gnueabi-gcc flags="-march=armv6 -marm" ;;
i686) target=i686-unknown-linux-musl cc=i686-linux-gnu-gcc ;;
mipsel)
    target=mipsel-unknown-linux-musl cc=mipsel-linux-gnu-gcc flags="-msoft-float"
    # musl counts seconds in 64 bits since 1.2; the crate of its types does so when it is told.
    export RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1
    # Its flash is the smallest: a program that can lie anywhere in memory is a tenth larger there, and
    # one with code for speed another 7 %.
    rust="-C relocation-model=static"
    set -- --config 'profile.release.package.weir-data-plane.opt-level="s"' "$@"
    ;;
riscv64) target=riscv64gc-unknown-linux-musl cc=riscv64-linux-gnu-gcc ;;
x86_64) target=x86_64-unknown-linux-musl cc=x86_64-linux-gnu-gcc ;;
*) echo "cross: no such target: $name; see the head of $0" >&2; exit 2 ;;
esac

folder=$PWD/target/toolchain
# shellcheck disable=SC2086
sh conf/build/toolchain.sh "$folder" "$cc" $flags
libc=$folder/$cc

set -- --release --target "$target" --target-dir target/cross "$@"
if ! ls "$(rustc --print sysroot)/lib/rustlib/$target/lib/"libstd-*.rlib >/dev/null 2>&1; then
    sh conf/build/toolchain.sh "$folder"
    export RUSTC="$folder/rust/usr/bin/rustc" RUSTC_BOOTSTRAP=1
    # The loader does not know the folder of a library that is not installed.
    export LD_LIBRARY_PATH="$folder/rust/usr/lib/x86_64-linux-gnu"
    set -- -Z build-std=std,panic_abort -Z build-std-features= "$@"
fi
key=$(echo "$target" | tr a-z- A-Z_)
rust="$rust -C target-feature=+crt-static -C link-self-contained=no -L native=$libc/lib"
# Where a panic happened is told without the folders of whoever has built the program.
rust="$rust --remap-path-prefix=${CARGO_HOME:-${HOME:-}/.cargo}/registry/src=crates"
rust="$rust --remap-path-prefix=$folder/rust/usr/lib/rustlib/src/rust=rust"
export "CARGO_TARGET_${key}_LINKER=$libc/musl-gcc"
export "CARGO_TARGET_${key}_RUSTFLAGS=$rust"
export "CC_$(echo "$target" | tr - _)=$libc/musl-gcc"
nice "${CARGO:-cargo}" build "$@" >&2
echo "target/cross/$target/release/weir"
