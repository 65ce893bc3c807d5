//! The token endpoint's end: what it is asked (RFC 6749, sections 4.3 and 4.4), and what its answer means.

use std::{fmt::Write, time::Duration};

use serde::Deserialize;

use crate::calls::Answer;

/// Of a token, as it stands in a header.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Of a token whose server does not say how long it is good for.
pub const LIFETIME_ASSUMED: Duration = Duration::from_secs(60);

/// What a token endpoint has given.
#[derive(Debug, PartialEq, Eq)]
pub struct Granted {
    pub token: String,
    /// None where it does not say.
    pub lifetime: Option<Duration>,
}

#[derive(Deserialize)]
struct Written {
    access_token: String,
    #[serde(default)]
    expires_in: Option<Seconds>,
}

/// Some servers write it as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// What it gave; `None` where that is no token.
pub fn read(answer: &Answer) -> Option<Granted> {
    // A list of values would be taken for its fields.
    let is_object = answer.body.trim_ascii_start().first() == Some(&b'{');
    let Written { access_token: token, expires_in } =
        Some(()).filter(|()| is_object).and_then(|()| serde_json::from_slice(&answer.body).ok())?;
    let seconds = match expires_in {
        None => None,
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => Some(text.trim().parse().ok()?),
    };
    // RFC 6750, section 2.1: of visible characters.
    let is_token = !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token.bytes().all(|c| c.is_ascii_graphic());
    let lifetime = match seconds {
        None => None,
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds.clamp(0.0, 1e9)).ok()?),
    };
    is_token.then_some(Granted { token, lifetime })
}

/// `application/x-www-form-urlencoded`.
pub fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

/// One value of a form.
pub fn encoded(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => out.push(char::from(byte)),
            _ => write!(out, "%{byte:02X}").expect("a text takes what is written"),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Fields;

    fn granted(body: &str) -> Option<(String, Option<u64>)> {
        let answer = Answer { status: 200, headers: Fields::default(), body: body.as_bytes().to_vec() };
        read(&answer).map(|granted| (granted.token, granted.lifetime.map(|lifetime| lifetime.as_secs())))
    }

    #[test]
    fn a_token_and_its_lifetime_are_read_in_either_spelling() {
        let token = |lifetime| Some(("t".to_owned(), lifetime));
        for (body, expected) in [
            (r#"{"access_token": "t"}"#, token(None)),
            (r#"{"access_token": "t", "expires_in": 3600, "token_type": "Bearer"}"#, token(Some(3600))),
            (r#"{"access_token": "t", "expires_in": "3600"}"#, token(Some(3600))),
            (r#"{"access_token": "t", "expires_in": null}"#, token(None)),
            (r#"{"access_token": "t", "expires_in": -5}"#, token(Some(0))),
            (r#"{"access_token": "t", "expires_in": 1e300}"#, token(Some(1_000_000_000))),
            (r#"{"access_token": "t", "expires_in": "soon"}"#, None),
            (r#"{"access_token": ""}"#, None),
            (r#"{"access_token": "a b"}"#, None),
            (r#"{"access_token": "a\r\nb: c"}"#, None),
            (r#"{"access_token": 1}"#, None),
            (r#"{"error": "invalid_client"}"#, None),
            (r#"["access_token"]"#, None),
            ("<html>", None),
            ("", None),
        ] {
            assert_eq!(granted(body), expected, "{body}");
        }
        assert_eq!(granted(&format!(r#"{{"access_token": "{}"}}"#, "x".repeat(TOKEN_BYTES_MAX + 1))), None);
    }

    #[test]
    fn values_of_a_form_are_escaped() {
        assert_eq!(form(&[("a", "b c&d=é"), ("e", "")]), "a=b+c%26d%3D%C3%A9&e=");
    }
}
