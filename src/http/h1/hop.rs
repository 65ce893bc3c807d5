//! What a head says about one connection or one message's framing ends here (RFC 9110 section 7.6.1).
//!
//! `Connection` also names fields to remove. A client could use that to hide from the upstream what the gateway or a
//! proxy before it has set, so a nomination never removes a field that someone's decision may rest on.

use crate::http::{
    bytes,
    head::{FieldRef, Fields, Known, KnownSet, begins},
};

const HOP_BY_HOP: KnownSet = KnownSet::of(&[
    Known::Connection,
    Known::ContentLength,
    // Of an upgrade to HTTP/2 that RFC 9113 has taken away (section 3.1).
    Known::Http2Settings,
    Known::KeepAlive,
    // These speak to the next proxy, and that is us.
    Known::ProxyAuthenticate,
    Known::ProxyAuthenticationInfo,
    Known::ProxyAuthorization,
    Known::ProxyConnection,
    Known::Te,
    Known::TransferEncoding,
    Known::Upgrade,
]);

/// What a response of this status says to its recipient in a field that else ends here: what to upgrade to (RFC 9110 section
/// 15.5.22), and how to authenticate (section 15.5.8).
const fn meant(status: u16) -> KnownSet {
    match status {
        407 => KnownSet::of(&[Known::ProxyAuthenticate]),
        426 => KnownSet::of(&[Known::Upgrade]),
        _ => KnownSet::of(&[]),
    }
}

/// Removes what ends here from a response.
pub fn strip_response(fields: &mut Fields, status: u16) {
    strip(fields, HOP_BY_HOP.without(meant(status)));
}

/// Removes the hop-by-hop fields, those that `Connection` names, and `Content-Length`, which is written anew from the
/// parsed body length. `Trailer` stays: trailers are passed on.
pub fn strip_hop_by_hop(fields: &mut Fields) {
    strip(fields, HOP_BY_HOP);
}

fn strip(fields: &mut Fields, ends_here: KnownSet) {
    let mut nominated = Vec::new();
    for value in fields.known_values(Known::Connection) {
        // `keep-alive`, `close` and their like name nothing that would need a list.
        if !is_usual_option(value) && bytes::list(value).any(|option| !is_usual_option(option)) {
            nominated.extend_from_slice(value);
            nominated.push(b',');
        }
    }
    if fields.names().meets(ends_here) {
        fields.retain(|field| !ends_here.has(field.known));
    }
    if !nominated.is_empty() {
        fields.retain(|field| {
            is_protected(&field) || !bytes::list(&nominated).any(|option| option.eq_ignore_ascii_case(field.name))
        });
    }
}

fn is_usual_option(option: &[u8]) -> bool {
    match option.len() {
        2 => begins(option, b"te"),
        5 => begins(option, b"close"),
        7 => begins(option, b"upgrade"),
        10 => begins(option, b"keep-alive"),
        _ => false,
    }
}

/// Fields that mean the same to every recipient, or that identify the client; `Connection` cannot remove them.
fn is_protected(field: &FieldRef<'_>) -> bool {
    const PROTECTED: [&[u8]; 20] = [
        b"accept",
        b"age",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-security-policy",
        b"content-type",
        b"cookie",
        b"etag",
        b"expires",
        b"location",
        b"origin",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"strict-transport-security",
        b"vary",
        b"via",
        b"www-authenticate",
        b"x-real-ip",
    ];
    match field.known {
        Known::Other => PROTECTED.iter().any(|name| field.name.eq_ignore_ascii_case(name)),
        // Every name the gateway itself asks for, so that it always means what the gateway read.
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(lines: &[(&str, &str)], kept: &[&str]) {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(name.as_bytes(), value.as_bytes());
        }
        strip_hop_by_hop(&mut fields);
        let left: Vec<_> = fields.iter().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
        assert_eq!(left, kept, "{lines:?}");
    }

    #[test]
    fn what_concerns_one_connection_goes() {
        check(&[("Host", "a"), ("Accept", "*/*")], &["Host", "Accept"]);
        check(
            &[
                ("Host", "a"),
                ("CONNECTION", "keep-alive"),
                ("Keep-Alive", "timeout=5"),
                ("proxy-connection", "close"),
                ("TE", "trailers"),
                ("Transfer-Encoding", "chunked"),
                ("Content-Length", "5"),
                ("Upgrade", "h2c"),
                ("Proxy-Authorization", "Basic x"),
                ("Proxy-Authenticate", "Basic"),
                ("Trailer", "x-sum"),
                ("Accept", "*/*"),
            ],
            &["Host", "Trailer", "Accept"],
        );
    }

    #[test]
    fn what_connection_names_goes() {
        check(
            &[
                ("Connection", "close, X-One ,,"),
                ("X-One", "1"),
                ("x-two", "2"),
                ("connection", "X-TWO"),
                ("x-one", "again"),
                ("x-three", "3"),
            ],
            &["x-three"],
        );
        check(&[("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "x")], &[]);
    }

    #[test]
    fn a_nomination_cannot_hide_who_the_client_is() {
        for name in [
            "Host",
            "Authorization",
            "Cookie",
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "x-forwarded-anything",
            "Forwarded",
            "X-Request-Id",
            "X-Forwarded-Client-Cert",
            "X-Real-IP",
            "Content-Type",
            "Cache-Control",
            "Set-Cookie",
            "Date",
        ] {
            check(&[("Connection", &format!("close, {name}")), (name, "v")], &[name]);
        }
    }
}
