#!/usr/bin/env bash
# CPU per request, the gateway beside nginx: one pinned core each, in turns, the same load and the same upstream.
#
#   ROUNDS=5 SECONDS_EACH=5 CONNECTIONS=64 PROXY_CPU=1 LOAD_CPU=0 NGINX_HEADERS=no BODY_BYTES=1024 scripts/bench-wrk.sh
#
# Absolute values move between machines and between minutes, so the rounds alternate (A B A B) and the medians are
# compared. CPU is user and system time of the proxy's whole process tree over the requests it answered.
# NGINX_HEADERS=yes makes nginx add the three headers that the gateway always adds; without it nginx does less work.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

rounds=${ROUNDS:-5} seconds=${SECONDS_EACH:-5} connections=${CONNECTIONS:-64} body_bytes=${BODY_BYTES:-1024}
binary=${BINARY:-${CARGO_TARGET_DIR:-target}/release/ringway}
load_cpu=${LOAD_CPU:-0} proxy_cpu=${PROXY_CPU:-1}
gateway_port=19081 nginx_port=19082 upstream_port=19080 management=127.0.0.1:19998

fail() { echo "error: $*" >&2; exit 1; }
for limit in rounds:1:50 seconds:1:60 connections:1:10000 body_bytes:1:4000; do
    IFS=: read -r name least most <<<"$limit"
    [[ ${!name} =~ ^[0-9]+$ && ${!name} -ge $least && ${!name} -le $most ]] ||
        fail "$name=${!name}: not $least to $most"
done
[[ -x $binary ]] || fail "$binary is not there: build it with \`cargo build --release\`"
for cpu in "$proxy_cpu" "$load_cpu"; do
    taskset -c "$cpu" true 2>/dev/null || fail "this shell may not use CPU $cpu"
done
[[ $proxy_cpu != "$load_cpu" ]] || fail "proxy and load need a CPU each"

work=$(mktemp -d "${TMPDIR:-/tmp}/ringway-bench.XXXXXX")
pids=()
stop() {
    [[ ${#pids[@]} -eq 0 ]] || kill "${pids[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

body=$(printf '%*s' "$body_bytes" '' | tr ' ' x)
common="daemon off; worker_processes 1; error_log nginx.log crit; events { worker_connections 16384; }"
[[ $EUID -eq 0 ]] && common="user root; $common"
http="access_log off; keepalive_requests 1000000000; default_type text/plain; client_body_temp_path t1;
    proxy_temp_path t2; fastcgi_temp_path t3; uwsgi_temp_path t4; scgi_temp_path t5;"
added=
[[ ${NGINX_HEADERS:-no} == yes ]] && added='
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Request-Id $request_id;'

cat >"$work/upstream.conf" <<NGINX
$common pid upstream.pid;
http { $http server { listen 127.0.0.1:$upstream_port backlog=4096; return 200 "$body"; } }
NGINX
cat >"$work/nginx.conf" <<NGINX
$common pid nginx.pid;
http {
    $http
    upstream backend { server 127.0.0.1:$upstream_port; keepalive 1024; keepalive_requests 1000000000; }
    server {
        listen 127.0.0.1:$nginx_port backlog=4096;
        proxy_http_version 1.1;
        proxy_set_header Connection "";$added
        location / { proxy_pass http://backend; }
    }
}
NGINX
cat >"$work/gateway.yaml" <<YAML
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: bench}
spec:
  address: http://127.0.0.1:$gateway_port
  services:
    backend: {address: "http://127.0.0.1:$upstream_port"}
---
apiVersion: gateway.mulesoft.com/v1alpha1
kind: Configuration
metadata: {name: bench}
spec:
  ringway: {timeouts: {drainDelaySeconds: 0, drainSeconds: 1}}
YAML

# start NAME CPU COMMAND...: in the background, pinned; its pid is in $started.
start() {
    local name=$1 cpu=$2
    shift 2
    taskset -c "$cpu" "$@" >"$work/$name.out" 2>&1 &
    started=$!
    pids+=("$started")
}
start upstream "$load_cpu" nginx -p "$work" -c "$work/upstream.conf"
start nginx "$proxy_cpu" nginx -p "$work" -c "$work/nginx.conf"
nginx_pid=$started
start gateway "$proxy_cpu" "$binary" run -c "$work/gateway.yaml" --threads "$proxy_cpu-$proxy_cpu" \
    --io-driver "${IO_DRIVER:-auto}" --management "$management"
gateway_pid=$started

for target in "gateway $gateway_port" "nginx $nginx_port"; do
    read -r name port <<<"$target"
    for ((tries = 0; ; tries++)); do
        got=$(curl -fs --max-time 2 "http://127.0.0.1:$port/" || true)
        [[ $got == "$body" ]] && break
        [[ $tries -lt 50 ]] || fail "$name does not answer: $(cat "$work/$name.out")"
        sleep 0.1
    done
done

# Clock ticks that a process, its threads and its children have used.
ticks() {
    local total=0 pid stat fields
    for pid in "$1" $(cat /proc/"$1"/task/*/children 2>/dev/null); do
        stat=$(<"/proc/$pid/stat")
        read -ra fields <<<"${stat##*) }" # what follows the command's name, which may hold spaces
        total=$((total + fields[11] + fields[12]))
    done
    echo "$total"
}
hertz=$(getconf CLK_TCK)

# measure NAME PID PORT: one round; appends "us-per-request requests-per-second" to the target's list.
measure() {
    local name=$1 pid=$2 port=$3 before after requests rate
    before=$(ticks "$pid")
    taskset -c "$load_cpu" wrk -t1 -c"$connections" -d"${seconds}s" "http://127.0.0.1:$port/" >"$work/wrk"
    after=$(ticks "$pid")
    ! grep -E 'Socket errors|Non-2xx' "$work/wrk" || fail "$name failed requests"
    requests=$(awk '/requests in/ {print $1}' "$work/wrk")
    rate=$(awk '/Requests\/sec/ {print $2}' "$work/wrk")
    awk -v t=$((after - before)) -v hz="$hertz" -v n="$requests" -v r="$rate" \
        'BEGIN {printf "%.2f %.0f\n", t / hz * 1e6 / n, r}' | tee -a "$work/$name.list" | report "round $round" "$name"
}
report() {
    awk -v what="$1" -v name="$2" '{printf "%-9s %-8s %7.2f us CPU per request %9d requests/s\n", what, name, $1, $2}'
}
median() {
    cut -d' ' -f"$2" "$work/$1.list" | sort -n |
        awk '{v[NR] = $1} END {m = int((NR + 1) / 2); print NR % 2 ? v[m] : (v[m] + v[m + 1]) / 2}'
}

echo "$connections keep-alive connections, $body_bytes byte body, $seconds s a round"
echo "proxy on CPU $proxy_cpu, wrk and upstream on CPU $load_cpu"
round=0
{ measure gateway "$gateway_pid" "$gateway_port" && measure nginx "$nginx_pid" "$nginx_port"; } >/dev/null # warm
rm "$work"/*.list
for ((round = 1; round <= rounds; round++)); do
    measure gateway "$gateway_pid" "$gateway_port"
    measure nginx "$nginx_pid" "$nginx_port"
done
for name in gateway nginx; do
    echo "$(median $name 1) $(median $name 2)" | report median $name
done
awk -v g="$(median gateway 1)" -v n="$(median nginx 1)" \
    'BEGIN {printf "ratio     %.3f CPU per request, gateway over nginx (below 1: the gateway costs less)\n", g / n}'
