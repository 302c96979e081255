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
# shellcheck disable=SC2086
sh "$(dirname "$0")/../install.sh" tests/real "trials that need them fail" $missing
