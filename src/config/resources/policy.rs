//! What inline policies and bindings have in common, and the configuration of the two routing policies.

use serde::Deserialize;

use crate::{
    document::{
        node::{Located, Node, shape_of},
        problem::Location,
    },
    policies::{AssumedLifetime, Category, Described, Field, Options},
    quota::OnStorageFailure,
};

/// A policy within an ApiInstance.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InlinePolicy {
    pub policy_ref: PolicyRef,
    pub config: Option<Node>,
    pub rules: Option<Node>,
    #[serde(default)]
    pub ringway: PolicyRingway,
}

/// Settings of our own at a policy, inline or bound.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyRingway {
    pub mode: Mode,
    pub on_storage_failure: Option<Located<OnStorageFailure>>,
    pub standard_headers: Option<Located<bool>>,
    pub retry_after: Option<Located<bool>>,
    pub cache_status: Option<Located<bool>>,
    pub assumed_lifetime: Option<Located<AssumedLifetime>>,
    pub start_tls: Option<Located<bool>>,
    pub authentication_timeout: Option<Located<u32>>,
    pub cache_ttl: Option<Located<u32>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Mode {
    #[default]
    Enforce,
    /// The policy decides, is counted and logged, and changes nothing.
    Shadow,
}

impl PolicyRingway {
    pub fn is_shadow(&self) -> bool {
        self.mode == Mode::Shadow
    }

    pub fn options(&self) -> Options {
        Options {
            on_storage_failure: self.on_storage_failure.as_ref().map(|written| written.value),
            standard_headers: self.standard_headers.as_ref().map(|written| written.value),
            retry_after: self.retry_after.as_ref().map(|written| written.value),
            cache_status: self.cache_status.as_ref().map(|written| written.value),
            assumed_lifetime: self.assumed_lifetime.as_ref().map(|written| written.value),
            start_tls: self.start_tls.as_ref().map(|written| written.value),
            authentication_timeout: self.authentication_timeout.as_ref().map(|written| written.value),
            cache_ttl: self.cache_ttl.as_ref().map(|written| written.value),
        }
    }

    /// The options that were written, by their names, and where.
    pub fn written(&self) -> impl Iterator<Item = (&'static str, &Location)> {
        let on_storage_failure = self.on_storage_failure.as_ref().map(|written| &written.location);
        let standard_headers = self.standard_headers.as_ref().map(|written| &written.location);
        let retry_after = self.retry_after.as_ref().map(|written| &written.location);
        let cache_status = self.cache_status.as_ref().map(|written| &written.location);
        let assumed_lifetime = self.assumed_lifetime.as_ref().map(|written| &written.location);
        let start_tls = self.start_tls.as_ref().map(|written| &written.location);
        let authentication_timeout = self.authentication_timeout.as_ref().map(|written| &written.location);
        let cache_ttl = self.cache_ttl.as_ref().map(|written| &written.location);
        let all = [
            ("onStorageFailure", on_storage_failure),
            ("standardHeaders", standard_headers),
            ("retryAfter", retry_after),
            ("cacheStatus", cache_status),
            ("assumedLifetime", assumed_lifetime),
            ("startTls", start_tls),
            ("authenticationTimeout", authentication_timeout),
            ("cacheTtl", cache_ttl),
        ];
        all.into_iter().filter_map(|(name, location)| Some((name, location?)))
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyRef {
    pub name: Located<String>,
    pub namespace: Option<String>,
    pub kind: Option<Located<String>>,
    /// Some published examples indent it one step too far.
    pub config: Option<Node>,
}

/// `route`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutePolicy {
    pub destination_ref: DestinationRef,
    pub destination_path: Option<Located<String>>,
}

pub const ROUTE: Described = Described {
    category: Some(Category::Routing),
    shape: shape_of::<RoutePolicy>,
    fields: &[
        Field::new("destinationRef.name", "Service", "The Service."),
        Field::new("destinationRef.namespace", "Namespace", "Its namespace; that of the policy where there is none."),
        Field::new("destinationRef.kind", "Kind", "`Service`.").default("Service"),
        Field::new("destinationPath", "Path", "What is put ahead of the path."),
    ],
};

/// `route-weighted`.
#[derive(Clone, Debug, Deserialize)]
pub struct WeightedRoutePolicy {
    pub routes: Vec<RouteChoice>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteChoice {
    pub weight: Located<u32>,
    pub destination_ref: DestinationRef,
    pub destination_path: Option<Located<String>>,
}

pub const ROUTE_WEIGHTED: Described = Described {
    category: Some(Category::Routing),
    shape: shape_of::<WeightedRoutePolicy>,
    fields: &[
        Field::new("routes", "Routes", "The destinations, at least one."),
        Field::new("routes[].weight", "Weight", "Its part of the requests, 1 to 100: of the sum of all weights.")
            .range(1, 100),
        Field::new("routes[].destinationRef.name", "Service", "The Service."),
        Field::new(
            "routes[].destinationRef.namespace",
            "Namespace",
            "Its namespace; that of the policy where there is none.",
        ),
        Field::new("routes[].destinationRef.kind", "Kind", "`Service`.").default("Service"),
        Field::new("routes[].destinationPath", "Path", "What is put ahead of the path."),
    ],
};

#[derive(Clone, Debug, Deserialize)]
pub struct DestinationRef {
    pub name: Located<String>,
    pub namespace: Option<String>,
    pub kind: Option<Located<String>>,
}
