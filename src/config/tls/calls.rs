//! `spec.defaultTLS.outboundPolicyCalls`: how a policy's own calls over https are secured. Without it as an https Service is.

use std::path::PathBuf;

use serde::Deserialize;

use super::{Outbound, Reading};
use crate::{
    config::{effective::Sections, resources::Secret},
    document::{
        Resource,
        node::Node,
        problem::{Location, Problem},
    },
};

/// The section as a tree, which keeps its places.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Section {
    outbound_policy_calls: Option<Node>,
}

/// `None`: what is written is wrong, and nothing is called over https.
pub fn read(
    sections: &Sections,
    secrets: &[Resource<Secret>],
    files: &mut Vec<PathBuf>,
    problems: &mut Vec<Problem>,
) -> Option<Outbound> {
    let (Section { outbound_policy_calls }, path) = sections.section("defaultTLS");
    let written = outbound_policy_calls.unwrap_or_else(|| Node::empty_map(Location::default()));
    let path = format!("{path}.outboundPolicyCalls");
    Outbound::read(&written, Reading { secrets, namespace: "default", path: &path, problems, files })
}
