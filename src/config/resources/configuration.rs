//! `kind: Configuration`: replica-wide settings, one sub-key per subject.
//!
//! Resources are merged by sub-key, so each stays a tree until all files are read; then the last one of a kind is read as its
//! type. The types of what does not work yet are read too: a file with a typing error is told so today.

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    ringway::GatewayRingway,
    shared_storage::SharedStorage,
    to_come::{ConnectionBufferLimits, Logging, ResourceLimits, Sampling, Tracing, TracingLabel},
};
use crate::policies::circuit_breaker::WrittenThresholds;
use crate::{
    config::{settings::written, tls::outbound},
    document::{
        node::{Located, Member, Node, Shape, shape_of},
        problem::Problem,
    },
};

/// As written, until the resources are merged.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Configuration(pub Node);

/// A sub-key that a Configuration may hold.
pub struct Section {
    pub name: &'static str,
    /// It has an effect that this version does not give it.
    pub to_come: bool,
    check: fn(&Node, &str, &mut Vec<Problem>),
    shape: fn() -> Shape,
}

fn check<T: DeserializeOwned>(node: &Node, path: &str, problems: &mut Vec<Problem>) {
    let _: Option<T> = node.deserialize(path, problems);
}

const fn works<T: DeserializeOwned>(name: &'static str) -> Section {
    Section { name, to_come: false, check: check::<T>, shape: shape_of::<T> }
}

const fn to_come<T: DeserializeOwned>(name: &'static str) -> Section {
    Section { name, to_come: true, check: check::<T>, shape: shape_of::<T> }
}

impl Section {
    pub const ALL: &[Section] = &[
        works::<GatewayRingway>("ringway"),
        works::<written::Timeouts>("timeouts"),
        works::<Probe>("probe"),
        works::<Routing>("routing"),
        works::<CircuitBreaker>("circuitBreaker"),
        works::<ProxyProtocol>("proxyProtocol"),
        to_come::<Logging>("logging"),
        works::<SharedStorage>("sharedStorage"),
        works::<ForwardProxy>("forwardProxy"),
        to_come::<Tracing>("tracing"),
        to_come::<Sampling>("sampling"),
        to_come::<Vec<TracingLabel>>("labels"),
        works::<DefaultTls>("defaultTLS"),
        works::<TokenServer>("identityManagement"),
        to_come::<ConnectionBufferLimits>("connectionBufferLimits"),
        works::<ResourceLimits>("resourceLimits"),
        // Registration: read past, never acted on.
        works::<Node>("platformConnection"),
        works::<Node>("internalMetrics"),
    ];

    pub fn named(name: &str) -> Option<&'static Section> {
        Self::ALL.iter().find(|section| section.name.eq_ignore_ascii_case(name))
    }

    /// Of a whole `spec`.
    pub fn shapes() -> Shape {
        let member = |section: &Section| Member { name: section.name, shape: (section.shape)(), required: false };
        Shape::Record(Self::ALL.iter().map(member).collect())
    }

    /// Reports what is wrong with it.
    pub fn check(&self, node: &Node, path: &str, problems: &mut Vec<Problem>) {
        (self.check)(node, path, problems);
    }
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Probe {
    pub enabled: Option<bool>,
    pub port: Option<Located<u16>>,
    /// Accepted; the paths are `/probes/...`, as documented.
    pub path: Option<Located<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Routing {
    pub rewrite_host_header: Option<bool>,
}

/// How calls are secured: as a `tls-outbound` policy says it. What it means is read by `config/tls/calls.rs`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DefaultTls {
    #[expect(dead_code, reason = "it is read again as a tree, with its places")]
    outbound_policy_calls: Option<outbound::Written>,
}

/// Who carries the calls of policies outside; read by `config/forward_proxy.rs`.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardProxy {
    pub https: Option<HttpsProxy>,
    pub no_proxy: Vec<Located<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpsProxy {
    pub address: Located<String>,
    pub basic_auth: Option<ProxyUser>,
}

#[derive(Deserialize)]
pub struct ProxyUser {
    pub username: String,
    pub password: String,
}

/// `ringway.identityManagement` as the other product's registration writes it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct TokenServer {
    pub token_url: Option<Located<String>>,
    pub client_id: Option<Located<String>>,
    pub client_secret: Option<Located<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ProxyProtocol {
    pub enabled: bool,
}

/// Of each Service, where its `circuit-breaker-flex` policy does not say.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CircuitBreaker {
    pub thresholds: WrittenThresholds,
}
