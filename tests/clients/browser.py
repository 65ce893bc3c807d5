"""A page in Chromium that talks over a WebSocket: browser.py UPSTREAM_PORT SECURE_PORT PROFILE_FOLDER PROTOCOL. The upstream
is in this process: it serves the page, says everything back, and hears how it went."""

import subprocess
import sys
import threading

from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

PAGE = b"""<!doctype html><title>talk</title><script>
const said = ["hello", "x".repeat(100000), "end"], heard = [];
const tell = what => fetch("/told?" + encodeURIComponent(what));
const socket = new WebSocket(location.href.replace("https", "wss") + "talk");
socket.onopen = () => said.forEach(message => socket.send(message));
socket.onmessage = event => {
    heard.push(event.data);
    if (heard.length == said.length) socket.close(4003, "enough");
};
socket.onclose = event => {
    const right = JSON.stringify(heard) == JSON.stringify(said);
    tell([right, event.code, performance.getEntriesByType("navigation")[0].nextHopProtocol].join());
};
</script>"""
told, arrived = [], threading.Event()


def say_back(connection):
    for message in connection:
        connection.send(message)


def serve_page(connection, request):
    if request.headers.get("upgrade"):
        return None
    if request.path.startswith("/told?"):
        told.append(request.path[len("/told?") :])
        arrived.set()
    body = PAGE if request.path == "/" else b""
    headers = Headers({"content-type": "text/html", "content-length": str(len(body))})
    return Response(200, "OK", headers, body)


upstream, secure, folder, protocol = sys.argv[1:]
server = serve(say_back, "127.0.0.1", int(upstream), process_request=serve_page)
threading.Thread(target=server.serve_forever, daemon=True).start()
net_log = f"{folder}/net-log.json"
browser = subprocess.Popen(
    [
        "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-proxy-server",
        "--ignore-certificate-errors", f"--user-data-dir={folder}/profile", f"--log-net-log={net_log}",
        "--net-log-capture-mode=Everything", f"https://127.0.0.1:{secure}/",
    ],
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
)  # fmt: skip
try:
    assert arrived.wait(60), "the page told nothing"
finally:
    browser.terminate()
    browser.wait(20)
assert told[0] == f"true%2C4003%2C{protocol.replace('/', '%2F')}", told
# Over HTTP/2 the WebSocket is a stream of the page's own connection (RFC 8441).
with open(net_log, encoding="utf-8") as log:
    extended = ":protocol: websocket" in log.read()
assert extended == (protocol == "h2"), f"extended CONNECT: {extended}"
print("all calls are right")
