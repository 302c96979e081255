#!/bin/sh
# Makes a Debian package of a program: build.sh ARCHITECTURE TARGET PROGRAM FOLDER. Prints its path.
#
# TARGET is the one that the PROGRAM was compiled for, and tells which crates are in it. A static
# program depends on no library.
set -eu
umask 022
cd "$(dirname "$0")/../.."

architecture=$1 target=$2 program=$3 folder=$4
# A test gives the same program another version.
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)}
# So that the same sources make the same package.
epoch=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH="$epoch"
# Who builds a package maintains it, and may say so. weir itself has no address, which `.invalid` says.
maintainer=${MAINTAINER:-The weir maintainers <maintainers@weir.invalid>}
mkdir -p "$folder"
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
chmod 755 "$root"

"${MAKE:-make}" --silent install-files DESTDIR="$root" PREFIX=/usr INIT=systemd WEIR="$program" >/dev/null
# The package brings a user that stays, so that files in /var/log may be its own.
for unit in "$root"/usr/lib/systemd/system/weir*.service; do
    sed -i -e '/^User=/d' -e 's/^DynamicUser=yes/User=weir\nGroup=weir/' \
        -e '/^# It runs as a user that exists only meanwhile\. /s//# It runs as user weir. /' "$unit"
done
install -D -m 644 conf/debian/weir.sysusers "$root/usr/lib/sysusers.d/weir.conf"
install -d "$root/usr/share/zsh/vendor-completions"
mv "$root"/usr/share/zsh/site-functions/_weir "$root/usr/share/zsh/vendor-completions/"
rmdir "$root/usr/share/zsh/site-functions"

docs=$root/usr/share/doc/weir
rm "$docs"/LICENSE-*
mv "$docs/CHANGELOG.md" "$docs/NEWS.md"
printf 'weir (%s) unstable; urgency=medium\n\n  * See NEWS.md.gz.\n\n -- %s  %s\n' \
    "$version" "$maintainer" "$(date -Rud "@$epoch")" >"$docs/changelog"
python3 conf/build/components.py licences "$target" >"$docs/licences"
{
    echo "weir, at your choice under the MIT licence or the Apache License 2.0, which stands in"
    echo "/usr/share/common-licenses/Apache-2.0. Licences of the crates in it: licences.gz beside this."
    echo
    sed -n '/Copyright/,$p' LICENSE-MIT
} >"$docs/copyright"
find "$root/usr/share/man" -type f -exec gzip -9n {} + 2>/dev/null || true
gzip -9n "$docs/changelog" "$docs/NEWS.md" "$docs/licences"

libc=""
if readelf -d "$program" | grep -q 'NEEDED.*libc\.so\.6'; then
    newest=$(readelf -V "$program" | grep -o 'GLIBC_[0-9.]*' | sed 's/GLIBC_//' | sort -uV | tail -n 1)
    libc="libc6 (>= $newest), "
    ! readelf -d "$program" | grep -q 'NEEDED.*libgcc_s' || libc="${libc}libgcc-s1, "
fi
install -d "$root/DEBIAN"
sed -e "s/@VERSION@/$version/" -e "s/@ARCHITECTURE@/$architecture/" -e "s/@LIBC@/$libc/" \
    -e "s/@MAINTAINER@/$(printf '%s' "$maintainer" | sed 's|[&/\\]|\\&|g')/" \
    -e "s/@SIZE@/$(du -sk "$root/usr" | cut -f 1)/" conf/debian/control >"$root/DEBIAN/control"
# What lintian takes for libyaml is a crate in Rust, and a program for another machine is static.
install -d "$root/usr/share/lintian/overrides"
{
    echo "weir: embedded-library libyaml [usr/sbin/weir]"
    [ -n "$libc" ] || echo "weir: statically-linked-binary [usr/sbin/weir]"
} >"$root/usr/share/lintian/overrides/weir"
printf '%s\n' /etc/logrotate.d/weir /etc/weir/weir.yaml >"$root/DEBIAN/conffiles"
(cd "$root" && find etc usr -type f ! -path 'etc/*' -exec md5sum {} +) >"$root/DEBIAN/md5sums"
install -m 755 conf/debian/postinst conf/debian/prerm conf/debian/postrm "$root/DEBIAN"
package=$folder/weir_${version}_$architecture.deb
dpkg-deb --root-owner-group -Zxz --build "$root" "$package" >/dev/null
echo "$package"
