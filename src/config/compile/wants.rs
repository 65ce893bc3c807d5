//! What several policies want alike is fetched once, as often as the one needs it that needs it most.

use crate::{
    config::{
        node::Node,
        problem::{Location, Problem, Severity},
    },
    policies::wants::{KeySetWant, Want},
};

/// A want, and the policy that has it.
pub(super) struct Wanted {
    want: Want,
    /// Where its `config` stands, and its time to live.
    path: String,
    location: Location,
}

impl Wanted {
    pub(super) fn by(want: Want, config: &Node, path: &str) -> Self {
        let written = config.get("jwksServiceTimeToLive").unwrap_or(config);
        Self { want, path: path.to_owned(), location: written.location().clone() }
    }
}

/// One want for each address. Of what policies say differently the shortest time to live counts, and the longest of the others:
/// none is asked for more often, or given up sooner, than somebody has said.
pub(super) fn shared(wanted: &[Wanted], problems: &mut Vec<Problem>) -> Vec<Want> {
    let mut found: Vec<(KeySetWant, &Wanted)> = Vec::new();
    for one in wanted {
        let Want::KeySet(want) = &one.want;
        let Some((known, first)) = found.iter_mut().find(|(known, _)| known.address == want.address) else {
            found.push((want.clone(), one));
            continue;
        };
        if known.time_to_live != want.time_to_live {
            let text = format!("not that of {} for the same `jwksUrl`: the shorter counts for both", first.path);
            let path = format!("{}.jwksServiceTimeToLive", one.path);
            problems.push(Problem { severity: Severity::Warning, location: one.location.clone(), path, text });
        }
        known.time_to_live = known.time_to_live.min(want.time_to_live);
        known.timeout = known.timeout.max(want.timeout);
        known.cool_down = known.cool_down.max(want.cool_down);
    }
    found.into_iter().map(|(want, _)| Want::KeySet(want)).collect()
}
