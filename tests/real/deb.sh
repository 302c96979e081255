#!/bin/sh
# Installs, upgrades, takes back and purges the package in a Debian of its own, under load: deb.sh PROGRAM
# TARGET, as root. The Debian is made by debootstrap, once, in target/deb-root. It has a network and
# processes of its own, and no systemd: weir is started there by hand.
set -eu
cd "$(dirname "$0")/../.."
if [ "${1:-}" != inside ]; then
    command -v debootstrap >/dev/null ||
        sh tests/install.sh deb-check "there is no Debian to try it in" debootstrap
    root=target/deb-root
    [ -e "$root/etc/debian_version" ] ||
        debootstrap --variant=minbase --include=systemd-standalone-sysusers stable "$root" >&2
    packages=target/deb-check
    rm -rf "$packages"
    architecture=$(dpkg --print-architecture)
    for version in 1.0 1.1; do
        VERSION=$version sh conf/debian/build.sh "$architecture" "$2" "$1" "$packages" >/dev/null
    done
    if command -v systemd-analyze >/dev/null; then
        units=$packages/units
        dpkg-deb -x "$packages/weir_1.0_$architecture.deb" "$units"
        # The program is looked for, and is not there.
        sed -i 's#/usr/sbin/weir#/bin/true#' "$units"/usr/lib/systemd/system/*
        found=$(cd "$units/usr/lib/systemd/system" && SYSTEMD_LOG_LEVEL=warning \
            systemd-analyze verify --man=no ./weir.service ./weir.socket ./weir@0.service 2>&1) || true
        [ -z "$found" ] || { echo "deb-check: FAILED: $found"; exit 1; }
    fi
    exec unshare --mount --net --pid --fork --kill-child --mount-proc sh "$0" inside "$architecture"
fi

architecture=$2
root=target/deb-root
url=http://127.0.0.1:8080/
mount -t proc proc "$root/proc"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
ip link set lo up
cp target/deb-check/*.deb "$root/tmp"

say() { echo "deb-check: $*"; }
fail() { say "FAILED: $*"; [ ! -e "$root/tmp/log" ] || tail -n 20 "$root/tmp/log"; exit 1; }
in_it() { chroot "$root" env PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }
install_version() { in_it dpkg --force-downgrade -i "/tmp/weir_$1_$architecture.deb" >"$root/tmp/dpkg" 2>&1; }
expect() { grep -qF "$1" "$root/tmp/dpkg" || { cat "$root/tmp/dpkg"; fail "dpkg did not say: $1"; }; }
pid() { cat "$root/run/weir/weir.pid"; }
serves() { curl -sf --max-time 5 "$url" | grep -q 'weir is here'; }
start() {
    in_it install -d -o weir -g weir /run/weir /var/lib/weir /var/log/weir
    in_it setpriv --reuid weir --regid weir --clear-groups \
        weir -c /etc/weir/weir.yaml -p /run/weir/weir.pid >>"$root/tmp/log" 2>&1 &
    for _ in $(seq 100); do
        ! serves || return 0
        sleep 0.1
    done
    fail "weir does not serve"
}
# What is asked of weir while it is upgraded: new connections, one after the other.
load() {
    while [ ! -e "$root/tmp/stop" ]; do
        serves && echo good || echo bad
    done >"$root/tmp/asked"
}
# upgrade VERSION: keeps the process, becomes the new program, loses nothing.
upgrade() {
    before=$(pid)
    rm -f "$root/tmp/stop"
    load & load=$!
    install_version "$1" || { cat "$root/tmp/dpkg"; fail "not installed: $1"; }
    sleep 1
    touch "$root/tmp/stop"
    wait "$load"
    expect "upgrade done"
    [ "$(pid)" = "$before" ] || fail "another process"
    [ "$(readlink "/proc/$before/exe" | sed 's#.*/usr#/usr#')" = /usr/sbin/weir ] || fail "the old program runs"
    ! grep -q bad "$root/tmp/asked" || fail "$(grep -c bad "$root/tmp/asked") requests are lost"
    say "version $1 has taken over: $(grep -c good "$root/tmp/asked") requests meanwhile, none lost"
}

in_it dpkg --purge weir >/dev/null 2>&1 || true
rm -f "$root/etc/weir/weir.yaml"
install_version 1.0 || { cat "$root/tmp/dpkg"; fail "not installed"; }
in_it id weir >/dev/null || fail "there is no user"
in_it weir -t -q -c /etc/weir/weir.yaml || fail "the packaged configuration"
start
say "installed and started"
upgrade 1.1
upgrade 1.0

cp "$root/etc/weir/weir.yaml" "$root/tmp/kept.yaml"
echo 'of_tomorrow: 1' >>"$root/etc/weir/weir.yaml"
! install_version 1.1 || fail "installed with a configuration that it does not take"
expect "unknown key"
expect "left as it is"
serves || fail "the old one has gone"
cp "$root/tmp/kept.yaml" "$root/etc/weir/weir.yaml"
in_it dpkg --configure weir >"$root/tmp/dpkg" 2>&1 || fail "not configured"
expect "upgrade done"
say "a configuration that the new version does not take leaves the old one at work"

in_it weir -s quit -p /run/weir/weir.pid 2>/dev/null || fail "does not quit"
sed -i -e 's/^workers:.*/workers: 1/' -e '/^supervisor:/d' "$root/etc/weir/weir.yaml"
start
install_version 1.0 || fail "not installed over a single process"
expect "new connections are refused"
serves || fail "a single process was ended without anybody to start it"
say "a single process is told of"

in_it dpkg --purge weir >"$root/tmp/dpkg" 2>&1 || { cat "$root/tmp/dpkg"; fail "not purged"; }
! serves || fail "it goes on"
for gone in usr/sbin/weir etc/weir etc/logrotate.d/weir var/log/weir var/lib/weir; do
    [ ! -e "$root/$gone" ] || fail "left: $gone"
done
say "purged: nothing left. All is well"
