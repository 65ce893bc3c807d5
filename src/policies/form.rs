//! `application/x-www-form-urlencoded`, which authorization servers are asked in.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};

/// A whole form. The names are plain ones, and stand as they are.
pub fn form(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

/// The value of `Authorization` by which a client says its id and secret: each of them encoded first (RFC 6749, section 2.3.1).
pub fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{}:{}", encoded(id), encoded(secret))))
}

/// One value of a form.
fn encoded(value: &str) -> String {
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

    #[test]
    fn values_of_a_form_are_escaped() {
        assert_eq!(form(&[("a", "b c&d=é"), ("e", "")]), "a=b+c%26d%3D%C3%A9&e=");
    }

    #[test]
    fn ids_and_secrets_are_encoded_before_they_are_joined() {
        assert_eq!(basic("i d", "p:w"), format!("Basic {}", BASE64.encode("i+d:p%3Aw")));
    }
}
