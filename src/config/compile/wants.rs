//! What several policies want alike is fetched once, as often as the one needs it that needs it most.

use std::sync::Arc;

use crate::{
    config::tls::Outbound,
    document::{
        node::Node,
        problem::{Location, Problem, Severity},
    },
    policies::wants::{KeySetWant, Want},
    tls::ClientContext,
};

/// A want, and the policy that has it.
pub(super) struct Wanted {
    want: Want,
    /// Where its `config` stands, and the fields that say where and how often.
    path: String,
    address: Location,
    time_to_live: Location,
}

impl Wanted {
    pub(super) fn by(want: Want, config: &Node, path: &str) -> Self {
        let place = |field: &str| config.get(field).unwrap_or(config).location().clone();
        let (address, time_to_live) = (place("jwksUrl"), place("jwksServiceTimeToLive"));
        Self { want, path: path.to_owned(), address, time_to_live }
    }

    fn secured(&self, want: &KeySetWant, calls: &Outbound, problems: &mut Vec<Problem>) -> Option<Arc<ClientContext>> {
        let made = calls.clone().context(&want.address.endpoint.host).map(Arc::new);
        let (path, location) = (format!("{}.jwksUrl", self.path), self.address.clone());
        made.map_err(|text| problems.push(Problem { severity: Severity::Warning, location, path, text })).ok()
    }
}

/// One want for each address. Of what policies say differently the shortest time to live counts, and the longest of the others:
/// none is asked for more often, or given up sooner, than somebody has said.
pub(super) fn shared(wanted: &[Wanted], calls: Option<&Outbound>, problems: &mut Vec<Problem>) -> Vec<Want> {
    let mut found: Vec<(KeySetWant, &Wanted)> = Vec::new();
    for one in wanted {
        let Want::KeySet(want) = &one.want;
        let Some((known, first)) = found.iter_mut().find(|(known, _)| known.address == want.address) else {
            let tls = calls.filter(|_| want.address.secure).and_then(|calls| one.secured(want, calls, problems));
            found.push((KeySetWant { tls, ..want.clone() }, one));
            continue;
        };
        if known.time_to_live != want.time_to_live {
            let text = format!("not that of {} for the same `jwksUrl`: the shorter counts for both", first.path);
            let path = format!("{}.jwksServiceTimeToLive", one.path);
            problems.push(Problem { severity: Severity::Warning, location: one.time_to_live.clone(), path, text });
        }
        known.time_to_live = known.time_to_live.min(want.time_to_live);
        known.timeout = known.timeout.max(want.timeout);
        known.cool_down = known.cool_down.max(want.cool_down);
    }
    found.into_iter().map(|(want, _)| Want::KeySet(want)).collect()
}
