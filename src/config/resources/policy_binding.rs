//! `kind: PolicyBinding`: one policy for one target, or for everything a selector finds.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::policy::{PolicyRef, PolicyRingway};
use crate::document::node::{Located, Node};

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyBinding {
    pub target_ref: TargetRef,
    pub policy_ref: PolicyRef,
    pub config: Option<Node>,
    pub order: Option<i64>,
    pub rules: Option<Node>,
    #[serde(default)]
    pub ringway: PolicyRingway,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    pub kind: Option<Located<String>>,
    pub name: Option<Located<String>>,
    pub namespace: Option<String>,
    pub selector: Option<Selector>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    pub kind: Option<Located<String>>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}
