#!/bin/sh
# Counts and names the tests that could not be run, of which FILE has a line each: skipped.sh FILE.
# With ALLOW_SKIPS=0 there may be none.
set -eu
count=$(wc -l <"$1")
[ "$count" -gt 0 ] || exit 0
{
    echo "$count skipped:"
    sort "$1" | sed 's/^/    /'
} >&2
[ "${ALLOW_SKIPS:-1}" != 0 ]
