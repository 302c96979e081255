#!/bin/sh
# Installs what the tests and the gate use and is missing: curl, nginx, openssl, python3 with its
# websockets, valgrind and wrk from Debian. Tests that need one of them skip themselves, and say so,
# where it is absent.
set -eu

missing=""
for pair in curl:curl nginx:nginx openssl:openssl python3:python3 \
    valgrind:valgrind wrk:wrk; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
# Any Python that has the module will do, be it the system's own or another that is found first.
{ python3 -c 'import websockets' || /usr/bin/python3 -c 'import websockets'; } >/dev/null 2>&1 ||
    missing="$missing python3-websockets"
[ -n "$missing" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "tests: please install:$missing (tests that need them are skipped)" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    echo "tests: not root; please run: apt-get install$missing (tests that need them are skipped)" >&2
    exit 0
fi
echo "tests: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A package must not start a server of its own here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
{ $sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing; } >/dev/null || {
    echo "tests: could not install$missing (tests that need them are skipped)" >&2
}
