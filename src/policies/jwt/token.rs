//! A token taken apart (RFC 7515, compact form), and what is known of one that is genuine.
//!
//! ```text
//! base64url(header) . base64url(claims) . base64url(signature)
//! ```
//! Each token has one spelling: base64url without padding and spare bits, JSON in which no name is repeated.

use std::rc::Rc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};

use super::refusal::Refusal;
use crate::expression::{Datum, Object, Value};

/// A longer token is refused before it is looked at.
pub const TOKEN_BYTES_MAX: usize = 16 << 10;
/// The last second that the calendars of common libraries have (in the year 262142). A date behind it is an attack or an error.
const SECONDS_MAX: f64 = 8_210_266_876_799.0;

/// What is known of a token whose signature is right.
pub struct Verified {
    /// `authentication.properties`: the `claims`, and the token itself as `jwt`.
    properties: Rc<Datum>,
    pub exp: Option<u64>,
    pub nbf: Option<u64>,
}

const CLAIMS: &str = "claims";
const TOKEN: &str = "jwt";

impl Verified {
    pub fn properties(&self) -> Rc<Datum> {
        self.properties.clone()
    }

    pub fn claims(&self) -> &Datum {
        self.property(CLAIMS).unwrap_or(&Datum::Null)
    }

    pub fn claim(&self, name: &str) -> Option<&Datum> {
        match self.claims() {
            Datum::Object(claims) => claims.get(name),
            _ => None,
        }
    }

    pub fn token(&self) -> &str {
        match self.property(TOKEN) {
            Some(Datum::String(token)) => token,
            _ => "",
        }
    }

    fn property(&self, name: &str) -> Option<&Datum> {
        match &*self.properties {
            Datum::Object(properties) => properties.get(name),
            _ => None,
        }
    }
}

/// What a key is to have signed, and what the token's header says of how.
pub struct Signed<'t> {
    pub algorithm: &'t str,
    /// The key's name.
    pub kid: Option<&'t str>,
    pub message: &'t [u8],
    pub signature: &'t [u8],
}

/// Reads a token and has its signature checked. What its claims say is another matter.
pub fn verify(token: &[u8], check: impl FnOnce(&Signed<'_>) -> Result<(), Refusal>) -> Result<Verified, Refusal> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Refusal::TooLong);
    }
    let token = std::str::from_utf8(token).map_err(|_| Refusal::Encoding)?;
    let (header, claims, signature) = parts(token)?;
    let (header, signature) = (object(header).ok_or(Refusal::Header)?, signature_bytes(signature)?);
    let (algorithm, message) = (algorithm(&header)?, &token[..token.rfind('.').unwrap_or_default()]);
    check(&Signed { algorithm, kid: header.text("kid"), message: message.as_bytes(), signature: &signature })?;
    let claims = object(claims).ok_or(Refusal::Claims)?;
    let (exp, nbf) = (seconds(claims.get("exp"))?, seconds(claims.get("nbf"))?);
    let properties: Object =
        [(CLAIMS, Datum::Object(claims)), (TOKEN, Datum::String(token.into()))].into_iter().collect();
    Ok(Verified { properties: Rc::new(Datum::Object(properties)), exp, nbf })
}

fn parts(token: &str) -> Result<(&str, &str, &str), Refusal> {
    let mut parts = token.split('.');
    match [(); 4].map(|()| parts.next()) {
        [Some(header), Some(claims), Some(signature), None] => Ok((header, claims, signature)),
        // RFC 7516, section 9: five parts are an encrypted token.
        [_, _, _, Some(_)] if parts.count() == 1 => Err(Refusal::Encrypted),
        _ => Err(Refusal::Parts),
    }
}

fn signature_bytes(part: &str) -> Result<Vec<u8>, Refusal> {
    BASE64URL.decode(part).map_err(|_| Refusal::Encoding)
}

fn object(part: &str) -> Option<Object> {
    let bytes = BASE64URL.decode(part).ok()?;
    match Datum::from_json_without_repetition(std::str::from_utf8(&bytes).ok()?)? {
        Datum::Object(object) => Some(object),
        _ => None,
    }
}

/// What the token says it is signed with. Keys and addresses of keys in a header are never looked at: whoever makes up a token
/// can sign it with a key of his own.
fn algorithm(header: &Object) -> Result<&str, Refusal> {
    let is_text = |name| matches!(header.get(name), None | Some(Datum::String(_)));
    if !["kid", "typ", "cty"].into_iter().all(is_text) {
        return Err(Refusal::Header);
    }
    // RFC 7515, section 4.1.11: what is listed must be understood, and we understand none of it. RFC 7797, section 7: an
    // unencoded payload is no token.
    if header.get("crit").is_some() || !matches!(header.get("b64"), None | Some(Datum::Boolean(true))) {
        return Err(Refusal::Critical);
    }
    match header.get("alg") {
        Some(Datum::String(name)) => Ok(name),
        _ => Err(Refusal::Header),
    }
}

/// A moment, in whole seconds since 1970.
fn seconds(claim: Option<&Datum>) -> Result<Option<u64>, Refusal> {
    let Some(claim) = claim else { return Ok(None) };
    match Value::from(claim) {
        Value::Number(value, Some(written)) if !written.starts_with('-') && value <= SECONDS_MAX => {
            Ok(Some(value as u64))
        }
        _ => Err(Refusal::Time),
    }
}
