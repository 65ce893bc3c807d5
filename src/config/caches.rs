//! Warns of caches that let pass by what was to be checked, and of those that share with nobody.
//!
//! What a cache has stored is the answer without the policies behind it: who would have been refused by one gets it all the same.

use super::{
    model::{ApiModel, Attachment},
    shared_storage::SharedStorage,
    snapshot::Api,
};
use crate::{
    document::{
        node::Node,
        problem::{Location, Problem, Severity},
    },
    policies::{self, Compiled, chain::BoundPolicy},
};

/// `attachments` are those of the API's chain, in its order.
pub fn check<'m>(
    model: &'m ApiModel,
    api: &Api,
    attachments: impl Iterator<Item = &'m Attachment>,
    storage: &SharedStorage,
    problems: &mut Vec<Problem>,
) {
    let chain: Vec<(&Attachment, &BoundPolicy)> = attachments.zip(&api.policies).collect();
    let mut warn = |location: &Location, path: String, text: String| {
        problems.push(Problem { severity: Severity::Warning, location: location.clone(), path, text });
    };
    let cache = |bound: &'_ BoundPolicy| match &bound.policy {
        Compiled::HttpCaching(cache) => Some(cache.clone()),
        _ => None,
    };
    for (attachment, bound) in &chain {
        let Some(field) =
            cache(bound).and_then(|cache| cache.shared_by()).filter(|_| *storage == SharedStorage::Memory)
        else {
            continue;
        };
        let node = attachment.written.config.as_ref().and_then(|config| config.get(field));
        let location = node.map_or(&bound.location, Node::location);
        let text = "no effect without `sharedStorage.redis`: what is stored is kept in this replica's memory alone";
        warn(location, format!("{}.{field}", attachment.config_path()), text.to_owned());
    }
    let Some(at) = chain.iter().position(|(_, bound)| cache(bound).is_some() && !bound.shadow) else { return };
    let first = chain[at].1;
    for (attachment, bound) in &chain[at + 1..] {
        let refuses = policies::lookup(&bound.reference).is_some_and(policies::Entry::refuses);
        if refuses && !bound.shadow {
            let text = format!(
                "behind the cache `{}` of ApiInstance `{}`: it is not asked about what that answers, and refuses nobody who asks \
                 for what was stored for others",
                first.name, model.id
            );
            warn(&bound.location, format!("{}.policyRef.name", attachment.written.path), text);
        }
    }
}
