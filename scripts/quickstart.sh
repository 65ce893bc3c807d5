#!/usr/bin/env bash
# Serves configs/quickstart in front of a small real upstream, until Ctrl-C: what `make run` calls.
#
# The upstream is a private nginx: its own configuration, pid file and directories under target/quickstart-PORT, never
# the system's service. It tells what it received, so that a rewrite can be seen. It ends with the gateway.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

port=${PORT:-8081} upstream_port=${UPSTREAM_PORT:-28080} management=${MANAGEMENT:-127.0.0.1:9998}
binary=${CARGO_TARGET_DIR:-target}/quick/ringway
work=$PWD/target/quickstart-$port
config=configs/quickstart

fail() { echo "error: $*" >&2; exit 1; }
taken() { (exec 3<>"/dev/tcp/${2:-127.0.0.1}/$1") 2>/dev/null; }

[[ -x $binary ]] || fail "$binary is not there: build it with \`make quick\`"
mkdir -p "$work"

taken "$port" && fail "port $port is taken: choose another with \`make run PORT=8082\`"
taken "${management##*:}" "${management%:*}" &&
    fail "$management is taken: choose another with \`make run MANAGEMENT=127.0.0.1:9999\`"
# The pid file of a run that was killed may be left, and its process too, or by now another one of that number.
stop_upstream() {
    local pid
    pid=$(cat "$work/nginx.pid" 2>/dev/null) || return 0
    if [[ $pid =~ ^[0-9]+$ ]] && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "$work"; then
        kill "$pid" 2>/dev/null || true
    fi
    rm -f "$work/nginx.pid"
}
stop_upstream

for ((tries = 0; tries < 50; tries++)); do
    taken "$upstream_port" || break
    upstream_port=$((upstream_port + 1))
done

# Served from where it is, so that an edit shows at once; on other ports, as a copy that names them.
if [[ $port != 8081 || $upstream_port != 28080 ]]; then
    config=$work/conf.d
    rm -rf "$config"
    mkdir -p "$config"
    for file in configs/quickstart/*.yaml; do
        sed -e "s/:8081/:$port/" -e "s/:28080/:$upstream_port/" "$file" >"$config/${file##*/}"
    done
fi

cat >"$work/nginx.conf" <<NGINX
$([[ $EUID -eq 0 ]] && echo "user root;") # as root, a worker of another user could not enter this directory
pid nginx.pid;
error_log nginx.log;
worker_processes 1;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type application/json;
    server {
        listen 127.0.0.1:$upstream_port;
        set \$seen '"method": "\$request_method", "path": "\$request_uri", "host": "\$http_host"';
        return 200 '{"upstream": "saw", \$seen}\n';
    }
}
NGINX
gateway=
trap stop_upstream EXIT
nginx -p "$work" -c "$work/nginx.conf" 2>"$work/nginx.start" ||
    fail "the upstream did not start: $(cat "$work/nginx.start")"

# In a session of its own, so that a signal reaches the gateway once, from here, however many of us it was sent to. A
# second one that comes later is meant as such: the gateway stops without draining.
setsid "$binary" run --config "$config" --management "$management" &
gateway=$!
stopped_at=
stop() {
    [[ $stopped_at && $((SECONDS - stopped_at)) -lt 1 ]] && return
    stopped_at=$SECONDS
    kill -TERM $gateway 2>/dev/null || true
}
trap stop INT TERM HUP

ready=
for ((tries = 0; tries < 150; tries++)); do
    kill -0 $gateway 2>/dev/null || break
    if curl -fs -o "$work/ready" "http://$management/probes/readiness"; then
        ready=yes
        break
    fi
    sleep 0.2
done
if [[ $ready ]]; then
    cat <<TRY

Ringway serves $config in front of http://127.0.0.1:$upstream_port. Try:

  curl http://localhost:$port/shop/orders/1          # proxied: the base path /shop is taken off
  curl http://localhost:$port/shop/api/orders/1      # rewritten: the upstream sees /v2/orders/1
  curl -i http://localhost:$port/reports/today       # refused: basic authentication (let in with -u ada:lovelace)

Metrics: http://$management/metrics   The running set: http://$management/config   Ctrl-C ends it.

TRY
elif kill -0 $gateway 2>/dev/null; then
    echo "error: the gateway is not ready: $(curl -sS "http://$management/probes/readiness" 2>&1)" >&2
    stop
fi

# A signal interrupts `wait`; what counts is when the gateway itself has ended.
status=0
while :; do
    wait $gateway && status=0 || status=$?
    kill -0 $gateway 2>/dev/null || break
done
[[ $ready ]] || [[ $status -ne 0 ]] || status=1
exit $status
