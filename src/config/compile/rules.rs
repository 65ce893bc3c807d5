//! The rules of a policy or a route.

use super::Compiler;
use crate::{
    config::model::Written,
    document::{
        node::Node,
        problem::{Location, Severity},
    },
    matching::{
        pattern::oddity_of_path,
        rule::{RawRule, Rule, methods_in_lower_case},
    },
};

impl Compiler<'_> {
    /// All rules, or none if one is wrong; each mistake is reported.
    pub(super) fn rules(&mut self, written: &Written, severity: Severity) -> Result<Vec<Rule>, ()> {
        let Some(node) = &written.rules else { return Ok(Vec::new()) };
        let path = format!("{}.rules", written.path);
        let whole: Option<Vec<RawRule>> = node.deserialize_as(severity, &path, self.problems);
        let mut sound = whole.is_some();
        // A rule of the wrong form does not hide a bad pattern in another.
        let raw = whole.or_else(|| node.deserialize_rest()).unwrap_or_default();
        let mut rules = Vec::with_capacity(raw.len());
        for (at, (raw, node)) in raw.iter().zip(node.iter()).enumerate() {
            if let Some(odd) = raw.path.as_deref().and_then(oddity_of_path) {
                let text = format!("no path matches this: {odd}");
                self.problem(Severity::Warning, &field_location(node, "path"), format!("{path}[{at}].path"), text);
            }
            if raw.methods.as_deref().is_some_and(methods_in_lower_case) {
                let text = "no request matches this: methods are in upper case";
                self.problem(
                    Severity::Warning,
                    &field_location(node, "methods"),
                    format!("{path}[{at}].methods"),
                    text,
                );
            }
            match Rule::compile(raw, &mut self.patterns) {
                Ok(rule) => rules.push(rule.written_at(node.location())),
                Err(problems) => {
                    sound = false;
                    for (field, text) in problems {
                        let location = field_location(node, &field);
                        self.problem(severity, &location, format!("{path}[{at}].{field}"), text);
                    }
                }
            }
        }
        if sound { Ok(rules) } else { Err(()) }
    }
}

/// Where `path` or `headers.x-id` was written. A header's name may hold dots.
fn field_location(rule: &Node, field: &str) -> Location {
    let node = match field.split_once('.') {
        Some((outer, inner)) => rule.get(outer).and_then(|headers| headers.get(inner)),
        None => rule.get(field),
    };
    node.unwrap_or(rule).location().clone()
}
