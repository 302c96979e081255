#!/bin/sh
# Installs what the tests and the gate use and is missing: Chromium with its driver, curl, HAProxy,
# iproute2, mandoc, nginx with its module for streams, openssl, promtool, python3 with its websockets
# and its reader of metrics, systemd's check of units, tmux, valgrind and wrk from Debian. Tests that
# need one of them are skipped, counted and named where it is absent; those that need `ss` of iproute2
# fail and say so.
set -eu

missing=""
for pair in chromium:chromium chromedriver:chromium-driver curl:curl haproxy:haproxy mandoc:mandoc \
    nginx:nginx openssl:openssl promtool:prometheus python3:python3 ss:iproute2 \
    systemd-analyze:systemd tmux:tmux valgrind:valgrind wrk:wrk; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# A module of nginx has no command of its own.
[ -e /usr/lib/nginx/modules/ngx_stream_module.so ] || missing="$missing libnginx-mod-stream"
# Any Python that has the module will do, be it the system's own or another that is found first.
{ python3 -c 'import websockets' || /usr/bin/python3 -c 'import websockets'; } >/dev/null 2>&1 ||
    missing="$missing python3-websockets"
{ python3 -c 'import prometheus_client' || /usr/bin/python3 -c 'import prometheus_client'; } \
    >/dev/null 2>&1 || missing="$missing python3-prometheus-client"
# shellcheck disable=SC2086
sh "$(dirname "$0")/install.sh" tests "tests that need them are skipped" $missing
