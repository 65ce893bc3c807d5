//! The TLS handshake of a client's connection, before anything is read of it.
//!
//! A port that is served with TLS answers nothing without it; a client that speaks plain HTTP there is told so.

use std::{rc::Rc, sync::Arc};

use rustls::{ProtocolVersion, server::UnbufferedServerConnection};

use super::{
    client::Client,
    connection::{LINGER, read_on},
    respond,
};
use crate::{
    config::settings::ServerHeader,
    http::{authority::host, head::RequestHead},
    net::{
        Buffer, Stream,
        deadline::Expired,
        tls::{Facts, HandshakeError, Side},
    },
    proxy::reject,
    telemetry::core::CoreTelemetry,
    tls::{Identity, ServerContext, Table, certificate::Shown},
};

/// What the handshake has settled, for as long as the connection lives.
pub struct Secured {
    pub facts: Facts,
    pub context: Arc<ServerContext>,
    /// Which certificate this client was shown.
    pub shown: Shown,
    /// Whom its own, verified certificate names.
    pub client: Option<Identity>,
}

impl Secured {
    pub fn certificates(&self) -> Certificates<'_> {
        Certificates { table: &self.context.table, shown: self.shown }
    }
}

/// The certificates of a port, and which of them a client was shown.
pub struct Certificates<'a> {
    pub table: &'a Table,
    pub shown: Shown,
}

impl Certificates<'_> {
    /// Whether such a client may ask for an authority, with a port or without.
    pub fn may_ask(&self, authority: &[u8]) -> bool {
        self.table.certificates().len() < 2 || self.table.may_ask(self.shown, &host(authority))
    }
}

/// Secures a connection before anything is read of it. `None`: there is none any more.
pub async fn secure(client: &Client, stream: &mut Stream, context: Arc<ServerContext>) -> Option<Rc<Secured>> {
    let Client { core, listener, peer, deadline, .. } = client;
    let (timeout, limits) = {
        let settings = &client.serving().snapshot.settings;
        (settings.timeouts.tls_handshake, settings.limits.clone())
    };
    deadline.set(timeout);
    let telemetry = &core.telemetry;
    let _counted = UnderWay::new(telemetry);
    let (inside_max, waiting_max) = (limits.tls_handshakes_per_core, limits.tls_handshakes_waiting_per_core);
    let inside = match deadline.guard(core.handshakes.enter(inside_max, waiting_max)).await {
        Ok(Some(inside)) => inside,
        Ok(None) => {
            telemetry.tls_handshakes.increment("limit");
            return None;
        }
        Err(Expired) => {
            telemetry.tls_handshakes.increment("timeout");
            return None;
        }
    };
    let server = match UnbufferedServerConnection::new(context.config.clone()) {
        Ok(server) => Side::Server(Box::new(server)),
        Err(error) => {
            tracing::error!("{}: no handshake is possible: {error}", listener.address);
            return None;
        }
    };
    let mut shown = None;
    let after_step = |version: Option<ProtocolVersion>| {
        shown = Table::take_shown().or(shown);
        match version {
            Some(ProtocolVersion::TLSv1_2) if context.speaks_13 && shown.is_some_and(|shown| shown.is_fallback) => {
                Err(HandshakeError::Fallback)
            }
            _ => Ok(()),
        }
    };
    let done = deadline.guard(stream.secure(server, after_step)).await;
    // Who lingers is no handshake any more.
    drop(inside);
    let reason = match done {
        Ok(Ok((facts, certificate))) => {
            telemetry.tls_handshakes.increment(if facts.resumed { "resumed" } else { "full" });
            let shown = shown.unwrap_or_default();
            return Some(Rc::new(Secured {
                facts,
                context,
                shown,
                client: certificate.map(|certificate| Identity::of(&certificate)),
            }));
        }
        Ok(Err(error)) => {
            deadline.set(Some(LINGER));
            let plain = matches!(error, HandshakeError::NotTls) && stream.receiver.buffered()[0].is_ascii_uppercase();
            let words = plain.then(|| {
                let answer = reject::plain_on_tls();
                core.with_date(|date| respond::minimal(&answer, date, &ServerHeader::None, &RequestHead::default()))
            });
            let _ = deadline.guard(say_why(stream, words)).await;
            tracing::debug!("{peer} at {}: {error}", listener.address);
            error.label()
        }
        Err(Expired) => "timeout",
    };
    telemetry.tls_handshakes.increment(reason);
    None
}

/// A handshake that has begun, for as long as it lives.
struct UnderWay<'t>(&'t CoreTelemetry);

impl<'t> UnderWay<'t> {
    fn new(telemetry: &'t CoreTelemetry) -> Self {
        telemetry.tls_handshakes_open.increment();
        Self(telemetry)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.tls_handshakes_open.decrement();
    }
}

/// Lets a client hear why it was refused: an alert, which it has been sent, or words where it speaks HTTP without TLS. One
/// that is still sending would lose both to a reset.
async fn say_why(stream: &mut Stream, words: Option<Buffer>) {
    if let Some(out) = words
        && stream.sender.send(out).await.0.is_err()
    {
        return;
    }
    stream.sender.finish();
    read_on(&mut stream.receiver).await;
}
