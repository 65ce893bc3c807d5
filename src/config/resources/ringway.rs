//! `spec.ringway`: settings of our own, where the other product ignores them.

use std::{fmt, path::PathBuf};

use serde::Deserialize;

use crate::{
    config::settings::{ForwardClientCert, written},
    document::node::Located,
};

/// In `kind: Configuration`. What is absent keeps its default (`settings.rs`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GatewayRingway {
    pub limits: written::Limits,
    pub timeouts: written::OwnTimeouts,
    pub listeners: Listeners,
    pub trusted_proxies: Option<Vec<Located<String>>>,
    pub server_header: Option<Located<String>>,
    pub via: Option<Located<String>>,
    pub forward_client_cert: Option<ForwardClientCert>,
    pub access_log: Option<AccessLog>,
    pub proxy_protocol: ProxyProtocolPeers,
    pub connections: written::Connections,
    pub cache: written::Cache,
    pub tls: Tls,
    /// Of the gateway, which all its replicas share.
    pub name: Option<Located<String>>,
    pub redis: RedisNodes,
    pub identity_management: Option<IdentityManagement>,
}

/// Who is asked about tokens; read by `config/identity_management.rs`.
#[derive(Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IdentityManagement {
    pub introspection_url: Option<Located<String>>,
    pub issuer: Option<Located<String>>,
    pub client_id: Option<Located<String>>,
    pub client_secret: Option<Located<String>>,
}

/// Nothing of it is for showing.
impl fmt::Debug for IdentityManagement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityManagement")
    }
}

/// Beside `sharedStorage.redis`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RedisNodes {
    /// Further nodes of a Redis Cluster.
    pub addresses: Vec<Located<String>>,
    /// Of the gateway, as long as none was heard of.
    pub replicas: Option<Located<u64>>,
}

/// Of every port that is served with TLS.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Tls {
    pub tickets: Option<bool>,
    pub ticket_keys_file: Option<Located<PathBuf>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listeners {
    pub h2c: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProxyProtocolPeers {
    pub from: Option<Vec<Located<String>>>,
}

/// Present: on, unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AccessLog {
    pub enabled: Option<bool>,
    pub format: AccessLogFormat,
    /// `stdout` (as if absent) or a file.
    pub path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AccessLogFormat {
    #[default]
    Text,
    Json,
}

/// In `kind: ApiInstance`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ApiRingway {
    /// Of the whole port; absent, it is as another instance of the port says, or else as `Configuration.proxyProtocol`.
    pub proxy_protocol: Option<Located<bool>>,
    /// For whom it answers: names, or `*.` and a suffix. None: for whom no other answers.
    pub hosts: Vec<Located<String>>,
}

/// In `kind: Service`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceRingway {
    pub endpoints: Vec<Located<String>>,
    pub load_balancing: LoadBalancing,
    pub preserve_host: bool,
    pub proxy_protocol: ProxyProtocolVersion,
    pub retries: Retries,
    pub health_check: Option<HealthCheck>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalancing {
    #[default]
    RoundRobin,
    LeastRequests,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ProxyProtocolVersion {
    #[default]
    None,
    V1,
    V2,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retries {
    pub attempts: Option<Located<u32>>,
    pub on: Option<Located<Vec<RetryOn>>>,
    pub budget_percent: Option<Located<u32>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RetryOn {
    ConnectFailure,
    Reset,
    GatewayError,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCheck {
    pub path: Option<Located<String>>,
    pub interval_seconds: Option<Located<f64>>,
    pub timeout_seconds: Option<Located<f64>>,
    pub unhealthy_threshold: Option<Located<u32>>,
    pub healthy_threshold: Option<Located<u32>>,
}
