//! Choosing a route and building the path that the upstream sees.
//!
//! The path is built from what was matched and from nothing else: what was routed is what is sent.

use crate::{
    config::{
        rule::{Captures, PatternLimit, RuleInput, Scratch, any_matches},
        snapshot::{Api, Destination, Target},
    },
    http::target::has_dot_segments,
};

/// Indices of what was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Into `Api::routes`.
    pub route: usize,
    /// Into `Snapshot::services`; `None`: the Service does not exist, which is a 503.
    pub service: Option<usize>,
}

/// The first route one of whose rules holds, with the upstream's path in `out_path` (without the query). `None` is a 404.
/// `random` decides between weighted destinations.
pub fn choose(
    api: &Api,
    request: &RuleInput,
    scratch: &mut Scratch,
    captures: &mut Captures,
    random: u32,
    out_path: &mut Vec<u8>,
) -> Result<Option<Chosen>, PatternLimit> {
    for (index, route) in api.routes.iter().enumerate() {
        if any_matches(&route.rules, request, scratch, captures)? {
            let destination = destination(&route.target, random);
            let taken = write_path(&destination.path, request.path, captures, out_path);
            // `/v1(.*)` takes `../secret` out of `/v1../secret`: a dot segment that was none when the path was
            // normalised. Such a request has no route.
            let climbs = captures.grouped && has_dot_segments(&out_path[taken..]);
            return Ok((!climbs).then_some(Chosen { route: index, service: destination.service }));
        }
    }
    Ok(None)
}

fn destination(target: &Target, random: u32) -> &Destination {
    match target {
        Target::One(destination) => destination,
        Target::Weighted { choices, sum } => {
            // Scales the random number into 0..sum.
            let mut at = ((u64::from(random) * u64::from(*sum)) >> 32) as u32;
            let chosen = choices.iter().find(|(weight, _)| match at.checked_sub(*weight) {
                Some(rest) => {
                    at = rest;
                    false
                }
                None => true,
            });
            &chosen.expect("the weights add up to their sum, and 'at' is below it").1
        }
    }
}

/// `prefix` joined with what the groups took, or with the whole path where the pattern has no group. Returns where the
/// prefix ends; what follows is nothing or starts with a slash.
fn write_path(prefix: &str, path: &[u8], captures: &Captures, out: &mut Vec<u8>) -> usize {
    out.clear();
    out.extend_from_slice(prefix.as_bytes());
    let joined_at = out.len();
    if captures.grouped {
        for range in &captures.ranges {
            out.extend_from_slice(&path[range.clone()]);
        }
    } else {
        out.extend_from_slice(path);
    }
    let needs_slash = out.get(joined_at).map_or(out.is_empty(), |&first| first != b'/');
    if needs_slash {
        out.insert(joined_at, b'/');
    }
    joined_at
}
