"""One authorization server, asked by several gateways about the same requests: ext_authz.py GRPC HTTP UPSTREAM NAME:PORT:PORT...

Ports of the server by gRPC and by HTTP, of the upstream, and of each gateway: its API that asks by gRPC, its API that asks by
HTTP. All three servers are in this process. A request carries the verdict that it is to have. What the client sees, what the
upstream sees and what the server is asked must be the same behind each gateway.
"""

import base64
import http.client
import http.server
import json
import sys
import threading
from concurrent import futures

import grpc

# What each gateway adds of its own.
OWN = {"x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-service-time", "x-envoy-internal", "x-envoy-attempt-count"}
OWN |= {"x-envoy-external-address", "x-request-id", "x-forwarded-proto", "x-forwarded-for", "server", "date", "host", "connection"}


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


def asked(check):
    """What a CheckRequest says of the request that is the same behind every gateway."""
    request = find(check, 1, 4, 2)
    said = {name: find(request, number) for name, number in [("method", 2), ("path", 4), ("host", 5), ("scheme", 6)]}
    said["protocol"] = find(request, 10)
    entries = [value for number, value in parts(request) if number == 3]
    headers = {find(entry, 1).decode(): find(entry, 2).decode() for entry in entries}
    said["headers"] = {name: value for name, value in headers.items() if name not in OWN}
    said["source"] = find(check, 1, 1, 1, 1, 2)
    said["has port"] = find(check, 1, 1, 1, 1, 3) != b""
    return said, headers


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        def check(request, context):
            said, headers = asked(request)
            seen["asked"] = said
            kind, _, value = headers.get("x-verdict", "").partition(" ")
            if kind == "abort":
                context.abort(grpc.StatusCode(next(c.value for c in grpc.StatusCode if c.value[0] == int(value))), "no")
            if kind == "late":
                released.wait(20)
            return base64.b64decode(value) if kind == "say" else b""

        seen["method"] = details.method
        return grpc.unary_unary_rpc_method_handler(check)


class Quiet(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def read(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def headers_seen(self):
        found = {}
        for name, value in self.headers.items():
            found.setdefault(name.lower(), []).append(value)
        return {name: values for name, values in sorted(found.items()) if name not in OWN}

    def answer(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def __getattr__(self, name):
        if name.startswith("do_"):
            return self.do
        raise AttributeError(name)


class Authorizer(Quiet):
    def do(self):
        body = self.read()
        seen["asked"] = (self.command, self.path, self.headers["host"], self.headers_seen(), body)
        verdict = json.loads(base64.b64decode(self.headers.get("x-verdict", "") or base64.b64encode(b"{}")))
        if verdict.get("late"):
            released.wait(20)
        if verdict.get("close"):
            self.close_connection = True
            return
        self.answer(verdict.get("status", 200), verdict.get("headers", []), verdict.get("body", "").encode())


class Upstream(Quiet):
    def do(self):
        body = self.read()
        seen["upstream"] = (self.command, self.path, self.headers_seen(), body)
        self.answer(200, [("x-from", "upstream"), ("x-twice", "a"), ("x-twice", "b"), ("content-type", "text/plain")], b"here")


def serve(port, handler):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), handler)
    server.daemon_threads = True
    # A gateway that has waited long enough is gone when the answer comes.
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, daemon=True).start()


def header(key, value, append=None, action=None):
    out = part(1, part(1, key) + part(2, value))
    if append is not None:
        out += part(2, part(1, 1) if append else b"")
    return out + (part(3, action) if action is not None else b"")


def status(code):
    return part(1, part(1, code) if code else b"")


def ok(headers=(), remove=(), client=(), set_query=(), remove_query=(), code=0):
    inner = b"".join(part(2, one) for one in headers) + b"".join(part(5, one) for one in remove)
    inner += b"".join(part(6, one) for one in client)
    inner += b"".join(part(7, part(1, key) + part(2, value)) for key, value in set_query)
    inner += b"".join(part(8, one) for one in remove_query)
    return status(code) + part(3, inner)


def denied(http=None, headers=(), body="", code=7):
    inner = part(1, part(1, http)) if http else b""
    inner += b"".join(part(2, one) for one in headers) + (part(3, body) if body else b"")
    return status(code) + part(2, inner)


def say(message):
    return "say " + base64.b64encode(message).decode()


def http_say(**verdict):
    return base64.b64encode(json.dumps(verdict).encode()).decode()


GET = ("GET", "/a/b?x=1&y=2", {}, b"")
QUERY = ("GET", "/q?b=1&a=2&b=3&flag&s=%20&=e&&t=", {}, b"")
WITH = {"x-old": "before", "x-other": "kept", "authorization": "Bearer t"}

BY_GRPC = {
    "allowed, nothing said": (GET, say(b"")),
    "allowed by an empty status": (GET, say(status(0))),
    "allowed with an empty ok": (GET, say(ok())),
    "denied, nothing said": (GET, say(status(7))),
    "unauthenticated, nothing said": (GET, say(status(16))),
    "denied by an odd code": (GET, say(status(99))),
    "ok and denied at once, code 0": (GET, say(status(0) + part(2, part(1, part(1, 401))))),
    "a code that denies with an ok": (GET, say(ok([header("x-a", "1")], code=7))),
}
for http_status in [200, 302, 400, 401, 403, 404, 418, 429, 500, 503]:
    BY_GRPC[f"denied with {http_status}"] = (GET, say(denied(http_status, [header("x-a", "1")], f"status {http_status}")))
for name, one in {
    "set": header("x-new", "1"),
    "set, over an old one": header("x-old", "after"),
    "append said true": header("x-new", "1", append=True),
    "append said true, to an old one": header("x-old", "after", append=True),
    "append said false": header("x-new", "1", append=False),
    "append said false, over an old one": header("x-old", "after", append=False),
    "append if exists or add": header("x-old", "after", action=0),
    "add if absent, absent": header("x-new", "1", action=1),
    "add if absent, there": header("x-old", "after", action=1),
    "overwrite or add, absent": header("x-new", "1", action=2),
    "overwrite or add, there": header("x-old", "after", action=2),
    "overwrite if exists, absent": header("x-new", "1", action=3),
    "overwrite if exists, there": header("x-old", "after", action=3),
    "an upper-case name": header("X-New", "1"),
    "an empty value": header("x-new", ""),
    "authorization": header("authorization", "Bearer other"),
}.items():
    BY_GRPC[f"request header: {name}"] = (("GET", "/", WITH, b""), say(ok([one])))
    BY_GRPC[f"denied header: {name}"] = (GET, say(denied(403, [one], "no")))
for name, one in {
    "set": header("x-new", "1"),
    "of the upstream's": header("x-from", "authorizer"),
    "append said true": header("x-from", "authorizer", append=True),
    "append said false": header("x-from", "authorizer", append=False),
    "add if absent": header("x-from", "authorizer", action=1),
    "overwrite if exists": header("x-from", "authorizer", action=3),
    "overwrite if exists, absent": header("x-new", "authorizer", action=3),
    "over two lines": header("x-twice", "c", append=False),
    "behind two lines": header("x-twice", "c", append=True),
}.items():
    BY_GRPC[f"client header: {name}"] = (GET, say(ok(client=[one])))
BY_GRPC |= {
    "two values of one name": (GET, say(ok([header("x-new", "1"), header("x-new", "2")]))),
    "two values, appended": (GET, say(ok([header("x-new", "1", append=True), header("x-new", "2", append=True)]))),
    "two client headers of one name": (GET, say(ok(client=[header("x-new", "1"), header("x-new", "2")]))),
    "two denied headers of one name": (GET, say(denied(403, [header("x-new", "1"), header("x-new", "2")]))),
    "removed": (("GET", "/", WITH, b""), say(ok(remove=["x-old", "authorization"]))),
    "removed in upper case": (("GET", "/", WITH, b""), say(ok(remove=["X-Old"]))),
    "removed and not there": (GET, say(ok(remove=["x-nobody"]))),
    "host and pseudo-headers are not removed": (GET, say(ok(remove=["host", ":path", ":method"]))),
    "set and removed": (("GET", "/", WITH, b""), say(ok([header("x-old", "after")], remove=["x-old"]))),
    "a parameter set": (GET, say(ok(set_query=[("z", "3")]))),
    "a parameter set over another": (GET, say(ok(set_query=[("x", "3")]))),
    "a parameter removed": (GET, say(ok(remove_query=["x"]))),
    "all parameters removed": (GET, say(ok(remove_query=["x", "y"]))),
    "a parameter among others": (QUERY, say(ok(set_query=[("c", "d")]))),
    "a parameter over two of its name": (QUERY, say(ok(set_query=[("b", "9")]))),
    "one of others removed": (QUERY, say(ok(remove_query=["b"]))),
    "a parameter of nothing": (QUERY, say(ok(set_query=[("c", "")]))),
    "a parameter where there is none": (("GET", "/q", {}, b""), say(ok(set_query=[("c", "d"), ("a", "b")]))),
    "set and removed parameters": (QUERY, say(ok(set_query=[("c", "d")], remove_query=["c", "a"]))),
    "a content type of its own": (GET, say(denied(403, [header("content-type", "application/json")], '{"no":1}'))),
    "a challenge": (GET, say(denied(401, [header("www-authenticate", "Basic")]))),
    "a redirect": (GET, say(denied(302, [header("location", "/login")]))),
    "a body without a status": (GET, say(denied(None, [], "no"))),
    "a long body": (GET, say(denied(403, [], "n" * 3000))),
    "POST with a body": (("POST", "/p", {"content-type": "text/plain"}, b"payload"), say(ok())),
    "POST denied": (("POST", "/p", {"content-type": "text/plain"}, b"payload"), say(denied(401, [], "no"))),
    "HEAD denied": (("HEAD", "/", {}, b""), say(denied(401, [], "no"))),
    "PUT": (("PUT", "/p", {}, b"x"), say(b"")),
    "two lines of one header": (("GET", "/", {"x-many": ["a", "b"]}, b""), say(b"")),
    "a path with escapes": (("GET", "/a%2Fb/c%20d?q=%20", {}, b""), say(b"")),
    "aborted: unavailable": (GET, "abort 14"),
    "aborted: permission denied": (GET, "abort 7"),
    "aborted: unauthenticated": (GET, "abort 16"),
    "aborted: internal": (GET, "abort 13"),
    "no message at all": (GET, say(b"\xff\xff\xff")),
    "too late": (GET, "late 0"),
}

BY_HTTP = {
    "allowed": (GET, http_say()),
    "allowed by 201 alone": (GET, http_say(status=201)),
    "allowed by 204 alone": (GET, http_say(status=204)),
    "upstream headers": (("GET", "/", WITH, b""), http_say(headers=[("x-up", "1"), ("x-old", "after"), ("x-no", "1")])),
    "upstream headers appended": (("GET", "/", {"x-app": "a"}, b""), http_say(headers=[("x-app", "b"), ("x-app", "c")])),
    "client headers on success": (GET, http_say(headers=[("x-ok", "1"), ("x-from", "authorizer"), ("x-no", "1")])),
    "headers to remove": (("GET", "/", WITH, b""), http_say(headers=[("x-envoy-auth-headers-to-remove", "x-old, authorization")])),
    "POST": (("POST", "/p", {"content-type": "text/plain"}, b"payload"), http_say()),
    "PUT denied": (("PUT", "/p", {}, b"payload"), http_say(status=401)),
    "HEAD": (("HEAD", "/", {}, b""), http_say()),
    "HEAD denied": (("HEAD", "/", {}, b""), http_say(status=401)),
    "headers that are not allowed": (("GET", "/", WITH, b""), http_say()),
    "late": (GET, http_say(late=True)),
    "closed": (GET, http_say(close=True)),
}
for http_status in [302, 400, 401, 403, 404, 429, 500, 502, 503]:
    lines = [("x-denied", "1"), ("x-no", "1"), ("www-authenticate", "Basic"), ("location", "/login"), ("content-type", "text/x")]
    BY_HTTP[f"denied with {http_status}"] = (GET, http_say(status=http_status, headers=lines, body=f"said {http_status}"))


def exchange(port, request, verdict):
    (method, path, headers, body), lines = request, []
    for name, values in headers.items():
        lines += [(name, value) for value in ([values] if isinstance(values, str) else values)]
    connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=20)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in [("host", "api.test"), ("x-verdict", verdict), *lines]:
        connection.putheader(name, value)
    if body:
        connection.putheader("content-length", str(len(body)))
    connection.endheaders(body or None)
    response = connection.getresponse()
    said = response.read()
    framing = {"transfer-encoding", "content-length"} if method == "HEAD" else set()
    fields = sorted((name.lower(), value) for name, value in response.getheaders() if name.lower() not in OWN | framing)
    connection.close()
    return {"status": response.status, "headers": fields, "body": said, **seen}


def main():
    grpc_port, http_port, upstream_port, *gateways = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers((Handler(),))
    server.add_insecure_port(f"127.0.0.1:{grpc_port}")
    server.start()
    serve(http_port, Authorizer)
    serve(upstream_port, Upstream)
    differing, all_of_them = 0, 0
    for at, table in [(1, BY_GRPC), (2, BY_HTTP)]:
        for name, (request, verdict) in table.items():
            said = {}
            for gateway in gateways:
                gateway = gateway.split(":")
                seen.clear()
                said[gateway[0]] = exchange(gateway[at], request, verdict)
            all_of_them += 1
            first, *others = said.values()
            keys = sorted({key for one in said.values() for key in one})
            for key in keys:
                if any(one.get(key) != first.get(key) for one in others):
                    differing += 1
                    print(f"{['', 'grpc', 'http'][at]}: {name}: {key}")
                    for who, one in said.items():
                        print(f"    {who}: {one.get(key)}")
    released.set()
    print(f"{all_of_them} exchanges" + (": all calls are right" if not differing else f", {differing} differ"))


seen, released = {}, threading.Event()
main()
