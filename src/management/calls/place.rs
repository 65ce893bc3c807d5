//! One destination: its connections that wait for the next call, its addresses, and who may go there.

use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::time::Instant;

use super::{
    client::Full,
    dial::{Dial, Stream, private, secured, speaking},
    gate::Gate,
    tunnel,
};
use crate::{
    calls::{Destination, forward_proxy, is_private},
    management::resolver::Resolve,
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// Kept for the next call, and for how long: less than most servers keep them.
const IDLE_MAX: usize = 16;
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 200;

/// Sends requests with the body of a [`Call`](crate::calls::Call).
pub type Sender = SendRequest<Full>;

pub struct Place {
    pub destination: Arc<Destination>,
    pub gate: Gate,
    dial: Dial,
    idle: Mutex<Vec<(Sender, Instant)>>,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
}

impl Place {
    pub fn new(destination: Arc<Destination>) -> Self {
        let (gate, dial) = (Gate::default(), Dial::default());
        Self { destination, gate, dial, idle: Mutex::default(), tls: OnceLock::new() }
    }

    /// A connection that has served before and is still there, as far as anybody knows.
    pub fn take_idle(&self) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_TIME_MAX);
        let ready = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.swap_remove(ready).0)
    }

    pub fn keep(&self, sender: Sender) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX && !sender.is_closed() {
            idle.push((sender, Instant::now()));
        }
    }

    /// A new connection, through the proxy where there is one, and secured.
    pub async fn connect(&self, resolver: &impl Resolve) -> Result<Sender, Fault> {
        let Destination { address, tls, proxy, .. } = &*self.destination;
        if address.secure && tls.is_none() {
            let why = self.destination.insecure.as_deref().unwrap_or("there is no way to secure it");
            return Err(Fault::new("tls", why));
        }
        let mut stream: Box<dyn Stream> = match proxy {
            None => Box::new(self.dial.dial(&address.endpoint, self.destination.is_foreign, resolver).await?),
            Some(proxy) => {
                let server = proxy.server()?;
                // The proxy looks names up itself; an address needs no looking up.
                if self.destination.is_foreign && address.endpoint.host.parse().is_ok_and(is_private) {
                    return Err(private());
                }
                let dialled = self.dial.dial(&server.address.endpoint, false, resolver).await;
                let stream = dialled.map_err(|fault| forward_proxy::unreachable(&fault.text))?;
                let mut stream = tunnel::begin(stream, server).await?;
                if address.secure {
                    tunnel::open_silent(&mut stream, server, &address.endpoint).await?;
                }
                stream
            }
        };
        if let Some(tls) = tls {
            let config = self.tls.get_or_init(|| over_http1(tls));
            stream = Box::new(secured(config, tls, stream).await?);
        }
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let opened = builder.handshake(TokioIo::new(stream)).await;
        let (sender, connection) = opened.map_err(|error| Fault::new("closed", error.to_string()))?;
        // Ends with its sender, and tells its failures there.
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// With sessions of its own.
fn over_http1(tls: &ClientContext) -> Arc<rustls::ClientConfig> {
    speaking(tls, Some(b"http/1.1"))
}
