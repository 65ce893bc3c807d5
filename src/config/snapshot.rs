//! One version of everything the data plane serves: immutable, shared by all cores.
//!
//! What is here has been checked. A policy that could not be built is `Policy::Broken` in its chain, so that nothing on a
//! request's way asks whether the configuration was right.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use super::{problem::Problem, rule::Rule, settings::Settings};
use crate::policies::Policy;

#[derive(Debug)]
pub struct Snapshot {
    /// Counts up with every snapshot this process made.
    pub generation: u64,
    /// Hash of the configuration, the same on every replica with the same files. Lower-case hex.
    pub hash: String,
    pub settings: Settings,
    pub listeners: Vec<Listener>,
    pub apis: Vec<Arc<Api>>,
    pub services: Vec<Arc<Service>>,
    /// How many regular expressions the rules hold; cores size their scratch space by it.
    pub patterns: usize,
    /// What `/config` and the log say about this set.
    pub problems: Vec<Problem>,
}

/// One address to bind, with the APIs that share it. `https` addresses are not listed before there is TLS.
#[derive(Debug)]
pub struct Listener {
    pub address: SocketAddr,
    pub apis: BaseIndex,
}

/// Finds the API of a path. Bases on one listener never clash, so at most one holds.
#[derive(Debug, Default)]
pub struct BaseIndex {
    /// Base path without a trailing slash (`""` for the root) to an index into `Snapshot::apis`.
    pub by_base: HashMap<Box<[u8]>, usize>,
    /// The distinct numbers of segments among the bases, ascending: one hash look-up for each.
    pub depths: Vec<usize>,
}

#[derive(Debug)]
pub struct Api {
    pub namespace: String,
    pub name: String,
    /// As written, for example `/foo/` or `/api` or `/`.
    pub base: String,
    /// Interned for metrics: the same API keeps it over reloads.
    pub series: SeriesId,
    pub policies: Vec<BoundPolicy>,
    /// Sorted by order, then by document order.
    pub routes: Vec<Route>,
}

/// Index of a metric series; outlives snapshots. Made by `telemetry::series::intern`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SeriesId(pub u32);

/// A policy at its place in a chain.
#[derive(Debug)]
pub struct BoundPolicy {
    /// `<api>-<policyName>-<n>` or the binding's name.
    pub name: String,
    /// Kind, namespace, name and the hash of the configuration: state carries over a reload where this is equal.
    pub identity: u64,
    pub policy: Policy,
    /// Empty: applies to every request.
    pub rules: Vec<Rule>,
}

#[derive(Debug)]
pub struct Route {
    /// `<api>-<serviceKey>-route-<n>` or the binding's name.
    pub name: String,
    pub series: SeriesId,
    /// Empty: matches everything.
    pub rules: Vec<Rule>,
    pub target: Target,
}

#[derive(Debug)]
pub enum Target {
    One(Destination),
    /// Weights as written, and their sum.
    Weighted {
        choices: Vec<(u32, Destination)>,
        sum: u32,
    },
}

#[derive(Debug)]
pub struct Destination {
    /// Index into `Snapshot::services`. `None`: the Service does not exist; such a route answers 503.
    pub service: Option<usize>,
    /// The service address's path joined with `destinationPath`: no trailing slash, `""` for none.
    pub path: String,
}

#[derive(Debug)]
pub struct Service {
    pub namespace: String,
    pub name: String,
    /// Kind, namespace, name and the hash of the address part: pools and health carry over where this is equal.
    pub identity: u64,
    pub series: SeriesId,
    /// The first is the address, then `spec.ringway.endpoints`.
    pub endpoints: Vec<Endpoint>,
    /// What `host` says upstream, for example `orders.internal:8080` (the port left out where it is the default).
    pub authority: String,
    pub load_balancing: LoadBalancing,
    pub preserve_host: bool,
    pub retries: Retries,
    pub health_check: Option<HealthCheck>,
    /// Outbound policies; also where `https` before TLS stands as `Policy::Broken`.
    pub policies: Vec<BoundPolicy>,
}

/// A `host:port` to connect to; the host is an address or a name to resolve. IPv6 literals without brackets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadBalancing {
    RoundRobin,
    LeastRequests,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// Further tries after the first.
    pub attempts: u32,
    pub connect_failure: bool,
    pub reset: bool,
    pub gateway_error: bool,
    pub budget_percent: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    pub path: String,
    pub interval: Duration,
    pub timeout: Duration,
    pub unhealthy_threshold: u32,
    pub healthy_threshold: u32,
}
