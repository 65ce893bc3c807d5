//! The `tls` and `tls-outbound` policies as written, read into what `crate::tls` serves and dials with.
//!
//! They are of a port and of a Service's connections, not of a chain. What is wrong in one is an error of its document: a
//! renewed certificate that does not parse must not take the place of the one that works.

mod fields;
pub mod inbound;
pub mod outbound;

pub use inbound::{Inbound, Port};
pub use outbound::Outbound;

use std::path::PathBuf;

use super::{
    problem::{Location, Problem, Severity},
    resources::{Resource, Secret},
};

/// What reading a policy needs besides its `config`.
pub struct Reading<'r> {
    pub secrets: &'r [Resource<Secret>],
    /// Of the policy: where a Secret is looked for.
    pub namespace: &'r str,
    /// Where `config` stands.
    pub path: &'r str,
    pub problems: &'r mut Vec<Problem>,
    /// Files that were read, or would have been: a change of one is a change of the configuration.
    pub files: &'r mut Vec<PathBuf>,
}

impl Reading<'_> {
    fn problem(&mut self, severity: Severity, location: &Location, field: &str, text: impl Into<String>) {
        let path = if field.is_empty() { self.path.to_owned() } else { format!("{}.{field}", self.path) };
        self.problems.push(Problem { severity, location: location.clone(), path, text: text.into() });
    }

    fn error(&mut self, location: &Location, field: &str, text: impl Into<String>) {
        self.problem(Severity::Error, location, field, text);
    }

    fn warn(&mut self, location: &Location, field: &str, text: impl Into<String>) {
        self.problem(Severity::Warning, location, field, text);
    }
}
