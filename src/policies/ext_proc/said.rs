//! What the processor is told.

use super::messages::{HttpBody, HttpHeaders, HttpTrailers, ProcessingRequest};
use crate::{
    http::head::{Fields, Known},
    policies::{
        Exchange, Side,
        envoy::{HeaderMap, HeaderValue, as_text},
    },
};

/// A message's header; `is_all`: nothing follows it.
pub fn headers(side: Side, is_all: bool, raw: bool, exchange: &Exchange<'_>) -> ProcessingRequest {
    let mut lines = Lines { raw, headers: Vec::new() };
    let (fields, length) = match side {
        Side::Request => {
            lines.push(b":method", exchange.method());
            lines.push(b":path", &[exchange.path(), exchange.query()].concat());
            lines.push(b":authority", exchange.authority());
            lines.push(b":scheme", exchange.peer.scheme.as_bytes());
            (exchange.request_fields(), exchange.request_content_length())
        }
        Side::Response => {
            lines.push(b":status", exchange.status().to_string().as_bytes());
            (exchange.response_fields(), exchange.response_length())
        }
    };
    lines.extend(fields);
    if let Some(length) = length {
        lines.push(b"content-length", length.to_string().as_bytes());
    }
    let headers = Some(HttpHeaders { headers: Some(lines.map()), end_of_stream: is_all });
    match side {
        Side::Request => ProcessingRequest { request_headers: headers, ..ProcessingRequest::default() },
        Side::Response => ProcessingRequest { response_headers: headers, ..ProcessingRequest::default() },
    }
}

/// A part of a body; `is_all`: nothing follows it.
pub fn body(side: Side, body: Vec<u8>, is_all: bool) -> ProcessingRequest {
    let body = Some(HttpBody { body, end_of_stream: is_all });
    match side {
        Side::Request => ProcessingRequest { request_body: body, ..ProcessingRequest::default() },
        Side::Response => ProcessingRequest { response_body: body, ..ProcessingRequest::default() },
    }
}

pub fn trailers(side: Side, trailers: &Fields, raw: bool) -> ProcessingRequest {
    let mut lines = Lines { raw, headers: Vec::new() };
    lines.extend(trailers);
    let trailers = Some(HttpTrailers { trailers: Some(lines.map()) });
    match side {
        Side::Request => ProcessingRequest { request_trailers: trailers, ..ProcessingRequest::default() },
        Side::Response => ProcessingRequest { response_trailers: trailers, ..ProcessingRequest::default() },
    }
}

/// Lines of a head, as bytes or as text.
struct Lines {
    raw: bool,
    headers: Vec<HeaderValue>,
}

impl Lines {
    fn push(&mut self, name: &[u8], value: &[u8]) {
        let key = name.to_ascii_lowercase();
        self.headers.push(match self.raw {
            true => HeaderValue { key, raw_value: value.to_vec(), ..HeaderValue::default() },
            false => HeaderValue { key, value: as_text(value), ..HeaderValue::default() },
        });
    }

    /// What came as `Host` is the authority.
    fn extend(&mut self, fields: &Fields) {
        for field in fields.iter() {
            if !matches!(field.known, Known::Host | Known::ContentLength) {
                self.push(field.name, field.value);
            }
        }
    }

    fn map(self) -> HeaderMap {
        HeaderMap { headers: self.headers }
    }
}
