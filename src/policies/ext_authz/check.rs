//! What the service is asked by gRPC: who sends which request, without its body.

use std::time::UNIX_EPOCH;

use super::{
    messages::{Address, Attributes, CheckRequest, HttpRequest, Peer, Request, SocketAddress, Timestamp},
    names::Names,
};
use crate::{
    http::head::{Fields, Known, Version},
    policies::{
        Exchange,
        envoy::{HeaderMap, HeaderValue, as_text},
    },
    tls::{Identity, identity::Name},
};

/// What of a request is told.
pub struct Told<'p> {
    /// `None`: all headers.
    pub allowed: Option<&'p Names>,
    pub certificate: bool,
    /// Beside the headers as text as bytes, line by line.
    pub raw_headers: bool,
}

pub fn request(told: &Told<'_>, exchange: &Exchange<'_>) -> CheckRequest {
    let Exchange { peer, .. } = exchange;
    let since = exchange.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = Timestamp { seconds: since.as_secs() as i64, nanos: since.subsec_nanos() as i32 };
    let address = |address: std::net::SocketAddr| {
        let socket =
            SocketAddress { address: address.ip().to_canonical().to_string(), port: Some(address.port().into()) };
        Some(Address { socket: Some(socket) })
    };
    let source = Peer {
        address: address(peer.address),
        principal: peer.certificate.map(principal).unwrap_or_default(),
        certificate: peer.certificate.filter(|_| told.certificate).map(Identity::url_encoded).unwrap_or_default(),
    };
    let destination = Peer { address: address(peer.local), ..Peer::default() };
    let request = Request { time: Some(time), http: Some(http(told, exchange)) };
    let attributes = Attributes { source: Some(source), destination: Some(destination), request: Some(request) };
    CheckRequest { attributes: Some(attributes) }
}

fn http(told: &Told<'_>, exchange: &Exchange<'_>) -> HttpRequest {
    let fields = exchange.request_fields();
    let path = [exchange.path(), exchange.query()].concat();
    let (method, host) = (exchange.method().to_vec(), exchange.authority().to_vec());
    let pseudo: [(&[u8], &[u8]); 4] = [
        (b":authority", &host),
        (b":method", &method),
        (b":path", &path),
        (b":scheme", exchange.peer.scheme.as_bytes()),
    ];
    let length = exchange.request_content_length().map(|length| length.to_string());
    let is_told = |name: &[u8]| told.allowed.is_none_or(|allowed| allowed.has(name));
    let pseudo = || pseudo.into_iter().filter(|(name, _)| is_told(name));
    let lines = || {
        // What came as `Host` is the authority.
        let lines = fields.iter().filter(|field| !matches!(field.known, Known::Host | Known::ContentLength));
        let lines = lines.filter(|field| is_told(field.name));
        let length = length.iter().map(|length| (&b"content-length"[..], length.as_bytes()));
        let length = length.filter(|(name, _)| is_told(name));
        pseudo().chain(length).chain(lines.map(|field| (field.name, field.value)))
    };
    let raw = |(name, value): (&[u8], &[u8])| HeaderValue {
        key: name.to_ascii_lowercase(),
        raw_value: value.to_vec(),
        ..HeaderValue::default()
    };
    let header_map = told.raw_headers.then(|| HeaderMap { headers: lines().map(raw).collect() });
    HttpRequest {
        id: request_id(fields),
        headers: merged(lines()),
        header_map,
        scheme: exchange.peer.scheme.to_owned(),
        size: exchange.request_length().map_or(-1, |length| length as i64),
        protocol: match exchange.version() {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
        .to_owned(),
        method,
        path,
        host,
    }
}

fn request_id(fields: &Fields) -> Vec<u8> {
    fields.known(Known::XRequestId).map(as_text).unwrap_or_default()
}

/// Lines of one name are one entry; its values have a comma between them.
fn merged<'f>(lines: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> Vec<HeaderValue> {
    let mut entries: Vec<HeaderValue> = Vec::new();
    for (name, value) in lines {
        match entries.iter_mut().find(|entry| entry.key.eq_ignore_ascii_case(name)) {
            Some(entry) => {
                entry.value.push(b',');
                entry.value.extend(as_text(value));
            }
            None => {
                let (key, value) = (name.to_ascii_lowercase(), as_text(value));
                entries.push(HeaderValue { key, value, ..HeaderValue::default() });
            }
        }
    }
    entries
}

/// Whom the client's certificate names: by a URI, else by a host, else as its subject.
fn principal(identity: &Identity) -> String {
    let uri = identity.names.iter().find_map(|name| match name {
        Name::Uri(uri) => Some(uri),
        _ => None,
    });
    let host = || {
        identity.names.iter().find_map(|name| match name {
            Name::Dns(host) => Some(host),
            _ => None,
        })
    };
    uri.or_else(host).unwrap_or(&identity.subject).clone()
}
