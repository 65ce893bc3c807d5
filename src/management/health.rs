//! Active health checks: a GET to every endpoint of a Service that asks for it, at its interval.
//!
//! An endpoint is well until it has failed often enough in a row, and then ill until it has answered often enough in a row.
//! State stays with the Service's identity, so a reload that leaves the Service alone does not start over.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use tokio_rustls::TlsConnector;

use crate::{
    config::snapshot::{HealthCheck, ProxyProtocolVersion, Service},
    net::proxy_protocol,
    tls::ClientContext,
};

/// A status line has to come within this.
const STATUS_LINE_MAX: usize = 1024;
/// Read and thrown away behind the status line, so that the upstream does not see a reset.
const DRAIN_MAX: u64 = 64 << 10;

/// A Service by identity, and one of its addresses.
pub type Target = (u64, SocketAddr);

/// What one check does.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    pub settings: HealthCheck,
    pub authority: String,
    /// The connection begins with a header of this version, which says that it speaks for itself.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// How the Service is dialled: a check that did less would call well what no request reaches.
    pub tls: Option<Arc<ClientContext>>,
}

/// Every endpoint that is checked, how it is, and when to ask again. Does no I/O.
#[derive(Debug, Default)]
pub struct Checks {
    targets: HashMap<Target, State>,
}

#[derive(Debug)]
struct State {
    check: Arc<Check>,
    healthy: bool,
    /// Results in a row that contradict `healthy`.
    against: u32,
    /// `None`: a check is under way.
    due: Option<Instant>,
}

impl Checks {
    /// From now on these endpoints are checked; others are forgotten.
    pub fn keep(&mut self, wanted: HashMap<Target, Arc<Check>>, now: Instant) {
        self.targets.retain(|target, _| wanted.contains_key(target));
        for (target, check) in wanted {
            let new = || State { check: check.clone(), healthy: true, against: 0, due: Some(now) };
            self.targets.entry(target).or_insert_with(new).check = check.clone();
        }
    }

    /// Endpoints to check now, at most `count`; each stays out of the next lists until it is [`Checks::answered`].
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<(Target, Arc<Check>)> {
        let due = self.targets.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now));
        due.take(count)
            .map(|(target, state)| {
                state.due = None;
                (*target, state.check.clone())
            })
            .collect()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.targets.values().filter_map(|state| state.due).min()
    }

    /// Takes a result; true where the endpoint became well or ill by it.
    pub fn answered(&mut self, target: Target, result: Result<(), String>, now: Instant) -> bool {
        let Some(state) = self.targets.get_mut(&target) else {
            return false; // not wanted any more
        };
        let settings = &state.check.settings;
        state.due = Some(now + settings.interval);
        if result.is_ok() == state.healthy {
            state.against = 0;
            return false;
        }
        state.against += 1;
        let threshold = if state.healthy { settings.unhealthy_threshold } else { settings.healthy_threshold };
        if state.against < threshold {
            return false;
        }
        state.healthy = !state.healthy;
        state.against = 0;
        let (upstream, address) = (&state.check.authority, target.1);
        match result {
            Ok(()) => tracing::info!(upstream, %address, "endpoint is healthy again"),
            Err(error) => tracing::warn!(upstream, %address, error, "endpoint is unhealthy"),
        }
        true
    }

    pub fn unhealthy(&self) -> impl Iterator<Item = Target> {
        self.targets.iter().filter(|(_, state)| !state.healthy).map(|(target, _)| *target)
    }
}

impl Check {
    /// What checking this Service means, where it asks for it.
    pub fn of(service: &Service) -> Option<Arc<Self>> {
        let settings = service.health_check.clone()?;
        let (authority, proxy_protocol) = (service.authority.clone(), service.proxy_protocol);
        Some(Arc::new(Self { settings, authority, proxy_protocol, tls: service.tls.clone() }))
    }

    /// One check: well is a status of 2xx or 3xx in time.
    pub async fn run(&self, address: SocketAddr) -> Result<(), String> {
        let limit = self.settings.timeout;
        timeout(limit, self.exchange(address)).await.map_err(|_| format!("no answer in {limit:?}"))?
    }

    async fn exchange(&self, address: SocketAddr) -> Result<(), String> {
        let (path, authority) = (&self.settings.path, &self.authority);
        if path.bytes().chain(authority.bytes()).any(|byte| !byte.is_ascii_graphic()) {
            return Err("the path or the host name cannot be sent".to_owned());
        }
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let Some(tls) = &self.tls else { return self.ask(stream).await };
        let connector = TlsConnector::from(tls.for_a_check());
        let stream = connector.connect(tls.name.clone(), stream).await.map_err(|error| error.to_string())?;
        self.ask(stream).await
    }

    async fn ask(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), String> {
        let (path, authority) = (&self.settings.path, &self.authority);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: ringway-health-check\r\naccept: */*\r\n\
             connection: close\r\n\r\n"
        );
        let header = self.proxy_protocol.map(|version| proxy_protocol::write_own(version.into())).unwrap_or_default();
        let bytes = [&header, request.as_bytes()].concat();
        stream.write_all(&bytes).await.map_err(|error| error.to_string())?;
        let status = status(&mut stream).await?;
        // Nobody waits for this: a stalled body does not make an endpoint ill.
        let drain = async { tokio::io::copy(&mut (&mut stream).take(DRAIN_MAX), &mut tokio::io::sink()).await };
        let _ = timeout(Duration::from_millis(100), drain).await;
        match status {
            200..=399 => Ok(()),
            _ => Err(format!("status {status}")),
        }
    }
}

/// Reads a status line: `HTTP/1.1 200 OK`.
async fn status(stream: &mut (impl AsyncRead + Unpin)) -> Result<u16, String> {
    let mut line = Vec::with_capacity(STATUS_LINE_MAX);
    while !line.contains(&b'\n') && line.len() < STATUS_LINE_MAX {
        let room = (STATUS_LINE_MAX - line.len()) as u64;
        match (&mut *stream).take(room).read_buf(&mut line).await {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    parse_status(&line).ok_or_else(|| "not an HTTP/1 response".to_owned())
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.")?;
    let (&[b'0' | b'1', b' ', a @ b'1'..=b'9', b @ b'0'..=b'9', c @ b'0'..=b'9'], after) = rest.split_first_chunk()?
    else {
        return None;
    };
    matches!(after.first(), Some(b' ' | b'\r' | b'\n'))
        .then(|| [a, b, c].iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn check(timeout: Duration) -> Check {
        let settings = HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_secs(10),
            timeout,
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        };
        Check { settings, authority: "orders.internal".to_owned(), proxy_protocol: None, tls: None }
    }

    #[test]
    fn thresholds_count_results_in_a_row() {
        let target = (1, SocketAddr::from(([192, 0, 2, 1], 80)));
        let now = Instant::now();
        let mut checks = Checks::default();
        let wanted = || HashMap::from([(target, Arc::new(check(Duration::from_secs(1))))]);
        checks.keep(wanted(), now);
        assert_eq!(checks.take_due(now, 1).len(), 1);
        // Each letter is a result; the digit behind it says whether the endpoint changed.
        for (step, result) in ["-0", "-0", "+0", "-0", "-0", "-1", "-0", "+0", "-0", "+0", "+1"].iter().enumerate() {
            let outcome = if result.starts_with('+') { Ok(()) } else { Err("down".to_owned()) };
            assert_eq!(checks.answered(target, outcome, now), result.ends_with('1'), "step {step}");
            checks.keep(wanted(), now); // a reload in between changes nothing
        }
        assert_eq!(checks.next_due(), Some(now + Duration::from_secs(10)));
        checks.keep(HashMap::new(), now);
        assert!(!checks.answered(target, Ok(()), now));
    }

    #[test]
    fn status_lines_are_read_strictly() {
        for (line, status) in [
            ("HTTP/1.1 200 OK\r\n", Some(200)),
            ("HTTP/1.0 404\r\n", Some(404)),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/2 200\r\n", None),
            ("HTTP/1.1 20", None),
            ("SSH-2.0-x\r\n", None),
            ("", None),
        ] {
            assert_eq!(parse_status(line.as_bytes()), status, "{line:?}");
        }
    }

    /// Runs one check against a server that reads a request and sends this.
    async fn checked(answer: &'static str) -> (Result<(), String>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut request).await.expect("a request");
            }
            stream.write_all(answer.as_bytes()).await.expect("room for an answer");
            String::from_utf8(request).expect("an ASCII request")
        });
        let result = check(Duration::from_secs(30)).run(address).await;
        (result, server.await.expect("the server does not panic"))
    }

    #[tokio::test]
    async fn two_and_three_hundreds_are_well() {
        let (result, request) = checked("HTTP/1.1 204 No Content\r\n\r\n").await;
        assert_eq!(result, Ok(()));
        assert!(request.starts_with("GET /health HTTP/1.1\r\nhost: orders.internal\r\n"), "{request}");
        assert_eq!(checked("HTTP/1.1 302 Found\r\n\r\n").await.0, Ok(()));
        assert_eq!(checked("HTTP/1.1 503 No\r\n\r\n").await.0, Err("status 503".to_owned()));
        assert_eq!(checked("hello").await.0, Err("not an HTTP/1 response".to_owned()));
    }
}
