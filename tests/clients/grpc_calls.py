"""Every kind of gRPC call through a gateway: grpc_calls.py UPSTREAM_PORT GATEWAY_PORT. The server is in this process."""

import queue
import sys
import threading
from concurrent import futures

import grpc

ended = threading.Event()


def slow(_, context):
    context.add_callback(ended.set)
    ended.wait(20)
    return b""


def fail(_, context):
    context.abort(grpc.StatusCode.NOT_FOUND, "nobody")


METHODS = {
    "/t/unary": grpc.unary_unary_rpc_method_handler(lambda request, _: request),
    "/t/upload": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
    "/t/download": grpc.unary_stream_rpc_method_handler(lambda n, _: (b"%d" % i for i in range(int(n)))),
    "/t/both": grpc.stream_stream_rpc_method_handler(lambda requests, _: (one[::-1] for one in requests)),
    "/t/fail": grpc.unary_unary_rpc_method_handler(fail),
    "/t/slow": grpc.unary_unary_rpc_method_handler(slow),
}


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return METHODS.get(details.method)


def status(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK


server = grpc.server(futures.ThreadPoolExecutor(8))
server.add_generic_rpc_handlers((Handler(),))
server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
server.start()
channel = grpc.insecure_channel(f"127.0.0.1:{sys.argv[2]}")

assert channel.unary_unary("/t/unary")(b"hello", timeout=10) == b"hello"
assert channel.stream_unary("/t/upload")(iter([b"a" * 300_000] * 4), timeout=10) == b"a" * 1_200_000
assert channel.stream_unary("/t/upload")(iter([]), timeout=10) == b""
assert list(channel.unary_stream("/t/download")(b"300", timeout=10)) == [b"%d" % i for i in range(300)]

messages = queue.Queue()
answers = channel.stream_stream("/t/both")(iter(messages.get, None), timeout=10)
for i in range(50):
    messages.put(b"ab%d" % i)
    assert next(answers) == (b"ab%d" % i)[::-1]
messages.put(None)
assert list(answers) == [] and answers.code() == grpc.StatusCode.OK

assert status(lambda: channel.unary_unary("/t/fail")(b"", timeout=10)) == grpc.StatusCode.NOT_FOUND
assert status(lambda: channel.unary_unary("/t/none")(b"", timeout=10)) == grpc.StatusCode.UNIMPLEMENTED
assert status(lambda: channel.unary_unary("/t/slow")(b"", timeout=0.3)) == grpc.StatusCode.DEADLINE_EXCEEDED
assert ended.wait(5), "the server learns that the call is over"

server.stop(0).wait()
assert status(lambda: channel.unary_unary("/t/unary")(b"", timeout=10)) == grpc.StatusCode.UNAVAILABLE
print("all calls are right")
