//! Origins as clients send them, and the entries that take them.
//!
//! Both are taken apart first, and compared part by part: what stands for the host in an entry sees the host and nothing else,
//! so `https://*.example.com` takes no `https://a.example.com.evil.test`, no other scheme and no port.

use crate::http::bytes::{HOST, all};

/// No origin is longer: a scheme, a host name of 253 bytes, a port.
pub const BYTES_MAX: usize = 300;

/// What stands behind `Origin:`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A page that has none it would tell: a sandbox, a file, a redirect across origins.
    Null,
    Of {
        scheme: &'a [u8],
        host: &'a [u8],
        /// Empty where it is the scheme's own.
        port: &'a [u8],
    },
}

impl<'a> Origin<'a> {
    /// `None` for what no browser sends (RFC 6454 section 6.2). What passes is ASCII without spaces, commas and quotes.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        if value == b"null" {
            return Some(Self::Null);
        }
        let (scheme, host, port) = parts(value)?;
        let is_scheme = scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(is_of_scheme);
        let is_host = match host {
            [b'[', address @ .., b']'] => {
                !address.is_empty() && address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
            }
            name => {
                !name.is_empty() && all(name, HOST) && name[0] != b'.' && !name.windows(2).any(|pair| pair == b"..")
            }
        };
        let is_port = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
        (is_scheme && is_host && is_port).then_some(Self::Of { scheme, host, port })
    }
}

fn is_of_scheme(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-.".contains(byte)
}

/// Scheme, host and port. A colon without a port behind it is none of an origin.
fn parts(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    if text.len() > BYTES_MAX {
        return None;
    }
    let at = text.windows(3).position(|three| three == b"://")?;
    let (scheme, authority) = (&text[..at], &text[at + 3..]);
    let host_len = match authority.first() {
        Some(b'[') => authority.iter().position(|byte| *byte == b']')? + 1,
        _ => authority.iter().position(|byte| *byte == b':').unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_len);
    match rest {
        [] => Some((scheme, host, rest)),
        [b':', port @ ..] if !port.is_empty() => Some((scheme, host, port)),
        _ => None,
    }
}

/// An entry of a list, in lower case; `*` in a part stands for any number of bytes of that part.
#[derive(Debug, PartialEq, Eq)]
pub enum Pattern {
    Null,
    Of { scheme: Box<[u8]>, host: Box<[u8]>, port: Box<[u8]> },
}

impl Pattern {
    /// `None` for what can take no origin.
    pub fn parse(text: &str) -> Option<Self> {
        let mut text = text.trim().to_ascii_lowercase();
        if text == "null" {
            return Some(Self::Null);
        }
        if text.ends_with('/') {
            text.pop();
        }
        if text.starts_with('*') && !text.contains("://") {
            text.insert_str(0, "*://");
        }
        let (scheme, host, port) = parts(text.as_bytes())?;
        let is_globbed = |part: &[u8], is_of: fn(&u8) -> bool| part.iter().all(|byte| *byte == b'*' || is_of(byte));
        let is_sound = !scheme.is_empty()
            && !host.is_empty()
            && is_globbed(scheme, is_of_scheme)
            && is_globbed(host, |byte| all(&[*byte], HOST) || b"[]:".contains(byte))
            && is_globbed(port, u8::is_ascii_digit);
        // Browsers leave out the port that the scheme has anyway.
        let port = if matches!((scheme, port), (b"https", b"443") | (b"http", b"80")) { b"" } else { port };
        is_sound.then(|| Self::Of { scheme: scheme.into(), host: host.into(), port: port.into() })
    }

    pub fn takes(&self, origin: Origin<'_>) -> bool {
        match (self, origin) {
            (Self::Null, Origin::Null) => true,
            (Self::Of { scheme, host, port }, Origin::Of { scheme: its_scheme, host: its_host, port: its_port }) => {
                glob(scheme, its_scheme) && glob(host, its_host) && glob(port, its_port)
            }
            _ => false,
        }
    }

    /// What it takes beyond what it looks like.
    pub fn remark(&self) -> Option<&'static str> {
        let Self::Of { host, .. } = self else {
            return Some("`null` is the origin of every sandboxed page, whoever wrote it");
        };
        match &**host {
            [.., b'*'] => Some("a host that ends in `*` takes hosts of anybody's"),
            [b'*', next, ..] if *next != b'.' => {
                Some("takes every host that ends so, also `evil` and the name; write `*.` for subdomains")
            }
            _ => None,
        }
    }
}

/// Whether a text, in any case, is what a pattern in lower case describes. A star that took too little takes one byte more;
/// those before it need not be asked again.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while of < text.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(byte) if *byte == text[of].to_ascii_lowercase() => {
                at += 1;
                of += 1;
            }
            _ => {
                let Some((star_at, taken)) = star else { return false };
                star = Some((star_at, taken + 1));
                (at, of) = (star_at + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(pattern: &str, taken: &[&str], others: &[&str]) {
        let pattern = Pattern::parse(pattern).unwrap_or_else(|| panic!("{pattern}"));
        for (origins, expected) in [(taken, true), (others, false)] {
            for origin in origins {
                let takes = Origin::parse(origin.as_bytes()).is_some_and(|origin| pattern.takes(origin));
                assert_eq!(takes, expected, "{pattern:?} and {origin}");
            }
        }
    }

    #[test]
    fn an_entry_takes_its_origin_in_any_case() {
        check(
            "https://Shop.Example",
            &["https://shop.example", "HTTPS://SHOP.EXAMPLE"],
            &[
                "http://shop.example",
                "https://shop.example:8443",
                "https://shop.example.evil.test",
                "https://shop.example.",
                "https://shop.example/",
                "https://xshop.example",
                "https://user@shop.example",
                "https://shop.example#",
                "null",
                "",
            ],
        );
        check("https://shop.example/", &["https://shop.example"], &["https://shop.example/"]);
        check("https://shop.example:443", &["https://shop.example"], &["http://shop.example"]);
        check("http://localhost:3000", &["http://localhost:3000"], &["http://localhost", "http://localhost:30000"]);
        check("http://[::1]:3000", &["http://[::1]:3000"], &["http://[::1]", "http://[::2]:3000"]);
        check("null", &["null"], &["NULL", "https://null", "nul"]);
        check("chrome-extension://abcdef", &["chrome-extension://abcdef"], &["https://abcdef"]);
    }

    #[test]
    fn a_star_stays_within_its_part() {
        check(
            "https://*.example.com",
            &["https://a.example.com", "https://a.b.example.com"],
            &[
                "https://example.com",
                "https://.example.com",
                "https://evil.com/.example.com",
                "https://evil.com:.example.com",
                "https://evil.com:80.example.com",
                "https://evil.com?.example.com",
                "https://evil.com#.example.com",
                "https://evil.com\\.example.com",
                "https://evil.com@a.example.com",
                "https://evil.com https://a.example.com",
                "https://evil.com,https://a.example.com",
                "https://a.example.com.evil.com",
                "https://a.example.com:8443",
                "https://aexample.com",
                "http://a.example.com",
                "https://[::1].example.com",
                "https://\u{e4}.example.com",
                "null",
            ],
        );
        check("http*://a.test", &["http://a.test", "https://a.test"], &["http://evil.test://a.test", "ftp://a.test"]);
        check(
            "http://localhost:*",
            &["http://localhost:3000"],
            &["http://localhost.evil.test:1", "http://localhost.evil.test"],
        );
        check(
            "*.a.test",
            &["https://x.a.test", "foo://x.a.test"],
            &["https://x.a.test:1", "https://x.a.test.b", "null"],
        );
        check(
            "https://*a*b*.test",
            &["https://ab.test", "https://xaxbx.test", "https://aab.test"],
            &["https://ba.test"],
        );
    }

    #[test]
    fn what_can_take_nothing_is_no_entry() {
        for text in [
            "",
            "www.a.test",
            "https://",
            "://a",
            "https://a.test/path",
            "https://a test",
            "https://a:",
            "https://u@a",
            "https://a:b",
            "https://[::1",
        ] {
            assert_eq!(Pattern::parse(text), None, "{text}");
        }
        assert_eq!(Pattern::parse(&format!("https://{}", "a".repeat(BYTES_MAX))), None);
    }

    #[test]
    fn what_takes_more_than_it_seems_is_remarked_on() {
        let remark = |text: &str| Pattern::parse(text).expect("valid").remark().is_some();
        for text in ["https://shop.*", "https://*", "https://*example.com", "null"] {
            assert!(remark(text), "{text}");
        }
        for text in ["https://*.example.com", "https://a.test", "http*://a.test", "http://a.test:*"] {
            assert!(!remark(text), "{text}");
        }
    }

    #[test]
    fn long_and_odd_values_are_none() {
        for long in ["https://a", "*", "://", "https://[", ":", "\u{e4}"] {
            assert_eq!(Origin::parse(long.repeat(10_000).as_bytes()), None);
        }
        let many = Pattern::parse(&format!("https://{}b", "*a".repeat(140))).expect("valid");
        let text = format!("https://{}", "a".repeat(290));
        assert!(!many.takes(Origin::parse(text.as_bytes()).expect("an origin")));
    }

    proptest! {
        #[test]
        fn what_is_an_origin_cannot_split_a_header(bytes in prop::collection::vec(any::<u8>(), 0..60), host in "[a-z:/.@\\[\\]]{0,20}") {
            for value in [bytes, format!("https://{host}").into_bytes()] {
                if Origin::parse(&value).is_some() {
                    prop_assert!(value.iter().all(|byte| byte.is_ascii_graphic() && !b",;\"'/@?#\\".contains(byte) || *byte == b'/'));
                    prop_assert!(value.iter().filter(|byte| **byte == b'/').count() <= 2);
                }
            }
        }
    }
}
