//! Every answer that the gateway makes itself: status, body, headers, and the reason code that is also the log's flag, the
//! metric's label and the documentation's anchor.

use crate::{
    calls::forward_proxy,
    http::h1::{
        body::BodyError,
        parse::{RequestError, ResponseError},
    },
    policies::LocalResponse,
    proxy::{
        grpc,
        pool::Unavailable,
        watch::{Stalled, Waiting},
    },
};

const TEXT: &str = "text/plain; charset=UTF-8";

fn empty(status: u16, reason: &'static str) -> LocalResponse {
    LocalResponse { status, stored: None, headers: Vec::new(), body: b"".into(), content_type: None, reason }
}

fn text(status: u16, body: &'static str, reason: &'static str) -> LocalResponse {
    LocalResponse {
        status,
        stored: None,
        headers: Vec::new(),
        body: body.as_bytes().into(),
        content_type: Some(TEXT),
        reason,
    }
}

/// A head that could be read in two ways, or not at all.
pub fn bad_request(error: &RequestError) -> LocalResponse {
    empty(error.status(), error.reason())
}

/// A head of HTTP/2 that cannot be served, though it can be answered.
pub fn refused_head(status: u16, reason: &'static str) -> LocalResponse {
    empty(status, reason)
}

/// Plain HTTP at a port that is served with TLS.
pub fn plain_on_tls() -> LocalResponse {
    text(400, "this port speaks https", "plain_on_tls")
}

/// The authority is not one of those that the certificate of this connection speaks for (RFC 9110 section 15.5.20).
pub fn misdirected() -> LocalResponse {
    empty(421, "misdirected")
}

pub fn head_timeout() -> LocalResponse {
    text(408, "request head timeout", "request_head_timeout")
}

/// CONNECT: no route of ours opens tunnels (RFC 9110 section 9.3.6).
pub fn connect() -> LocalResponse {
    empty(405, "connect_refused").with_header("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
}

/// PRI: nobody's method.
pub fn reserved_method() -> LocalResponse {
    empty(400, "bad_method")
}

/// TRACE asks for its own head; a body can only be meant for somebody who reads it as the next request (RFC 9110 section
/// 9.3.8).
pub fn trace_with_body() -> LocalResponse {
    empty(400, "trace_with_body")
}

/// TRACE that is to go no further: what is asked for would be an echo of what clients keep secret.
pub fn trace() -> LocalResponse {
    empty(405, "trace_refused").with_header("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
}

/// `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7): answered here, no upstream is asked; and so is
/// one that is to go no further.
pub fn options() -> LocalResponse {
    empty(200, "").with_header("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
}

pub fn no_api() -> LocalResponse {
    empty(404, "no_api")
}

pub fn no_route() -> LocalResponse {
    empty(404, "no_route")
}

/// The route names a Service that does not exist.
pub fn no_service() -> LocalResponse {
    text(503, "no such service", "no_service")
}

/// Too many connections on this core.
pub fn too_many_connections() -> LocalResponse {
    text(503, "too many connections", "connection_limit")
}

pub fn unavailable(error: &Unavailable) -> LocalResponse {
    let body = match error {
        Unavailable::Overflow | Unavailable::RequestLimit => "upstream overflow",
        Unavailable::NoHealthyEndpoint => "no healthy upstream",
        Unavailable::NoWebSocket => "upstream without websockets",
        _ => "upstream connect error",
    };
    // Trying again would not help.
    let is_final = match error {
        Unavailable::NoWebSocket => true,
        Unavailable::Proxy(fault) => matches!(fault.reason, forward_proxy::AUTHENTICATION | forward_proxy::MALFORMED),
        _ => false,
    };
    let status = if is_final { 502 } else { 503 };
    text(status, body, error.reason())
}

/// The upstream closed or reset the connection before its head was complete.
pub fn upstream_reset() -> LocalResponse {
    text(503, "upstream connect error", "upstream_reset")
}

/// The upstream said that it has not looked at the request, which cannot be sent again.
pub fn unprocessed() -> LocalResponse {
    text(503, "upstream connect error", "upstream_unprocessed")
}

/// The upstream's answer could be read in two ways, or not at all.
pub fn bad_response(error: &ResponseError) -> LocalResponse {
    text(502, "bad upstream response", error.reason())
}

/// The upstream's body broke its framing, or ended early, before the client had been sent anything.
pub fn bad_response_body(reason: &'static str) -> LocalResponse {
    text(502, "bad upstream response", reason)
}

/// The client's body broke its framing before the upstream had answered.
pub fn bad_body(error: &BodyError) -> LocalResponse {
    empty(error.status(), error.reason())
}

/// A policy has to read the body, which is larger than one may be that is kept.
pub fn body_too_large() -> LocalResponse {
    text(413, "request body too large", "body_too_large")
}

/// A policy has to read a body, and the core keeps as much of bodies as it may.
pub fn no_body_memory() -> LocalResponse {
    text(503, "no memory for the body", "body_memory")
}

/// The time that a gRPC client gives its call is over.
pub fn grpc_timeout() -> LocalResponse {
    text(504, "call timeout", grpc::TIMEOUT)
}

pub fn stalled(stalled: Stalled) -> LocalResponse {
    match stalled {
        Stalled::TimedOut(Waiting::ClientBody) => text(408, "request body timeout", "request_body_timeout"),
        Stalled::TimedOut(Waiting::Response) => text(504, "upstream request timeout", "upstream_response_timeout"),
        Stalled::TimedOut(
            Waiting::ResponseIdle | Waiting::Upstream | Waiting::ReadAhead | Waiting::ClientWindow | Waiting::Tunnel,
        ) => text(504, "stream timeout", "stream_idle_timeout"),
        Stalled::TimedOut(Waiting::Policy) => grpc_timeout(),
        // Nobody will read it; the log and the metrics do (nginx's 499).
        Stalled::ClientGone => empty(499, "client_gone"),
        Stalled::Drained => text(503, "the listener is gone", "drained"),
    }
}
