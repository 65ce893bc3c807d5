//! Who carries what leaves the replica (`spec.forwardProxy`), and what is said to open a way through it: `CONNECT` (RFC 9110
//! section 9.3.6). Does no I/O: cores and the management thread send and read by their own means.

use std::{fmt, net::IpAddr, sync::Arc};

use crate::{
    document::{
        address::{Endpoint, WebAddress},
        hash::Stable,
    },
    http::{
        h1::parse::{HeadLimits, ResponseTo, parse_response},
        head::ResponseHead,
    },
    telemetry::fault::Fault,
    tls::ClientContext,
};

/// Why nobody is reached through the proxy: reason codes of the access log, of metrics and of health checks.
pub const MISCONFIGURED: &str = "proxy_misconfigured";
pub const UNREACHABLE: &str = "proxy_unreachable";
pub const TIMEOUT: &str = "proxy_timeout";
pub const TLS: &str = "proxy_tls";
pub const AUTHENTICATION: &str = "proxy_authentication";
pub const REFUSED: &str = "proxy_refused";
pub const MALFORMED: &str = "proxy_malformed";

/// The head of the proxy's answer.
const HEAD: HeadLimits = HeadLimits { head_bytes: 16 << 10, header_count: 200 };
/// Interim responses ahead of it.
const INTERIM_MAX: u32 = 16;

/// As it is configured: who it is, and whom it does not carry.
pub struct ForwardProxy {
    /// `None`: what is written cannot be used. Whom it would carry nobody reaches, rather than without it.
    pub server: Option<ProxyServer>,
    /// Hosts that are reached without it, as [`spelt`] spells them; one that begins with a dot is a suffix.
    pub no_proxy: Vec<String>,
}

/// The proxy itself.
pub struct ProxyServer {
    pub address: WebAddress,
    /// Where it is itself spoken with over https.
    pub tls: Option<Arc<ClientContext>>,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<String>,
}

impl ForwardProxy {
    /// Whether what goes to this host goes through it.
    pub fn carries(&self, host: &str) -> bool {
        let host = spelt(host);
        !self.no_proxy.iter().any(|entry| match entry.strip_prefix('.') {
            Some(suffix) => host.strip_suffix(suffix).is_some_and(|rest| rest.ends_with('.')),
            None => *entry == host,
        })
    }

    /// The server, or why there is none to speak to.
    pub fn server(&self) -> Result<&ProxyServer, Fault> {
        self.server
            .as_ref()
            .ok_or_else(|| Fault::new(MISCONFIGURED, "spec.forwardProxy cannot be used as it is written"))
    }

    /// Of everything that makes connections of one kind another's.
    pub fn identity(&self) -> u64 {
        let Some(server) = &self.server else { return 0 };
        let tls = server.tls.as_ref().map_or(0, |tls| tls.identity);
        let identity = Stable::new().text(&server.address.to_string()).number(tls);
        identity.text(server.authorization.as_deref().unwrap_or_default()).finish()
    }
}

impl ProxyServer {
    /// The request for a way to `to`.
    pub fn connect(&self, to: &Endpoint) -> String {
        let mut request = format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n");
        if let Some(authorization) = &self.authorization {
            request += &format!("proxy-authorization: {authorization}\r\n");
        }
        request + "\r\n"
    }
}

/// A host as it is compared: in lower case, without a final dot and without brackets, an address in its one spelling.
pub fn spelt(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let bare = host.strip_prefix('[').and_then(|bare| bare.strip_suffix(']')).unwrap_or(&host);
    bare.parse::<IpAddr>().map_or_else(|_| bare.to_owned(), |address| address.to_string())
}

/// The proxy's answer to `CONNECT`, as it comes.
#[derive(Default)]
pub struct Opening {
    head: ResponseHead,
    scanned: usize,
    /// The heads of interim responses, and how many there were.
    passed: usize,
    interim: u32,
}

impl Opening {
    /// Reads all that has come so far. Open, the way begins behind so many bytes; `None`: the answer is not complete yet.
    ///
    /// # Errors
    /// There is no way: nothing was said to the other end.
    pub fn read(&mut self, input: &[u8]) -> Result<Option<usize>, Fault> {
        loop {
            let rest = &input[self.passed..];
            let read = parse_response(rest, &mut self.scanned, &HEAD, ResponseTo::Other, &mut self.head);
            let Some(taken) = read.map_err(|error| Fault::new(MALFORMED, of_proxy(error.reason())))? else {
                return Ok(None);
            };
            self.passed += taken;
            self.scanned = 0;
            match self.head.status {
                200..=299 => return Ok(Some(self.passed)),
                100..=199 if self.interim < INTERIM_MAX => self.interim += 1,
                407 => return Err(unauthenticated()),
                status => return Err(Fault::new(REFUSED, of_proxy(&format!("status {status}")))),
            }
        }
    }
}

/// It wants to know who we are, or does not take what we say. Its answer is for us, and for nobody behind us.
pub fn unauthenticated() -> Fault {
    Fault::new(AUTHENTICATION, of_proxy("status 407"))
}

/// Something else has come than its answer.
pub fn malformed(what: &str) -> Fault {
    Fault::new(MALFORMED, of_proxy(what))
}

/// There is no connection to it.
pub fn unreachable(what: &str) -> Fault {
    Fault::new(UNREACHABLE, of_proxy(what))
}

fn of_proxy(what: &str) -> String {
    format!("the forward proxy: {what}")
}

impl PartialEq for ForwardProxy {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity() && self.no_proxy == other.no_proxy
    }
}

impl fmt::Debug for ForwardProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => write!(f, "ForwardProxy({})", server.address),
            None => f.write_str("ForwardProxy(misconfigured)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pieces: &[&str]) -> Result<Option<usize>, &'static str> {
        let (mut opening, mut input, mut last) = (Opening::default(), Vec::new(), Ok(None));
        for piece in pieces {
            input.extend_from_slice(piece.as_bytes());
            last = opening.read(&input).map_err(|fault| fault.reason);
        }
        last
    }

    #[test]
    fn hosts_of_no_proxy_are_reached_without_one() {
        let no_proxy = ["plain.test", ".inside.test", "10.0.0.1", "::1"].map(str::to_owned).to_vec();
        let proxy = ForwardProxy { server: None, no_proxy };
        for (host, is_carried) in [
            ("plain.test", false),
            ("plain.test.", false),
            ("PLAIN.test", false),
            ("a.plain.test", true),
            ("notplain.test", true),
            ("a.inside.test", false),
            ("a.b.Inside.test", false),
            ("inside.test", true),
            ("notinside.test", true),
            ("10.0.0.1", false),
            ("10.0.0.2", true),
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", false),
            ("0:0:0:0:0:0:0:1", false),
        ] {
            assert_eq!(proxy.carries(host), is_carried, "{host}");
        }
    }

    #[test]
    fn a_way_is_open_behind_a_2xx_and_never_else() {
        assert_eq!(read(&["HTTP/1.1 200 Connection est", "ablished\r\n", "\r\n"]), Ok(Some(39)));
        assert_eq!(read(&["HTTP/1.0 204 x\r\nx: y\r\n\r\nbehind"]), Ok(Some(24)));
        assert_eq!(read(&["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 y\r\n\r\n"]), Ok(Some(43)));
        assert_eq!(read(&["HTTP/1.1 200 Connection established\r\n"]), Ok(None));
        for (answer, reason) in [
            ("HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic realm=x\r\n\r\n", AUTHENTICATION),
            ("HTTP/1.1 403 No\r\n\r\n", REFUSED),
            ("HTTP/1.1 302 There\r\nlocation: http://a/\r\n\r\n", REFUSED),
            ("HTTP/1.1 503 No\r\n\r\n", REFUSED),
            ("SSH-2.0-x\r\n\r\n", MALFORMED),
            ("HTTP/1.1 101 Switch\r\nupgrade: websocket\r\n\r\n", MALFORMED),
        ] {
            assert_eq!(read(&[answer]), Err(reason), "{answer}");
        }
        let interim = "HTTP/1.1 103 x\r\n\r\n".repeat(17);
        assert_eq!(read(&[&interim]), Err(REFUSED));
        let endless = format!("HTTP/1.1 200 x\r\nx: {}", "y".repeat(20_000));
        assert_eq!(read(&[&endless]), Err(MALFORMED));
    }

    #[test]
    fn it_is_asked_for_a_host_and_a_port() {
        let address = WebAddress::parse("http://proxy.test:3128").expect("an address");
        let mut server = ProxyServer { address, tls: None, authorization: None };
        let to = Endpoint { host: "::1".to_owned(), port: 443 };
        assert_eq!(server.connect(&to), "CONNECT [::1]:443 HTTP/1.1\r\nhost: [::1]:443\r\n\r\n");
        server.authorization = Some("Basic dTpw".to_owned());
        assert!(server.connect(&to).ends_with("443\r\nproxy-authorization: Basic dTpw\r\n\r\n"));
    }
}
