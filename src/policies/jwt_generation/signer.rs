//! What signs a token: a private key or a secret, bound to its algorithm when the configuration loads (RFC 7518, section 3).

use std::fmt;

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
        RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding,
    },
};
use serde::Deserialize;

use crate::policies::jwt::keys::pem;

#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SigningMethod {
    #[default]
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
}

enum Way {
    /// With a secret of at least so many bytes, as many as the hash has.
    Secret(hmac::Algorithm, usize),
    Rsa(&'static dyn RsaEncoding),
    Ecdsa(&'static EcdsaSigningAlgorithm, &'static str),
}

impl SigningMethod {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    fn way(self) -> Way {
        match self {
            Self::Rs256 => Way::Rsa(&RSA_PKCS1_SHA256),
            Self::Rs384 => Way::Rsa(&RSA_PKCS1_SHA384),
            Self::Rs512 => Way::Rsa(&RSA_PKCS1_SHA512),
            Self::Hs256 => Way::Secret(hmac::HMAC_SHA256, 32),
            Self::Hs384 => Way::Secret(hmac::HMAC_SHA384, 48),
            Self::Hs512 => Way::Secret(hmac::HMAC_SHA512, 64),
            Self::Es256 => Way::Ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
            Self::Es384 => Way::Ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
        }
    }

    /// Why others may come to sign by it. Published examples have such keys, so they work.
    pub fn weakness(self, key: &str) -> Option<String> {
        let Way::Secret(_, least) = self.way() else { return None };
        let (name, has) = (self.name(), key.len());
        let text = "who has one token can try out secrets until one fits";
        let is_short = has < least && !key.is_empty();
        is_short.then(|| format!("{name} wants a secret of at least {least} characters, and this has {has}: {text}"))
    }
}

pub struct Signer {
    method: SigningMethod,
    key: Key,
}

enum Key {
    Secret(Box<hmac::Key>),
    Rsa(Box<rsa::KeyPair>, &'static dyn RsaEncoding),
    Ecdsa(EcdsaKeyPair),
}

/// A key is not shown.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.method.name())
    }
}

/// The system gave no random number, which a signature of a curve needs.
#[derive(Debug)]
pub struct NotSigned;

impl Signer {
    /// A private key in PEM (PKCS #8), or a secret as it stands.
    ///
    /// # Errors
    /// Why it signs nothing, in words that show nothing of it.
    pub fn new(method: SigningMethod, text: &str) -> Result<Self, String> {
        let name = method.name();
        let key = match method.way() {
            Way::Secret(..) if text.contains("-----BEGIN ") => {
                return Err(format!("{name} takes a secret, and this is a key in PEM"));
            }
            Way::Secret(..) if text.is_empty() => return Err("must not be empty".to_owned()),
            Way::Secret(hash, _) => Key::Secret(Box::new(hmac::Key::new(hash, text.as_bytes()))),
            Way::Rsa(encoding) => {
                let pair = rsa::KeyPair::from_pkcs8(&private(text)?);
                let none = |_| format!("{name} takes an RSA private key of 2048 to 8192 bits, and this is none");
                Key::Rsa(Box::new(pair.map_err(none)?), encoding)
            }
            Way::Ecdsa(algorithm, curve) => {
                let pair = EcdsaKeyPair::from_pkcs8(algorithm, &private(text)?);
                let none = |_| format!("{name} takes a private key of the curve {curve}, and this is none");
                Key::Ecdsa(pair.map_err(none)?)
            }
        };
        Ok(Self { method, key })
    }

    pub fn method(&self) -> SigningMethod {
        self.method
    }

    /// # Errors
    /// There is no randomness.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, NotSigned> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Secret(key) => Ok(hmac::sign(key, message).as_ref().to_vec()),
            Key::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).map_err(|_| NotSigned)?;
                Ok(signature)
            }
            Key::Ecdsa(pair) => Ok(pair.sign(&random, message).map_err(|_| NotSigned)?.as_ref().to_vec()),
        }
    }
}

fn private(text: &str) -> Result<Vec<u8>, String> {
    pem(text, "private", &["PRIVATE KEY"]).map_err(|why| match why.contains("PRIVATE KEY") {
        // What older tools write, or one with a password.
        true => format!("{why}; `openssl pkcs8 -topk8 -nocrypt` makes the one of it"),
        false => why,
    })
}
