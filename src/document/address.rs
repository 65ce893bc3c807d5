//! Addresses: `protocol://host:port/path` of APIs and services, `host:port` of endpoints, and what is fetched with its query.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::http::{authority, target};

/// The product that wrote the files keeps this port for itself, and our management answers on it.
pub const RESERVED_PORT: u16 = 9998;

/// A `host:port` to connect to; the host is an address or a name to resolve. IPv6 literals without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", bracketed(&self.host), self.port)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    /// HTTP/2 with prior knowledge; only for services.
    H2,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::H2 => "h2",
        })
    }
}

/// Where an API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    pub scheme: Scheme,
    pub socket: SocketAddr,
    /// As written: empty, `/`, `/api` or `/foo/`.
    pub base: String,
}

/// Where a service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceAddress {
    pub scheme: Scheme,
    pub endpoint: Endpoint,
    /// `host` and, where it is not the scheme's own, `:port`.
    pub authority: String,
    /// Put ahead of every path; no trailing slash, empty for none.
    pub path: String,
}

/// Something to GET: a set of keys. Two that are written differently and mean the same are equal. A query may hold a key: it is
/// never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebAddress {
    /// https.
    pub secure: bool,
    pub endpoint: Endpoint,
    /// What `Host` says: the port is left out where it is the scheme's own.
    pub authority: String,
    /// What stands in the request line: the path, and the query with its `?`. For nobody but who is asked.
    pub target: String,
}

impl fmt::Display for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { Scheme::Https } else { Scheme::Http };
        let (path, query) = self.target.split_once('?').map_or((&*self.target, ""), |(path, _)| (path, "?***"));
        write!(f, "{scheme}://{}{path}{query}", self.authority)
    }
}

impl fmt::Debug for WebAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WebAddress({self})")
    }
}

impl ListenAddress {
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = Parts::parse(text)?;
        if parts.scheme == Scheme::H2 {
            return Err("an API listens on http:// or https://".into());
        }
        let ip = match parts.host.as_str() {
            "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
            host => host.parse().map_err(|_| "the host must be an IP address to bind, normally 0.0.0.0".to_owned())?,
        };
        let port = parts.port.or(parts.scheme.default_port()).ok_or("the port is missing")?;
        if port == RESERVED_PORT {
            return Err(format!("port {RESERVED_PORT} is reserved"));
        }
        Ok(Self { scheme: parts.scheme, socket: SocketAddr::new(ip, port), base: spelt(&parts.path)? })
    }
}

impl ServiceAddress {
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = Parts::parse(text)?;
        let port = parts.port.or(parts.scheme.default_port()).ok_or("h2:// needs a port")?;
        let path = spelt(&parts.path)?;
        Ok(Self {
            scheme: parts.scheme,
            authority: parts.authority(port),
            endpoint: Endpoint { host: parts.host, port },
            path: path.trim_end_matches('/').to_owned(),
        })
    }

    /// As something to call: its path is the target.
    pub fn web(self) -> WebAddress {
        let target = if self.path.is_empty() { "/".to_owned() } else { self.path };
        let mut endpoint = self.endpoint;
        endpoint.host.make_ascii_lowercase();
        WebAddress { secure: self.scheme == Scheme::Https, endpoint, authority: self.authority, target }
    }
}

impl WebAddress {
    /// Whether others may be on the way to it.
    pub fn is_open(&self) -> bool {
        let host = &self.endpoint.host;
        !self.secure && host != "localhost" && !host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, query) = text.split_at(text.find('?').unwrap_or(text.len()));
        let mut parts = Parts::parse(address)?;
        if parts.scheme == Scheme::H2 {
            return Err("the protocol must be http or https".into());
        }
        let port = parts.port.or(parts.scheme.default_port()).ok_or("the port is missing")?;
        // RFC 3986, section 3.4, and never a fragment: that is no part of a request.
        let is_legal = |c: u8| c.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&c);
        if !query.bytes().all(is_legal) {
            return Err("the query has a character that is not escaped".into());
        }
        parts.host.make_ascii_lowercase();
        let path = spelt(&parts.path)?;
        let target = format!("{}{query}", if path.is_empty() { "/" } else { &path });
        let (secure, authority) = (parts.scheme == Scheme::Https, parts.authority(port));
        Ok(Self { secure, authority, endpoint: Endpoint { host: parts.host, port }, target })
    }
}

/// A `host:port` without a protocol.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    if text.contains('/') {
        return Err("expected host:port, without a protocol or a path".into());
    }
    let (host, port) = host_and_port(text)?;
    Ok(Endpoint { host, port: port.ok_or("expected host:port")? })
}

/// A `host:port` without a protocol, or a host alone whose port goes without saying. The host is in lower case.
pub fn endpoint_with_default(text: &str, port: u16) -> Result<Endpoint, String> {
    let (mut host, written) = host_and_port(text)?;
    host.make_ascii_lowercase();
    Ok(Endpoint { host, port: written.unwrap_or(port) })
}

/// A path that is put ahead of another one: with a slash in front, none at the end, empty for none.
pub fn path_prefix(text: &str) -> Result<String, String> {
    let path = spelt(text)?;
    let path = path.trim_matches('/');
    Ok(if path.is_empty() { String::new() } else { format!("/{path}") })
}

/// A host that an API answers for, in its one spelling: a name, an address, or `*.` and a suffix.
pub fn host_pattern(text: &str) -> Result<String, String> {
    let is_bracketed = text.starts_with('[') && text.ends_with(']');
    let host = match text.contains(':') && !is_bracketed && text.parse::<Ipv6Addr>().is_err() {
        // With a port, which is refused below.
        true => text.to_owned(),
        false => authority::host(text.as_bytes()).into_owned(),
    };
    let name = host.strip_prefix("*.").unwrap_or(&host);
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if name.is_empty() || name.starts_with('.') || name.ends_with('.') || !name.bytes().all(legal) {
        return Err("expected a host name, or `*.` and a suffix, without a port".into());
    }
    Ok(host)
}

impl Scheme {
    fn default_port(self) -> Option<u16> {
        match self {
            Self::Http => Some(80),
            Self::Https => Some(443),
            Self::H2 => None,
        }
    }
}

struct Parts {
    scheme: Scheme,
    /// IPv6 literals without brackets.
    host: String,
    port: Option<u16>,
    path: String,
}

impl Parts {
    fn parse(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").ok_or("expected protocol://host:port")?;
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "h2" => Scheme::H2,
            _ => return Err("the protocol must be http, https or h2".into()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = host_and_port(authority)?;
        Ok(Self { scheme, host, port, path: path.to_owned() })
    }

    /// The host and, where it is not the scheme's own, the port.
    fn authority(&self, port: u16) -> String {
        let host = bracketed(&self.host);
        if Some(port) == self.scheme.default_port() { host } else { format!("{host}:{port}") }
    }
}

fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    if text.contains('@') {
        return Err("user information does not belong in an address".into());
    }
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, behind) = rest.split_once(']').ok_or("`[` without `]`")?;
            host.parse::<Ipv6Addr>().map_err(|_| "not an IPv6 address within the brackets")?;
            match (behind.strip_prefix(':'), behind) {
                (port, _) if port.is_some() => (host, port),
                (_, "") => (host, None),
                _ => return Err("expected `:port` behind the brackets".into()),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err("an IPv6 address stands in brackets: [::1]:8080".into());
            }
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    if host.is_empty() {
        return Err("the host is missing".into());
    }
    if host.parse::<IpAddr>().is_err() {
        name_problem(host)?;
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|c| c.is_ascii_digit()) => Some(
            digits.parse::<u16>().ok().filter(|port| *port > 0).ok_or("the port must be a number from 1 to 65535")?,
        ),
        Some(_) => return Err("the port must be a number from 1 to 65535".into()),
    };
    Ok((host.to_owned(), port))
}

/// Why a name can never mean an address, whatever DNS and hosts files say. They take any bytes (RFC 2181 section 11), so names
/// of services with `_` or an outer `-` are in order.
fn name_problem(name: &str) -> Result<(), String> {
    if !name.is_ascii() {
        return Err("a name beyond ASCII is written in its `xn--` form".into());
    }
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
    let relative = name.strip_suffix('.').unwrap_or(name);
    if relative.len() > 253 || !name.bytes().all(allowed) {
        return Err("not a host name or an IP address".into());
    }
    let mut labels = relative.split('.');
    if labels.clone().any(str::is_empty) {
        return Err("a name has no empty part between dots".into());
    }
    if labels.clone().any(|label| label.len() > 63) {
        return Err("a part of a name has 63 bytes at most".into());
    }
    // As every browser and most resolvers see it (WHATWG URL, section 3.5): no such name goes to DNS.
    let last = labels.next_back().unwrap_or_default();
    let hex = last.strip_prefix("0x").or(last.strip_prefix("0X"));
    if last.bytes().all(|c| c.is_ascii_digit()) || hex.is_some_and(|hex| hex.bytes().all(|c| c.is_ascii_hexdigit())) {
        return Err(format!("{name} looks like an IPv4 address and is none"));
    }
    Ok(())
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// A path in the spelling that those of requests are brought to: it goes into request lines, and is compared with them.
fn spelt(path: &str) -> Result<String, String> {
    let is_legal = |c: char| match c.is_ascii() {
        true => c.is_ascii_graphic() && !matches!(c, '?' | '#' | '\\'),
        false => c.is_alphanumeric(),
    };
    if let Some(c) = path.chars().find(|&c| !is_legal(c)) {
        return Err(format!("a path cannot hold {c:?}"));
    }
    let mut spelt = Vec::with_capacity(path.len());
    target::spell(path.as_bytes(), &mut spelt);
    // Where a leading slash is missing it is added later on.
    let absolute = [b"/", &spelt[..]].concat();
    if target::has_dot_segments(&absolute) {
        return Err("a path cannot hold `.` or `..` segments".into());
    }
    if let Err(error) = target::check_path(&absolute) {
        return Err(error.to_string());
    }
    Ok(String::from_utf8(spelt).expect("what is spelt is ASCII"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses() {
        for (text, socket, base) in [
            ("http://0.0.0.0:8081", "0.0.0.0:8081", ""),
            ("http://0.0.0.0:8081/", "0.0.0.0:8081", "/"),
            ("HTTP://127.0.0.1/v1", "127.0.0.1:80", "/v1"),
            ("http://localhost:1/foo/", "127.0.0.1:1", "/foo/"),
            ("http://[::]:8081/api", "[::]:8081", "/api"),
            ("http://0.0.0.0:1/caf%c3%a9/%61", "0.0.0.0:1", "/caf%C3%A9/a"),
            ("http://0.0.0.0:1/café/{x}", "0.0.0.0:1", "/caf%C3%A9/%7Bx%7D"),
            ("https://0.0.0.0", "0.0.0.0:443", ""),
        ] {
            let address = ListenAddress::parse(text).expect(text);
            assert_eq!((address.socket.to_string().as_str(), address.base.as_str()), (socket, base), "{text}");
        }
    }

    #[test]
    fn listen_addresses_that_are_refused() {
        for (text, problem) in [
            ("0.0.0.0:8081", "expected protocol://host:port"),
            ("ftp://0.0.0.0:1", "the protocol must be http, https or h2"),
            ("h2://0.0.0.0:1", "an API listens on http:// or https://"),
            ("http://0.0.0.0:9998/x", "port 9998 is reserved"),
            ("http://0.0.0.0:0", "the port must be a number from 1 to 65535"),
            ("http://0.0.0.0:+80", "the port must be a number from 1 to 65535"),
            ("http://0.0.0.0:65536", "the port must be a number from 1 to 65535"),
            ("http://0.0.0.0:", "the port must be a number from 1 to 65535"),
            ("http://:80", "the host is missing"),
            ("http://example.com:80", "the host must be an IP address to bind, normally 0.0.0.0"),
            ("http://::1:80", "an IPv6 address stands in brackets: [::1]:8080"),
            ("http://[::1:80", "`[` without `]`"),
            ("http://u:p@0.0.0.0:80", "user information does not belong in an address"),
            ("http://0.0.0.0:80/a?b", "a path cannot hold '?'"),
            ("http://0.0.0.0:80/a\r\nb", "a path cannot hold '\\r'"),
            ("http://0.0.0.0:80/a/%2E./b", "a path cannot hold `.` or `..` segments"),
            ("http://0.0.0.0:80/100%", "the path has a percent sign without two hexadecimal digits"),
            ("http://0.0.0.0:80/a%00", "the path has an escaped NUL"),
            ("http://0.0.0.0:80/a\u{200b}b", "a path cannot hold '\\u{200b}'"),
        ] {
            assert_eq!(ListenAddress::parse(text).expect_err(text), problem, "{text}");
        }
    }

    #[test]
    fn service_addresses() {
        for (text, endpoint, authority, path) in [
            ("http://orders.internal:8080", ("orders.internal", 8080), "orders.internal:8080", ""),
            ("https://httpbin.org:443/", ("httpbin.org", 443), "httpbin.org", ""),
            ("http://a_b/x/y/", ("a_b", 80), "a_b", "/x/y"),
            ("http://[::1]:81", ("::1", 81), "[::1]:81", ""),
            ("h2://grpc:50051", ("grpc", 50051), "grpc:50051", ""),
        ] {
            let address = ServiceAddress::parse(text).expect(text);
            assert_eq!((address.endpoint.host.as_str(), address.endpoint.port), endpoint, "{text}");
            assert_eq!((address.authority.as_str(), address.path.as_str()), (authority, path), "{text}");
        }
        assert_eq!(ServiceAddress::parse("h2://grpc").expect_err("no port"), "h2:// needs a port");
        assert_eq!(ServiceAddress::parse("http://a b/").expect_err("space"), "not a host name or an IP address");
    }

    #[test]
    fn web_addresses_keep_their_query_and_have_one_spelling() {
        for (text, origin, shown, host, target) in [
            ("https://login.example/keys", "https://login.example", "/keys", "login.example", "/keys"),
            ("HTTPS://Login.Example:443", "https://login.example", "/", "login.example", "/"),
            ("http://[::1]:8080/a/%6b?p=b2c&x=%2f", "http://[::1]:8080", "/a/k?***", "::1", "/a/k?p=b2c&x=%2f"),
            ("http://a?x", "http://a", "/?***", "a", "/?x"),
        ] {
            let address = WebAddress::parse(text).expect(text);
            assert_eq!(address.to_string(), format!("{origin}{shown}"), "{text}");
            assert_eq!(format!("{address:?}"), format!("WebAddress({origin}{shown})"), "{text}");
            assert_eq!((address.endpoint.host.as_str(), address.target.as_str()), (host, target), "{text}");
            assert_eq!(WebAddress::parse(&format!("{origin}{target}")).as_ref(), Ok(&address), "{text}");
        }
        for (text, problem) in [
            ("login.example/keys", "expected protocol://host:port"),
            ("h2://a:1/keys", "the protocol must be http or https"),
            ("file:///keys", "the protocol must be http, https or h2"),
            ("https://u:p@a/keys", "user information does not belong in an address"),
            ("https://a/keys#x", "a path cannot hold '#'"),
            ("https://a/keys?x#y", "the query has a character that is not escaped"),
            ("https://a/keys?x y", "the query has a character that is not escaped"),
            ("https://a/keys?x\r\ny", "the query has a character that is not escaped"),
        ] {
            assert_eq!(WebAddress::parse(text).expect_err(text), problem, "{text}");
        }
    }

    #[test]
    fn no_refusal_tells_a_password() {
        for host in ["a", "a:80", "a:0", "[::1", "[x]", "999", "a b", "0.0.0.0:9998", "", "a..b", "a/b", "a?b", "a#b"] {
            for scheme in ["http://", "https://", "h2://", "ftp://", ""] {
                let text = format!("{scheme}u:PW@{host}");
                let refusals = [
                    ListenAddress::parse(&text).map(drop),
                    ServiceAddress::parse(&text).map(drop),
                    WebAddress::parse(&text).map(drop),
                    endpoint(&text).map(drop),
                ];
                for refusal in refusals {
                    let why = refusal.expect_err(&text);
                    assert!(!why.contains("PW") && !why.contains("u:"), "{text}: {why}");
                }
            }
        }
    }

    #[test]
    fn endpoints_need_a_port_and_nothing_else() {
        assert_eq!(endpoint("[::1]:80"), Ok(Endpoint { host: "::1".into(), port: 80 }));
        for text in ["host", "http://host:80", "host:80/", "[::1]", ":80", ""] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }

    #[test]
    fn prefixes_have_one_slash_in_front_and_none_behind() {
        for (written, prefix) in [("", ""), ("/", ""), ("/posts/", "/posts"), ("posts", "/posts"), ("/a/b", "/a/b")] {
            assert_eq!(path_prefix(written).as_deref(), Ok(prefix));
        }
        assert!(path_prefix("/a?b=c").is_err());
    }
}
