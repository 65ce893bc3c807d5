#!/usr/bin/env bash
# Plays the public HTTP cache tests (https://cache-tests.fyi) against a gateway: scripts/cache-tests.sh BINARY [TEST-ID]
#
# They are installed from npm below target/. Prints how many of the required and of the optimal tests pass, and which required ones
# do not; with an id, what was sent and received for that one.
set -euo pipefail
binary=$(realpath "$1") id=${2:-}
root=$(cd "$(dirname "$0")/.." && pwd)
directory=$root/target/cache-tests
suite=$directory/node_modules/http-cache-tests
mkdir -p "$directory"
[[ -e $suite ]] || npm install --silent --no-audit --no-fund --prefix "$directory" http-cache-tests >&2

free() { node -e 'const s=require("net").createServer().listen(0,"127.0.0.1",()=>{console.log(s.address().port);s.close()})'; }
origin=$(free) port=$(free) management=$(free)
cat >"$directory/gateway.yaml" <<YAML
apiVersion: gateway.mulesoft.com/v1alpha1
kind: ApiInstance
metadata: {name: cache-tests}
spec:
  address: http://127.0.0.1:$port
  services: {origin: {address: "http://127.0.0.1:$origin"}}
  policies:
    - policyRef: {name: http-caching-flex}
      config: {httpCachingKey: "#[attributes.requestUri]", responseExpression: ""}
      ringway: {assumedLifetime: none, cacheStatus: true}
YAML

export npm_config_protocol=http npm_config_port=$origin npm_config_pidfile=$directory/origin.pid
export npm_config_base=http://127.0.0.1:$port npm_config_id=$id npm_package_config_id=
cd "$suite"
node server/server.mjs >"$directory/origin.log" 2>&1 &
server=$!
"$binary" run --config "$directory/gateway.yaml" --management "127.0.0.1:$management" \
    --management-socket "$directory/management.sock" >"$directory/gateway.log" 2>&1 &
gateway=$!
trap 'kill $server $gateway 2>/dev/null || true' EXIT
for _ in $(seq 100); do
    curl --silent --fail --output /dev/null "http://127.0.0.1:$management/readyz" && break
    sleep 0.1
done
if [[ -n $id ]]; then
    node --no-warnings cli.mjs
else
    node --no-warnings cli.mjs >"$directory/results.json"
    node --no-warnings "$root/scripts/cache-tests.mjs" "$directory/results.json"
fi
