//! `kind: ApiInstance`: an address, and in its inline form the services and policies as well.

use serde::Deserialize;

use super::{policy::InlinePolicy, ringway::ApiRingway};
use crate::document::node::{Located, Node, Ordered};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiInstance {
    pub address: Located<String>,
    /// In the order written: it decides between routes that hold both.
    #[serde(default)]
    pub services: Ordered<InlineService>,
    #[serde(default)]
    pub policies: Vec<InlinePolicy>,
    #[serde(default)]
    pub ringway: ApiRingway,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InlineService {
    pub address: Located<String>,
    /// None: one route that takes everything.
    #[serde(default)]
    pub routes: Vec<InlineRoute>,
    /// Outbound ones, in the order in which requests meet them.
    #[serde(default)]
    pub policies: Vec<InlinePolicy>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InlineRoute {
    pub rules: Option<Node>,
    pub config: InlineRouteConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InlineRouteConfig {
    pub destination_path: Option<Located<String>>,
}
