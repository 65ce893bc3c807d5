//! Ahead of TLS and HTTP: who the client is, where a load balancer in front says so with a PROXY protocol header.
//!
//! From here on the address in the header is the client's, for everything: trust in `x-forwarded-*`, policies, logs. What a
//! client sends behind the balancer's header is the client's own word, so it is believed as much as that client is.

use super::client::Client;
use crate::net::{
    Stream,
    buffer::SMALL_ROOM,
    deadline::Expired,
    proxy_protocol::{self, Addresses, HeaderError},
};

/// What a connection says of its client.
pub enum Arrival {
    Named(Addresses),
    /// Nothing: the client is the socket's other end.
    Unnamed,
    /// There was no header that counts, and the connection is to be closed.
    Refused,
}

/// Reads the header, and not a byte more.
pub async fn identify(client: &Client, stream: &mut Stream) -> Arrival {
    match header(client, stream).await {
        Ok(Some(Addresses { source, destination })) => Arrival::Named(Addresses::between(source, destination)),
        Ok(None) => Arrival::Unnamed,
        Err(refusal) => {
            tracing::debug!("connection from {} closed: {}", client.peer, refusal.reason());
            client.core.telemetry.proxy_headers_refused.increment(refusal.reason());
            Arrival::Refused
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

async fn header(client: &Client, stream: &mut Stream) -> Result<Option<Addresses>, Refusal> {
    let serving = client.serving();
    let settings = &serving.snapshot.settings;
    if !settings.proxy_protocol.from.contains(client.peer.ip()) {
        return Err(Refusal::Unlisted);
    }
    let receiver = &mut stream.receiver;
    receiver.want(SMALL_ROOM);
    client.deadline.set(settings.timeouts.proxy_header);
    loop {
        let input = receiver.buffered();
        let parsed = proxy_protocol::parse(input, settings.limits.proxy_header_bytes);
        if let Some(header) = parsed.map_err(Refusal::Bad)? {
            receiver.consume(header.bytes);
            return Ok(header.addresses);
        }
        let begun = !input.is_empty();
        match client.deadline.guard(receiver.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) if begun => return Err(Refusal::Truncated),
            Ok(_) => return Err(Refusal::Absent),
            Err(Expired) => return Err(Refusal::TimedOut),
        }
    }
}
