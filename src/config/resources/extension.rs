//! `kind: Extension`: defines a policy. Without a host for custom code only its name counts, and which values are secret.

use serde::Deserialize;

use crate::document::node::Node;

/// As written: definitions hold schemas, whose keys are data.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub struct Extension(pub Node);
