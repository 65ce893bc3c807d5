//! One document as a resource, read by itself: what a file says is known as long as the file stays as it is.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, de::DeserializeOwned};

use super::{ApiInstance, Configuration, Extension, Kind, PolicyBinding, RefusedBinding, Secret, Service};
use crate::{
    document::{
        Id, Resource,
        node::{Document, Located, Node, Shape, nearest, shape_of},
        problem::{Location, Problem, Severity},
    },
    policies::contract::Contract,
};

/// What one document says.
#[derive(Clone, Debug)]
pub enum Written {
    /// No resource of ours.
    Nothing,
    Sound(Any),
    /// One with errors.
    Refused {
        kind: Kind,
        id: Id,
        binding: Option<Box<RefusedBinding>>,
        /// A Configuration with a `forwardProxy`.
        says_who_carries: bool,
        /// What can be read of it.
        rest: Option<Any>,
    },
}

/// A resource of any kind. Its position is not known yet.
#[derive(Clone, Debug)]
pub enum Any {
    ApiInstance(Box<Resource<ApiInstance>>),
    Service(Box<Resource<Service>>),
    PolicyBinding(Box<Resource<PolicyBinding>>),
    Configuration(Box<Resource<Configuration>>),
    Extension(Box<Resource<Extension>>),
    Secret(Box<Resource<Secret>>),
    Contract(Arc<Resource<Contract>>),
}

macro_rules! of_any {
    ($any:expr, $resource:ident => $value:expr) => {
        match $any {
            Any::ApiInstance($resource) => $value,
            Any::Service($resource) => $value,
            Any::PolicyBinding($resource) => $value,
            Any::Configuration($resource) => $value,
            Any::Extension($resource) => $value,
            Any::Secret($resource) => $value,
            Any::Contract($resource) => $value,
        }
    };
}

impl Any {
    pub fn kind(&self) -> Kind {
        match self {
            Self::ApiInstance(_) => Kind::ApiInstance,
            Self::Service(_) => Kind::Service,
            Self::PolicyBinding(_) => Kind::PolicyBinding,
            Self::Configuration(_) => Kind::Configuration,
            Self::Extension(_) => Kind::Extension,
            Self::Secret(_) => Kind::Secret,
            Self::Contract(_) => Kind::Contract,
        }
    }

    pub fn id(&self) -> &Id {
        of_any!(self, resource => &resource.id)
    }

    /// Of the name.
    pub fn location(&self) -> &Location {
        of_any!(self, resource => &resource.location)
    }
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

impl Written {
    /// Reads one document. One of another system is none of our business and warns.
    pub fn read(document: &Document, problems: &mut Vec<Problem>) -> Self {
        let node = &document.node;
        let mut nothing = |severity, location: &Location, path: &str, text: String| {
            problems.push(Problem { severity, location: location.clone(), path: path.to_owned(), text });
            Self::Nothing
        };
        if !node.is_map() {
            let text = "expected apiVersion, kind, metadata and spec".into();
            return nothing(Severity::Error, node.location(), "document", text);
        }
        match node.get("apiVersion") {
            None => {
                return nothing(Severity::Warning, node.location(), "apiVersion", "missing: document ignored".into());
            }
            Some(version) if !version.as_str().is_some_and(is_ours) => {
                let text = "not gateway.mulesoft.com/v1alpha1 or /v1beta1: document ignored".into();
                return nothing(Severity::Warning, version.location(), "apiVersion", text);
            }
            Some(_) => {}
        }
        // A kind that nobody knows comes first: the fields of its envelope would only add noise.
        let kind = node.get("kind").and_then(Node::as_str).and_then(Kind::of);
        if let (None, Some(kind)) = (kind, node.get("kind")) {
            let meant = nearest(kind.as_str().unwrap_or(""), Kind::NAMES.iter().map(|(name, _)| *name));
            let meant = meant.map(|name| format!(", did you mean `{name}`?")).unwrap_or_default();
            return nothing(Severity::Error, kind.location(), "kind", format!("unknown kind{meant}"));
        }
        let name = node.get("metadata").and_then(|metadata| metadata.get("name")).and_then(Node::as_str);
        let envelope = node.deserialize::<Envelope>(name.unwrap_or("document"), problems);
        let (Some(kind), Some(envelope)) = (kind, envelope) else {
            let (Some(kind), Some(name)) = (kind, name) else { return Self::Nothing };
            let namespace = node.get("metadata").and_then(|metadata| metadata.get("namespace"));
            let namespace = namespace.and_then(Node::as_str).unwrap_or(DEFAULT_NAMESPACE);
            return Self::refused(kind, Id::new(namespace, name), node.get("spec"), None);
        };
        if envelope.metadata.name.value.is_empty() {
            let location = envelope.metadata.name.location;
            let (path, text) = ("metadata.name".into(), "a name cannot be empty".into());
            problems.push(Problem { severity: Severity::Error, location, path, text });
            return Self::Nothing;
        }
        if kind == Kind::Configuration && envelope.api_version.ends_with("/v1alpha1") {
            for entry in ["tracing", "circuitBreaker"].iter().filter_map(|key| envelope.spec.entry(key)) {
                let path = format!("{}.spec.{}", envelope.metadata.name.value, entry.key);
                let (severity, location) = (Severity::Warning, entry.key_location.clone());
                let text = "documented for gateway.mulesoft.com/v1beta1; read all the same".into();
                problems.push(Problem { severity, location, path, text });
            }
        }
        let all = (document.sound, envelope, problems);
        match kind {
            Kind::ApiInstance => Self::of(kind, all, |resource| Any::ApiInstance(resource.into())),
            Kind::Service => Self::of(kind, all, |resource| Any::Service(resource.into())),
            Kind::PolicyBinding => Self::of(kind, all, |resource| Any::PolicyBinding(resource.into())),
            Kind::Configuration => Self::of(kind, all, |resource| Any::Configuration(resource.into())),
            Kind::Extension => Self::of(kind, all, |resource| Any::Extension(resource.into())),
            Kind::Secret => Self::of(kind, all, |resource| Any::Secret(resource.into())),
            Kind::Contract => Self::of(kind, all, |resource| Any::Contract(resource.into())),
        }
    }

    /// Reads the specification.
    fn of<T: DeserializeOwned>(
        kind: Kind,
        (sound, envelope, problems): (bool, Envelope, &mut Vec<Problem>),
        any: fn(Resource<T>) -> Any,
    ) -> Self {
        let Envelope { metadata: Metadata { name, namespace, labels, .. }, spec: node, .. } = envelope;
        let namespace = namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
        let id = Id { namespace, name: name.value };
        let spec = node.deserialize(&format!("{}.spec", id.name), problems);
        let resource = |id, spec| any(Resource { id, labels, location: name.location, position: 0, spec });
        match spec.filter(|_| sound) {
            Some(spec) => Self::Sound(resource(id, spec)),
            None => {
                let rest = node.deserialize_rest().map(|spec| resource(id.clone(), spec));
                Self::refused(kind, id, Some(&node), rest)
            }
        }
    }

    fn refused(kind: Kind, id: Id, spec: Option<&Node>, rest: Option<Any>) -> Self {
        let has_proxy = spec.is_some_and(|spec| spec.get("forwardProxy").is_some());
        let binding = spec.filter(|_| kind == Kind::PolicyBinding).and_then(|spec| {
            let policy = spec.get("policyRef").and_then(|policy| policy.get("name")).and_then(Node::as_str);
            Some(Box::new(RefusedBinding {
                id: id.clone(),
                location: spec.location().clone(),
                policy: policy.unwrap_or_default().to_owned(),
                target_ref: spec.get("targetRef")?.deserialize("", &mut Vec::new())?,
                rules: spec.get("rules").cloned(),
            }))
        });
        Self::Refused { kind, id, binding, says_who_carries: kind == Kind::Configuration && has_proxy, rest }
    }
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
