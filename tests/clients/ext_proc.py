"""One external processor, asked by several gateways about the same exchanges: ext_proc.py PROCESSOR UPSTREAM NAME:PORT:PORT...

Ports of the processor, of the upstream, and of each gateway: one API for each of MODES, in that order. Processor and upstream are
in this process, and play the exchange that is under way. What the client sees, what the upstream sees and what the processor is
sent must be the same behind each gateway.
"""

import socket
import sys
import threading
from concurrent import futures

import grpc

# The APIs, as clients.rs configures them.
MODES = ["headers", "buffered", "streamed", "partial", "allowing", "bodies"]

# What each gateway adds of its own, and what frames a message.
OWN = {"x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-service-time", "x-envoy-internal", "x-envoy-attempt-count"}
OWN |= {"x-envoy-external-address", "x-request-id", "x-forwarded-proto", "x-forwarded-for", "server", "date", "host", ":authority"}
OWN |= {"connection", "transfer-encoding", "te", "trailer"}

KINDS = {2: "request headers", 3: "response headers", 4: "request body", 5: "response body", 6: "request trailers"}
KINDS[7] = "response trailers"
REPLIES = {"request headers": 1, "response headers": 2, "request body": 3, "response body": 4, "request trailers": 5}
REPLIES["response trailers"] = 6


def varint(number):
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def part(number, value):
    """A field: of bytes or text with their length, or a number."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def parts(message):
    """The fields of a message."""
    at = 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        tag = number()
        if tag & 7 == 0:
            yield tag >> 3, number()
        else:
            length = number()
            yield tag >> 3, message[at : at + length]
            at += length


def find(message, *path):
    for number in path:
        message = next((value for found, value in parts(message) if found == number), b"")
    return message


def lines_of(headers):
    """Of a HeaderMap, without what differs for good."""
    lines = []
    for _, line in parts(headers):
        name, value = find(line, 1).decode(), find(line, 2) + find(line, 3)
        if name not in OWN:
            lines.append((name, value.decode()))
    return sorted(lines)


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        return grpc.stream_stream_rpc_method_handler(self.process)

    def process(self, requests, context):
        replies, told = exchange["replies"], exchange["told"]
        for request in requests:
            number, message = next((number, value) for number, value in parts(request) if number in KINDS)
            kind = KINDS[number]
            if kind.endswith("body"):
                body, is_last = find(message, 1), find(message, 2) == 1
                joined = told.setdefault(kind, [b"", False])
                joined[0] += body
                joined[1] |= is_last
            else:
                body, is_last = b"", kind.endswith("headers") and find(message, 3) == 1
                told[kind] = [lines_of(find(message, 1)), is_last]
            reply = replies.get(kind, part(REPLIES[kind], b""))
            if callable(reply):
                reply = reply(body, is_last)
            for said in reply if isinstance(reply, list) else [reply]:
                if said == "close":
                    return
                if said == "late":
                    exchange["over"].wait(20)
                    return
                if isinstance(said, tuple):
                    context.abort(next(code for code in grpc.StatusCode if code.value[0] == said[1]), "no")
                yield said


def read_head(stream):
    start = stream.readline().decode("latin-1").rstrip("\r\n")
    lines = []
    while True:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return start, lines
        name, _, value = line.partition(":")
        lines.append((name.lower(), value.strip()))


def read_body(stream, lines, until_close):
    """The body, its trailers, and whether it was whole."""
    fields = dict(lines)
    if fields.get("transfer-encoding") == "chunked":
        body = b""
        while True:
            size = stream.readline().strip()
            if not size:
                return body, [], False
            size = int(size, 16)
            if not size:
                return body, sorted(read_head_lines(stream)), True
            piece = stream.read(size)
            body += piece
            if len(piece) < size:
                return body, [], False
            stream.readline()
    if "content-length" in fields:
        length = int(fields["content-length"])
        body = stream.read(length)
        return body, [], len(body) == length
    return (stream.read() if until_close else b""), [], True


def read_head_lines(stream):
    lines = []
    while True:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        if not line:
            return lines
        name, _, value = line.partition(":")
        lines.append((name.lower(), value.strip()))


def framed(body, chunked, trailers):
    """Lines that frame a body, and its bytes."""
    if not chunked and body is None:
        return [], b""
    if not chunked:
        return [("content-length", str(len(body)))], body
    chunks = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
    out = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    end = "".join(f"{name}: {value}\r\n" for name, value in trailers).encode()
    return [("transfer-encoding", "chunked")], out + b"0\r\n" + end + b"\r\n"


def serve_upstream(port):
    listener = socket.create_server(("127.0.0.1", int(port)), backlog=64)

    def connection(client):
        stream = client.makefile("rb")
        while True:
            try:
                start, lines = read_head(stream)
            except OSError:
                start = ""
            if not start:
                return client.close()
            body, trailers, whole = read_body(stream, lines, False)
            method, path, _ = start.split(" ")
            kept = sorted((name, value) for name, value in lines if name not in OWN and name != "content-length")
            exchange["upstream"] = [method, path, kept, body, trailers, whole]
            if not whole:
                return client.close()
            status, lines, body, chunked, trailers = exchange["answer"]
            framing, payload = framed(body, chunked, trailers)
            head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines + framing)
            try:
                client.sendall(head.encode() + b"\r\n" + (b"" if method == "HEAD" else payload))
            except OSError:
                return client.close()

    def accept():
        while True:
            threading.Thread(target=connection, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def ask(port, request):
    method, path, lines, body, chunked, trailers = request
    framing, payload = framed(body, chunked, trailers)
    client = socket.create_connection(("127.0.0.1", int(port)), timeout=20)
    head = f"{method} {path} HTTP/1.1\r\nhost: api.test\r\nte: trailers\r\nconnection: te\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines + framing)

    def send():
        try:
            client.sendall(head.encode() + b"\r\n" + payload)
        except OSError:
            pass

    threading.Thread(target=send, daemon=True).start()
    stream = client.makefile("rb")
    try:
        start, lines = read_head(stream)
        has_none = method == "HEAD" or start.split(" ")[1] in ("204", "304")
        said, trailers, whole = (b"", [], True) if has_none else read_body(stream, lines, True)
    except OSError:
        start, lines, said, trailers, whole = "reset", [], b"", [], False
    client.close()
    status = start.split(" ")[1] if " " in start else start
    kept = sorted((name, value) for name, value in lines if name not in OWN and name != "content-length")
    return {"status": status, "headers": kept, "body": said if whole else "cut", "trailers": trailers}


# What a processor says.


def line(key, value, action=None, append=None):
    out = part(1, part(1, key) + part(3, value))
    if append is not None:
        out += part(2, part(1, 1) if append else b"")
    return out + (part(3, action) if action is not None else b"")


def mutation(*lines, remove=()):
    return b"".join(part(1, one) for one in lines) + b"".join(part(2, name) for name in remove)


def common(headers=None, body=None, clear=False, status=None):
    out = part(1, status) if status is not None else b""
    out += part(2, headers) if headers is not None else b""
    if body is not None:
        out += part(3, part(1, body))
    return out + (part(3, part(2, 1)) if clear else b"")


def say(kind, message, mode=None, more=b""):
    return part(REPLIES[kind], part(1, message)) + (part(9, mode) if mode is not None else b"") + more


def trailers(kind, message):
    return part(REPLIES[kind], part(1, message))


def immediate(status=None, headers=None, body=None, grpc_status=None, details=None):
    out = part(1, part(1, status)) if status is not None else b""
    out += part(2, headers) if headers is not None else b""
    out += part(3, body) if body is not None else b""
    out += part(4, part(1, grpc_status)) if grpc_status is not None else b""
    return part(7, out + (part(5, details) if details else b""))


def modes(request_header=0, response_header=0, request_body=0, response_body=0, request_trailer=0, response_trailer=0):
    values = [request_header, response_header, request_body, response_body, request_trailer, response_trailer]
    return b"".join(part(at + 1, value) for at, value in enumerate(values) if value)


def upper(kind):
    return lambda body, _: say(kind, common(body=body.upper()))


def at_end(kind, more):
    return lambda body, is_last: say(kind, common(body=body + more if is_last else body))


QH, SH, QB, SB, QT, ST = REPLIES
LINES = [("x-old", "before"), ("x-other", "kept")]
GET = ("GET", "/a/b?x=1&y=2", LINES, None, False, [])
POST = ("POST", "/p", LINES, b"payload", False, [])
CHUNKED = ("POST", "/p", LINES, b"payload", True, [])
TRAILED = ("POST", "/p", LINES, b"payload", True, [("x-end", "1"), ("x-gone", "1")])
LARGE = ("POST", "/p", LINES, b"large " * 20_000, False, [])
HUGE = ("POST", "/p", LINES, b"huge " * 600_000, False, [])
EMPTY = ("POST", "/p", LINES, b"", True, [])
HEAD = ("HEAD", "/h", LINES, None, False, [])
SAID = [("content-type", "text/plain"), ("x-from", "upstream"), ("x-twice", "a"), ("x-twice", "b")]
OK = (200, SAID, b"here", False, [])
OK_CHUNKED = (200, SAID, b"here", True, [])
OK_TRAILED = (200, SAID, b"here", True, [("x-end", "1")])
OK_LARGE = (200, SAID, b"there " * 20_000, False, [])
NOTHING = (204, [], None, False, [])
NO_LENGTH = mutation(remove=["content-length"])

TABLE = {}


def add(name, mode, replies, request=GET, answer=OK):
    TABLE[f"{mode}: {name}"] = (mode, replies, request, answer)


for where, of in [("request", QH), ("response", SH)]:
    for name, one in {
        "set": line("x-new", "1"),
        "over an old one": line("x-old", "after"),
        "append said true": line("x-old", "after", append=True),
        "append said false": line("x-old", "after", append=False),
        "append if exists or add": line("x-old", "after", action=0),
        "add if absent, absent": line("x-new", "1", action=1),
        "add if absent, there": line("x-old", "after", action=1),
        "overwrite or add, absent": line("x-new", "1", action=2),
        "overwrite or add, there": line("x-old", "after", action=2),
        "overwrite if exists, absent": line("x-new", "1", action=3),
        "overwrite if exists, there": line("x-old", "after", action=3),
        "an upper-case name": line("X-New", "1"),
        "an empty value": line("x-new", ""),
        "x-envoy": line("x-envoy-new", "1"),
        "host": line("host", "other", action=2),
        "scheme": line(":scheme", "https", action=2),
        "method": line(":method", "PUT", action=2),
    }.items():
        answer = (200, SAID + [("x-old", "before")], b"here", False, [])
        add(f"{where} header: {name}", "headers", {of: say(of, common(mutation(one)))}, answer=answer)
    add(f"{where} headers removed", "headers", {of: say(of, common(mutation(remove=["x-old", "X-From", "host", ":path"])))})
    add(f"{where} headers set and removed", "headers", {of: say(of, common(mutation(line("x-old", "1"), remove=["x-old"])))})
    add(f"{where} headers: an odd value", "headers", {of: say(of, common(mutation(line("x-new", "a\r\nb"))))})
    add(f"{where} headers: an odd name", "headers", {of: say(of, common(mutation(line("x new", "a"))))})
    add(f"{where} headers: an odd name removed", "headers", {of: say(of, common(mutation(remove=["x new"])))})
    add(f"{where} headers: an answer of its own", "headers", {of: immediate(403, mutation(line("x-why", "no")), "no")})
    add(f"{where} headers: it closes", "headers", {of: "close"})
    add(f"{where} headers: it fails", "headers", {of: ("abort", 14)})
    add(f"{where} headers: it fails, allowed", "allowing", {of: ("abort", 14)})
    add(f"{where} headers: late", "headers", {of: "late"})
    add(f"{where} headers: late, allowed", "allowing", {of: "late"})
    add(f"{where} headers: a message that says nothing", "headers", {of: b""})
    add(f"{where} headers: a reply to something else", "headers", {of: part(5, b"")})
    add(f"{where} headers: a reply to something else, allowed", "allowing", {of: part(5, b"")})
add("path", "headers", {QH: say(QH, common(mutation(line(":path", "/other?z=9", action=2))))})
add("status", "headers", {SH: say(SH, common(mutation(line(":status", "418", action=2))))})
add("status that is none", "headers", {SH: say(SH, common(mutation(line(":status", "abc", action=2))))})
add("status below 200", "headers", {SH: say(SH, common(mutation(line(":status", "101", action=2))))})
add("nothing to say", "headers", {}, POST)
add("HEAD", "headers", {}, HEAD)
add("a response without a body", "headers", {}, GET, NOTHING)
for name, said in {
    "nothing": immediate(),
    "a status": immediate(401),
    "a status that is none": immediate(99),
    "a body": immediate(403, None, "no"),
    "a type": immediate(403, mutation(line("content-type", "application/json")), "{}"),
    "a redirect": immediate(302, mutation(line("location", "/login"))),
    "headers removed": immediate(403, mutation(remove=["content-type"]), "no"),
    "an odd header": immediate(403, mutation(line("x-a", "a\nb")), "no"),
    "details": immediate(429, None, "slow", None, "too many"),
    "a status of gRPC for one who calls by HTTP": immediate(403, None, "no", 7),
    "503": immediate(503, None, "away"),
}.items():
    add(f"an answer of its own: {name}", "headers", {QH: said})
add("an answer of its own to POST", "headers", {QH: immediate(403, None, "no")}, POST)
add("an answer of its own to HEAD", "headers", {QH: immediate(403, None, "no")}, HEAD)

for mode in ["buffered", "streamed", "partial"]:
    for name, request, answer in [
        ("no body", GET, NOTHING),
        ("of known length", POST, OK),
        ("in chunks", CHUNKED, OK_CHUNKED),
        ("large", LARGE, OK_LARGE),
        ("empty", EMPTY, (200, SAID, b"", True, [])),
        ("with trailers", TRAILED, OK_TRAILED),
        ("to HEAD", HEAD, OK),
    ]:
        add(f"bodies {name}", mode, {}, request, answer)
        free = {QH: say(QH, common(NO_LENGTH)), SH: say(SH, common(NO_LENGTH))}
        add(f"bodies {name}, changed", mode, free | {QB: upper(QB), SB: upper(SB)}, request, answer)
        add(f"bodies {name}, longer", mode, free | {QB: at_end(QB, b" and more"), SB: at_end(SB, b" and more")}, request, answer)
        add(
            f"bodies {name}, cleared",
            mode,
            free | {QB: say(QB, common(clear=True)), SB: say(SB, common(clear=True))},
            request,
            answer,
        )
    add("trailers changed", mode, {
        QT: trailers(QT, mutation(line("x-end", "2", action=2), line("x-new", "1"), remove=["x-gone"])),
        ST: trailers(ST, mutation(line("x-end", "2", action=2), line("x-new", "1"))),
    }, TRAILED, OK_TRAILED)
    add("an answer of its own to the request's body", mode, {QB: immediate(422, None, "no")}, POST)
    add("it closes at the request's body", mode, {QB: "close"}, POST)
    add("it closes at the response's body", mode, {SB: "close"}, POST)
    add("it fails at the request's body", mode, {QB: ("abort", 13)}, POST)
    add("the request's body late", mode, {QB: "late"}, POST)
    add("the request replaced", mode, {QH: say(QH, common(body="instead", status=1))}, POST)
    add("the request replaced, empty", mode, {QH: say(QH, common(clear=True, status=1))}, POST)
    add("a request given a body", mode, {QH: say(QH, common(mutation(line(":method", "POST", action=2)), body="new", status=1))})
    add("the response replaced", mode, {SH: say(SH, common(body="instead", status=1))}, POST)
    add("a response replaced whose body is large", mode, {SH: say(SH, common(body="instead", status=1))}, GET, OK_LARGE)
    add("headers alone, and no more asked", mode, {QH: say(QH, common(status=1)), SH: say(SH, common(status=1))}, POST)
add("the response's body fails", "buffered", {SB: ("abort", 13)}, POST)
add("an answer of its own to the response's body", "buffered", {SB: immediate(502, None, "no")}, POST)
add("the response's body fails", "streamed", {SB: ("abort", 13)}, POST)
add("an answer of its own to the response's body", "streamed", {SB: immediate(502, None, "no")}, POST)
add("a length that is left", "buffered", {QB: upper(QB)}, POST)
add("a length that is left and wrong", "buffered", {QB: at_end(QB, b"!")}, POST)
add("a length that is left and wrong, of a response", "buffered", {SB: at_end(SB, b"!")}, POST)
add("a length that is set", "buffered", {
    QH: say(QH, common(mutation(line("content-length", "8", action=2)))), QB: at_end(QB, b"!"),
}, POST)
add("headers by the body", "buffered", {
    QB: say(QB, common(mutation(line("x-old", "body", action=2)))), SB: say(SB, common(mutation(line("x-from", "body", action=2)))),
}, POST)
add("headers by a piece", "streamed", {QB: say(QB, common(mutation(line("x-old", "body", action=2))))}, POST)
add("more than may be read, of a request", "partial", {}, HUGE)
add("a beginning, of a request", "partial", {QB: lambda body, _: say(QB, common(body=b"begun"))}, CHUNKED)
add("as much as there is", "streamed", {QB: upper(QB)}, HUGE)
for name, mode, request, answer in [
    ("buffered", modes(request_body=2, response_body=2), POST, OK),
    ("streamed", modes(request_body=1, response_body=1), POST, OK),
    ("partial", modes(request_body=3, response_body=3), POST, OK),
    ("with trailers", modes(request_trailer=1, response_trailer=1), TRAILED, OK_TRAILED),
    ("no response headers", modes(response_header=2), POST, OK),
    ("nothing more", modes(response_header=2, request_header=2), POST, OK),
]:
    free = say(QH, common(NO_LENGTH), mode)
    replies = {QH: free, SH: say(SH, common(NO_LENGTH)), QB: upper(QB), SB: upper(SB)}
    add(f"other modes: {name}", "headers", replies, request, answer)
    add(f"other modes that may not be: {name}", "bodies", {QB: say(QB, common(), mode)}, request, answer)
add("other modes of the response", "headers", {SH: say(SH, common(NO_LENGTH), modes(response_body=2)), SB: upper(SB)}, POST)
add("nothing more of a body", "buffered", {QH: say(QH, common(), modes())}, POST)
add("bodies alone", "bodies", {QB: upper(QB), SB: upper(SB)}, POST)
add("bodies alone, none", "bodies", {}, GET, NOTHING)
add("more time, not allowed", "headers", {QH: [part(10, part(1, 5)), "late"]})
add("an upstream's failure", "headers", {SH: say(SH, common(mutation(line("x-seen", "1"))))}, GET, (503, SAID, b"away", False, []))

# Known differences: a reply that is late fails the exchange, which is 500 here; Envoy has 504. How much is read ahead of a body
# is each gateway's to say.
LATE = "504"
DIFFERS = {"partial: more than may be read, of a request": "request body"}


def main():
    processor, upstream, *gateways = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(32))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{processor}")
    server.start()
    serve_upstream(upstream)
    differing = 0
    for name, (mode, replies, request, answer) in TABLE.items():
        said = {}
        for gateway in gateways:
            who, *ports = gateway.split(":")
            exchange.update(replies=replies, told={}, answer=answer, upstream=None, over=threading.Event())
            seen = ask(ports[MODES.index(mode)], request)
            exchange["over"].set()
            if seen["status"] == LATE and "late" in str(replies):
                seen["status"] = "500"
            said[who] = seen | {"upstream": exchange["upstream"]}
            for kind in KINDS.values():
                said[who][kind] = exchange["told"].get(kind)
        first, *others = said.values()
        for key in first.keys() - {DIFFERS.get(name)}:
            if any(one[key] != first[key] for one in others):
                differing += 1
                print(f"{name}: {key}")
                for who, one in said.items():
                    print(f"    {who}: {str(one[key])[:300]}")
    print(f"{len(TABLE)} exchanges" + (": all calls are right" if not differing else f", {differing} differ"))


exchange = {}
main()
