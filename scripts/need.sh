#!/usr/bin/env bash
# Installs what is missing, and nothing else: scripts/need.sh COMMAND:PACKAGE[,PACKAGE]...
#
# A command that is there already costs nothing, so every target of the Makefile may ask. As root or through sudo, with
# apt-get; elsewhere it says what to install by hand.
set -euo pipefail
PATH=$PATH:/usr/sbin:/sbin

# Some needs are no commands. Certificates: cargo needs them to fetch anything. A virtual environment: on Debian python3
# comes without.
has() {
    case $1 in
        ca-certificates) [[ -e /etc/ssl/certs/ca-certificates.crt ]] ;;
        python3-venv) python3 -c 'import ensurepip, venv' 2>/dev/null ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing=() packages=()
for need in "$@"; do
    command=${need%%:*}
    has "$command" && continue
    missing+=("$command")
    IFS=, read -ra more <<<"${need#*:}"
    packages+=("${more[@]}")
done
[[ ${#missing[@]} -eq 0 ]] && exit 0

fail() {
    echo "error: missing: ${missing[*]}. $1" >&2
    echo "       Install by hand what gives these, then run make again. On Debian: apt-get install ${packages[*]}" >&2
    exit 1
}

command -v apt-get >/dev/null || fail "There is no apt-get here."
if [[ $EUID -eq 0 ]]; then
    root=()
elif command -v sudo >/dev/null; then
    root=(sudo)
else
    fail "Installing needs root, and there is no sudo."
fi

echo "Installing ${packages[*]}" >&2
# A packaged server starts itself when it is installed. Ours are run privately, so for this moment nothing may start.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]] && printf '#!/bin/sh\nexit 101\n' | "${root[@]}" install -m 755 /dev/stdin $policy; then
    trap '"${root[@]}" rm -f $policy' EXIT
fi
apt() { "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@" >&2; }
apt update || true # without it a fresh machine knows no package; one with old lists may do
apt install --no-install-recommends "${packages[@]}" || fail "apt-get could not install ${packages[*]}."
for server in nginx squid; do
    if [[ " ${packages[*]} " == *" $server "* && -d /run/systemd/system ]]; then
        "${root[@]}" systemctl disable --quiet --now $server || true # nor at the next boot
    fi
done
hash -r
for command in "${missing[@]}"; do
    has "$command" ||
        fail "apt-get installed ${packages[*]}, and $command is still not there."
done
