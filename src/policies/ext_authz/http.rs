//! A service that is asked by HTTP: with the client's own method, path and host, and no body. 200 allows, 5xx is a failure, and
//! any other status is its refusal.

use serde::Deserialize;

use super::{
    names::Names,
    verdict::{Allowed, Change, Denied, How, Verdict},
};
use crate::{
    calls::Whole,
    http::head::{Fields, Known},
    policies::{Exchange, headers::HeaderName},
    telemetry::fault::Fault,
};

/// What a service says here is taken away from the request, by a comma between names.
const TO_REMOVE: &[u8] = b"x-envoy-auth-headers-to-remove";

/// Of the client's request, whatever is allowed besides. Method, path and host go along as such.
const ALWAYS_TOLD: &[u8] = b"authorization";

/// What a refusal is of use to a client with, whatever is allowed besides.
const ALWAYS_SHOWN: [&[u8]; 2] = [b"www-authenticate", b"location"];

#[derive(Debug)]
pub struct ByHttp {
    /// In front of the path.
    pub prefix: String,
    pub added: Vec<(HeaderName, Vec<u8>)>,
    pub upstream: Names,
    pub appended: Names,
    /// Of a refusal; empty: all.
    pub client: Names,
    pub on_success: Names,
}

impl ByHttp {
    /// Path and query.
    pub fn target(&self, exchange: &Exchange<'_>) -> Vec<u8> {
        [self.prefix.as_bytes(), exchange.path(), exchange.query()].concat()
    }

    pub fn fields(&self, allowed: Option<&Names>, exchange: &Exchange<'_>) -> Fields {
        let mut fields = Fields::default();
        let is_told =
            |name: &[u8]| name.eq_ignore_ascii_case(ALWAYS_TOLD) || allowed.is_some_and(|allowed| allowed.has(name));
        for field in exchange.request_fields().iter() {
            let frames =
                matches!(field.known, Known::Host | Known::ContentLength | Known::TransferEncoding | Known::Expect);
            if !frames && is_told(field.name) {
                fields.append(field.name, field.value);
            }
        }
        self.added.iter().for_each(|(name, value)| fields.set(name.as_bytes(), value));
        fields
    }

    pub fn verdict(&self, answer: Whole) -> Result<Verdict, Fault> {
        let Whole { status, headers, body, .. } = answer;
        if status >= 500 {
            return Err(Fault::new("unexpected_status", format!("status {status}")));
        }
        let lines =
            || headers.iter().filter(|field| !matches!(field.known, Known::ContentLength | Known::TransferEncoding));
        if status != 200 {
            let is_shown = |name: &[u8]| {
                self.client.is_empty()
                    || self.client.has(name)
                    || ALWAYS_SHOWN.iter().any(|shown| name.eq_ignore_ascii_case(shown))
            };
            let shown = lines().filter(|field| is_shown(field.name));
            let headers = shown.map(|field| (field.name.to_vec(), field.value.to_vec())).collect();
            return Ok(Verdict::Denied(Denied { status, headers, body }));
        }
        let changes = |names: &Names, how: How| -> Vec<Change> {
            let fitting = lines().filter(|field| names.has(field.name));
            fitting.map(|field| Change { name: field.name.to_vec(), value: field.value.to_vec(), how }).collect()
        };
        let mut changed = changes(&self.upstream, How::Set);
        changed.extend(changes(&self.appended, How::Append));
        let removed = headers.values(TO_REMOVE).flat_map(|value| value.split(|byte| *byte == b','));
        let removed = removed.map(|name| name.trim_ascii().to_vec()).filter(|name| !name.is_empty()).collect();
        let client = changes(&self.on_success, How::Append);
        Ok(Verdict::Allowed(Allowed { headers: changed, removed, client, ..Allowed::default() }))
    }
}

/// An answer as somebody writes it down.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

fn ok() -> u16 {
    200
}

/// `{"status": 401, "headers": [["x-a", "b"]], "body": "no"}`
pub fn told(written: &[u8]) -> Result<Whole, String> {
    let Written { status, headers: lines, body } =
        serde_json::from_slice(written).map_err(|error| error.to_string())?;
    let mut headers = Fields::default();
    lines.iter().for_each(|(name, value)| headers.append(name.as_bytes(), value.as_bytes()));
    Ok(Whole { status, headers, body: body.into_bytes(), trailers: Fields::default() })
}
