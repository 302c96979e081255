#!/bin/sh
# Installs Debian packages, with which nothing is started: install.sh WHO WITHOUT PACKAGE... WHO asks,
# and says what follows WITHOUT them. That they cannot be had is said, and is no error here.
set -eu
who=$1
without=$2
shift 2
[ $# -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "$who: please install: $* ($without)" >&2
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    sudo=""
elif command -v sudo >/dev/null 2>&1 && sudo -n true 2>/dev/null; then
    sudo="sudo"
else
    echo "$who: not root; please run: apt-get install $* ($without)" >&2
    exit 0
fi
echo "$who: installing $*"
export DEBIAN_FRONTEND=noninteractive
# A package must not start a server of its own here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod +x "$policy"
    trap '$sudo rm -f "$policy"' EXIT
fi

# Another one's lock is waited for, 5 minutes: that of the lists has no option for it.
update() {
    for _ in $(seq 60); do
        said=$($sudo apt-get update -qq 2>&1) && return
        case $said in
        *"Could not get lock"*) sleep 5 ;;
        *) break ;;
        esac
    done
    echo "$said" >&2
    return 1
}
{ update && $sudo apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"; } \
    >/dev/null || echo "$who: could not install $* ($without)" >&2
