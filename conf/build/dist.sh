#!/bin/sh
# What is released: dist.sh FOLDER. The sources of HEAD; an archive for each program of `make cross`,
# which `make install` installs from; the packages of `make deb`; the components (CycloneDX); and
# SHA256SUMS of all.
set -eu
umask 022
cd "$(dirname "$0")/../.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
folder=$1
rm -rf "$folder"
mkdir -p "$folder"
epoch=$(git log -1 --format=%ct)

# pack NAME FOLDER: the same files make the same archive.
pack() {
    tar -C "$2" --sort=name --mtime="@$epoch" --owner=0 --group=0 --numeric-owner -cf - "$1" |
        gzip -9n >"$folder/$1.tar.gz"
}

# is_current FILE MORE: whether it is of the sources that are here, and of MORE.
is_current() {
    file=$1
    shift
    [ -e "$file" ] || return 1
    [ -n "$(find src build.rs Cargo.toml Cargo.lock "$@" -newer "$file" | head -n 1)" ] || return 0
    echo "dist: $file is older than the sources, and left out" >&2
    return 1
}

git archive --format=tar --prefix="weir-$version/" HEAD | gzip -9n >"$folder/weir-$version.tar.gz"
for program in target/cross/*/release/weir; do
    is_current "$program" || continue
    target=${program#target/cross/}
    name=weir-$version-${target%%/*}
    work=$(mktemp -d)
    git archive --format=tar --prefix="$name/" HEAD Makefile README.md CHANGELOG.md SECURITY.md \
        LICENSE-MIT LICENSE-APACHE conf docs | tar -xf - -C "$work"
    cp "$program" "$work/$name/weir"
    python3 conf/build/components.py licences "${target%%/*}" >"$work/$name/licences.txt"
    pack "$name" "$work"
    rm -rf "$work"
done
for package in target/packages/weir_"$version"_*.deb; do
    ! is_current "$package" Makefile README.md CHANGELOG.md conf docs || cp "$package" "$folder"
done
python3 conf/build/components.py sbom "$(uname -m)-unknown-linux-musl" >"$folder/weir-$version.cdx.json"
(cd "$folder" && sha256sum -- * >SHA256SUMS)
cat "$folder/SHA256SUMS"
