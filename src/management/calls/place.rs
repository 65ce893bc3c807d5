//! One destination: its connections that wait for the next call, its addresses, its circuit, and who is under way.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};
use tokio_rustls::TlsConnector;

use super::{circuit::Circuit, client::Full, tunnel};
use crate::{
    calls::{Destination, is_private},
    document::address::Endpoint,
    management::{
        health::{connect, insecure},
        resolver::Resolve,
        within::within,
    },
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// Under way at one destination, and those that wait for one of them to end.
const UNDER_WAY_MAX: usize = 64;
const WAITING_MAX: usize = 256;
/// Kept for the next call, and for how long: less than most servers keep them.
const IDLE_MAX: usize = 16;
const IDLE_TIME_MAX: Duration = Duration::from_secs(20);
/// Of one address.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);
const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 200;

/// Sends requests with the body of a [`Call`](crate::calls::Call).
pub type Sender = SendRequest<Full>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

pub struct Place {
    pub destination: Arc<Destination>,
    permits: Semaphore,
    waiting: AtomicUsize,
    circuit: Mutex<Circuit>,
    idle: Mutex<Vec<(Sender, Instant)>>,
    /// Held while a name is asked for: whoever else needs it waits for that answer.
    resolved: tokio::sync::Mutex<Option<(Vec<IpAddr>, Instant)>>,
    tls: OnceLock<Arc<rustls::ClientConfig>>,
    last_used: Mutex<Instant>,
}

impl Place {
    pub fn new(destination: Arc<Destination>) -> Self {
        Self {
            destination,
            permits: Semaphore::new(UNDER_WAY_MAX),
            waiting: AtomicUsize::new(0),
            circuit: Mutex::default(),
            idle: Mutex::default(),
            resolved: tokio::sync::Mutex::default(),
            tls: OnceLock::new(),
            last_used: Mutex::new(Instant::now()),
        }
    }

    pub fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to a call, when there is room for it.
    pub async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(turn) = self.permits.try_acquire() {
            return Ok(turn);
        }
        let _waiting = Waiting::one_of(&self.waiting)?;
        self.permits.acquire().await.map_err(|_| Fault::new("ended", "nobody calls any more"))
    }

    pub fn use_now(&self) {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub fn last_used(&self) -> Instant {
        *self.last_used.lock().unwrap_or_else(PoisonError::into_inner)
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
            None => Box::new(self.dial(&address.endpoint, self.destination.is_foreign, resolver).await?),
            Some(proxy) if proxy.address.secure && proxy.tls.is_none() => {
                return Err(Fault::new("tls", "there is no way to secure the forward proxy"));
            }
            Some(proxy) => {
                // The proxy looks names up itself; an address needs no looking up.
                if self.destination.is_foreign && address.endpoint.host.parse().is_ok_and(is_private) {
                    return Err(private());
                }
                let stream = self.dial(&proxy.address.endpoint, false, resolver).await?;
                let mut stream: Box<dyn Stream> = match &proxy.tls {
                    None => Box::new(stream),
                    Some(tls) => Box::new(secured(&over_http1(tls), tls, stream).await?),
                };
                if address.secure {
                    tunnel::open(&mut stream, proxy, &address.endpoint).await?;
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

    /// The first of its addresses that takes a connection.
    async fn dial(&self, endpoint: &Endpoint, is_foreign: bool, resolver: &impl Resolve) -> Result<TcpStream, Fault> {
        let addresses = match endpoint.host.parse() {
            Ok(address) => vec![address],
            Err(_) => self.resolve(&endpoint.host, resolver).await?,
        };
        let mut fault = Fault::new("name_unresolved", "the name has no address");
        for address in addresses {
            if is_foreign && is_private(address) {
                fault = private();
                continue;
            }
            match within(CONNECT_MAX, connect(SocketAddr::new(address, endpoint.port))).await {
                Some(Ok(stream)) => {
                    // Small requests in one piece: there is nothing to wait for.
                    let _: io::Result<()> = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Some(Err(why)) => fault = why,
                None => fault = Fault::new("timeout", format!("{address} did not answer in {CONNECT_MAX:?}")),
            }
        }
        Err(fault)
    }

    /// By the last answer while it holds; and where there is no other, by one that has run out.
    async fn resolve(&self, host: &str, resolver: &impl Resolve) -> Result<Vec<IpAddr>, Fault> {
        let mut resolved = self.resolved.lock().await;
        if let Some((addresses, until)) = &*resolved
            && *until > Instant::now()
        {
            return Ok(addresses.clone());
        }
        match resolver.resolve(host).await {
            Ok(answer) => {
                let until = Instant::now() + answer.ttl.clamp(TTL_MIN, TTL_MAX);
                *resolved = Some((answer.addresses.clone(), until));
                Ok(answer.addresses)
            }
            Err(text) => match &*resolved {
                Some((addresses, _)) => Ok(addresses.clone()),
                None => Err(Fault::new("name_unresolved", text)),
            },
        }
    }
}

/// One of those that wait for their turn.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn one_of(all: &'w AtomicUsize) -> Result<Self, Fault> {
        let waiting = Self(all);
        match all.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            true => Ok(waiting),
            false => Err(Fault::new("full", "too many calls of this destination wait for their turn")),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn private() -> Fault {
    Fault::new("private_address", "an address of no public network, named by somebody outside")
}

/// With sessions of its own.
fn over_http1(tls: &ClientContext) -> Arc<rustls::ClientConfig> {
    let mut config = (*tls.of_core()).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

async fn secured<S: Stream>(
    config: &Arc<rustls::ClientConfig>,
    tls: &ClientContext,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, Fault> {
    TlsConnector::from(config.clone()).connect(tls.name.clone(), stream).await.map_err(insecure)
}
