//! Which headers no policy may write or take away.

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

pub fn is_gateways(name: &[u8]) -> bool {
    GATEWAYS.iter().any(|own| name.eq_ignore_ascii_case(own.as_bytes()))
}
