//! Warns of rules that protect a path and can be passed by: paths have one spelling, but `//admin`, `/admin;a=b` and
//! `/admin%2Fx` are other paths than `/admin`, and some upstreams take them for the same.
//!
//! Asked is what would happen: an example of what a rule holds for is written in those ways, and where the policy's rules hold
//! no longer while a route still does, the operator is told.

use super::{
    model::{ApiModel, Attachment},
    snapshot::Api,
};
use crate::{
    document::problem::{Problem, Severity},
    http::{bytes, target},
    matching::{
        pattern::example_of_path,
        rule::{Rule, Scratch},
    },
    policies::{self, Role, chain::BoundPolicy},
};

/// Other ways to write one path, of each rule.
const SPELLINGS_MAX: usize = 32;

/// `attachments` are those of the API's chain, in its order.
pub fn check<'m>(
    model: &'m ApiModel,
    api: &Api,
    attachments: impl Iterator<Item = &'m Attachment>,
    scratch: &mut Scratch,
    problems: &mut Vec<Problem>,
) {
    let chain: Vec<(&Attachment, &BoundPolicy)> = attachments.zip(&api.policies).collect();
    for (attachment, bound) in chain.iter().filter(|(attachment, _)| guards(attachment)) {
        let Some(written) = attachment.written.rules.as_ref().filter(|_| !bound.rules.is_empty()) else { continue };
        // What stands in the same chain under the same name guards as well.
        let same = |other: &Attachment| other.policy.value == attachment.policy.value;
        let guarding: Vec<&BoundPolicy> =
            chain.iter().filter(|(other, _)| same(other)).map(|(_, bound)| *bound).collect();
        for (at, rule) in written.iter().enumerate() {
            let Some(node) = rule.get("path") else { continue };
            let passing = passing(node.as_str().unwrap_or_default(), &guarding, api, scratch);
            if !passing.is_empty() {
                let path = format!("{}.rules[{at}].path", attachment.written.path);
                let text = format!(
                    "{} of ApiInstance `{}` would pass by: a route takes what an upstream may read as the same path",
                    passing.join(", "),
                    model.id
                );
                problems.push(Problem { severity: Severity::Warning, location: node.location().clone(), path, text });
                break;
            }
        }
    }
}

fn guards(attachment: &Attachment) -> bool {
    policies::lookup(&attachment.policy.value).is_none_or(|entry| entry.role == Role::Inbound && entry.refuses())
}

/// Of each kind of other spelling the first that no guard holds for and that has a route.
fn passing(pattern: &str, guarding: &[&BoundPolicy], api: &Api, scratch: &mut Scratch) -> Vec<String> {
    let mut passing: Vec<(Kind, String)> = Vec::new();
    for longest in [false, true] {
        let Some(example) = example_of_path(pattern, longest) else { continue };
        // `/` alone says nothing of segments.
        if example.len() < 2 || example[0] != b'/' || !takes(guarding, &example, scratch) {
            continue;
        }
        for (kind, other) in spellings(&example) {
            let is_known = passing.iter().any(|(known, _)| *known == kind);
            if !is_known && !takes(guarding, &other, scratch) && is_routed(api, &other, scratch) {
                passing.push((kind, format!("`{}`", String::from_utf8_lossy(&other))));
            }
        }
    }
    passing.into_iter().map(|(_, path)| path).collect()
}

fn takes(guarding: &[&BoundPolicy], path: &[u8], scratch: &mut Scratch) -> bool {
    guarding.iter().any(|bound| bound.rules.is_empty() || any_takes(&bound.rules, path, scratch))
}

fn is_routed(api: &Api, path: &[u8], scratch: &mut Scratch) -> bool {
    api.routes.iter().any(|route| route.rules.is_empty() || any_takes(&route.rules, path, scratch))
}

/// Nobody knows where a pattern reached its limit: then nothing is said.
fn any_takes(rules: &[Rule], path: &[u8], scratch: &mut Scratch) -> bool {
    rules.iter().any(|rule| rule.takes_path(path, scratch).unwrap_or(true))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Slash,
    Parameter,
    EscapedSlash,
    EscapedSign,
}

/// The path with a slash twice, a parameter behind a segment, a slash escaped, a reserved sign escaped.
fn spellings(path: &[u8]) -> Vec<(Kind, Vec<u8>)> {
    let mut all = Vec::new();
    let ends: Vec<usize> =
        (1..=path.len()).filter(|&at| at == path.len() || path[at] == b'/').take(SPELLINGS_MAX).collect();
    let mut replace = |kind, at: usize, taken: usize, new: &[u8]| {
        all.push((kind, [&path[..at], new, &path[at + taken..]].concat()));
    };
    replace(Kind::Slash, 0, 0, b"/");
    for &end in &ends {
        replace(Kind::Parameter, end, 0, b";a=b");
        if end < path.len() {
            replace(Kind::Slash, end, 0, b"/");
            replace(Kind::EscapedSlash, end, 1, b"%2F");
        }
    }
    let is_sign = |byte: u8| bytes::is(byte, bytes::PLAIN_PATH) && !bytes::is(byte, bytes::UNRESERVED) && byte != b'/';
    for (at, &byte) in path.iter().enumerate().filter(|(_, byte)| is_sign(**byte)).take(SPELLINGS_MAX) {
        let mut escaped = Vec::new();
        target::escape(byte, &mut escaped);
        replace(Kind::EscapedSign, at, 1, &escaped);
    }
    all
}
