//! A way through a forward proxy: `CONNECT` (RFC 9110 section 9.3.6).

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    calls::ForwardProxy,
    document::address::Endpoint,
    http::{
        h1::parse::{HeadLimits, ResponseTo, parse_response},
        head::ResponseHead,
    },
    management::health::lost,
    telemetry::fault::Fault,
};

const HEAD: HeadLimits = HeadLimits { head_bytes: 16 << 10, header_count: 200 };

/// From here on the stream is one to the other end.
pub async fn open(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    proxy: &ForwardProxy,
    to: &Endpoint,
) -> Result<(), Fault> {
    let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n");
    if let Some(authorization) = &proxy.authorization {
        request += &format!("proxy-authorization: {authorization}\r\n");
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.map_err(lost)?;
    let (mut input, mut scanned, mut head) = (Vec::with_capacity(1024), 0, ResponseHead::default());
    loop {
        let read = parse_response(&input, &mut scanned, &HEAD, ResponseTo::Other, &mut head);
        match read.map_err(|error| proxy_fault(error.reason()))? {
            Some(taken) if (200..300).contains(&head.status) && taken == input.len() => return Ok(()),
            Some(_) if (200..300).contains(&head.status) => {
                return Err(proxy_fault("it speaks before it was asked"));
            }
            Some(_) => return Err(proxy_fault(&format!("status {}", head.status))),
            None if stream.read_buf(&mut input).await.map_err(lost)? == 0 => {
                return Err(proxy_fault("closed before its answer"));
            }
            None => {}
        }
    }
}

fn proxy_fault(what: &str) -> Fault {
    Fault::new("proxy_refused", format!("the forward proxy: {what}"))
}
