//! Names of headers that policies may write, and the refusal of values that would split a message.

use crate::http::bytes::is_token;

/// Headers that frame a message, name its connection or its target: the gateway writes them itself from what it parsed, so
/// that no configuration can make two parsers read one message differently.
const GATEWAYS: [&str; 10] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// A name takes part in every search through a head.
const NAME_BYTES_MAX: usize = 256;

pub fn is_gateways(name: &[u8]) -> bool {
    // The longest of them first tells most names apart.
    name.len() <= 17 && GATEWAYS.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}

/// Whether some upstream may read the two as one name: CGI and its heirs have `_` for `-`, and some make that of every sign.
pub fn is_like(name: &[u8], other: &[u8]) -> bool {
    let same = |(one, other): (&u8, &u8)| match one.is_ascii_alphanumeric() {
        true => one.eq_ignore_ascii_case(other),
        false => !other.is_ascii_alphanumeric(),
    };
    name.len() == other.len() && name.iter().zip(other).all(same)
}

/// The name of a header that a policy may write: a token, and none that is, or may be read as, one of the gateway's own. Keeps
/// its case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderName(Box<[u8]>);

impl HeaderName {
    pub fn new(name: &str) -> Result<Self, BadName> {
        let bytes = name.as_bytes();
        if !is_token(bytes) {
            return Err(BadName::NoToken);
        }
        if bytes.len() > NAME_BYTES_MAX {
            return Err(BadName::TooLong);
        }
        if GATEWAYS.iter().any(|own| is_like(own.as_bytes(), bytes)) {
            return Err(BadName::Gateways);
        }
        Ok(Self(bytes.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    #[error("not a header name")]
    NoToken,
    #[error("longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    #[error("the gateway's own")]
    Gateways,
}

/// The value holds a byte that no field value may have: nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a header value")]
pub struct Refused;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_read_as_a_gateways_name_is_one() {
        for (name, expected) in [
            ("x-a", None),
            ("client_id", None),
            ("Authorization", None),
            ("x-host", None),
            ("", Some(BadName::NoToken)),
            ("a b", Some(BadName::NoToken)),
            ("a:", Some(BadName::NoToken)),
            ("\u{e4}", Some(BadName::NoToken)),
            ("Host", Some(BadName::Gateways)),
            ("Content-Length", Some(BadName::Gateways)),
            ("content_length", Some(BadName::Gateways)),
            ("Transfer.Encoding", Some(BadName::Gateways)),
            ("keep_alive", Some(BadName::Gateways)),
        ] {
            assert_eq!(HeaderName::new(name).err(), expected, "{name}");
        }
        assert_eq!(HeaderName::new(&"n".repeat(257)), Err(BadName::TooLong));
    }

    #[test]
    fn signs_are_alike_and_letters_in_any_case() {
        assert!(is_like(b"X-Api-Key", b"x_api.key") && is_like(b"client_id", b"Client-ID"));
        assert!(!is_like(b"x-api-key", b"x-api-key2") && !is_like(b"x-api-key", b"xxapi-key"));
    }
}
