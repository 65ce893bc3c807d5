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

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, de::DeserializeOwned};

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

use crate::document::{
    Id, Resource,
    node::{Document, Located, Node, Shape, nearest, shape_of},
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
    pub contracts: Vec<Resource<Contract>>,
    /// Written, but with errors: references to them are no further problem.
    pub refused: BTreeSet<(Kind, Id)>,
    /// What can be read of resources with errors.
    drafts: Option<Box<Resources>>,
    /// What can be read of bindings with errors. Where the good documents may serve, their targets must not do without them.
    pub refused_bindings: Vec<RefusedBinding>,
    /// A Configuration with an error says who is to carry what goes outside: nothing of it must go without.
    pub refused_forward_proxy: bool,
    documents: usize,
    /// What was added. Without it each resource would be compared with all of its kind.
    known: HashSet<(Kind, Id)>,
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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "read so that they are known keys")]
struct Envelope {
    api_version: String,
    kind: Located<String>,
    metadata: Metadata,
    spec: Node,
    status: Option<Node>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(dead_code, reason = "what Kubernetes adds is read so that it is known")]
struct Metadata {
    name: Located<String>,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    annotations: Option<Node>,
    uid: Option<Node>,
    resource_version: Option<Node>,
    generation: Option<Node>,
    creation_timestamp: Option<Node>,
    deletion_timestamp: Option<Node>,
    managed_fields: Option<Node>,
    owner_references: Option<Node>,
    finalizers: Option<Node>,
    self_link: Option<Node>,
    generate_name: Option<Node>,
    deletion_grace_period_seconds: Option<Node>,
}

impl Resources {
    /// Takes in one document. A document of another system is none of our business and warns.
    pub fn add(&mut self, document: &Document, problems: &mut Vec<Problem>) {
        self.documents += 1;
        let node = &document.node;
        let mut at = |severity, location: &Location, path: &str, text: String| {
            problems.push(Problem { severity, location: location.clone(), path: path.to_owned(), text });
        };
        if !node.is_map() {
            return at(
                Severity::Error,
                node.location(),
                "document",
                "expected apiVersion, kind, metadata and spec".into(),
            );
        }
        match node.get("apiVersion") {
            None => return at(Severity::Warning, node.location(), "apiVersion", "missing: document ignored".into()),
            Some(version) if !version.as_str().is_some_and(is_ours) => {
                let text = "not gateway.mulesoft.com/v1alpha1 or /v1beta1: document ignored".into();
                return at(Severity::Warning, version.location(), "apiVersion", text);
            }
            Some(_) => {}
        }
        // A kind that nobody knows comes first: the fields of its envelope would only add noise.
        let kind = node.get("kind").and_then(Node::as_str).and_then(Kind::of);
        if let (None, Some(kind)) = (kind, node.get("kind")) {
            let meant = nearest(kind.as_str().unwrap_or(""), Kind::NAMES.iter().map(|(name, _)| *name));
            let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            return at(Severity::Error, kind.location(), "kind", format!("unknown kind{meant}"));
        }
        let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_str);
        let envelope = node.deserialize::<Envelope>(name.unwrap_or("document"), problems);
        let (Some(kind), Some(envelope)) = (kind, envelope) else {
            if let (Some(kind), Some(name)) = (kind, name) {
                let namespace = node.get("metadata").and_then(|metadata| metadata.get("namespace"));
                let namespace = namespace.and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE);
                self.refuse(kind, Id::new(namespace, name), node.get("spec"));
            }
            return;
        };
        if envelope.metadata.name.value.is_empty() {
            let location = envelope.metadata.name.location;
            let text = "a name cannot be empty".into();
            return problems.push(Problem { severity: Severity::Error, location, path: "metadata.name".into(), text });
        }
        if kind == Kind::Configuration && envelope.api_version.ends_with("/v1alpha1") {
            for entry in ["tracing", "circuitBreaker"].iter().filter_map(|key| envelope.spec.entry(key)) {
                let path = format!("{}.spec.{}", envelope.metadata.name.value, entry.key);
                let (severity, location) = (Severity::Warning, entry.key_location.clone());
                let text = "documented for gateway.mulesoft.com/v1beta1; read all the same".into();
                problems.push(Problem { severity, location, path, text });
            }
        }
        let sound = document.sound;
        match kind {
            Kind::ApiInstance => self.keep(kind, envelope, sound, |all| &mut all.apis, problems),
            Kind::Service => self.keep(kind, envelope, sound, |all| &mut all.services, problems),
            Kind::PolicyBinding => self.keep(kind, envelope, sound, |all| &mut all.bindings, problems),
            Kind::Configuration => self.keep(kind, envelope, sound, |all| &mut all.configurations, problems),
            Kind::Extension => self.keep(kind, envelope, sound, |all| &mut all.extensions, problems),
            Kind::Secret => self.keep(kind, envelope, sound, |all| &mut all.secrets, problems),
            Kind::Contract => self.keep(kind, envelope, sound, |all| &mut all.contracts, problems),
        }
    }

    /// Reads the specification and adds the resource; of two with one identity the later stays.
    fn keep<T: DeserializeOwned>(
        &mut self,
        kind: Kind,
        envelope: Envelope,
        sound: bool,
        list: fn(&mut Self) -> &mut Vec<Resource<T>>,
        problems: &mut Vec<Problem>,
    ) {
        let Metadata { name, namespace, labels, .. } = envelope.metadata;
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let id = Id { namespace, name: name.value };
        let position = self.documents;
        let spec = envelope.spec.deserialize(&format!("{}.spec", id.name), problems);
        let Some(spec) = spec.filter(|_| sound) else {
            let draft = envelope.spec.deserialize_rest().map(|spec| Resource {
                id: id.clone(),
                labels,
                location: name.location,
                position,
                spec,
            });
            list(self.drafts.get_or_insert_default()).extend(draft);
            return self.refuse(kind, id, Some(&envelope.spec));
        };
        let second = !self.known.insert((kind, id.clone()));
        let resources = list(self);
        if second && let Some(earlier) = resources.iter().position(|resource| resource.id == id) {
            let first = resources.remove(earlier).location;
            let text = format!(
                "a second {} `{id}`; the first is at {}:{}:{}, and this one takes its place",
                kind.name(),
                first.file.display(),
                first.line,
                first.column
            );
            let path = format!("{}.metadata.name", id.name);
            problems.push(Problem { severity: Severity::Error, location: name.location.clone(), path, text });
        }
        resources.push(Resource { id, labels, location: name.location, position, spec });
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

    fn refuse(&mut self, kind: Kind, id: Id, spec: Option<&Node>) {
        if let (Kind::PolicyBinding, Some(spec)) = (kind, spec) {
            let policy = spec.get("policyRef").and_then(|policy| policy.get("name")).and_then(Node::as_str);
            let target = spec.get("targetRef").and_then(|target| target.deserialize("", &mut Vec::new()));
            self.refused_bindings.extend(target.map(|target_ref| RefusedBinding {
                id: id.clone(),
                location: spec.location().clone(),
                policy: policy.unwrap_or_default().to_owned(),
                target_ref,
                rules: spec.get("rules").cloned(),
            }));
        }
        let says_who_carries = spec.is_some_and(|spec| spec.get("forwardProxy").is_some());
        self.refused_forward_proxy |= kind == Kind::Configuration && says_who_carries;
        self.refused.insert((kind, id));
    }
}

/// In the order written, and one of each identity.
fn join<T: Clone>(good: &mut Vec<Resource<T>>, drafts: &[Resource<T>]) {
    let mut known: HashSet<Id> = good.iter().map(|resource| resource.id.clone()).collect();
    good.extend(drafts.iter().filter(|draft| known.insert(draft.id.clone())).cloned());
    good.sort_by_key(|resource| resource.position);
}

pub const DEFAULT_NAMESPACE: &str = "default";

pub const API_VERSIONS: [&str; 2] = ["gateway.mulesoft.com/v1alpha1", "gateway.mulesoft.com/v1beta1"];

fn is_ours(version: &str) -> bool {
    API_VERSIONS.contains(&version)
}

/// What every document of ours is read from.
pub fn envelope() -> Shape {
    shape_of::<Envelope>()
}
