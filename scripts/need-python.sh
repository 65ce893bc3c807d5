#!/usr/bin/env bash
# Python packages that tests want, in a virtual environment of their own: scripts/need-python.sh FOLDER PACKAGE==VERSION...
#
# What is there already costs nothing. Where they cannot be had, it says so and succeeds: a test without its package is
# skipped, by name.
set -euo pipefail
folder=$1
shift
packages=("$@")
[[ -e $folder/.packages && $(<"$folder/.packages") == "$*" ]] && exit 0

without() {
    echo "warning: $1: tests that want ${packages[*]} are skipped" >&2
    exit 0
}
echo "Installing $* into $folder" >&2
python3 -m venv --clear "$folder" >&2 || without "python3 makes no virtual environment"
"$folder/bin/pip" install -q --disable-pip-version-check "$@" >&2 || without "pip installs nothing"
echo "$*" >"$folder/.packages"
