//! A bare TCP relay: bytes in, bytes out, nothing looked at. What it costs is the floor under every proxy.
//!
//! Each connection of a client gets one of its own to the upstream, so with a connection for each request the relay also
//! dials for each, which a proxy with a pool does not: there it is no floor.

use std::net::SocketAddr;

use anyhow::Result;
use monoio::{
    io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable},
    net::TcpStream,
};

use crate::{driver::Driver, upstream};

const BUFFER_BYTES: usize = 64 * 1024;

/// Serves until the process ends.
///
/// # Errors
/// The address cannot be bound.
pub fn serve(address: SocketAddr, upstream: SocketAddr, driver: Driver, cpu: Option<usize>) -> Result<()> {
    upstream::run(address, driver, cpu, false, async move |listener| {
        upstream::accept(listener, |client| relay(client, upstream)).await
    })
}

async fn relay(client: TcpStream, upstream: SocketAddr) {
    let Ok(server) = TcpStream::connect_addr(upstream).await else { return };
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    monoio::spawn(copy(from_client, to_server));
    copy(from_server, to_client).await;
}

/// Until the one side ends; then the other is told.
async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) {
    let mut buffer = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let result;
        (result, buffer) = from.read(buffer).await;
        if !result.is_ok_and(|received| received > 0) {
            break;
        }
        let (result, back) = to.write_all(buffer).await;
        if result.is_err() {
            break;
        }
        buffer = back;
    }
    let _ = to.shutdown().await;
}
