//! New connections to one place: its addresses, as long as DNS says that they are good, and TLS on top.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::Instant,
};
use tokio_rustls::TlsConnector;

use crate::{
    calls::is_private,
    document::address::Endpoint,
    management::{
        health::{connect, insecure},
        resolver::Resolve,
        within::within,
    },
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// Of one address.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_secs(300);

pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// What is known of one place's name.
#[derive(Default)]
pub struct Dial {
    /// Held while the name is asked for: whoever else needs it waits for that answer.
    resolved: tokio::sync::Mutex<Option<(Vec<IpAddr>, Instant)>>,
}

impl Dial {
    /// The first of its addresses that takes a connection; where it `is_foreign`, of those in public networks.
    pub async fn dial(
        &self,
        endpoint: &Endpoint,
        is_foreign: bool,
        resolver: &impl Resolve,
    ) -> Result<TcpStream, Fault> {
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

pub fn private() -> Fault {
    Fault::new("private_address", "an address of no public network, named by somebody outside")
}

/// With sessions of its own; `protocol` is what is spoken over it, where that has a name (RFC 7301).
pub fn speaking(tls: &ClientContext, protocol: Option<&[u8]>) -> Arc<rustls::ClientConfig> {
    let mut config = (*tls.of_core()).clone();
    config.alpn_protocols = protocol.into_iter().map(<[u8]>::to_vec).collect();
    Arc::new(config)
}

pub async fn secured<S: Stream>(
    config: &Arc<rustls::ClientConfig>,
    tls: &ClientContext,
    stream: S,
) -> Result<tokio_rustls::client::TlsStream<S>, Fault> {
    TlsConnector::from(config.clone()).connect(tls.name.clone(), stream).await.map_err(insecure)
}
