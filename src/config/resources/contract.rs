//! `kind: Contract`: a client of an API, and what it may use. Policies that check clients read it.

use serde::Deserialize;

use crate::config::node::Located;

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contract {
    pub api_id: Located<String>,
    pub client: Client,
    pub sla: Option<Sla>,
}

#[derive(Clone, Deserialize)]
pub struct Client {
    pub id: String,
    pub secret: Option<String>,
    pub name: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Sla {
    pub id: Option<String>,
    pub name: Option<String>,
    #[serde(default)]
    pub limits: Vec<SlaLimit>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SlaLimit {
    pub maximum_requests: u64,
    pub time_period_in_milliseconds: u64,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Client({})", self.id)
    }
}
