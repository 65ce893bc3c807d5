//! `kind: Secret`: a certificate with its key.
//!
//! The product writes two keys with a dot in them, as Kubernetes does; one map with two keys is the same.

use serde::Deserialize;

#[derive(Clone, Deserialize)]
#[serde(try_from = "Written")]
pub struct Secret {
    pub tls: Option<TlsSecret>,
}

#[derive(Clone, Default, Deserialize)]
pub struct TlsSecret {
    /// Base64 of PEM.
    pub crt: Option<String>,
    pub key: Option<String>,
}

/// As the operator writes it.
#[derive(Deserialize)]
struct Written {
    tls: Option<TlsSecret>,
    #[serde(rename = "tls.crt")]
    crt: Option<String>,
    #[serde(rename = "tls.key")]
    key: Option<String>,
}

impl TryFrom<Written> for Secret {
    type Error = &'static str;

    fn try_from(Written { tls, crt, key }: Written) -> Result<Self, Self::Error> {
        if tls.is_some() && (crt.is_some() || key.is_some()) {
            return Err("expected `tls` or `tls.crt` and `tls.key`, not both");
        }
        let flat = (crt.is_some() || key.is_some()).then_some(TlsSecret { crt, key });
        Ok(Self { tls: tls.or(flat) })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
