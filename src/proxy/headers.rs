//! Request headers: what is taken from a client, and what an upstream sees.

use crate::{
    config::{
        settings::{ForwardClientCert, Settings},
        snapshot::Service,
    },
    http::{
        bytes,
        h1::{emit, hop::strip_hop_by_hop},
        h2,
        head::{BodyLength, Fields, Known, KnownSet, RequestHead, Version},
    },
    policies::{Peer, RequestLine},
    proxy::body::Held,
};

/// What only a trusted proxy may say. Who may say which certificate was shown is a setting of its own.
const FORWARDED: KnownSet = KnownSet::of(&[
    Known::Forwarded,
    Known::XForwardedFor,
    Known::XForwardedHost,
    Known::XForwardedOther,
    Known::XForwardedPort,
    Known::XForwardedProto,
]);

/// Removes what ends at this hop and what this client may not say; adds where the request came from, and its id. Policies
/// see the result.
///
/// `client` is the peer's address as text.
pub fn arrive(settings: &Settings, peer: &Peer<'_>, client: &str, random: impl Fn() -> u64, request: &mut RequestHead) {
    let takes_trailers = |value| bytes::list(value).any(|option| option.eq_ignore_ascii_case(b"trailers"));
    request.takes_trailers = request.fields.known_values(Known::Te).any(takes_trailers);
    strip_hop_by_hop(&mut request.fields);
    let fields = &mut request.fields;
    if fields.names().meets(FORWARDED) && !settings.trusted_proxies.contains(peer.address.ip()) {
        fields.retain(|field| !FORWARDED.has(field.known));
    }
    // Whoever the peer is: a proxy vouches for the names that it writes, and passes on the others as its client wrote them.
    fields.remove_known(Known::XLookalike);
    if let Some(name) = &settings.via {
        append_via(fields, request.version, name);
    }
    let certificate = peer.certificate.map(|identity| &*identity.forwarded);
    forward_certificate(settings.forward_client_cert, certificate, fields);

    if fields.known(Known::XForwardedFor).is_none() {
        fields.append_known(Known::XForwardedFor, b"x-forwarded-for", client.as_bytes());
    } else {
        let mut addresses = Vec::new();
        for value in fields.known_values(Known::XForwardedFor).filter(|value| !value.is_empty()) {
            addresses.extend_from_slice(value);
            addresses.extend_from_slice(b", ");
        }
        addresses.extend_from_slice(client.as_bytes());
        fields.set_known(Known::XForwardedFor, b"x-forwarded-for", &addresses);
    }
    if fields.known(Known::XForwardedProto).is_none() {
        fields.append_known(Known::XForwardedProto, b"x-forwarded-proto", peer.scheme.as_bytes());
    }
    if !settings.preserve_request_id || fields.known(Known::XRequestId).is_none() {
        fields.set_known(Known::XRequestId, b"x-request-id", &uuid(random(), random()));
    }
}

/// Says what this message has come through, in a line of its own (RFC 9110 section 7.6.3).
pub fn append_via(fields: &mut Fields, version: Version, name: &str) {
    let version = match version {
        Version::Http10 => "1.0 ",
        Version::Http11 => "1.1 ",
        Version::Http2 => "2.0 ",
    };
    fields.append(b"via", [version, name].concat().as_bytes());
}

fn forward_certificate(setting: ForwardClientCert, certificate: Option<&str>, fields: &mut Fields) {
    const NAME: &[u8] = b"x-forwarded-client-cert";
    match (setting, certificate) {
        (ForwardClientCert::AlwaysForwardOnly, _) | (ForwardClientCert::ForwardOnly, Some(_)) => {}
        (ForwardClientCert::AppendForward, Some(own)) => {
            let mut all = Vec::new();
            for value in fields.known_values(Known::XForwardedClientCert).filter(|value| !value.is_empty()) {
                all.extend_from_slice(value);
                all.push(b',');
            }
            all.extend_from_slice(own.as_bytes());
            fields.set_known(Known::XForwardedClientCert, NAME, &all);
        }
        (ForwardClientCert::SanitizeSet, Some(own)) => {
            fields.set_known(Known::XForwardedClientCert, NAME, own.as_bytes());
        }
        _ => fields.remove_known(Known::XForwardedClientCert),
    }
}

/// What the upstream is asked for.
#[derive(Clone, Copy)]
pub struct Line<'a> {
    pub method: &'a [u8],
    pub path: &'a [u8],
    /// With its `?`; empty for none.
    pub query: &'a [u8],
}

impl<'a> Line<'a> {
    /// What the client has asked for, and its route has made of the path; or what a policy has put in the place of that.
    #[inline]
    pub fn of(request: &'a RequestHead, path: &'a [u8], instead: &'a Option<Box<RequestLine>>) -> Self {
        match instead {
            None => Self { method: &request.method, path, query: &request.query },
            Some(line) => Self { method: line.method.as_bytes(), path: &line.path, query: &line.query },
        }
    }
}

/// Writes the head that the upstream sees.
pub fn write_upstream_head(
    out: &mut Vec<u8>,
    request: &RequestHead,
    line: &Line<'_>,
    service: &Service,
    settings: &Settings,
) {
    emit::request_line(out, line.method, line.path, line.query);
    emit::field(out, b"host", authority(request, service, settings));
    for field in request.fields.iter() {
        match field.known {
            Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection => {}
            Known::Expect => {
                if request.expects_continue {
                    emit::field(out, b"expect", b"100-continue");
                }
            }
            _ => emit::field(out, field.name, field.value),
        }
    }
    match request.body {
        BodyLength::Length(length) => {
            out.extend_from_slice(b"content-length: ");
            emit::decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        // What is known to be empty stays so, also where HTTP/2 has yet to say that it has ended.
        BodyLength::None | BodyLength::Chunked if request.content_length.is_some() && !request.websocket => {
            emit::field(out, b"content-length", b"0")
        }
        BodyLength::Chunked => emit::field(out, b"transfer-encoding", b"chunked"),
        // Where a method is about its body, a server wants to know that there is none (RFC 9110 section 8.6).
        BodyLength::None if matches!(line.method, b"POST" | b"PUT" | b"PATCH") => {
            emit::field(out, b"content-length", b"0")
        }
        BodyLength::None | BodyLength::UntilClose => {}
    }
    if request.websocket {
        emit::field(out, b"connection", b"upgrade");
        emit::field(out, b"upgrade", b"websocket");
    }
    emit::end_of_head(out);
}

/// The same for an upstream that speaks HTTP/2: the line, as pseudo-fields.
pub fn upstream_request<'a>(
    request: &'a RequestHead,
    line: &Line<'a>,
    service: &'a Service,
    settings: &Settings,
) -> h2::Outgoing<'a> {
    h2::Outgoing {
        method: if request.websocket { b"CONNECT" } else { line.method },
        scheme: if service.is_secure() { b"https" } else { b"http" },
        authority: authority(request, service, settings),
        path: line.path,
        query: line.query,
        protocol: request.websocket.then_some(&b"websocket"[..]),
    }
}

/// Frames a request by the body that a policy has put in the place of the client's: its length, or where trailers follow it.
pub fn frame_replaced(request: &mut RequestHead, bytes: usize, has_trailers: bool) {
    (request.body, request.content_length) = framed(bytes, has_trailers);
    request.expects_continue = false;
}

/// The same of a body that is changed on its way: its length is known once it has been read to its end.
pub fn frame_changed(request: &mut RequestHead, held: &Held) {
    match held.is_ended() {
        true => frame_replaced(request, held.bytes() as usize, held.has_trailers()),
        false => (request.body, request.content_length) = (BodyLength::Chunked, None),
    }
}

/// How a body of so many bytes is framed.
pub fn framed(bytes: usize, has_trailers: bool) -> (BodyLength, Option<u64>) {
    match bytes as u64 {
        _ if has_trailers => (BodyLength::Chunked, None),
        0 => (BodyLength::None, None),
        bytes => (BodyLength::Length(bytes), Some(bytes)),
    }
}

/// The fields of that head.
pub fn fill_upstream_fields(fields: &mut Fields, request: &RequestHead) {
    fields.clear();
    for field in request.fields.iter() {
        match field.known {
            Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Connection => {}
            Known::Expect if !request.expects_continue => {}
            // The key belongs to the handshake of HTTP/1.1 (RFC 8441 section 5).
            Known::Other if request.websocket && field.name.eq_ignore_ascii_case(b"sec-websocket-key") => {}
            _ => fields.append_lower_case(field.name, field.value),
        }
    }
    if let Some(length) = request.content_length.filter(|_| !request.websocket) {
        let mut text = Vec::with_capacity(20);
        emit::decimal(&mut text, length);
        fields.append_known(Known::ContentLength, b"content-length", &text);
    }
    if request.takes_trailers {
        fields.append_known(Known::Te, b"te", b"trailers");
    }
}

/// Whom the upstream is asked for.
fn authority<'a>(request: &'a RequestHead, service: &'a Service, settings: &Settings) -> &'a [u8] {
    own_authority(request, service, settings).map_or(&request.authority, str::as_bytes)
}

/// The Service's, where the client's is not kept.
pub fn own_authority<'a>(request: &RequestHead, service: &'a Service, settings: &Settings) -> Option<&'a str> {
    let keeps_host = service.preserve_host || !settings.rewrite_host_header;
    (!keeps_host || request.authority.is_empty()).then_some(&service.authority)
}

/// A version 4 UUID (RFC 9562) in its text form.
fn uuid(high: u64, low: u64) -> [u8; 36] {
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    let bytes = (u128::from(high) << 64 | u128::from(low)).to_be_bytes();
    let mut text = [b'-'; 36];
    // Where each byte's two digits stand, between the hyphens.
    const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];
    for (byte, at) in bytes.into_iter().zip(AT) {
        text[at] = b"0123456789abcdef"[usize::from(byte >> 4)];
        text[at + 1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_4() {
        let text = uuid(u64::MAX, u64::MAX);
        assert_eq!(std::str::from_utf8(&text), Ok("ffffffff-ffff-4fff-bfff-ffffffffffff"));
        assert_eq!(std::str::from_utf8(&uuid(0, 0)), Ok("00000000-0000-4000-8000-000000000000"));
    }
}
