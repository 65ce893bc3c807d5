//! The signature algorithms of JOSE (RFC 7518, RFC 8037) that tokens may be signed with.
//!
//! Which of them counts is the operator's say. A token only names one, and is refused where that is not among them.

use aws_lc_rs::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384,
        RSA_PSS_2048_8192_SHA512, VerificationAlgorithm,
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

/// How it verifies.
pub enum Way {
    /// With a secret of at least so many bytes: a shorter one than the hash is easier to guess than the hash.
    Secret(hmac::Algorithm, usize),
    /// With a public key, which is called this.
    Public(&'static dyn VerificationAlgorithm, &'static str),
}

const RSA: &str = "an RSA public key";

impl Algorithm {
    pub const ALL: [(&str, Self); 12] = [
        ("HS256", Self::Hs256),
        ("HS384", Self::Hs384),
        ("HS512", Self::Hs512),
        ("RS256", Self::Rs256),
        ("RS384", Self::Rs384),
        ("RS512", Self::Rs512),
        ("PS256", Self::Ps256),
        ("PS384", Self::Ps384),
        ("PS512", Self::Ps512),
        ("ES256", Self::Es256),
        ("ES384", Self::Es384),
        ("EdDSA", Self::EdDsa),
    ];

    /// Names differ by case too: `rs256` is none.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    pub fn takes_a_secret(self) -> bool {
        matches!(self.way(), Way::Secret(..))
    }

    pub fn way(self) -> Way {
        match self {
            Self::Hs256 => Way::Secret(hmac::HMAC_SHA256, 32),
            Self::Hs384 => Way::Secret(hmac::HMAC_SHA384, 48),
            Self::Hs512 => Way::Secret(hmac::HMAC_SHA512, 64),
            Self::Rs256 => Way::Public(&RSA_PKCS1_2048_8192_SHA256, RSA),
            Self::Rs384 => Way::Public(&RSA_PKCS1_2048_8192_SHA384, RSA),
            Self::Rs512 => Way::Public(&RSA_PKCS1_2048_8192_SHA512, RSA),
            Self::Ps256 => Way::Public(&RSA_PSS_2048_8192_SHA256, RSA),
            Self::Ps384 => Way::Public(&RSA_PSS_2048_8192_SHA384, RSA),
            Self::Ps512 => Way::Public(&RSA_PSS_2048_8192_SHA512, RSA),
            Self::Es256 => Way::Public(&ECDSA_P256_SHA256_FIXED, "a public key of the curve P-256"),
            Self::Es384 => Way::Public(&ECDSA_P384_SHA384_FIXED, "a public key of the curve P-384"),
            Self::EdDsa => Way::Public(&ED25519, "an Ed25519 public key"),
        }
    }
}
