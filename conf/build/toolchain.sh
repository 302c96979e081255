#!/bin/sh
# What a static build for another machine takes, from Debian's packages, into FOLDER:
# toolchain.sh FOLDER CC [FLAG...]
#
# A C library: musl, built from Debian's source by CC, a compiler such as aarch64-linux-gnu-gcc, with
# these FLAGs. FOLDER/CC/musl-gcc compiles and links with it. And in FOLDER/rust, with no CC, a Rust
# that builds its own standard library: packages that are unpacked there and not installed.
set -eu
# What `make` was given, such as ARCH=arm64, is not for musl's own Makefile.
unset MAKEFLAGS MFLAGS MAKEOVERRIDES ARCH

folder=$1
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
say() { echo "toolchain: $*" >&2; }

rust() {
    [ -x "$folder/rust/usr/bin/rustc" ] && return
    say "unpacking Debian's rustc-web and its sources"
    mkdir -p "$folder/debs"
    std=$(apt-cache depends libstd-rust-web-dev | sed -n 's/.*Depends: \(libstd-rust-web-[0-9.]*\)$/\1/p')
    llvm=$(apt-cache depends rustc-web "$std" | sed -n 's/.*Depends: \(libllvm[0-9]*\)$/\1/p' | head -n 1)
    (cd "$folder/debs" && apt-get download -qq rustc-web rust-web-src libstd-rust-web-dev "$std" "$llvm")
    for package in "$folder"/debs/*.deb; do
        dpkg -x "$package" "$folder/unpacked"
    done
    rm -r "$folder/debs"
    mv "$folder/unpacked" "$folder/rust"
}

# Sources are no part of the lists that a machine usually has.
musl_source() {
    ls "$folder"/musl_*.orig.tar.gz >/dev/null 2>&1 && return
    say "downloading Debian's source of musl"
    apt=$folder/apt
    mkdir -p "$apt/lists/partial" "$apt/parts" "$apt/cache/archives/partial"
    for list in /etc/apt/sources.list.d/*.sources; do
        sed 's/^Types:.*/Types: deb-src/' "$list" >"$apt/parts/${list##*/}"
    done
    if [ -s /etc/apt/sources.list ]; then
        sed 's/^deb /deb-src /' /etc/apt/sources.list >"$apt/parts/one.list"
    fi
    set -- -qq -o Dir::Etc::SourceParts="$apt/parts" -o Dir::Etc::SourceList=/dev/null \
        -o Dir::State::Lists="$apt/lists" -o Dir::Cache="$apt/cache" -o APT::Sandbox::User=root
    apt-get "$@" update
    (cd "$folder" && apt-get "$@" source --download-only musl)
    rm -r "$apt"
}

# The unwinder that Rust's library names: a release has no tables to unwind by (build.rs), so there
# is nothing that it could find.
unwinder() {
    cat <<'END'
int _Unwind_Backtrace(void *step, void *with) { (void)step; (void)with; return 5; }
void *_Unwind_GetIP(void *at) { (void)at; return 0; }
void *_Unwind_GetIPInfo(void *at, int *before) { (void)at; *before = 0; return 0; }
void *_Unwind_GetCFA(void *at) { (void)at; return 0; }
void *_Unwind_FindEnclosingFunction(void *at) { (void)at; return 0; }
void _Unwind_Resume(void *what) { (void)what; __builtin_trap(); }
#ifdef __arm__
int _Unwind_VRS_Get(void *at, int kind, unsigned number, int as, void *into)
{ (void)at; (void)kind; (void)number; (void)as; (void)into; return 2; }
int _Unwind_VRS_Set(void *at, int kind, unsigned number, int as, void *from)
{ (void)at; (void)kind; (void)number; (void)as; (void)from; return 2; }
void __aeabi_unwind_cpp_pr0(void) {}
void __aeabi_unwind_cpp_pr1(void) {}
void __aeabi_unwind_cpp_pr2(void) {}
#endif
END
}

# How gcc compiles and links with musl, also a static program that is placed anywhere.
specs() {
    cat <<END
%rename cpp_options old_cpp_options
*cpp_options:
-nostdinc -isystem $1/include -isystem include%s %(old_cpp_options)

*cc1:
%(cc1_cpu) -nostdinc -isystem $1/include -isystem include%s

*link_libgcc:
-L$1/lib -L .%s

*libgcc:
libgcc.a%s

*startfile:
%{static-pie:$1/lib/rcrt1.o;:$1/lib/crt1.o} $1/lib/crti.o

*endfile:
$1/lib/crtn.o

END
}

musl() {
    cc=$1
    shift
    sysroot=$folder/$cc
    [ -x "$sysroot/musl-gcc" ] && return
    command -v "$cc" >/dev/null || { say "please install gcc-${cc%-gcc}"; exit 1; }
    musl_source
    say "building musl with $cc $*"
    build=$sysroot.build
    rm -rf "$build"
    mkdir -p "$build"
    tar -xzf "$folder"/musl_*.orig.tar.gz -C "$build" --strip-components 1
    triple=$("$cc" -dumpmachine)
    (cd "$build" && CC="$cc $*" ./configure --target="$triple" --prefix="$sysroot" \
        --disable-shared --disable-wrapper && make -j2 install) >"$build.log" 2>&1 ||
        { say "musl is not built: see $build.log"; exit 1; }
    rm -r "$build"
    specs "$sysroot" >"$sysroot/specs"
    printf '#!/bin/sh\nexec %s %s "$@" -specs %s/specs\n' "$cc" "$*" "$sysroot" >"$sysroot/musl-gcc"
    unwinder >"$sysroot/unwind.c"
    "$cc" "$@" -Os -fPIC -c "$sysroot/unwind.c" -o "$sysroot/unwind.o"
    "${cc%gcc}ar" rc "$sysroot/lib/libunwind.a" "$sysroot/unwind.o"
    chmod +x "$sysroot/musl-gcc"
}

if [ $# -eq 1 ]; then
    rust
else
    shift
    musl "$@"
fi
