"""Python's httpx (and h2 below it) over TLS: http_calls.py UPSTREAM_PORT GATEWAY_PORT AUTHORITY. The upstream is in this
process, and answers each request with what it was sent."""

import asyncio
import http.server
import ssl
import sys
import threading

import httpx


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        if "chunked" in self.headers.get("transfer-encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(404 if self.path == "/none" else 200)
        self.send_header("x-path", self.path)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


def pieces():
    for i in range(50):
        yield b"%d" % (i % 10) * 4000


async def pieces_async():
    for piece in pieces():
        yield piece


async def calls(base, context, http2):
    async with httpx.AsyncClient(http2=http2, http1=not http2, verify=context, timeout=20) as client:
        got = await client.get(f"{base}/a?b=c")
        assert got.http_version == ("HTTP/2" if http2 else "HTTP/1.1"), got.http_version
        assert got.headers["x-path"] == "/a?b=c" and got.status_code == 200
        assert (await client.get(f"{base}/none")).status_code == 404
        assert (await client.head(f"{base}/a")).content == b""
        body = bytes(range(256)) * 4096
        assert (await client.post(f"{base}/whole", content=body)).content == body
        assert (await client.put(f"{base}/pieces", content=pieces_async())).content == b"".join(pieces())

        async def one(i):
            got = await client.post(f"{base}/{i}", content=b"%d" % i * 1000)
            return got.headers["x-path"] == f"/{i}" and got.content == b"%d" % i * 1000

        assert all(await asyncio.gather(*(one(i) for i in range(200))))
        # A reader that leaves in the middle; whoever comes next is served.
        for _ in range(10):
            async with client.stream("POST", f"{base}/left", content=body) as response:
                async for _ in response.aiter_raw(1000):
                    break
        assert (await client.get(f"{base}/after")).status_code == 200


server = Server(("127.0.0.1", int(sys.argv[1])), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
context = ssl.create_default_context(cafile=sys.argv[3])
for http2 in (True, False):
    asyncio.run(calls(f"https://127.0.0.1:{sys.argv[2]}", context, http2))
print("all calls are right")
