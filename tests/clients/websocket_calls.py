"""Python's websockets over TLS and without: websocket_calls.py UPSTREAM_PORT GATEWAY_PORT SECURE_PORT AUTHORITY. The server
is in this process, and says everything back. All in one thread: two threads that read and write one TLS socket, as this
library's other client has them, lose writes."""

import asyncio
import ssl
import sys
import time

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus

closed = []


async def say_back(connection):
    try:
        async for message in connection:
            if message == "close":
                await connection.close(4001, "as you wish")
            await connection.send(message)
    except ConnectionClosed:
        pass
    closed.append(connection.close_code)


def refuse(connection, request):
    if request.path == "/refused":
        return connection.respond(403, "no\n")


async def calls(url, **options):
    async with connect(f"{url}/talk", max_size=None, compression=None, **options) as socket:
        for message in ("hello", "", "ü" * 70_000, b"", bytes(range(256)) * 8192):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["in ", "three ", "pieces"])
        assert await socket.recv() == "in three pieces"
        await (await socket.ping(b"are you there"))

        # Many on their way at a time.
        async def send():
            for i in range(500):
                await socket.send(b"%d" % i * 1000)

        sending = asyncio.create_task(send())
        for i in range(500):
            assert await socket.recv() == b"%d" % i * 1000
        await sending
        # A frame that waits for nothing is passed on at once.
        began = time.monotonic()
        for _ in range(100):
            await socket.send("now")
            await socket.recv()
        assert time.monotonic() - began < 3
        await socket.send("close")
        try:
            await socket.recv()
            raise AssertionError("it goes on")
        except ConnectionClosed as end:
            assert (end.rcvd.code, end.rcvd.reason) == (4001, "as you wish")
    async with connect(f"{url}/talk", **options) as socket:
        await socket.send("compressed " * 1000)
        assert await socket.recv() == "compressed " * 1000
        await socket.close(4002, "enough")
    while len(closed) < 2:
        await asyncio.sleep(0.01)
    assert closed == [4001, 4002], closed
    closed.clear()
    try:
        await connect(f"{url}/refused", **options)
        raise AssertionError("it was let in")
    except InvalidStatus as error:
        assert error.response.status_code == 403


async def main():
    upstream, plain, secure, authority = sys.argv[1:]
    async with serve(say_back, "127.0.0.1", int(upstream), process_request=refuse, max_size=None):
        await calls(f"ws://127.0.0.1:{plain}")
        context = ssl.create_default_context(cafile=authority)
        await calls(f"wss://127.0.0.1:{secure}", ssl=context)
    print("all calls are right")


asyncio.run(asyncio.wait_for(main(), 60))
