//! Credentials of the gateway's own in a request to an upstream: what the client sent as such goes, or stays alone.
//!
//! An upstream must never choose between two. Some read `x_api_key` as `x-api-key`, so names that differ in such a sign alone
//! count as one. A credential may have two headers; it is replaced or kept whole.

use std::fmt;

use serde::Deserialize;

use super::{
    ConfigError, Exchange, Fault, Flow, LocalResponse,
    headers::{HeaderName, is_like},
};
use crate::http::bytes::is_field_value;

/// Whether the gateway's takes the place of what the client sent. The manual's default.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Overwrite(bool);

impl Overwrite {
    pub const NO: Self = Self(false);
}

impl Default for Overwrite {
    fn default() -> Self {
        Self(true)
    }
}

/// The headers that carry it, and whether the client's stays where there is one.
pub struct Credential {
    parts: Box<[Part]>,
    overwrites: bool,
}

struct Part {
    name: HeaderName,
    value: Box<[u8]>,
}

impl Credential {
    pub fn new(parts: impl IntoIterator<Item = (HeaderName, String)>, overwrite: Overwrite) -> Self {
        let part = |(name, value): (HeaderName, String)| Part { name, value: value.into_bytes().into() };
        Self { parts: parts.into_iter().map(part).collect(), overwrites: overwrite.0 }
    }

    /// None of ours, where the client's stays: the first of its lines.
    pub fn kept(name: &HeaderName) -> Self {
        Self::new([(name.clone(), String::new())], Overwrite::NO)
    }

    pub fn inject(&self, exchange: &mut Exchange<'_>) -> Flow {
        let sent =
            |part: &Part| exchange.request_fields().iter().any(|field| is_like(part.name.as_bytes(), field.name));
        let keeps = !self.overwrites && self.parts.iter().any(sent);
        let mut headers = exchange.request_headers();
        for Part { name, value } in &self.parts {
            // Of several lines that the client sent the first stays, where any does.
            let mut goes = !keeps;
            headers.remove_if(|other| is_like(name.as_bytes(), other) && std::mem::replace(&mut goes, true));
            if !keeps && headers.append(name, value).is_err() {
                return Flow::respond(LocalResponse::failed_policy());
            }
        }
        Flow::Continue
    }
}

/// Neither the log nor a dump shows the values.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.parts.iter().map(|part| String::from_utf8_lossy(part.name.as_bytes()));
        f.debug_struct("Credential")
            .field("names", &names.collect::<Vec<_>>())
            .field("overwrites", &self.overwrites)
            .finish_non_exhaustive()
    }
}

/// The header of a field that names one.
pub fn name(field: &str, written: Option<&str>, default: &str, error: &mut ConfigError) -> Option<HeaderName> {
    let name = HeaderName::new(written.map_or(default, str::trim));
    name.map_err(|fault| error.add(Fault::at(field, fault.to_string()))).ok()
}

/// A secret as it stands in a header: there, and nothing that would split the message. Space around it, such as the line break
/// at the end of a file, cannot be sent and is none of it.
pub fn value(field: &str, written: Option<&str>, error: &mut ConfigError) -> String {
    let value = written.unwrap_or_default().trim();
    if value.is_empty() {
        error.add(Fault::at(field, "must not be empty"));
    } else if !is_field_value(value.as_bytes()) {
        error.add(Fault::at(field, "not a header value"));
    }
    value.to_owned()
}
