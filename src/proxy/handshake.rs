//! The TLS handshake of a client's connection, before anything is read of it.
//!
//! A port that is served with TLS answers nothing without it; a client that speaks plain HTTP there is told so.

use std::{rc::Rc, sync::Arc};

use rustls::server::UnbufferedServerConnection;

use super::{
    client::Client,
    connection::{LINGER, read_on},
    respond,
};
use crate::{
    config::settings::ServerHeader,
    http::head::RequestHead,
    net::{
        Stream,
        tls::{Facts, HandshakeError, Side},
    },
    proxy::reject,
    tls::{ServerContext, Table, certificate::Shown},
    worker::deadline::Expired,
};

/// What the handshake has settled, for as long as the connection lives.
pub struct Secured {
    pub facts: Facts,
    pub context: Arc<ServerContext>,
    /// Which certificate this client was shown.
    pub shown: Shown,
    /// Its own, verified.
    pub client: Option<rustls::pki_types::CertificateDer<'static>>,
}

impl Secured {
    /// Whether this connection may ask for an authority, with a port or without.
    pub fn may_ask(&self, authority: &[u8]) -> bool {
        let table = &self.context.table;
        table.certificates().len() < 2 || table.may_ask(self.shown, &host(authority))
    }
}

/// The host of an authority, as certificates name it: in lower case, without brackets and port.
fn host(authority: &[u8]) -> String {
    let authority = String::from_utf8_lossy(authority).to_ascii_lowercase();
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let host = bracketed.map_or_else(|| authority.split(':').next().unwrap_or_default(), |(host, _)| host);
    host.trim_end_matches('.').to_owned()
}

/// Secures a connection before anything is read of it. `None`: there is none any more.
pub async fn secure(client: &Client, stream: &mut Stream, context: Arc<ServerContext>) -> Option<Rc<Secured>> {
    let Client { listener, peer, deadline, .. } = client;
    deadline.set(client.serving().snapshot.settings.timeouts.tls_handshake);
    let server = match UnbufferedServerConnection::new(context.config.clone()) {
        Ok(server) => Side::Server(Box::new(server)),
        Err(error) => {
            tracing::error!("{}: no handshake is possible: {error}", listener.address);
            return None;
        }
    };
    let mut shown = None;
    let after_step = || shown = Table::take_shown().or(shown);
    let reason = match deadline.guard(stream.secure(server, after_step)).await {
        Ok(Ok((facts, certificate))) => {
            let shown = shown.unwrap_or(Shown { certificate: 0, by_name: false });
            return Some(Rc::new(Secured { facts, context, shown, client: certificate }));
        }
        Ok(Err(error)) => {
            deadline.set(Some(LINGER));
            let plain = matches!(error, HandshakeError::NotTls) && stream.receiver.buffered()[0].is_ascii_uppercase();
            let _ = deadline.guard(say_why(stream, plain)).await;
            tracing::debug!("{peer} at {}: {error}", listener.address);
            error.label()
        }
        Err(Expired) => "timeout",
    };
    tracing::trace!(reason);
    None
}

/// Lets a client hear why it was refused: an alert, which it has been sent, or words where it speaks HTTP without TLS. One
/// that is still sending would lose both to a reset.
async fn say_why(stream: &mut Stream, plain: bool) {
    if plain {
        let out = respond::minimal(&reject::plain_on_tls(), None, &ServerHeader::None, &RequestHead::default());
        if stream.sender.send(out).await.0.is_err() {
            return;
        }
    }
    stream.sender.finish();
    read_on(&mut stream.receiver).await;
}
