//! Ahead of TLS and HTTP: who the client is, where a load balancer in front says so with a PROXY protocol header.
//!
//! From here on the address in the header is the client's, for everything: trust in `x-forwarded-*`, policies, logs. What a
//! client sends behind the balancer's header is the client's own word, so it is believed as much as that client is.

use std::net::SocketAddr;

use super::connection::Connection;
use crate::{
    net::{
        buffer::SMALL_ROOM,
        proxy_protocol::{self, Addresses, HeaderError},
    },
    worker::deadline::Expired,
};

/// Reads the header and takes its addresses over. False: there was none that counts, and the connection is to be closed.
pub async fn identify(connection: &mut Connection) -> bool {
    match header(connection).await {
        Ok(Some(Addresses { source, destination })) => {
            connection.peer = SocketAddr::new(source.ip().to_canonical(), source.port());
            connection.destination = Some(Box::new(destination));
            true
        }
        Ok(None) => true,
        Err(refusal) => {
            tracing::debug!("connection from {} closed: {}", connection.peer, refusal.reason());
            connection.core.telemetry.proxy_header_refused(refusal.reason());
            false
        }
    }
}

/// Why a connection that was to begin with a header does not count.
enum Refusal {
    /// Its peer is not among those who may say who the client is.
    Unlisted,
    Bad(HeaderError),
    /// It ended within its header.
    Truncated,
    /// It ended without a byte, as those do that ask only whether somebody listens.
    Absent,
    TimedOut,
}

impl Refusal {
    fn reason(&self) -> &'static str {
        match self {
            Self::Unlisted => "proxy_header_unlisted",
            Self::Bad(error) => error.reason(),
            Self::Truncated => "proxy_header_truncated",
            Self::Absent => "proxy_header_absent",
            Self::TimedOut => "proxy_header_timeout",
        }
    }
}

async fn header(connection: &mut Connection) -> Result<Option<Addresses>, Refusal> {
    let serving = connection.serving();
    let settings = &serving.snapshot.settings;
    if !settings.proxy_protocol.from.contains(connection.peer.ip()) {
        return Err(Refusal::Unlisted);
    }
    let receiver = &mut connection.stream.receiver;
    receiver.want(SMALL_ROOM);
    connection.deadline.set(settings.timeouts.proxy_header);
    loop {
        let input = receiver.buffered();
        if let Some(header) = proxy_protocol::parse(input, settings.limits.proxy_header_bytes).map_err(Refusal::Bad)? {
            receiver.consume(header.bytes);
            return Ok(header.addresses);
        }
        let begun = !input.is_empty();
        match connection.deadline.guard(receiver.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) if begun => return Err(Refusal::Truncated),
            Ok(_) => return Err(Refusal::Absent),
            Err(Expired) => return Err(Refusal::TimedOut),
        }
    }
}
