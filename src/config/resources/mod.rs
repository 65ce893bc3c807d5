//! Resources as written: one file per kind, and the envelope that all of them share.
//!
//! Fields are read and converted here. What they mean together (references, orders, clashes) is `expand.rs`' business.

mod api_instance;
mod configuration;
mod extension;
mod policy;
mod policy_binding;
mod ringway;
mod secret;
mod service;
mod shared_storage;
mod to_come;
mod written;

use std::{
    borrow::Borrow,
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry as Place},
    sync::Arc,
};

pub use api_instance::{ApiInstance, InlineRoute, InlineService};
pub use configuration::{
    CircuitBreaker, Configuration, ForwardProxy, HttpsProxy, Probe, ProxyProtocol, Routing, Section, TokenServer,
};
pub use extension::Extension;
pub use policy::{
    DestinationRef, InlinePolicy, PolicyRef, PolicyRingway, ROUTE, ROUTE_WEIGHTED, RoutePolicy, WeightedRoutePolicy,
};
pub use policy_binding::{PolicyBinding, Selector, TargetRef};
pub use ringway::{
    AccessLog, AccessLogFormat, ApiRingway, GatewayRingway, HealthCheck, IdentityManagement, LoadBalancing,
    ProxyProtocolVersion, Retries, RetryOn, ServiceRingway,
};
pub use secret::Secret;
pub use service::Service;
pub use shared_storage::{Redis, RedisCertificate, RedisTls, Sentinel, SharedStorage};
pub use written::{API_VERSIONS, DEFAULT_NAMESPACE, Written, envelope};

use self::written::Any;
use crate::document::{
    Id, Resource,
    node::{Node, Shape, shape_of},
    problem::{Location, Problem, Severity},
};
use crate::policies::contract::Contract;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    ApiInstance,
    Service,
    PolicyBinding,
    Configuration,
    Extension,
    Secret,
    Contract,
}

impl Kind {
    pub const NAMES: [(&'static str, Self); 7] = [
        ("ApiInstance", Self::ApiInstance),
        ("Service", Self::Service),
        ("PolicyBinding", Self::PolicyBinding),
        ("Configuration", Self::Configuration),
        ("Extension", Self::Extension),
        ("Secret", Self::Secret),
        ("Contract", Self::Contract),
    ];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize].0
    }

    /// What its `spec` is read from.
    pub fn shape(self) -> Shape {
        match self {
            Self::ApiInstance => shape_of::<ApiInstance>(),
            Self::Service => shape_of::<Service>(),
            Self::PolicyBinding => shape_of::<PolicyBinding>(),
            Self::Configuration => Section::shapes(),
            Self::Extension => shape_of::<Extension>(),
            Self::Secret => shape_of::<Secret>(),
            Self::Contract => shape_of::<Contract>(),
        }
    }

    fn of(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, kind)| kind)
    }
}

/// Everything the files hold, by kind and in the order written.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    pub apis: Vec<Resource<ApiInstance>>,
    pub services: Vec<Resource<Service>>,
    pub bindings: Vec<Resource<PolicyBinding>>,
    pub configurations: Vec<Resource<Configuration>>,
    pub extensions: Vec<Resource<Extension>>,
    pub secrets: Vec<Resource<Secret>>,
    /// As their files have them: there may be a hundred thousand.
    pub contracts: Vec<Arc<Resource<Contract>>>,
    /// Written, but with errors: references to them are no further problem.
    pub refused: BTreeSet<(Kind, Id)>,
    /// What can be read of resources with errors.
    drafts: Option<Box<Resources>>,
    /// What can be read of bindings with errors. Where the good documents may serve, their targets must not do without them.
    pub refused_bindings: Vec<RefusedBinding>,
    /// A Configuration with an error says who is to carry what goes outside: nothing of it must go without.
    pub refused_forward_proxy: bool,
    documents: usize,
    /// What was taken in, and where the last of each is. Without it each resource would be compared with all of its kind.
    known: HashMap<(Kind, Id), Location>,
    /// Kinds of which some came several times.
    repeated: HashSet<Kind>,
}

/// A PolicyBinding with an error, which still says what it was to govern.
#[derive(Clone, Debug)]
pub struct RefusedBinding {
    pub id: Id,
    pub location: Location,
    pub policy: String,
    pub target_ref: TargetRef,
    pub rules: Option<Node>,
}

impl Resources {
    /// Takes in one document; of two with one identity the later stays.
    pub fn take(&mut self, written: &Written, problems: &mut Vec<Problem>) {
        self.documents += 1;
        match written {
            Written::Nothing => {}
            Written::Sound(resource) => {
                let (kind, id) = (resource.kind(), resource.id());
                match self.known.entry((kind, id.clone())) {
                    Place::Vacant(place) => {
                        place.insert(resource.location().clone());
                    }
                    Place::Occupied(mut place) => {
                        let first = place.insert(resource.location().clone());
                        self.repeated.insert(kind);
                        let text = format!(
                            "a second {} `{id}`; the first is at {}:{}:{}, and this one takes its place",
                            kind.name(),
                            first.file.display(),
                            first.line,
                            first.column
                        );
                        let (path, location) = (format!("{}.metadata.name", id.name), resource.location().clone());
                        problems.push(Problem { severity: Severity::Error, location, path, text });
                    }
                }
                self.put(resource, self.documents);
            }
            Written::Refused { kind, id, binding, says_who_carries, rest } => {
                if let Some(rest) = rest {
                    self.drafts.get_or_insert_default().put(rest, self.documents);
                }
                self.refused_bindings.extend(binding.as_deref().cloned());
                self.refused_forward_proxy |= says_who_carries;
                self.refused.insert((*kind, id.clone()));
            }
        }
    }

    /// All documents were taken in.
    pub fn finish(&mut self) {
        for kind in std::mem::take(&mut self.repeated) {
            match kind {
                Kind::ApiInstance => keep_last(&mut self.apis),
                Kind::Service => keep_last(&mut self.services),
                Kind::PolicyBinding => keep_last(&mut self.bindings),
                Kind::Configuration => keep_last(&mut self.configurations),
                Kind::Extension => keep_last(&mut self.extensions),
                Kind::Secret => keep_last(&mut self.secrets),
                Kind::Contract => keep_last(&mut self.contracts),
            }
        }
    }

    fn put(&mut self, resource: &Any, position: usize) {
        match resource {
            Any::ApiInstance(resource) => self.apis.push(placed(resource, position)),
            Any::Service(resource) => self.services.push(placed(resource, position)),
            Any::PolicyBinding(resource) => self.bindings.push(placed(resource, position)),
            Any::Configuration(resource) => self.configurations.push(placed(resource, position)),
            Any::Extension(resource) => self.extensions.push(placed(resource, position)),
            Any::Secret(resource) => self.secrets.push(placed(resource, position)),
            Any::Contract(resource) => self.contracts.push(resource.clone()),
        }
    }

    /// With those that have errors among them, to find further ones: nothing that should serve. `None`: there are none.
    pub fn with_drafts(&self) -> Option<Self> {
        let drafts = self.drafts.as_deref()?;
        let mut all = self.clone();
        all.refused_bindings.clear();
        join(&mut all.apis, &drafts.apis);
        join(&mut all.services, &drafts.services);
        join(&mut all.bindings, &drafts.bindings);
        Some(all)
    }

    /// What can be read of ApiInstances with errors.
    pub fn refused_apis(&self) -> impl Iterator<Item = &Resource<ApiInstance>> {
        self.drafts.iter().flat_map(|drafts| &drafts.apis)
    }
}

fn placed<T: Clone>(resource: &Resource<T>, position: usize) -> Resource<T> {
    Resource { position, ..resource.clone() }
}

/// Of those with one identity.
fn keep_last<R: Borrow<Resource<T>>, T>(resources: &mut Vec<R>) {
    let mut seen = HashSet::new();
    let is_last: Vec<bool> = resources.iter().rev().map(|resource| seen.insert(resource.borrow().id.clone())).collect();
    let mut is_last = is_last.into_iter().rev();
    resources.retain(|_| is_last.next().unwrap_or(true));
}

/// In the order written, and one of each identity.
fn join<T: Clone>(good: &mut Vec<Resource<T>>, drafts: &[Resource<T>]) {
    let mut known: HashSet<Id> = good.iter().map(|resource| resource.id.clone()).collect();
    good.extend(drafts.iter().filter(|draft| known.insert(draft.id.clone())).cloned());
    good.sort_by_key(|resource| resource.position);
}
