//! The key that an operator writes, and what it verifies.
//!
//! A key is bound to its algorithms when the configuration loads. So no token can have a public key taken for a secret.

use std::fmt;

use aws_lc_rs::{encoding::AsDer, hmac, signature::ParsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use x509_parser::{prelude::FromDer, x509::SubjectPublicKeyInfo};

use super::{
    algorithm::{Algorithm, Way},
    refusal::Refusal,
    token::Signed,
};

/// A shorter modulus can be factored.
const RSA_BITS_MIN: usize = 2048;
/// The largest RSA key has a tenth of it.
const PEM_BYTES_MAX: usize = 16 << 10;

/// One key with everything that it may verify.
pub struct Key(Box<[(Algorithm, Verifier)]>);

enum Verifier {
    /// Two states of its hash, a kibibyte.
    Secret(Box<hmac::Key>),
    Public(ParsedPublicKey),
}

/// A secret is not shown.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(algorithm, _)| algorithm)).finish()
    }
}

impl Key {
    /// A secret as it is, or a public key in PEM, whose first and last line may be missing. Every algorithm must fit it.
    pub fn from_text(text: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let is_secret = |algorithm: &&Algorithm| matches!(algorithm.way(), Way::Secret(..));
        match algorithms.iter().filter(is_secret).count() {
            0 => Self::from_der(&pem(text)?, algorithms),
            secrets if secrets == algorithms.len() => Self::from_secret(text, algorithms),
            _ => Err("one key cannot be both a secret and a public key".to_owned()),
        }
    }

    /// A public key in its place would let everybody sign who has it.
    fn from_secret(secret: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let is_public = pem(secret).is_ok_and(|der| SubjectPublicKeyInfo::from_der(&der).is_ok());
        if is_public || secret.contains("-----BEGIN ") {
            return Err("a secret is expected, and this is a key in PEM".to_owned());
        }
        Self::from_bytes(secret.as_bytes(), algorithms)
    }

    /// A secret that need not be text.
    pub(super) fn from_bytes(secret: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        Self::each(algorithms, |way, name| match way {
            Way::Secret(_, bytes_min) if secret.len() < bytes_min => {
                Err(format!("{name} takes a secret of at least {bytes_min} characters, and this has {}", secret.len()))
            }
            Way::Secret(hash, _) => Ok(Verifier::Secret(Box::new(hmac::Key::new(hash, secret)))),
            Way::Public(_, wanted) => Err(format!("{name} takes {wanted}")),
        })
    }

    /// SubjectPublicKeyInfo, the RSAPublicKey of PKCS #1, or the bare point of a curve.
    pub(super) fn from_der(der: &[u8], algorithms: &[Algorithm]) -> Result<Self, String> {
        Self::each(algorithms, |way, name| {
            let Way::Public(algorithm, wanted) = way else { return Err(format!("{name} takes a secret")) };
            let key =
                ParsedPublicKey::new(algorithm, der).map_err(|_| format!("{name} takes {wanted}, and this is none"))?;
            match rsa_bits(&key) {
                Some(bits) if bits < RSA_BITS_MIN => {
                    Err(format!("an RSA key of {bits} bits; fewer than {RSA_BITS_MIN} are not safe"))
                }
                _ => Ok(Verifier::Public(key)),
            }
        })
    }

    fn each(algorithms: &[Algorithm], make: impl Fn(Way, &str) -> Result<Verifier, String>) -> Result<Self, String> {
        let make = |algorithm: &Algorithm| Ok((*algorithm, make(algorithm.way(), algorithm.name())?));
        algorithms.iter().map(make).collect::<Result<_, String>>().map(Self)
    }

    /// Whether the one key that there is has signed this; a `kid` does not matter then.
    pub fn check(&self, signed: &Signed<'_>) -> Result<(), Refusal> {
        let algorithm = Algorithm::named(signed.algorithm).filter(|wanted| self.has(*wanted));
        let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
        if self.verifies(algorithm, signed.message, signed.signature) { Ok(()) } else { Err(Refusal::Signature) }
    }

    pub(super) fn has(&self, algorithm: Algorithm) -> bool {
        self.0.iter().any(|(known, _)| *known == algorithm)
    }

    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        let found = self.0.iter().find(|(known, _)| *known == algorithm);
        found.is_some_and(|(_, verifier)| match verifier {
            // Compares in constant time, and only tags of full length.
            Verifier::Secret(key) => hmac::verify(key, message, signature).is_ok(),
            Verifier::Public(key) => key.verify_sig(message, signature).is_ok(),
        })
    }
}

/// How long the modulus is; none where it is no RSA key.
fn rsa_bits(key: &ParsedPublicKey) -> Option<usize> {
    let der = AsDer::as_der(key).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).ok()?;
    match info.parsed().ok()? {
        x509_parser::public_key::PublicKey::RSA(rsa) => Some(rsa.key_size()),
        _ => None,
    }
}

/// The DER in a PEM block, or in what is left of one without its frame.
fn pem(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > PEM_BYTES_MAX {
        return Err(format!("more than {PEM_BYTES_MAX} bytes"));
    }
    let text = text.trim();
    let inner = match text.strip_prefix("-----BEGIN ") {
        None => text,
        Some(rest) => {
            let (label, rest) = rest.split_once("-----").ok_or("a PEM block whose first line does not end")?;
            if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
                return Err(format!("a public key is expected, and this PEM block is called `{label}`"));
            }
            rest.strip_suffix(&format!("-----END {label}-----")).ok_or("a PEM block without its last line")?
        }
    };
    let digits: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.is_empty() {
        return Err("must not be empty".to_owned());
    }
    BASE64.decode(digits).map_err(|_| "no public key in PEM: not Base64".to_owned())
}
