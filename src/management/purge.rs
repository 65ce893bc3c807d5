//! What is to be forgotten of the caches: all, or those of an API, of a policy, of a key.

use serde::Deserialize;

use crate::{
    cache::{Partition, Store},
    config::snapshot::Snapshot,
    policies::{Compiled, chain::BoundPolicy},
};

/// As it is asked for; what is absent holds for all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Purge {
    /// The ApiInstance's name.
    pub api: Option<String>,
    /// The binding's, or what `policyRef.name` says.
    pub policy: Option<String>,
    /// What `httpCachingKey` gives.
    pub key: Option<String>,
}

/// There is no such cache.
#[derive(Debug, PartialEq, Eq)]
pub struct NotFound;

impl Purge {
    /// # Errors
    /// What is wrong with the text, for people.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        match body.trim_ascii() {
            [] => Ok(Self::default()),
            // A list would do for all its fields, and an empty one for none.
            text if !text.starts_with(b"{") => Err("not a purge: expected an object".into()),
            text => serde_json::from_slice(text).map_err(|error| format!("not a purge: {error}")),
        }
    }

    /// Returns how many entries went.
    pub fn carry_out(&self, snapshot: &Snapshot, cache: &Store) -> Result<usize, NotFound> {
        let mut found = false;
        let mut purged = 0;
        for bound in self.policies(snapshot) {
            found = true;
            purged += cache.known(bound.identity).map_or(0, |partition| self.forget(&partition));
        }
        match found || self.api.is_none() && self.policy.is_none() {
            true => Ok(purged),
            false => Err(NotFound),
        }
    }

    fn forget(&self, partition: &Partition) -> usize {
        match &self.key {
            Some(key) => partition.invalidate(key.as_bytes()),
            None => partition.clear(),
        }
    }

    fn policies<'s>(&'s self, snapshot: &'s Snapshot) -> impl Iterator<Item = &'s BoundPolicy> {
        let is_meant = |wanted: &Option<String>, name: &str| wanted.as_ref().is_none_or(|wanted| wanted == name);
        let apis = snapshot.apis.iter().filter(move |api| is_meant(&self.api, &api.name));
        apis.flat_map(|api| &api.policies)
            .filter(|bound| matches!(bound.policy, Compiled::HttpCaching(_)))
            .filter(move |bound| is_meant(&self.policy, &bound.name) || is_meant(&self.policy, &bound.reference))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_says_what_or_nothing() {
        assert_eq!(Purge::parse(b" \n"), Ok(Purge::default()));
        let all = Purge { api: Some("a".into()), policy: Some("p".into()), key: Some("/x".into()) };
        assert_eq!(Purge::parse(br#"{"api": "a", "policy": "p", "key": "/x"}"#), Ok(all));
        for text in ["{", "[]", r#"{"apis": "a"}"#, r#"{"api": 1}"#] {
            assert!(Purge::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
