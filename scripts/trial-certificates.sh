#!/usr/bin/env bash
# Makes certificates to try TLS out with: scripts/trial-certificates.sh FOLDER NAME[=HOST,HOST...]...
#
# An authority of its own (ca.pem, ca.key), kept where it is there already, and for each NAME a chain NAME.pem and a key
# NAME.key: good for both sides, for those hosts, and for 90 days. Nobody else trusts that authority, and nobody should.
set -euo pipefail
[[ $# -ge 2 ]] || { sed -n '2s/^# //p' "$0" >&2; exit 2; }
folder=$1
shift
umask 077
mkdir -p "$folder"
cd "$folder"

key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null; }

if [[ ! -e ca.pem ]]; then
    key ca.key
    openssl req -x509 -new -key ca.key -days 90 -subj '/CN=Trial authority' -out ca.pem \
        -addext keyUsage=critical,keyCertSign,cRLSign
fi
for made in "$@"; do
    name=${made%%=*} hosts=${made#*=}
    [[ $hosts == "$made" ]] && hosts=$name
    key "$name.key"
    openssl req -new -key "$name.key" -subj "/CN=$name" |
        openssl x509 -req -CA ca.pem -CAkey ca.key -days 90 -out "$name.pem" -extfile <(
            echo "subjectAltName=DNS:${hosts//,/,DNS:}"
            echo "extendedKeyUsage=serverAuth,clientAuth"
        ) 2>/dev/null
    openssl verify -CAfile ca.pem "$name.pem" >/dev/null
done
