#!/usr/bin/env bash
# User-space instructions that the gateway's core executes for one request, in total and by function.
#
#   REQUESTS=2000 CONNECTIONS=16 BODY_BYTES=1024 APIS=1 ROUTES=1 PATTERN='/route-%05d(/.*)' TOP=25 scripts/callgrind.sh
#
# Seconds are noisy, instructions are not: two runs of this differ by less than 1 %. The released binary runs on one core
# under valgrind, with the epoll driver, since valgrind cannot follow an io_uring. After a warm-up it answers N
# requests, then 2N; what one request costs is the difference over N, so that connecting and everything else that happens
# once falls out. Counters are cut between the two, in one process: two starts of a large configuration would differ by
# more than the requests cost. The kernel's instructions are not seen.
#
# APIS=1000 configures so many APIs, each with a Service of its own; ROUTES=100 so many routes in each, in the shape of
# PATTERN. Requests go to 16 of them, spread evenly from the first to the last. SUMMARY=yes prints one line.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

requests=${REQUESTS:-2000} connections=${CONNECTIONS:-16} body_bytes=${BODY_BYTES:-1024}
apis=${APIS:-1} routes=${ROUTES:-1} top=${TOP:-25}
pattern=${PATTERN:-/route-%05d(/.*)}
path=${REQUEST_PATH:-/route-%05d/orders/1}
binary=${BINARY:-${CARGO_TARGET_DIR:-target}/release/ringway}
gateway_port=19281 upstream_port=19280 management=127.0.0.1:19298
targets=16

fail() { echo "error: $*" >&2; exit 1; }
for limit in requests:100:100000 connections:1:256 body_bytes:1:4000 apis:1:10000 routes:1:1000 top:1:500; do
    IFS=: read -r name least most <<<"$limit"
    [[ ${!name} =~ ^[0-9]+$ && ${!name} -ge $least && ${!name} -le $most ]] ||
        fail "$name=${!name}: not $least to $most"
done
[[ $((apis * routes)) -le 100000 ]] || fail "$apis APIs of $routes routes: more than 100000 routes"
[[ -x $binary ]] || fail "$binary is not there: build it with \`cargo build --release\`"

work=$(mktemp -d "${TMPDIR:-/tmp}/ringway-callgrind.XXXXXX")
pids=()
stop() {
    [[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2>/dev/null || true
    # What is still loading its configuration does not listen to signals yet.
    local waited
    for ((waited = 0; waited < 50; waited++)); do
        [[ -n $(jobs -rp) ]] || break
        sleep 0.1
    done
    [[ ${#pids[@]} -eq 0 ]] || kill -KILL "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

user=
[[ $EUID -eq 0 ]] && user="user root;"
cat >"$work/upstream.conf" <<NGINX
daemon off; worker_processes 1; $user error_log nginx.log crit; pid upstream.pid;
events { worker_connections 8192; }
http {
    access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type text/plain;
    client_body_temp_path t1; proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;
    server { listen 127.0.0.1:$upstream_port backlog=4096; return 200 "$(printf '%*s' "$body_bytes" '' | tr ' ' x)"; }
}
NGINX

# One file for every thousand APIs. All names have one length, so that all requests do.
mkdir "$work/conf"
awk -v apis="$apis" -v routes="$routes" -v pattern="$pattern" -v port="$gateway_port" -v upstream="$upstream_port" \
    -v directory="$work/conf" 'BEGIN {
    for (api = 0; api < apis; api++) {
        file = sprintf("%s/apis-%05d.yaml", directory, int(api / 1000))
        printf "---\napiVersion: gateway.mulesoft.com/v1alpha1\nkind: ApiInstance\nmetadata: {name: api-%05d}\n", api >file
        printf "spec:\n  address: http://127.0.0.1:%d/api-%05d\n  services:\n    backend:\n", port, api >file
        printf "      address: http://127.0.0.1:%d\n      routes:\n", upstream >file
        for (route = 0; route < routes; route++)
            printf "        - rules: [{path: \"" pattern "\"}]\n", route >file
    }
}'
cat >"$work/conf/settings.yaml" <<'YAML'
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: settings}
spec:
  ringway: {timeouts: {drainDelaySeconds: 0, drainSeconds: 1, upstreamConnectSeconds: 60}}
YAML
awk -v apis="$apis" -v routes="$routes" -v targets="$targets" -v path="$path" -v port="$gateway_port" 'BEGIN {
    for (n = 0; n < targets; n++) {
        at = n / (targets - 1)
        api = int(at * (apis - 1) + 0.5)
        printf "http://127.0.0.1:%d/api-%05d" path "\n", port, api, int(at * (routes - 1) + 0.5)
    }
}' >"$work/targets"
first=$(head -n 1 "$work/targets")

nginx -p "$work" -c "$work/upstream.conf" &
pids+=($!)
valgrind --tool=callgrind --separate-threads=yes --callgrind-out-file="$work/counts" \
    "$binary" run -c "$work/conf" --threads 1 --io-driver epoll --management "$management" >"$work/gateway.out" 2>&1 &
gateway=$!
pids+=("$gateway")
# Loading 10,000 APIs takes minutes here: valgrind is some fifty times slower than the CPU.
while true; do
    curl -fs --max-time 2 -o "$work/body" "$first" && break
    kill -0 "$gateway" 2>/dev/null || fail "the gateway has ended: $(tail -n 5 "$work/gateway.out")"
    [[ $SECONDS -lt 900 ]] || fail "the gateway does not answer: $(tail -n 5 "$work/gateway.out")"
    sleep 0.2
done
[[ $(wc -c <"$work/body") -eq $body_bytes ]] || fail "$first is answered with another body"

drive() {
    h2load --h1 -n "$1" -c "$connections" -i "$work/targets" >"$work/h2load" 2>&1 || fail "$(cat "$work/h2load")"
    grep -q "requests: $1 total.* $1 succeeded, 0 failed" "$work/h2load" && grep -q "status codes: $1 2xx" "$work/h2load" ||
        fail "requests failed: $(grep -E '^(requests|status codes):' "$work/h2load")"
}
# Ends the counting of one part and begins the next: files counts.PART-THREAD.
part=0
cut_here() {
    callgrind_control -d "$gateway" >"$work/control" 2>&1 || fail "$(cat "$work/control")"
    part=$((part + 1))
    local waited
    for ((waited = 0; waited < 100; waited++)); do
        [[ -s $work/counts.$part-01 ]] && return
        sleep 0.1
    done
    fail "callgrind wrote no counts: $(cat "$work/control")"
}
drive $((requests > 1000 ? requests : 1000))
cut_here
drive "$requests"
cut_here
drive $((2 * requests))
cut_here

# The core is the thread that did most. A line behind `calls=` is the cost of a callee, which is counted where it stands.
total() { awk '/^summary:/ {print $2}' "$1"; }
core=
for file in "$work"/counts.3-*; do
    [[ -n $core && $(total "$file") -le $(total "$work/counts.3-$core") ]] || core=${file##*-}
done
by_function() {
    awk '
        /^fn=/ {
            split($0, halves, /[()]/)
            id = halves[2]
            if (match($0, /\) /)) name[id] = substr($0, RSTART + 2)
            next
        }
        /^c?fn=|^c(fi|fl|ob)=/ { if (match($0, /^cfn=\([0-9]+\) /)) {
            split($0, halves, /[()]/); name[halves[2]] = substr($0, RLENGTH + 1) }
            next }
        /^calls=/ { getline; next }
        /^[0-9+*-]/ { cost[id] += $2 }
        END { for (id in cost) printf "%d\t%s\n", cost[id], name[id] }
    ' "$1"
}
by_function "$work/counts.2-$core" >"$work/once"
by_function "$work/counts.3-$core" >"$work/twice"
per_request=$(awk -v n="$requests" -v once="$(total "$work/counts.2-$core")" -v twice="$(total "$work/counts.3-$core")" \
    'BEGIN {printf "%.0f", (twice - once) / n}')
line="$per_request instructions per request, $apis APIs of $routes routes, $requests requests over $connections connections"
if [[ ${SUMMARY:-no} == yes ]]; then
    echo "$line"
    exit
fi
echo "$line"
echo "by function, what was inlined counted where it was inlined:"
awk -F'\t' -v n="$requests" '
    NR == FNR { once[$2] += $1; next }
    { twice[$2] += $1 }
    END {
        for (name in twice) {
            each = (twice[name] - once[name]) / n
            if (each >= 0.5) printf "%9.0f  %s\n", each, name
        }
    }' "$work/once" "$work/twice" | sort -rn | sed -n "1,${top}p" | cut -c1-150
