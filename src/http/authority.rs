//! `host[:port]` of a `Host` field or a request target, in the subset of RFC 3986 that everyone reads the same way.
//!
//! No user information, no escapes, no sub-delims, no zone identifiers, no empty port. A host has no case, one dot at its end
//! means nothing, and an IPv6 address has many spellings: whoever compares or passes on hosts does it with the one that
//! [`normalise`] and [`host`] give them.

use std::{borrow::Cow, net::Ipv6Addr};

use super::bytes;

/// RFC 1035's limit for a name; nothing longer can be resolved.
const HOST_BYTES_MAX: usize = 255;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// A name, an IPv4 address or an IPv6 address in brackets.
    pub host: &'a [u8],
    pub port: Option<u16>,
    /// It is in its one spelling: [`normalise`] would change nothing. False for IPv6 addresses, of which nobody has looked.
    pub is_plain: bool,
}

impl<'a> Authority<'a> {
    pub fn parse(text: &'a [u8]) -> Option<Self> {
        let (host_len, host_is_plain) = match text {
            [b'[', ..] => (address_len(text)?, false),
            _ => name_len(text)?,
        };
        let (host, port) = text.split_at(host_len);
        let (port, port_is_plain) = match port {
            [] => (None, true),
            [b':', digits @ ..] => (Some(parse_port(digits)?), digits[0] != b'0'),
            _ => return None,
        };
        Some(Self { host, port, is_plain: host_is_plain && port_is_plain })
    }

    /// Both name the same server, where a missing port means `default`.
    pub fn agrees_with(&self, other: &Self, default: u16) -> bool {
        let is_same = self.host.eq_ignore_ascii_case(other.host) || host(self.host) == host(other.host);
        is_same && self.port.unwrap_or(default) == other.port.unwrap_or(default)
    }
}

fn parse_port(digits: &[u8]) -> Option<u16> {
    if !(1..=5).contains(&digits.len()) {
        return None;
    }
    let port = digits.iter().try_fold(0, |port: u32, &digit| {
        let value = u32::from(digit.wrapping_sub(b'0'));
        (value <= 9).then_some(port * 10 + value)
    });
    u16::try_from(port?).ok().filter(|&port| port != 0)
}

/// How long the IPv6 address at the beginning is, its brackets included; `None`: it is none.
#[cold]
fn address_len(text: &[u8]) -> Option<usize> {
    let end = memchr::memchr(b']', text)?;
    let address = std::str::from_utf8(&text[1..end]).ok()?;
    address.parse::<Ipv6Addr>().is_ok().then_some(end + 1)
}

/// How long the name at the beginning is, and whether it is in its one spelling; `None`: it is none. An empty label is refused:
/// whether it is skipped differs between resolvers. One dot at the end is the root's.
fn name_len(text: &[u8]) -> Option<(usize, bool)> {
    let (mut len, mut classes, mut before) = (0, bytes::HOST | bytes::PLAIN_HOST, b'.');
    for &byte in text {
        if byte == b':' {
            break;
        }
        if byte == b'.' && before == b'.' {
            return None;
        }
        classes = bytes::common(&[byte], classes);
        before = byte;
        len += 1;
    }
    let is_name = (1..=HOST_BYTES_MAX).contains(&len) && classes & bytes::HOST != 0;
    is_name.then_some((len, classes & bytes::PLAIN_HOST != 0 && before != b'.'))
}

/// Brings an authority to its one spelling: in lower case, without a dot at the end of its host or zeros ahead of its port,
/// an IPv6 address as RFC 5952 wants it. Returns whether it was another.
pub fn normalise(authority: &mut Vec<u8>) -> bool {
    let upper_case = authority.iter().any(u8::is_ascii_uppercase);
    if upper_case {
        authority.make_ascii_lowercase();
    }
    let mut changed = upper_case;
    let mut host_len = match memchr::memchr(b']', authority) {
        Some(end) => end + 1,
        None => bytes::find::<b':'>(authority).unwrap_or(authority.len()),
    };
    if authority.first() == Some(&b'[') {
        let address = format!("[{}]", host(&authority[..host_len]));
        changed |= authority[..host_len] != *address.as_bytes();
        authority.splice(..host_len, address.bytes());
        host_len = address.len();
    } else if host_len > 1 && authority[host_len - 1] == b'.' {
        host_len -= 1;
        authority.remove(host_len);
        changed = true;
    }
    while authority[host_len..].starts_with(b":0") {
        authority.remove(host_len + 1);
        changed = true;
    }
    changed
}

/// The host of an authority in its one spelling, as certificates name it: in lower case, without brackets, port and the dot at
/// its end.
pub fn host(authority: &[u8]) -> Cow<'_, str> {
    let authority = String::from_utf8_lossy(authority);
    let address = |text: &str| text.parse::<Ipv6Addr>().ok().map(|address| address.to_string());
    if let Some((inside, _)) = authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Cow::Owned(address(inside).unwrap_or_else(|| inside.to_ascii_lowercase()));
    }
    if authority.matches(':').nth(1).is_some()
        && let Some(address) = address(&authority)
    {
        return Cow::Owned(address);
    }
    let end = authority.find(':').unwrap_or(authority.len());
    let end = if end > 1 && authority[..end].ends_with('.') { end - 1 } else { end };
    match authority {
        Cow::Borrowed(text) if !text[..end].bytes().any(|byte| byte.is_ascii_uppercase()) => text[..end].into(),
        text => Cow::Owned(text[..end].to_ascii_lowercase()),
    }
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
            let authority = Authority::parse(text.as_bytes()).map(|authority| (authority.host, authority.port));
            assert_eq!(authority, Some((host.as_bytes(), port)), "{text}");
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
        assert!(agree("a", "A."));
        assert!(agree("a.:80", "a"));
        assert!(agree("[::1]", "[0:0:0:0:0:0:0:1]:80"));
        assert!(!agree("[::1]", "[::2]"));
    }

    #[test]
    fn an_authority_has_one_spelling() {
        for (text, authority, name) in [
            ("a.test", "a.test", "a.test"),
            ("A.Test:8080", "a.test:8080", "a.test"),
            ("a.test.", "a.test", "a.test"),
            ("A.test.:080", "a.test:80", "a.test"),
            ("127.0.0.1:1", "127.0.0.1:1", "127.0.0.1"),
            ("[::1]", "[::1]", "::1"),
            ("[0:0:0:0:0:0:0:1]:8443", "[::1]:8443", "::1"),
            ("[2001:DB8::0:1]", "[2001:db8::1]", "2001:db8::1"),
            ("[::FFFF:192.0.2.1]", "[::ffff:192.0.2.1]", "::ffff:192.0.2.1"),
            ("", "", ""),
        ] {
            let mut normal = text.as_bytes().to_vec();
            let is_plain = Authority::parse(text.as_bytes()).is_some_and(|authority| authority.is_plain);
            assert_eq!(
                is_plain,
                text == authority && text.starts_with(|first: char| first.is_alphanumeric()),
                "{text}"
            );
            assert_eq!(normalise(&mut normal), text != authority, "{text}");
            assert_eq!(normal, authority.as_bytes(), "{text}");
            assert!(!normalise(&mut normal), "{text}");
            assert_eq!(host(text.as_bytes()), name, "{text}");
        }
        assert_eq!(host(b"0:0:0:0:0:0:0:1"), "::1");
        assert_eq!(host(b"*.Wild.test."), "*.wild.test");
    }
}
