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

/// The name of a header that a policy may write: a token, and none of the gateway's own. Keeps its case.
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
        if is_gateways(bytes) {
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
