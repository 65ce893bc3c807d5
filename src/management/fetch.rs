//! One GET for what a policy wants, within a time and a size.
//!
//! Nothing is followed: a redirect would have somebody else say which keys count. HTTP/1.1 alone is spoken, on a connection
//! that serves no second request.

use std::{
    error::Error,
    future::{Future, poll_fn},
    io,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use hyper::{
    Request,
    body::{Body, Incoming},
    client::conn::http1,
    header,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    health::{connect, insecure, lost},
    resolver::Resolve,
};
use crate::{document::address::WebAddress, telemetry::fault::Fault, tls::ClientContext};

const HEAD_BYTES_MAX: usize = 64 << 10;
const HEADERS_MAX: usize = 200;

const USER_AGENT: &str = concat!("ringway/", env!("CARGO_PKG_VERSION"));
const ACCEPT: &str = "application/jwk-set+json, application/json";

/// What is to be fetched, and what it may cost.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub address: WebAddress,
    /// Where the address is one of https.
    pub tls: Option<Arc<ClientContext>>,
    /// Of everything together.
    pub time_max: Duration,
    pub body_bytes_max: usize,
}

impl Fetch {
    /// The body of an answer with status 200.
    pub async fn run(&self, resolver: &impl Resolve) -> Result<Vec<u8>, Fault> {
        let late = |_| Fault::new("timeout", format!("not done in {:?}", self.time_max));
        timeout(self.time_max, self.steps(resolver)).await.map_err(late)?
    }

    async fn steps(&self, resolver: &impl Resolve) -> Result<Vec<u8>, Fault> {
        let stream = self.dial(resolver).await?;
        if !self.address.secure {
            return self.ask(stream).await;
        }
        let context = self.tls.as_ref().ok_or_else(|| Fault::new("tls", "there is no way to secure it"))?;
        let mut config = (*context.for_a_check()).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(context.name.clone(), stream).await.map_err(insecure)?;
        self.ask(stream).await
    }

    /// The first of its addresses that takes a connection. One that is silent leaves the others their share of the time.
    async fn dial(&self, resolver: &impl Resolve) -> Result<TcpStream, Fault> {
        let endpoint = &self.address.endpoint;
        let addresses: Vec<IpAddr> = match endpoint.host.parse() {
            Ok(address) => vec![address],
            Err(_) => {
                let answer = resolver.resolve(&endpoint.host).await;
                answer.map_err(|text| Fault::new("name_unresolved", text))?.addresses
            }
        };
        let mut fault = Fault::new("name_unresolved", "the name has no address");
        let share = self.time_max / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        for address in addresses {
            match timeout(share, connect(SocketAddr::new(address, endpoint.port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(why)) => fault = why,
                Err(_) => fault = Fault::new("timeout", format!("{address} did not answer in {share:?}")),
            }
        }
        Err(fault)
    }

    async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> Result<Vec<u8>, Fault> {
        let mut builder = http1::Builder::new();
        builder.max_buf_size(HEAD_BYTES_MAX).max_headers(HEADERS_MAX);
        let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.map_err(|error| said(&error))?;
        let request = Request::get(&*self.address.target)
            .header(header::HOST, &*self.address.authority)
            .header(header::USER_AGENT, USER_AGENT)
            .header(header::ACCEPT, ACCEPT)
            .header(header::CONNECTION, "close")
            .body(String::new());
        let request = request.map_err(|error| Fault::new("cannot_be_sent", error.to_string()))?;
        let asking = async {
            let response = sender.send_request(request).await.map_err(|error| said(&error))?;
            match response.status().as_u16() {
                200 => read(response.into_body(), self.body_bytes_max).await,
                status @ 300..=399 => {
                    Err(Fault::new("redirect", format!("status {status}; redirects are not followed")))
                }
                status => Err(Fault::new("unexpected_status", format!("status {status}"))),
            }
        };
        alongside(connection, asking).await
    }
}

/// Drives a connection for as long as something is asked on it. Its own failure is told to who asks.
async fn alongside<T>(connection: impl Future, asking: impl Future<Output = T>) -> T {
    let mut asking = pin!(asking);
    tokio::select! {
        biased;
        told = &mut asking => told,
        _ = connection => asking.await,
    }
}

async fn read(mut body: Incoming, bytes_max: usize) -> Result<Vec<u8>, Fault> {
    let too_large = || Fault::new("too_large", format!("more than {bytes_max} bytes"));
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|error| said(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if bytes.len() + data.len() > bytes_max {
            return Err(too_large());
        }
        bytes.extend_from_slice(data);
    }
    Ok(bytes)
}

/// What the library says of an answer that did not come.
fn said(error: &hyper::Error) -> Fault {
    if error.is_parse() {
        return Fault::new("malformed_answer", error.to_string());
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(error) = inner.downcast_ref::<io::Error>() {
            return lost(io::Error::new(error.kind(), error.to_string()));
        }
        cause = inner.source();
    }
    Fault::new("closed", error.to_string())
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;
    use crate::management::resolver::Answer;

    const BYTES_MAX: usize = 100;

    /// Knows one name, with an address where nobody listens ahead of the one where somebody does.
    struct Names;

    impl Resolve for Names {
        async fn resolve(&self, host: &str) -> Result<Answer, String> {
            match host {
                "keys.test" => {
                    let addresses = vec![IpAddr::from([127, 255, 255, 254]), IpAddr::from([127, 0, 0, 1])];
                    Ok(Answer { addresses, ttl: Duration::from_secs(1) })
                }
                _ => Err("no such name".to_owned()),
            }
        }
    }

    fn fetch(url: &str, time_max: Duration) -> Fetch {
        Fetch { address: WebAddress::parse(url).expect("an address"), tls: None, time_max, body_bytes_max: BYTES_MAX }
    }

    /// What a server makes of a fetch that answers with these bytes and closes; and the request.
    async fn answered(bytes: &str) -> (Result<String, &'static str>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let fetch = fetch(&format!("http://keys.test:{port}/keys?p=1"), Duration::from_secs(60));
        let serving = async {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).await.expect("a request");
            // Who has seen enough goes before everything was sent.
            let _ = stream.write_all(bytes.as_bytes()).await;
            String::from_utf8_lossy(&request[..read]).into_owned()
        };
        let (fetched, request) = tokio::join!(fetch.run(&Names), serving);
        let text = |body| String::from_utf8(body).expect("text");
        (fetched.map(text).map_err(|fault| fault.reason), request)
    }

    #[tokio::test]
    async fn the_body_of_a_whole_answer_is_what_is_fetched() {
        let (body, request) = answered("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(body, Ok("{}".to_owned()));
        let lines: Vec<&str> = request.split("\r\n").collect();
        assert_eq!(lines[0], "GET /keys?p=1 HTTP/1.1");
        assert!(lines[1].starts_with("host: keys.test:") && lines.contains(&"connection: close"), "{request}");

        let full = "x".repeat(BYTES_MAX);
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n".to_owned(), Ok("{}")),
            ("HTTP/1.0 200 OK\r\n\r\n{}".to_owned(), Ok("{}")),
            (format!("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{full}"), Ok(&*full)),
            (format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{full}y"), Err("too_large")),
            (
                format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n64\r\n{full}\r\n1\r\ny\r\n"),
                Err("too_large"),
            ),
            (format!("HTTP/1.0 200 OK\r\n\r\n{full}y"), Err("too_large")),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}".to_owned(), Err("closed")),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n".to_owned(), Err("closed")),
            (
                "HTTP/1.1 302 Found\r\nlocation: http://evil.test/\r\ncontent-length: 0\r\n\r\n".to_owned(),
                Err("redirect"),
            ),
            ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}".to_owned(), Err("unexpected_status")),
            ("HTTP/1.1 204 No Content\r\n\r\n".to_owned(), Err("unexpected_status")),
            ("SSH-2.0-OpenSSH_9.9\r\n".to_owned(), Err("malformed_answer")),
            (format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(3 * HEAD_BYTES_MAX)), Err("malformed_answer")),
            (String::new(), Err("closed")),
        ] {
            assert_eq!(answered(&answer).await.0, expected.map(str::to_owned), "{}", &answer[..answer.len().min(60)]);
        }
    }

    #[tokio::test]
    async fn a_server_that_is_slow_or_away_costs_no_more_than_the_time() {
        let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = silent.local_addr().expect("it is bound").port();
        let fetch_now = |url: String| async move { fetch(&url, Duration::from_millis(50)).run(&Names).await };
        let silent_one = fetch_now(format!("http://127.0.0.1:{port}/")).await;
        assert_eq!(silent_one.expect_err("late").reason, "timeout");
        let unsecured = fetch_now(format!("https://127.0.0.1:{port}/")).await;
        assert_eq!(unsecured.expect_err("no TLS").reason, "tls");
        drop(silent);
        let long = Duration::from_secs(60);
        let away = fetch(&format!("http://127.0.0.1:{port}/"), long).run(&Names).await;
        assert_eq!(away.expect_err("nobody listens").reason, "connect_refused");
        let unknown = fetch("http://unknown.test/", long).run(&Names).await;
        assert_eq!(unknown.expect_err("no such name"), Fault::new("name_unresolved", "no such name"));
    }
}
