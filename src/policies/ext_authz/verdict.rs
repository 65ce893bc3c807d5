//! What the service has decided, whichever way it was asked, and what that changes.

use std::collections::BTreeMap;

use super::messages::CheckResponse;
use crate::policies::{
    Exchange, Headers, LocalResponse,
    envoy::{HeaderOption, HeaderValue},
    headers::{HeaderName, Refused},
};

/// The reason code of a refusal that the service gave.
pub const DENIED: &str = "ext_authz_denied";

const STATUS: u16 = 403;

#[derive(Debug)]
pub enum Verdict {
    Allowed(Allowed),
    Denied(Denied),
}

#[derive(Debug, Default)]
pub struct Allowed {
    /// Of the request, in this order.
    pub headers: Vec<Change>,
    pub removed: Vec<Vec<u8>>,
    pub parameters: Vec<HeaderValue>,
    pub removed_parameters: Vec<Vec<u8>>,
    /// Of the response that the client gets.
    pub client: Vec<Change>,
}

#[derive(Debug)]
pub struct Denied {
    pub status: u16,
    pub headers: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
}

/// One line, and what becomes of others of its name.
#[derive(Debug)]
pub struct Change {
    pub name: Vec<u8>,
    pub value: Vec<u8>,
    pub how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Set,
    /// Another line.
    Append,
    /// Behind the value that is there, with a comma; where there is none, nothing.
    Join,
    /// Only where there is none.
    Add,
    /// Only where there is one.
    Replace,
}

impl Verdict {
    /// The status decides: what else is said of the other outcome means nothing.
    pub fn of(said: CheckResponse) -> Self {
        if said.status.is_none_or(|status| status.code == 0) {
            let said = said.ok_response.unwrap_or_default();
            return Self::Allowed(Allowed {
                headers: said.headers.into_iter().filter_map(Change::of_request).collect(),
                removed: said.headers_to_remove.into_iter().map(String::into_bytes).collect(),
                parameters: said.query_parameters_to_set,
                removed_parameters: said.query_parameters_to_remove.into_iter().map(String::into_bytes).collect(),
                client: said.response_headers_to_add.into_iter().filter_map(Change::of_response).collect(),
            });
        }
        let said = said.denied_response.unwrap_or_default();
        let status = said.status.and_then(|status| u16::try_from(status.code).ok());
        // To append to a header of an answer that has none means nothing.
        let stands = |option: &HeaderOption| !option.append.as_ref().is_some_and(|append| append.value);
        Self::Denied(Denied {
            status: status.filter(|status| (200..600).contains(status)).unwrap_or(STATUS),
            headers: said.headers.into_iter().filter(stands).filter_map(|option| option.header).map(line).collect(),
            body: said.body,
        })
    }
}

/// A value that came as bytes stands where there is none as text.
fn line(header: HeaderValue) -> (Vec<u8>, Vec<u8>) {
    let value = if header.value.is_empty() { header.raw_value } else { header.value };
    (header.key, value)
}

impl Change {
    /// An `append` that is not said is no append.
    fn of_request(option: HeaderOption) -> Option<Self> {
        let how = if option.append.is_some_and(|append| append.value) { How::Join } else { How::Set };
        let (name, value) = line(option.header?);
        Some(Self { name, value, how })
    }

    fn of_response(option: HeaderOption) -> Option<Self> {
        let how = match (option.append.map(|append| append.value), option.append_action) {
            (Some(true), _) | (None, 0) => How::Append,
            (None, 1) => How::Add,
            (None, 3) => How::Replace,
            (Some(false), _) | (None, _) => How::Set,
        };
        let (name, value) = line(option.header?);
        Some(Self { name, value, how })
    }

    /// Names that frame a message, and those that are none, are left alone.
    fn apply(&self, headers: &mut Headers<'_>) -> Result<(), Refused> {
        let name = std::str::from_utf8(&self.name).ok().and_then(|name| HeaderName::new(name).ok());
        let Some(name) = name else { return Ok(()) };
        let there = headers.get(name.as_bytes());
        match (self.how, there) {
            (How::Add, Some(_)) | (How::Join | How::Replace, None) => Ok(()),
            (How::Append, _) => headers.append(&name, &self.value),
            (How::Join, Some(_)) => {
                let joined = headers.joined(name.as_bytes(), &self.value);
                headers.set(&name, &joined)
            }
            (How::Set | How::Add | How::Replace, _) => headers.set(&name, &self.value),
        }
    }
}

impl Allowed {
    /// `Err`: something in it cannot be written, and what stands before that has been. Returns what is for the response.
    pub fn apply(self, exchange: &mut Exchange<'_>) -> Result<Vec<Change>, Refused> {
        let mut headers = exchange.request_headers();
        self.headers.iter().try_for_each(|change| change.apply(&mut headers))?;
        if !self.removed.is_empty() {
            headers.remove_if(|name| self.removed.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
        }
        if !self.parameters.is_empty() || !self.removed_parameters.is_empty() {
            let query = query(exchange.query(), &self.parameters, &self.removed_parameters);
            exchange.set_query(&query)?;
        }
        Ok(self.client)
    }
}

/// For the client, once there is a response. What cannot be written is left out: the request has been allowed.
pub fn tell_client(changes: &[Change], exchange: &mut Exchange<'_>) {
    let mut headers = exchange.response_headers();
    for change in changes {
        let _ = change.apply(&mut headers);
    }
}

/// The parameters anew, by name: as Envoy writes them.
fn query(query: &[u8], set: &[HeaderValue], removed: &[Vec<u8>]) -> Vec<u8> {
    let mut parameters: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    let query = query.strip_prefix(b"?").unwrap_or(query);
    let query = query.strip_suffix(b"&").unwrap_or(query);
    for pair in query.split(|byte| *byte == b'&').filter(|_| !query.is_empty()) {
        let (name, value) = match pair.iter().position(|byte| *byte == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &b""[..]),
        };
        parameters.entry(name.to_vec()).or_default().push(value.to_vec());
    }
    for HeaderValue { key, value, .. } in set {
        parameters.insert(key.clone(), vec![value.clone()]);
    }
    removed.iter().for_each(|name| drop(parameters.remove(name)));
    let mut out = Vec::new();
    for (name, value) in parameters.iter().flat_map(|(name, values)| values.iter().map(move |value| (name, value))) {
        out.push(if out.is_empty() { b'?' } else { b'&' });
        out.extend_from_slice(name);
        out.push(b'=');
        out.extend_from_slice(value);
    }
    out
}

impl Denied {
    /// The answer. Lines that are no text are returned: they are written as they are, once there is a head.
    pub fn answer(self) -> (LocalResponse, Vec<Change>) {
        let (mut headers, mut others, mut has_type) = (Vec::new(), Vec::new(), false);
        for (name, value) in self.headers {
            let known = std::str::from_utf8(&name).ok().and_then(|name| HeaderName::new(name).ok());
            let Some(known) = known.filter(|_| crate::http::bytes::is_field_value(&value)) else { continue };
            has_type |= known.as_bytes().eq_ignore_ascii_case(b"content-type");
            match String::from_utf8(value) {
                Ok(value) => {
                    let name = String::from_utf8_lossy(known.as_bytes()).to_ascii_lowercase();
                    headers.push((name.into(), value.into()));
                }
                Err(raw) => others.push(Change { name, value: raw.into_bytes(), how: How::Append }),
            }
        }
        let content_type = (!has_type && !self.body.is_empty()).then_some("text/plain");
        let answer = LocalResponse {
            status: self.status,
            stored: None,
            headers,
            body: self.body.into(),
            content_type,
            reason: DENIED,
        };
        (answer, others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_written_by_name() {
        let check = |before: &str, set: &[(&str, &str)], removed: &[&str], expected: &str| {
            let pair = |(key, value): &(&str, &str)| HeaderValue {
                key: key.as_bytes().to_vec(),
                value: value.as_bytes().to_vec(),
                raw_value: Vec::new(),
            };
            let set: Vec<_> = set.iter().map(pair).collect();
            let removed: Vec<_> = removed.iter().map(|name| name.as_bytes().to_vec()).collect();
            let query = query(before.as_bytes(), &set, &removed);
            assert_eq!(String::from_utf8_lossy(&query), expected, "{before}");
        };
        check("", &[("b", "1"), ("a", "2")], &[], "?a=2&b=1");
        check("?b=1&a=2&b=3&flag&=e&&t=", &[("c", "d")], &[], "?=e&=&a=2&b=1&b=3&c=d&flag=&t=");
        check("?b=1&a=2&b=3", &[("b", "9")], &[], "?a=2&b=9");
        check("?a=1&", &[("c", "")], &["a"], "?c=");
        check("?a=1&b", &[], &["a", "b"], "");
        check("?", &[("a", "b")], &[], "?a=b");
    }
}
