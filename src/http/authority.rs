//! `host[:port]` of a `Host` field or a request target, in the subset of RFC 3986 that everyone reads the same way.
//!
//! No user information, no escapes, no sub-delims, no zone identifiers, no empty port.

use std::net::Ipv6Addr;

use super::bytes;

/// RFC 1035's limit for a name; nothing longer can be resolved.
const HOST_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address or an IPv6 address in brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let host_len = match text {
            [b'[', ..] => memchr::memchr(b']', text)? + 1,
            _ => bytes::find::<b':'>(text).unwrap_or(text.len()),
        };
        let (host, port) = text.split_at(host_len);
        let port = match port {
            [] => None,
            [b':', digits @ ..] => Some(parse_port(digits)?),
            _ => return None,
        };
        is_host(host).then_some(Self { host, port })
    }

    /// Both name the same server, where a missing port means `default`.
    pub fn agrees_with(&self, other: &Self, default: u16) -> bool {
        self.host.eq_ignore_ascii_case(other.host) && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    let port = bytes::decimal(digits).filter(|_| digits.len() <= 5)?;
    u16::try_from(port).ok().filter(|&port| port != 0)
}

fn is_host(host: &[u8]) -> bool {
    if let [b'[', address @ .., b']'] = host {
        return std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
    }
    // An empty label is refused: whether it is skipped differs between resolvers. One dot at the end is the root's.
    !host.is_empty()
        && host.len() <= HOST_BYTES_MAX
        && bytes::all(host, bytes::HOST)
        && host[0] != b'.'
        && !host.windows(2).any(|pair| pair == b"..")
}

/// The host of an authority, as certificates name it: in lower case, without brackets and port.
pub fn host(authority: &[u8]) -> String {
    let authority = String::from_utf8_lossy(authority).to_ascii_lowercase();
    let bracketed = authority.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let host = bracketed.map_or_else(|| authority.split(':').next().unwrap_or_default(), |(host, _)| host);
    host.trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        for (text, host, port) in [
            ("a", "a", None),
            ("example.com", "example.com", None),
            ("Example.COM:8080", "Example.COM", Some(8080)),
            ("example.com.", "example.com.", None),
            ("my_service-1:1", "my_service-1", Some(1)),
            ("127.0.0.1:65535", "127.0.0.1", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[2001:DB8::192.0.2.1]:443", "[2001:DB8::192.0.2.1]", Some(443)),
            ("a:00080", "a", Some(80)),
        ] {
            let authority = Authority::parse(text.as_bytes());
            assert_eq!(authority, Some(Authority { host: host.as_bytes(), port }), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in [
            "",
            ":80",
            "a:",
            "a:0",
            "a:65536",
            "a:000080",
            "a:8o",
            "a:+80",
            "a:80:80",
            "a b",
            "a,b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "user:pw@a",
            "a%2eb",
            "a\\b",
            "a\"",
            "<a>",
            "a..b",
            ".a",
            ".",
            "..",
            "[::1",
            "::1",
            "[]",
            "[::1]x",
            "[::1]:",
            "[::1%25eth0]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[127.0.0.1]",
            "[::1]]",
            "[[::1]]",
            "a[::1]",
            "\u{e9}.com",
            "a\t",
            "a;b",
            "a=b",
            "(a)",
            "*",
        ] {
            assert_eq!(Authority::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(Authority::parse(&[b'a'; 256]), None);
        assert_eq!(Authority::parse(b"a\0"), None);
        assert_eq!(Authority::parse(b"\xff"), None);
    }

    #[test]
    fn agreement_ignores_case_and_the_default_port() {
        let agree = |a: &str, b: &str| {
            Authority::parse(a.as_bytes()).unwrap().agrees_with(&Authority::parse(b.as_bytes()).unwrap(), 80)
        };
        assert!(agree("A.b", "a.B:80"));
        assert!(agree("a:80", "a"));
        assert!(!agree("a:81", "a"));
        assert!(!agree("a", "b"));
        assert!(!agree("a", "a."));
    }
}
