//! Ahead of TLS and HTTP: who the client is, where a load balancer in front says so with a PROXY protocol header.
//!
//! From here on the address in the header is the client's, for everything: trust in `x-forwarded-*`, policies, logs. What a
//! client sends behind the balancer's header is the client's own word, so it is believed as much as that client is.

use std::net::SocketAddr;

use super::{core::Core, listener::OpenListener};
use crate::{
    net::{
        Stream,
        buffer::SMALL_ROOM,
        proxy_protocol::{self, Addresses, HeaderError},
    },
    worker::deadline::{Deadline, Expired},
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
pub async fn identify(
    core: &Core,
    listener: &OpenListener,
    stream: &mut Stream,
    peer: SocketAddr,
    deadline: &Deadline,
) -> Arrival {
    match header(core, listener, stream, peer, deadline).await {
        Ok(Some(Addresses { source, destination })) => Arrival::Named(Addresses::between(source, destination)),
        Ok(None) => Arrival::Unnamed,
        Err(refusal) => {
            tracing::debug!("connection from {peer} closed: {}", refusal.reason());
            core.telemetry.proxy_header_refused(refusal.reason());
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

async fn header(
    core: &Core,
    listener: &OpenListener,
    stream: &mut Stream,
    peer: SocketAddr,
    deadline: &Deadline,
) -> Result<Option<Addresses>, Refusal> {
    let serving = listener.serving(core);
    let settings = &serving.snapshot.settings;
    if !settings.proxy_protocol.from.contains(peer.ip()) {
        return Err(Refusal::Unlisted);
    }
    let receiver = &mut stream.receiver;
    receiver.want(SMALL_ROOM);
    deadline.set(settings.timeouts.proxy_header);
    loop {
        let input = receiver.buffered();
        let parsed = proxy_protocol::parse(input, settings.limits.proxy_header_bytes);
        if let Some(header) = parsed.map_err(Refusal::Bad)? {
            receiver.consume(header.bytes);
            return Ok(header.addresses);
        }
        let begun = !input.is_empty();
        match deadline.guard(receiver.fill()).await {
            Ok(Ok(1..)) => {}
            Ok(_) if begun => return Err(Refusal::Truncated),
            Ok(_) => return Err(Refusal::Absent),
            Err(Expired) => return Err(Refusal::TimedOut),
        }
    }
}
