//! `kind: Configuration`: replica-wide settings, one sub-key per subject.
//!
//! Resources are merged by sub-key, so each stays a tree until all files are read; then the last one of a kind is read as its
//! type. The types of what does not work yet are read too: a file with a typing error is told so today.

use serde::{Deserialize, de::DeserializeOwned};

use super::{
    ringway::GatewayRingway,
    to_come::{
        ConnectionBufferLimits, ForwardProxy, Logging, ResourceLimits, Sampling, SharedStorage, Tracing, TracingLabel,
    },
};
use crate::config::{
    node::{Located, Member, Node, Shape, shape_of},
    problem::{Location, Problem},
    settings,
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
        works::<Timeouts>("timeouts"),
        works::<Probe>("probe"),
        works::<Routing>("routing"),
        works::<CircuitBreaker>("circuitBreaker"),
        works::<ProxyProtocol>("proxyProtocol"),
        to_come::<Logging>("logging"),
        to_come::<SharedStorage>("sharedStorage"),
        to_come::<ForwardProxy>("forwardProxy"),
        to_come::<Tracing>("tracing"),
        to_come::<Sampling>("sampling"),
        to_come::<Vec<TracingLabel>>("labels"),
        works::<DefaultTls>("defaultTLS"),
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
#[serde(rename_all = "camelCase", default)]
pub struct Timeouts {
    pub stream_idle_seconds: Option<Located<f64>>,
    pub upstream_connection_idle_seconds: Option<Located<f64>>,
    pub upstream_response_seconds: Option<Located<f64>>,
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

/// How calls are secured. It is read like a `tls-outbound` policy, and its mistakes are told then.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTls {
    pub outbound_policy_calls: Option<Node>,
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
    pub thresholds: Thresholds,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Thresholds {
    pub max_connections: Option<Located<u64>>,
    pub max_pending_requests: Option<Located<u64>>,
    pub max_requests: Option<Located<u64>>,
    pub max_retries: Option<Located<u64>>,
    pub max_connection_pools: Option<Located<u64>>,
}

impl Thresholds {
    /// What is no threshold is left out, and `wrong` is told.
    pub fn read(&self, mut wrong: impl FnMut(String, &Location, String)) -> settings::Thresholds {
        const MANY: u64 = 10_000_000;
        let mut read = |name: &str, written: &Option<Located<u64>>, least: u64| {
            let Located { value, location } = written.as_ref()?;
            if (least..=MANY).contains(value) {
                return usize::try_from(*value).ok();
            }
            wrong(format!("thresholds.{name}"), location, format!("expected {least} to {MANY}"));
            None
        };
        settings::Thresholds {
            // None at all would refuse every request.
            connections: read("maxConnections", &self.max_connections, 1),
            pending_requests: read("maxPendingRequests", &self.max_pending_requests, 0),
            requests: read("maxRequests", &self.max_requests, 1),
            retries: read("maxRetries", &self.max_retries, 0),
        }
    }

    /// What is accepted and means nothing here: its field, its place and why.
    pub fn remark(&self) -> Option<(&'static str, &Location, &'static str)> {
        let pools = self.max_connection_pools.as_ref()?;
        Some(("thresholds.maxConnectionPools", &pools.location, "no effect: a Service has one pool on each core"))
    }

    pub fn is_empty(&self) -> bool {
        self.max_connections.is_none()
            && self.max_pending_requests.is_none()
            && self.max_requests.is_none()
            && self.max_retries.is_none()
    }
}
