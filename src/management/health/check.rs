//! One check: a GET, asked in the way that the Service's requests are, and why its answer is none.
//!
//! A check that spoke otherwise than the traffic would call well what no request reaches, and ill what every request does:
//! the connection is introduced (PROXY protocol), secured and spoken on (HTTP/1.1, or HTTP/2 by the Service's address or by
//! ALPN) as the pool does it, and HTTP/1.1 answers are read by the same parser.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, OnceLock},
    task::{Context, Poll},
    time::Duration,
};

use axum::http::{Request, Uri, Version};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;

use crate::{
    calls::{
        ProxyServer,
        forward_proxy::{unauthenticated, unreachable},
    },
    config::{
        endpoints::Place,
        snapshot::{Carried, HealthCheck, ProxyProtocolVersion, Service},
    },
    document::address::Endpoint,
    http::{
        h1::parse::{HeadLimits, ResponseTo, parse_response},
        head::ResponseHead,
    },
    management::calls::{Stream, tunnel},
    net::{
        proxy_protocol,
        tls::{Failure, HandshakeError},
    },
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// A head of an answer; the traffic's own limit is rarely above it.
const HEAD: HeadLimits = HeadLimits { head_bytes: 64 << 10, header_count: 1000 };
/// Answers with a status of 1xx ahead of the one that counts.
const INTERIM_MAX: usize = 16;
/// Read and thrown away behind the head, so that the upstream does not see a reset; and how long that may take.
const REST_BYTES_MAX: usize = 64 << 10;
const REST_TIME_MAX: Duration = Duration::from_millis(100);

const USER_AGENT: &str = "ringway-health-check";

/// What one check does.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub settings: HealthCheck,
    pub authority: String,
    /// The connection begins with a header of this version, which says that it speaks for itself.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    pub tls: Option<Arc<ClientContext>>,
    /// HTTP/2 without being asked; with TLS the handshake decides.
    pub multiplexes: bool,
    pub endpoints: Vec<Endpoint>,
    /// Those of them that a forward proxy carries.
    pub carried: Option<Box<Carried>>,
}

impl Check {
    /// What checking this Service means, where it asks for it.
    pub fn of(service: &Service) -> Option<Arc<Self>> {
        Some(Arc::new(Self {
            settings: service.health_check.clone()?,
            authority: service.authority.clone(),
            proxy_protocol: service.proxy_protocol,
            tls: service.tls.clone(),
            multiplexes: service.multiplexes,
            endpoints: service.endpoints.clone(),
            carried: service.carried.clone(),
        }))
    }

    /// One check: well is a status of 2xx or 3xx in time.
    pub async fn run(&self, place: Place) -> Result<(), Fault> {
        match self.status(place).await? {
            200..=399 => Ok(()),
            status => Err(Fault::new("unexpected_status", format!("status {status}"))),
        }
    }

    /// The status of the answer, in time.
    pub async fn status(&self, place: Place) -> Result<u16, Fault> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut stream: Box<dyn Stream> = match (&self.carried, place.carried) {
            (Some(carried), Some(at)) => {
                let server = carried.proxy.server()?;
                let begun = async {
                    let stream = connect(place.address).await.map_err(|fault| unreachable(&fault.text))?;
                    tunnel::begin(stream, server).await
                };
                let mut stream = self.by(deadline, "connecting to the forward proxy", begun).await?;
                if at == 0 && carried.in_absolute_form {
                    return self.by(deadline, "the answer", self.ask_proxy(stream, server)).await;
                }
                let opened = tunnel::open(&mut stream, server, &self.endpoints[at]);
                let said = self.by(deadline, "a way through the forward proxy", opened).await?;
                match said.is_empty() {
                    true => stream,
                    // It may begin with its settings.
                    false if self.multiplexes && self.proxy_protocol.is_none() => {
                        let (from, to) = tokio::io::split(stream);
                        Box::new(tokio::io::join(io::Cursor::new(said).chain(from), to))
                    }
                    false => return Err(tunnel::spoke_unasked()),
                }
            }
            _ => Box::new(self.by(deadline, "connecting", connect(place.address)).await?),
        };
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::write_own(version.into());
            self.by(deadline, "sending", async { stream.write_all(&header).await.map_err(lost) }).await?;
        }
        match &self.tls {
            None => self.by(deadline, "the answer", self.ask(stream, self.multiplexes)).await,
            Some(tls) => {
                let connector = TlsConnector::from(tls.for_a_check());
                let connecting = async { connector.connect(tls.name.clone(), stream).await.map_err(insecure) };
                let stream = self.by(deadline, "the TLS handshake", connecting).await?;
                let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                self.by(deadline, "the answer", self.ask(stream, speaks_http2)).await
            }
        }
    }

    /// Where it is, for people.
    pub fn reached(&self, place: Place) -> String {
        match place.carried.and_then(|at| self.endpoints.get(at)) {
            None => place.address.to_string(),
            Some(endpoint) => format!("{endpoint} through {}", place.address),
        }
    }

    async fn by<T>(
        &self,
        deadline: Instant,
        step: &str,
        taking: impl Future<Output = Result<T, Fault>>,
    ) -> Result<T, Fault> {
        let late = |_| Fault::new("timeout", format!("{step} was not done in {:?}", self.settings.timeout));
        timeout_at(deadline, taking).await.map_err(late)?
    }

    /// The status of the answer.
    async fn ask(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send, speaks_http2: bool) -> Result<u16, Fault> {
        if speaks_http2 { self.ask_http2(stream).await } else { self.ask_http1(stream).await }
    }

    async fn ask_http1(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send) -> Result<u16, Fault> {
        self.ask_for(&self.settings.path, "", stream).await
    }

    /// The forward proxy itself is asked, in absolute form.
    async fn ask_proxy(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        server: &ProxyServer,
    ) -> Result<u16, Fault> {
        let target = format!("http://{}{}", self.authority, self.settings.path);
        let authorization = server.authorization.iter().map(|value| format!("proxy-authorization: {value}\r\n"));
        match self.ask_for(&target, &authorization.collect::<String>(), stream).await? {
            407 => Err(unauthenticated()),
            status => Ok(status),
        }
    }

    /// `lines`: further ones of the head.
    async fn ask_for(
        &self,
        target: &str,
        lines: &str,
        mut stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    ) -> Result<u16, Fault> {
        let authority = &self.authority;
        let request = format!(
            "GET {target} HTTP/1.1\r\nhost: {authority}\r\n{lines}user-agent: {USER_AGENT}\r\naccept: */*\r\n\
             connection: close\r\n\r\n"
        );
        // Whoever does not take the request may have said why before it left.
        let sent = stream.write_all(request.as_bytes()).await;
        let status = final_status(&mut stream, sent).await?;
        // Nobody waits for this: a stalled body does not make an endpoint ill.
        let rest =
            async { tokio::io::copy(&mut (&mut stream).take(REST_BYTES_MAX as u64), &mut tokio::io::sink()).await };
        let _ = timeout(REST_TIME_MAX, rest).await;
        Ok(status)
    }

    async fn ask_http2(&self, stream: impl AsyncRead + AsyncWrite + Unpin + Send) -> Result<u16, Fault> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let cannot_be_sent = |error: axum::http::Error| Fault::new("cannot_be_sent", error.to_string());
        // Three bytes that the library takes for none of a path's; the escaped form means the same.
        let path = self.settings.path.replace('<', "%3C").replace('>', "%3E").replace('`', "%60");
        let uri = Uri::builder().scheme(scheme).authority(&*self.authority).path_and_query(path);
        let uri = uri.build().map_err(cannot_be_sent)?;
        let request =
            Request::get(uri).version(Version::HTTP_2).header("user-agent", USER_AGENT).header("accept", "*/*");
        let request = request.body(()).map_err(cannot_be_sent)?;

        let refusal = Refusal::default();
        let stream = Watched { inner: stream, refusal: refusal.clone() };
        let explained = |error: h2::Error| refusal.explain(&error);
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false).max_header_list_size(HEAD.head_bytes as u32);
        builder.initial_window_size(REST_BYTES_MAX as u32);
        let (sender, connection) = builder.handshake::<_, &[u8]>(stream).await.map_err(explained)?;
        let mut connection = pin!(connection);
        let asking = async {
            let mut sender = sender.ready().await.map_err(explained)?;
            let (response, _) = sender.send_request(request, true).map_err(explained)?;
            response.await.map_err(explained)
        };
        let response = tokio::select! {
            biased;
            response = asking => response?,
            ended = &mut connection => return Err(match ended {
                Err(error) => refusal.explain(&error),
                Ok(()) => Fault::new("closed", "closed before the answer"),
            }),
        };
        let status = response.status().as_u16();
        let mut body = response.into_body();
        let rest = async move {
            while let Some(Ok(data)) = body.data().await {
                let _ = body.flow_control().release_capacity(data.len());
            }
        };
        let leaving = async {
            tokio::select! {
                () = rest => {}
                _ = &mut connection => return,
            }
            // Says goodbye.
            let _ = (&mut connection).await;
        };
        let _ = timeout(REST_TIME_MAX, leaving).await;
        Ok(status)
    }
}

pub async fn connect(address: SocketAddr) -> Result<TcpStream, Fault> {
    TcpStream::connect(address).await.map_err(|error| {
        let reason = match error.kind() {
            io::ErrorKind::ConnectionRefused => "connect_refused",
            io::ErrorKind::TimedOut => "timeout",
            _ => "connect_failed",
        };
        Fault::new(reason, error.to_string())
    })
}

/// Reads heads of HTTP/1.1 up to one that is no interim one.
async fn final_status(stream: &mut (impl AsyncRead + Unpin), sent: io::Result<()>) -> Result<u16, Fault> {
    let mut input = Vec::with_capacity(1024);
    let (mut head, mut scanned, mut interim) = (ResponseHead::default(), 0, 0);
    loop {
        match parse_response(&input, &mut scanned, &HEAD, ResponseTo::Other, &mut head) {
            Ok(Some(_)) if head.status >= 200 => return Ok(head.status),
            Ok(Some(taken)) => {
                input.drain(..taken);
                scanned = 0;
                interim += 1;
                if interim > INTERIM_MAX {
                    return Err(malformed("too many interim responses"));
                }
            }
            Ok(None) => match stream.read_buf(&mut input).await {
                Ok(0) if input.is_empty() => {
                    return Err(Fault::new("closed", "closed before the answer"));
                }
                Ok(0) => return Err(malformed("the answer ends within its head")),
                Ok(_) => {}
                Err(error) => return Err(lost(sent.err().filter(|_| !is_refusal(&error)).unwrap_or(error))),
            },
            Err(error) => return Err(malformed(error.reason())),
        }
    }
}

fn malformed(what: &str) -> Fault {
    Fault::new("malformed_answer", what)
}

/// No handshake.
pub fn insecure(error: io::Error) -> Fault {
    let known = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls(match known {
        Some(error) => HandshakeError::Tls(error.clone()),
        None if error.kind() == io::ErrorKind::UnexpectedEof => HandshakeError::Closed,
        None => HandshakeError::Io(error),
    })
}

fn tls(error: HandshakeError) -> Fault {
    Fault::new("tls", format!("{}: {error}", error.failure().reason()))
}

fn is_refusal(error: &io::Error) -> bool {
    HandshakeError::late(error).is_some()
}

/// The connection broke off. Since TLS 1.3 a server says so when it does not like our certificate.
pub fn lost(error: io::Error) -> Fault {
    match HandshakeError::late(&error) {
        Some(error) => tls(error),
        None => Fault::new("closed", error.to_string()),
    }
}

/// Why the peer would not have us, where TLS said so: the HTTP/2 library keeps no more of an error than its text.
#[derive(Clone, Default)]
struct Refusal(Arc<OnceLock<(Failure, String)>>);

impl Refusal {
    fn explain(&self, error: &h2::Error) -> Fault {
        if let Some((failure, text)) = self.0.get() {
            return Fault::new("tls", format!("{}: {text}", failure.reason()));
        }
        if error.is_io() || error.is_remote() {
            return Fault::new("closed", error.to_string());
        }
        malformed(&error.to_string())
    }
}

/// A stream that remembers what TLS ended it with. Who does not take what is sent may have said why: a failure to send is
/// left for the next read to tell.
struct Watched<S> {
    inner: S,
    refusal: Refusal,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(context, into);
        if let Poll::Ready(Err(error)) = &polled
            && let Some(refusal) = HandshakeError::late(error)
        {
            let _ = self.refusal.0.set((refusal.failure(), refusal.to_string()));
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes).map(|written| Ok(written.unwrap_or(bytes.len())))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context).map(|_| Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
