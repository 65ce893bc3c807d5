//! The expanded form: every API with all its policies and routes, every service with its own, whoever wrote them.
//!
//! The inline form is sugar for this one, and a dump shows it. Nothing is compiled yet: configurations and rules are still
//! trees with positions.

use std::collections::BTreeMap;

use super::resources::{ApiRingway, PolicyRingway, ServiceRingway};
use crate::document::{
    Id,
    node::{Located, Node},
    problem::Location,
};

/// An order that is not written. Inline policies and routes have it too.
pub const DEFAULT_ORDER: i64 = 50;
/// What a dump shows behind the last route.
pub const ROUTER_ORDER: i64 = 2_147_483_647;

#[derive(Debug, Default)]
pub struct Model {
    /// In the order of the files.
    pub apis: Vec<ApiModel>,
    pub services: Vec<ServiceModel>,
    /// Addresses of APIs that have errors and ask for client certificates: where the good documents may serve, their ports
    /// may not do without.
    pub guarded: Vec<(Id, Located<String>)>,
    /// Policies without a target: they have no effect, but may have mistakes.
    pub orphans: Vec<Attachment>,
}

#[derive(Debug)]
pub struct ApiModel {
    pub id: Id,
    pub labels: BTreeMap<String, String>,
    pub address: Located<String>,
    pub ringway: ApiRingway,
    /// In the order in which requests meet them.
    pub policies: Vec<Attachment>,
    /// In the order in which they are tried.
    pub routes: Vec<RouteModel>,
}

#[derive(Debug)]
pub struct ServiceModel {
    pub id: Id,
    pub labels: BTreeMap<String, String>,
    pub address: Located<String>,
    /// `orders.spec` or `orders.spec.services.backend`: what `address` and `ringway` stand in.
    pub path: String,
    pub ringway: ServiceRingway,
    pub policies: Vec<Attachment>,
}

/// A policy at its target.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub written: Written,
    /// The kind that says so: `ApiInstance` for an inline policy.
    pub kind: &'static str,
    pub id: Id,
    pub policy: Located<String>,
    pub order: i64,
    /// Its place in the list of inline policies; bindings come behind the inline policies of their order.
    pub inline_at: Option<usize>,
    pub ringway: PolicyRingway,
    /// A Selector found the target: nobody has named it.
    pub selected: bool,
    /// Its document has an error. Where the good documents may serve all the same, it refuses what it was to govern.
    pub refused: bool,
}

/// What a policy or a route is told, with its places.
#[derive(Clone, Debug)]
pub struct Written {
    /// `orders.spec.policies[0]` or `limit.spec`.
    pub path: String,
    pub location: Location,
    pub config: Option<Node>,
    /// Where `config` stands, from `path` on: `config`, or `policyRef.config` where it was indented too far.
    pub config_key: &'static str,
    pub rules: Option<Node>,
}

#[derive(Debug)]
pub struct RouteModel {
    pub written: Written,
    pub name: String,
    pub order: i64,
    /// Document, then place within it.
    pub position: (usize, usize),
    /// One, or several with weights. None: the route could not be built and answers 503.
    pub destinations: Vec<DestinationModel>,
    pub weighted: bool,
}

#[derive(Debug)]
pub struct DestinationModel {
    pub weight: u32,
    pub service: Id,
    pub path: String,
}

impl Attachment {
    pub fn config_path(&self) -> String {
        format!("{}.{}", self.written.path, self.written.config_key)
    }
}
