//! Which entry a request has: the key, by its expression; also of what a response names that has changed.

use std::borrow::Cow;

use super::HttpCaching;
use crate::{
    expression::{Template, Value},
    http::target,
    policies::{
        Exchange,
        reading::{Reading, Target},
    },
};

/// The expression has no value for this request, or one that does not tell it from others.
pub(super) struct NoKey;

/// A longer key is none: it is kept with each entry.
const KEY_BYTES_MAX: usize = 16 << 10;

impl HttpCaching {
    /// Becomes the key of the request; HEAD has the entry of a GET.
    pub(super) fn key(&self, exchange: &Exchange<'_>, key: &mut Vec<u8>) -> Result<(), NoKey> {
        let reading = Reading::request(exchange);
        if exchange.method() != b"HEAD" {
            return self.evaluate(&reading, key);
        }
        let get = Target { method: "GET".into(), place: None };
        self.evaluate(&reading.with_target(&get), key)
    }

    /// The keys that a GET of the same would have, and of what the response names in `Location` and `Content-Location` on the
    /// same host (RFC 9111 section 4.4).
    pub(super) fn changed(&self, exchange: &Exchange<'_>) -> Vec<Vec<u8>> {
        let own = Target { method: "GET".into(), place: None };
        let named = ["location", "content-location"].into_iter();
        let named = named.filter_map(|name| exchange.response_fields().get(name.as_bytes()));
        let named = named.filter_map(|reference| place(reference, exchange));
        let targets: Vec<_> = named.map(|place| Target { place: Some(place), ..own.clone() }).collect();
        let key = |target| {
            let mut key = Vec::new();
            self.evaluate(&Reading::request(exchange).with_target(target), &mut key).ok().map(|()| key)
        };
        std::iter::once(&own).chain(&targets).filter_map(key).collect()
    }

    fn evaluate(&self, reading: &Reading<'_, '_>, key: &mut Vec<u8>) -> Result<(), NoKey> {
        key.clear();
        let text = match &self.key {
            Template::Literal(text) => Cow::Borrowed(&**text),
            Template::Expression(expression) => {
                expression.evaluate(reading).and_then(Value::into_text).map_err(|_| NoKey)?
            }
        };
        // Bytes that are no UTF-8 read as one and the same character: requests that differ in them would have one entry.
        if text.len() > KEY_BYTES_MAX || text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(NoKey);
        }
        key.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Path and query of a reference, where it is on the request's host.
fn place(reference: &[u8], exchange: &Exchange<'_>) -> Option<(String, String)> {
    let reference = reference.split(|&byte| byte == b'#').next()?;
    let after_scheme = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = reference.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    let target = match after_scheme.or_else(|| reference.strip_prefix(b"//")) {
        Some(rest) => {
            let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
            if !rest[..end].eq_ignore_ascii_case(exchange.authority()) {
                return None;
            }
            match &rest[end..] {
                [] => b"/".to_vec(),
                rest @ [b'?', ..] => [b"/", rest].concat(),
                rest => rest.to_vec(),
            }
        }
        None if reference.starts_with(b"/") => reference.to_vec(),
        None if reference.is_empty() => [exchange.path(), exchange.query()].concat(),
        None if reference.starts_with(b"?") => [exchange.path(), reference].concat(),
        None => {
            let path = exchange.path();
            let folder = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
            [&path[..folder], reference].concat()
        }
    };
    let query_at = target.iter().position(|&byte| byte == b'?');
    let (path, query) = target.split_at(query_at.unwrap_or(target.len()));
    let mut normal = Vec::new();
    let path = if target::normalise(path, false, &mut normal) { &normal } else { path };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some((text(path), text(query.get(1..).unwrap_or_default())))
}
