//! Why a request has no connection.

use std::io;

use crate::{net::tls::Failure, telemetry::fault::Fault};

#[derive(Debug)]
pub enum Unavailable {
    /// The name has not been resolved to any address.
    NoEndpoint,
    /// Every address fails its health check.
    NoHealthyEndpoint,
    /// Too many requests wait for a connection already.
    Overflow,
    /// As many requests are under way as may be.
    RequestLimit,
    Connect(io::Error),
    ConnectTimeout,
    /// It speaks HTTP/2, and takes no WebSockets over it (RFC 8441).
    NoWebSocket,
    /// No handshake, for this reason: the request was not looked at.
    Tls(Failure),
    /// The forward proxy has not let it through.
    Proxy(Fault),
}

impl Unavailable {
    /// The reason code of the log, the metrics and the documentation.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoEndpoint => "upstream_no_endpoint",
            Self::NoHealthyEndpoint => "upstream_unhealthy",
            Self::Overflow => "upstream_overflow",
            Self::RequestLimit => "upstream_request_limit",
            Self::ConnectTimeout => "upstream_connect_timeout",
            Self::NoWebSocket => "upstream_no_websocket",
            Self::Tls(failure) => failure.reason(),
            Self::Proxy(fault) => fault.reason,
            Self::Connect(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => "upstream_connect_refused",
                io::ErrorKind::ConnectionReset => "upstream_connect_reset",
                _ => "upstream_connect_failed",
            },
        }
    }
}
