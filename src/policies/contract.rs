//! `kind: Contract`: a client of an API, and what it may use. Policies that check clients read it.

use std::fmt::{self, Debug, Display, Formatter};

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{SHA256, SHA256_OUTPUT_LEN, digest},
    rand,
};
use serde::Deserialize;

use super::rate_limiting::{self, Limit};
use crate::document::node::Located;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contract {
    pub api_id: Located<String>,
    pub client: Client,
    pub sla: Option<Sla>,
}

#[derive(Clone, Deserialize)]
#[serde(try_from = "WrittenClient")]
pub struct Client {
    pub id: String,
    /// `None`: the client is known by its id alone.
    pub secret: Option<ClientSecret>,
    pub name: Option<String>,
}

/// How a client proves who it is.
#[derive(Clone)]
pub enum ClientSecret {
    Plain(String),
    Hash(SecretHash),
}

#[derive(Clone, Debug, Deserialize)]
pub struct Sla {
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(default)]
    limits: SlaLimits,
}

impl Sla {
    /// Without faults; none where the tier has none.
    pub fn limits(&self) -> &[Limit] {
        &self.limits.0
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<Limit>")]
struct SlaLimits(Vec<Limit>);

impl TryFrom<Vec<Limit>> for SlaLimits {
    type Error = String;

    fn try_from(written: Vec<Limit>) -> Result<Self, String> {
        let faults = if written.is_empty() { Vec::new() } else { rate_limiting::faults("", &written) };
        let texts: Vec<_> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.text)).collect();
        if texts.is_empty() { Ok(Self(written)) } else { Err(texts.join("; ")) }
    }
}

/// Says nothing of the secret.
impl Debug for Client {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "Client({})", self.id)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenClient {
    id: String,
    secret: Option<String>,
    secret_hash: Option<String>,
    name: Option<String>,
}

impl TryFrom<WrittenClient> for Client {
    type Error = BadClient;

    fn try_from(written: WrittenClient) -> Result<Self, BadClient> {
        if written.id.is_empty() {
            return Err(BadClient::NoId);
        }
        let secret = match (written.secret, written.secret_hash) {
            (Some(_), Some(_)) => return Err(BadClient::TwoSecrets),
            // Whoever sends none would be right.
            (Some(secret), None) if secret.is_empty() => return Err(BadClient::EmptySecret),
            (Some(secret), None) => Some(ClientSecret::Plain(secret)),
            (None, Some(hash)) => Some(ClientSecret::Hash(SecretHash::parse(&hash).ok_or(BadClient::NoHash)?)),
            (None, None) => None,
        };
        Ok(Self { id: written.id, secret, name: written.name })
    }
}

/// Quotes nothing of what was written: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum BadClient {
    #[error("`id` must not be empty")]
    NoId,
    #[error("`secret` must not be empty: leave it out for a client without one")]
    EmptySecret,
    #[error("`secret` and `secretHash` exclude each other")]
    TwoSecrets,
    #[error("`secretHash` must be `sha256:`, the salt in hexadecimal (1 to 64 bytes), `:` and the hash in hexadecimal")]
    NoHash,
}

impl ClientSecret {
    /// What requests are compared with.
    pub fn hashed(&self) -> SecretHash {
        match self {
            Self::Plain(secret) => SecretHash::of(secret),
            Self::Hash(hash) => hash.clone(),
        }
    }

    /// Tells two configurations apart; never for showing.
    pub fn identity(&self) -> String {
        match self {
            Self::Plain(secret) => format!("plain:{secret}"),
            Self::Hash(hash) => hash.to_string(),
        }
    }
}

const SALT_BYTES_MAX: usize = 64;

/// SHA-256 of a salt followed by a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretHash {
    salt: Box<[u8]>,
    hash: [u8; SHA256_OUTPUT_LEN],
}

impl SecretHash {
    /// Reads `sha256:SALT:HASH`, both in hexadecimal.
    pub fn parse(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix("sha256:")?.split_once(':')?;
        let salt = from_hex(salt)?;
        let hash = from_hex(hash)?.try_into().ok()?;
        (1..=SALT_BYTES_MAX).contains(&salt.len()).then(|| Self { salt: salt.into(), hash })
    }

    /// With a salt of its own.
    pub fn of(secret: &str) -> Self {
        let mut salt = [0; 16];
        rand::fill(&mut salt).expect("the system's random numbers");
        let hash = digest(&SHA256, &[&salt, secret.as_bytes()].concat());
        Self { salt: salt.into(), hash: hash.as_ref().try_into().expect("SHA-256 has one length") }
    }

    /// Whether this is `secret`; takes as long wherever the hashes differ. `scratch` is emptied, and its memory reused.
    pub fn is_of(&self, secret: &[u8], scratch: &mut Vec<u8>) -> bool {
        scratch.extend_from_slice(&self.salt);
        scratch.extend_from_slice(secret);
        let hash = digest(&SHA256, scratch);
        scratch.fill(0);
        scratch.clear();
        verify_slices_are_equal(hash.as_ref(), &self.hash).is_ok()
    }
}

/// As [`SecretHash::parse`] reads it.
impl Display for SecretHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "sha256:{}:{}", hex(&self.salt), hex(&self.hash))
    }
}

/// A short secret could be found from its hash.
impl Debug for SecretHash {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `printf '\x00\xa1pass' | sha256sum`.
    const PASS: &str = "sha256:00a1:885340ba064a68f5b1de2b7bbcce326c3b5c2113961155a7a71fac195b3ffc35";

    #[test]
    fn a_hash_is_of_one_secret() {
        let known = SecretHash::parse(PASS).expect("well-formed");
        assert_eq!(known.to_string(), PASS);
        let mut scratch = Vec::new();
        assert!(known.is_of(b"pass", &mut scratch) && scratch.is_empty());
        for wrong in ["", "pas", "Pass", "pass\0", "passpass"] {
            assert!(!known.is_of(wrong.as_bytes(), &mut scratch), "{wrong}");
        }
        let fresh = SecretHash::of("pass");
        assert!(fresh.is_of(b"pass", &mut scratch) && !fresh.is_of(b"word", &mut scratch));
        assert!(SecretHash::of("pass") != fresh, "each has a salt of its own");
        assert_eq!(format!("{known:?}"), "SecretHash(..)");
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        let hash = "ab".repeat(32);
        let salt = |bytes: usize| format!("sha256:{}:{hash}", "0c".repeat(bytes));
        assert!(SecretHash::parse(&salt(64)).is_some());
        assert!(SecretHash::parse(&salt(1).replace("0c", "0C")).is_some());
        for wrong in [&salt(0), &salt(65), "", "secret", "sha1:00:ab", &salt(1)[..72], &format!("{}ab", salt(1))] {
            assert!(SecretHash::parse(wrong).is_none(), "{wrong}");
        }
        assert!(SecretHash::parse(&format!("sha256:0:{hash}")).is_none(), "half a byte");
        assert!(SecretHash::parse(&format!("sha256:+1:{hash}")).is_none());
    }

    proptest! {
        #[test]
        fn any_text_may_stand_for_a_hash(text in "(sha256:)?[0-9a-fA-F:é]{0,80}") {
            if let Some(hash) = SecretHash::parse(&text) {
                prop_assert_eq!(hash.to_string(), text.to_ascii_lowercase());
            }
        }
    }
}
