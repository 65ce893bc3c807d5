//! What several policies want alike is fetched once, as often as the one needs it that needs it most.

use crate::{
    document::{
        node::Node,
        problem::{Location, Problem, Severity},
    },
    policies::wants::{KeySetWant, Want},
};

/// A want, and the policy that has it.
pub(super) struct Wanted {
    want: Want,
    /// Where its `config` stands, and the fields that say where and how often.
    path: String,
    address: Location,
    times: [Location; 3],
}

const TIME_TO_LIVE: &str = "jwksServiceTimeToLive";
const TIMEOUT: &str = "jwksServiceConnectionTimeout";
const COOL_DOWN: &str = "ringway.jwksCoolDownSeconds";

impl Wanted {
    pub(super) fn by(want: Want, config: &Node, path: &str) -> Self {
        let place = |field: &str| {
            let found = field.split('.').try_fold(config, |node, step| node.get(step));
            found.unwrap_or(config).location().clone()
        };
        let times = [TIME_TO_LIVE, TIMEOUT, COOL_DOWN].map(place);
        Self { want, path: path.to_owned(), address: place("jwksUrl"), times }
    }
}

/// One want for each address. Of what policies say differently the shortest time to live counts, and the longest of the others:
/// none is asked for more often, or given up sooner, than somebody has said.
pub(super) fn shared(wanted: &[Wanted], problems: &mut Vec<Problem>) -> Vec<Want> {
    let mut found: Vec<(KeySetWant, &Wanted)> = Vec::new();
    for one in wanted {
        let Want::KeySet(want) = &one.want;
        let Some((known, first)) = found.iter_mut().find(|(known, _)| known.address() == want.address()) else {
            if let Some(text) = want.destination.insecure.clone() {
                let (path, location) = (format!("{}.jwksUrl", one.path), one.address.clone());
                problems.push(Problem { severity: Severity::Warning, location, path, text });
            }
            found.push((want.clone(), one));
            continue;
        };
        let differing = [
            (TIME_TO_LIVE, "shorter", known.time_to_live != want.time_to_live),
            (TIMEOUT, "longer", known.timeout != want.timeout),
            (COOL_DOWN, "longer", known.cool_down != want.cool_down),
        ];
        for ((field, counts, _), place) in differing.into_iter().zip(&one.times).filter(|((.., differ), _)| *differ) {
            let text = format!("not that of {} for the same `jwksUrl`: the {counts} counts for both", first.path);
            let (path, location) = (format!("{}.{field}", one.path), place.clone());
            problems.push(Problem { severity: Severity::Warning, location, path, text });
        }
        known.time_to_live = known.time_to_live.min(want.time_to_live);
        known.timeout = known.timeout.max(want.timeout);
        known.cool_down = known.cool_down.max(want.cool_down);
    }
    found.into_iter().map(|(want, _)| Want::KeySet(want)).collect()
}
