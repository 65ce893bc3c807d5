//! A way through a forward proxy.

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    Stream,
    dial::{secured, speaking},
};
use crate::{
    calls::{
        ProxyServer,
        forward_proxy::{self, Opening, malformed},
    },
    document::address::Endpoint,
    telemetry::fault::Fault,
};

/// On a new connection to the proxy: secured, where it is spoken with over https.
pub async fn begin(stream: TcpStream, proxy: &ProxyServer) -> Result<Box<dyn Stream>, Fault> {
    let Some(tls) = &proxy.tls else { return Ok(Box::new(stream)) };
    let secured = secured(&speaking(tls, Some(b"http/1.1")), tls, stream).await;
    Ok(Box::new(secured.map_err(|fault| Fault { reason: forward_proxy::TLS, ..fault })?))
}

/// As [`open`], to an end that waits until it is spoken to.
pub async fn open_silent(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ProxyServer,
    to: &Endpoint,
) -> Result<(), Fault> {
    match open(stream, proxy, to).await?.is_empty() {
        true => Ok(()),
        false => Err(spoke_unasked()),
    }
}

/// From here on the stream is one to the other end, which may have spoken already: what it has said comes back.
pub async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ProxyServer,
    to: &Endpoint,
) -> Result<Vec<u8>, Fault> {
    // Who closes may have answered first.
    let sent = stream.write_all(proxy.connect(to).as_bytes()).await;
    let (mut opening, mut input) = (Opening::default(), Vec::with_capacity(1024));
    loop {
        if let Some(taken) = opening.read(&input)? {
            sent.map_err(|error| malformed(&error.to_string()))?;
            return Ok(input.split_off(taken));
        }
        match stream.read_buf(&mut input).await {
            Ok(0) => return Err(malformed("closed before its answer")),
            Ok(_) => {}
            Err(error) => return Err(malformed(&error.to_string())),
        }
    }
}

/// Who is behind a new way has said something that it could not know to say.
pub fn spoke_unasked() -> Fault {
    malformed("bytes behind its answer")
}
