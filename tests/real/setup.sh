#!/bin/sh
# Installs the servers that tests/real tries weir on (Debian packages), none of which is started.
set -eu

missing=""
have() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ]; }
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
have mariadbd || missing="$missing mariadb-server"
have redis-server || missing="$missing redis-server"
have sshd || missing="$missing openssh-server"
have python3 || missing="$missing python3"
{ python3 -c 'import aiosmtpd' || /usr/bin/python3 -c 'import aiosmtpd'; } >/dev/null 2>&1 ||
    missing="$missing python3-aiosmtpd"
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "tests/real: please install:$missing" >&2
    exit 0
fi
echo "tests/real: installing$missing"
export DEBIAN_FRONTEND=noninteractive
# A package must not start a server of its own here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
# shellcheck disable=SC2086
{ apt-get update -qq && apt-get install -y -qq --no-install-recommends $missing; } >/dev/null ||
    echo "tests/real: could not install$missing" >&2
