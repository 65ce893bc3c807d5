//! Sub-keys of `kind: Configuration` that nothing uses yet. They are read so that a mistake in one is told today.

#![expect(dead_code, reason = "only their problems are of interest")]

use serde::Deserialize;

use crate::document::node::{Node, Ordered};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Logging {
    #[serde(default)]
    outputs: Vec<LogOutput>,
    runtime_logs: Option<RuntimeLogs>,
    access_logs: Option<AccessLogs>,
}

#[derive(Deserialize)]
struct LogOutput {
    name: String,
    r#type: String,
    #[serde(default)]
    parameters: Ordered<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeLogs {
    log_level: Option<LogLevel>,
    /// A list of names, or a map (`anypoint: disabled`).
    outputs: Option<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

#[derive(Deserialize)]
struct AccessLogs {
    outputs: Option<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    #[serde(rename = "trustedCA")]
    trusted_ca: Option<String>,
    certificate: Option<Certificate>,
    key_passphrase: Option<String>,
    #[serde(default)]
    skip_validation: bool,
    #[serde(rename = "minversion")]
    min_version: Option<String>,
    #[serde(rename = "maxversion")]
    max_version: Option<String>,
    #[serde(default)]
    alpn: Vec<String>,
    #[serde(default)]
    ciphers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Certificate {
    crt: Option<String>,
    key: Option<String>,
    key_passphrase: Option<String>,
}

#[derive(Deserialize)]
pub struct Tracing {
    provider: Option<TracingProvider>,
    sampling: Option<Sampling>,
    #[serde(default)]
    labels: Vec<TracingLabel>,
}

#[derive(Deserialize)]
struct TracingProvider {
    r#type: Option<String>,
    properties: Option<TracingProperties>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TracingProperties {
    address: Option<String>,
    service_type: Option<String>,
    service_name: Option<String>,
    timeout: Option<String>,
    #[serde(default)]
    resource_attributes: Ordered<Node>,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
pub struct Sampling {
    client: Option<f64>,
    random: Option<f64>,
    overall: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracingLabel {
    name: String,
    r#type: Option<String>,
    key_name: Option<String>,
    default_value: Option<String>,
}

#[derive(Deserialize)]
pub struct ConnectionBufferLimits {
    global: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceLimits {
    api_instances: Option<u64>,
    policies: Option<u64>,
}
