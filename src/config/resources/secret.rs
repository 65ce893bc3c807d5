//! `kind: Secret`: a certificate with its key.

use serde::Deserialize;

#[derive(Clone, Deserialize)]
pub struct Secret {
    pub tls: Option<TlsSecret>,
}

#[derive(Clone, Deserialize)]
pub struct TlsSecret {
    /// Base64 of PEM.
    pub crt: Option<String>,
    pub key: Option<String>,
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}
