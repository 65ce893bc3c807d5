//! `kind: Service`: an upstream with a name of its own.

use serde::Deserialize;

use super::ringway::ServiceRingway;
use crate::document::node::Located;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    pub address: Located<String>,
    #[serde(default)]
    pub ringway: ServiceRingway,
}
