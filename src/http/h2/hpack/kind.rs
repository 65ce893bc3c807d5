//! What a field's name makes of it.

use crate::http::{bytes, head::Known};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pseudo(Pseudo),
    /// Joined with the other crumbs when the head is complete.
    Cookie,
    /// Speaks of an HTTP/1 connection and makes a message malformed (RFC 9113 section 8.2.2).
    ConnectionSpecific,
    /// Some read it as a framing field: `content_length`.
    Lookalike,
    /// Not a token in lower case, or a pseudo-field that is not defined.
    BadName,
    Field(Known),
}

/// RFC 9113 section 8.3 and RFC 8441.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Pseudo {
    Method,
    Scheme,
    Authority,
    Path,
    Protocol,
    Status,
}

impl Kind {
    pub fn of(name: &[u8]) -> Self {
        if name.first() == Some(&b':') {
            return match name {
                b":method" => Self::Pseudo(Pseudo::Method),
                b":scheme" => Self::Pseudo(Pseudo::Scheme),
                b":authority" => Self::Pseudo(Pseudo::Authority),
                b":path" => Self::Pseudo(Pseudo::Path),
                b":protocol" => Self::Pseudo(Pseudo::Protocol),
                b":status" => Self::Pseudo(Pseudo::Status),
                _ => Self::BadName,
            };
        }
        if name.is_empty() || name.len() > usize::from(u16::MAX) || !bytes::all(name, bytes::FIELD_NAME) {
            return Self::BadName;
        }
        match Known::of(name) {
            Known::Connection
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::TransferEncoding
            | Known::Upgrade => Self::ConnectionSpecific,
            Known::Other if name == b"cookie" => Self::Cookie,
            Known::Lookalike => Self::Lookalike,
            known => Self::Field(known),
        }
    }
}

/// What a value may hold (RFC 9113 section 8.2.1, and no control bytes as in HTTP/1).
pub fn is_value(value: &[u8]) -> bool {
    let bad = value.iter().fold(false, |bad, &byte| bad | ((byte < b' ') & (byte != b'\t')) | (byte == 0x7f));
    let at_end = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    !bad && !at_end(value.first()) && !at_end(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        for (name, kind) in [
            (":path", Kind::Pseudo(Pseudo::Path)),
            (":status", Kind::Pseudo(Pseudo::Status)),
            (":protocol", Kind::Pseudo(Pseudo::Protocol)),
            (":Path", Kind::BadName),
            (":", Kind::BadName),
            (":unknown", Kind::BadName),
            ("", Kind::BadName),
            ("Host", Kind::BadName),
            ("a b", Kind::BadName),
            ("a:", Kind::BadName),
            ("a\r", Kind::BadName),
            ("\u{e9}", Kind::BadName),
            ("cookie", Kind::Cookie),
            ("connection", Kind::ConnectionSpecific),
            ("transfer-encoding", Kind::ConnectionSpecific),
            ("proxy-connection", Kind::ConnectionSpecific),
            ("keep-alive", Kind::ConnectionSpecific),
            ("upgrade", Kind::ConnectionSpecific),
            ("content_length", Kind::Lookalike),
            ("transfer_encoding", Kind::Lookalike),
            ("te", Kind::Field(Known::Te)),
            ("host", Kind::Field(Known::Host)),
            ("x-a_b.c~d!1", Kind::Field(Known::Other)),
        ] {
            assert_eq!(Kind::of(name.as_bytes()), kind, "{name}");
        }
        assert_eq!(Kind::of(&[b'a'; 65_536]), Kind::BadName);
    }

    #[test]
    fn values() {
        for good in ["", "a", "a b\tc", "\u{e9}", "a:b;c=\"d\""] {
            assert!(is_value(good.as_bytes()), "{good:?}");
        }
        for bad in [" ", "\t", " a", "a ", "\ta", "a\t", "a\rb", "a\nb", "a\0", "\x01", "\x7f", "a\r\nb: c"] {
            assert!(!is_value(bad.as_bytes()), "{bad:?}");
        }
    }
}
