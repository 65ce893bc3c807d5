//! What the answer of a token endpoint means (RFC 6749, section 5.1).

use std::time::Duration;

use serde::Deserialize;

use crate::{calls::Answer, policies::asking::object};

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
    let Written { access_token: token, expires_in } = object(&answer.body)?;
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
}
