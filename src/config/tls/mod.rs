//! The `tls` and `tls-outbound` policies as written, read into what `crate::tls` serves and dials with.
//!
//! They are of a port and of a Service's connections, not of a chain. What is wrong in one is an error of its document: a
//! renewed certificate that does not parse must not take the place of the one that works.

pub mod calls;
mod fields;
pub mod inbound;
pub mod outbound;
pub mod tickets;

pub use fields::{SecretRef, WrittenCertificate};
pub use inbound::{Inbound, Port, demands_certificates};
pub use outbound::Outbound;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use super::resources::Secret;
use crate::document::{
    Resource,
    problem::{Location, Problem, Severity},
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

/// Of a file with a certificate or keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A file that a configuration names: a relative path begins where the document's file is. It counts as read also where it
/// cannot be, so that its coming is noticed.
fn read_file(path: &Path, location: &Location, files: &mut Vec<PathBuf>) -> Result<Vec<u8>, String> {
    let path = location.file.parent().unwrap_or(Path::new("")).join(path);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes));
    let result = match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => Err(format!("more than {FILE_BYTES_MAX} bytes")),
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    };
    files.push(path);
    result
}
