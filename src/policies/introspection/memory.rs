//! What one core knows of good tokens, in the form that a request needs it.

use std::rc::Rc;

use super::answer::{Token, told};
use crate::{
    expression::{Datum, Object},
    http::bytes::is_field_value,
    policies::headers::{HeaderName, is_like},
};

/// What the fields of a token are told upstream by, before their own names.
const PREFIX: &str = "X-AGW-";
/// Of one token.
const TOLD_MAX: usize = 64;
const TOLD_BYTES_MAX: usize = 8 << 10;
/// Below `authentication.properties`.
const PROPERTIES: &str = "userProperties";

/// A token that the authorization server knows.
pub struct Admitted {
    pub properties: Rc<Datum>,
    /// Its client, and whose contract counts; empty where the server does not say.
    pub client: Box<str>,
    pub consumer: Box<str>,
    pub exp: Option<u64>,
    pub nbf: Option<u64>,
    /// Empty where nothing is told upstream.
    pub headers: Box<[(HeaderName, Box<[u8]>)]>,
}

/// Which fields of a token are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reads {
    pub client: &'static str,
    pub consumer: &'static str,
    /// They go upstream as headers.
    pub exposes: bool,
}

impl Admitted {
    pub fn new(token: &Token, reads: Reads) -> Self {
        let fields = Datum::Object(token.fields().clone());
        let properties: Object = [(PROPERTIES, fields)].into_iter().collect();
        Self {
            properties: Rc::new(Datum::Object(properties)),
            client: token.text(reads.client).into(),
            consumer: token.text(reads.consumer).into(),
            exp: token.exp,
            nbf: token.nbf,
            headers: if reads.exposes { headers(token) } else { Box::default() },
        }
    }
}

/// Whether an upstream may take this header of the client's for one of ours.
pub fn is_exposed(name: &[u8]) -> bool {
    name.get(..PREFIX.len()).is_some_and(|start| is_like(start, PREFIX.as_bytes()))
}

/// What can stand in a header, each name once: of two that an upstream may take for one the first.
fn headers(token: &Token) -> Box<[(HeaderName, Box<[u8]>)]> {
    let mut headers: Vec<(HeaderName, Box<[u8]>)> = Vec::new();
    let mut bytes = 0;
    for (name, value) in told(token.fields()) {
        let Ok(name) = HeaderName::new(&format!("{PREFIX}{name}")) else { continue };
        let is_new = !headers.iter().any(|(known, _)| is_like(known.as_bytes(), name.as_bytes()));
        let length = name.as_bytes().len() + value.len();
        if is_new && is_field_value(value.as_bytes()) && headers.len() < TOLD_MAX && bytes + length <= TOLD_BYTES_MAX {
            bytes += length;
            headers.push((name, value.into_bytes().into()));
        }
    }
    headers.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::introspection::answer::{Said, read};

    const READS: Reads = Reads { client: "client_id", consumer: "username", exposes: true };

    fn told_of(fields: &str) -> Vec<String> {
        let Some(Said::Active(token)) = read(format!("{{\"active\": true, {fields}}}").as_bytes()) else {
            panic!("good")
        };
        let headers = Admitted::new(&token, READS).headers;
        let line = |(name, value): &(HeaderName, Box<[u8]>)| {
            format!("{}: {}", String::from_utf8_lossy(name.as_bytes()), String::from_utf8_lossy(value))
        };
        headers.iter().map(line).collect()
    }

    #[test]
    fn fields_become_headers_that_split_nothing() {
        assert_eq!(
            told_of(
                r#""client_id": "c", "sub": "é", "a b": "x", "crlf": "a\r\nb: c", "Client-Id": "other", "space": " x",
                   "nul": "a\u0000", "": "e", "n": 1.50, "scope": "s", "exp": 9999999999, "list": [1], "o": {"a": 1}"#
            ),
            ["X-AGW-active: true", "X-AGW-client_id: c", "X-AGW-sub: é", "X-AGW-: e", "X-AGW-n: 1.50"]
        );
        let many: Vec<String> = (0..100).map(|at| format!("\"f{at}\": \"v\"")).collect();
        assert_eq!(told_of(&many.join(", ")).len(), TOLD_MAX);
        let long = format!("\"a\": \"{}\", \"b\": \"{}\"", "x".repeat(TOLD_BYTES_MAX), "y".repeat(100));
        assert_eq!(told_of(&long), ["X-AGW-active: true", &format!("X-AGW-b: {}", "y".repeat(100))]);
    }

    #[test]
    fn a_clients_own_lines_of_that_name_are_recognised() {
        for name in ["x-agw-sub", "X_AGW_sub", "X-AGW-", "x.agw-a"] {
            assert!(is_exposed(name.as_bytes()), "{name}");
        }
        for name in ["x-agw", "x-agwsub", "xxagw-a", "a-x-agw-a"] {
            assert!(!is_exposed(name.as_bytes()), "{name}");
        }
    }
}
