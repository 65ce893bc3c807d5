//! The key that an operator writes, and what it verifies.
//!
//! A key is bound to its algorithms when the configuration loads. So no token can have a public key taken for a secret.

use std::fmt;

use aws_lc_rs::{encoding::AsDer, hmac, signature::ParsedPublicKey};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use x509_parser::{prelude::FromDer, public_key::PublicKey, x509::SubjectPublicKeyInfo};

use super::{
    algorithm::{Algorithm, Way},
    refusal::Refusal,
    token::Signed,
};
use crate::tls::certificate::rsa_bits;

/// A shorter modulus can be factored.
const RSA_BITS_MIN: usize = 2048;
/// The largest RSA key has a tenth of it.
pub(super) const TEXT_BYTES_MAX: usize = 16 << 10;

/// Points of Ed25519 of low order, as they are written, without the sign of x: by such a key signatures of anybody are right.
/// 0 and p (of order 4), 1 and p + 1 (of order 1), p - 1 (of order 2), and the two of order 8.
const LOW_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    little_endian(1, 0, 0),
    little_endian(0xec, 0xff, 0x7f),
    little_endian(0xed, 0xff, 0x7f),
    little_endian(0xee, 0xff, 0x7f),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// 32 bytes: the first, those between, the last.
const fn little_endian(first: u8, between: u8, last: u8) -> [u8; 32] {
    let mut bytes = [between; 32];
    bytes[0] = first;
    bytes[31] = last;
    bytes
}

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
            0 => Self::from_der(&pem(text, "public", &PUBLIC)?, algorithms),
            secrets if secrets == algorithms.len() => Self::from_secret(text, algorithms),
            _ => Err("one key cannot be both a secret and a public key".to_owned()),
        }
    }

    /// A public key in its place would let everybody sign who has it.
    fn from_secret(secret: &str, algorithms: &[Algorithm]) -> Result<Self, String> {
        let is_public = pem(secret, "public", &PUBLIC).is_ok_and(|der| SubjectPublicKeyInfo::from_der(&der).is_ok());
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
            match weakness(&key) {
                Some(why) => Err(why),
                None => Ok(Verifier::Public(key)),
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

/// Why others than who has made the key may sign by it.
fn weakness(key: &ParsedPublicKey) -> Option<String> {
    let der = AsDer::as_der(key).ok()?;
    let (_, info) = SubjectPublicKeyInfo::from_der(der.as_ref()).ok()?;
    match info.parsed().ok()? {
        PublicKey::RSA(rsa) => {
            let bits = rsa_bits(&rsa);
            (bits < RSA_BITS_MIN).then(|| format!("an RSA key of {bits} bits; fewer than {RSA_BITS_MIN} are not safe"))
        }
        PublicKey::Unknown(point) => {
            let text = "an Ed25519 key of low order, by which anybody's signature would be right";
            is_of_low_order(point).then(|| text.to_owned())
        }
        _ => None,
    }
}

/// Whether this is such a point of Ed25519; no other key here is of 32 bytes.
fn is_of_low_order(point: &[u8]) -> bool {
    let Ok(mut point) = <[u8; 32]>::try_from(point) else { return false };
    point[31] &= 0x7f;
    LOW_ORDER.contains(&point)
}

const PUBLIC: [&str; 2] = ["PUBLIC KEY", "RSA PUBLIC KEY"];

/// The DER in a PEM block with one of these labels, or in what is left of one without its frame. `kind`: `public` or `private`.
pub(in crate::policies) fn pem(text: &str, kind: &str, labels: &[&str]) -> Result<Vec<u8>, String> {
    if text.len() > TEXT_BYTES_MAX {
        return Err(format!("more than {TEXT_BYTES_MAX} bytes"));
    }
    let text = text.trim();
    let inner = match text.strip_prefix("-----BEGIN ") {
        None => text,
        Some(rest) => {
            let (label, rest) = rest.split_once("-----").ok_or("a PEM block whose first line does not end")?;
            if !labels.contains(&label) {
                return Err(format!("a {kind} key is expected, and this PEM block is called `{label}`"));
            }
            rest.strip_suffix(&format!("-----END {label}-----")).ok_or("a PEM block without its last line")?
        }
    };
    let digits: Vec<u8> = inner.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    if digits.is_empty() {
        return Err("must not be empty".to_owned());
    }
    BASE64.decode(digits).map_err(|_| format!("no {kind} key in PEM: not Base64"))
}
