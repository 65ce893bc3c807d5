//! `spec.sharedStorage` of a Configuration as written; `config/shared_storage.rs` says what it means.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{config::tls::SecretRef, document::node::Located};

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct SharedStorage {
    pub redis: Option<Located<Redis>>,
    pub local: Option<Local>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Local {
    pub enabled: Option<Located<bool>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Redis {
    pub address: Option<Located<String>>,
    pub username: Option<Located<String>>,
    pub password: Option<String>,
    pub db: Option<Located<u32>>,
    pub sentinel: Option<Located<Sentinel>>,
    pub tls: Option<Located<RedisTls>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sentinel {
    pub addresses: Vec<Located<String>>,
    pub master_name: Located<String>,
    pub password: Option<String>,
}

/// As a `tls-outbound` policy has it, and where the passphrase of the key may stand besides.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisTls {
    pub skip_validation: bool,
    #[serde(rename = "trustedCA")]
    pub trusted_ca: Option<Located<String>>,
    #[serde(rename = "trustedCAFile")]
    pub trusted_ca_file: Option<Located<PathBuf>>,
    pub certificate: Option<Located<RedisCertificate>>,
    pub key_passphrase: Option<String>,
    pub alpn: Vec<Located<String>>,
    #[serde(rename = "minversion")]
    pub min_version: Option<Located<String>>,
    #[serde(rename = "maxversion")]
    pub max_version: Option<Located<String>>,
    pub ciphers: Option<Vec<Located<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RedisCertificate {
    pub crt: Option<Located<String>>,
    pub key: Option<Located<String>>,
    pub secret_ref: Option<SecretRef>,
    pub crt_file: Option<Located<PathBuf>>,
    pub key_file: Option<Located<PathBuf>>,
    pub key_passphrase: Option<String>,
}
