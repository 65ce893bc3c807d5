//! What is wrong with a file, where, and how bad it is.

use std::{fmt, path::PathBuf, sync::Arc};

/// A place in a configuration file. Lines and columns count from 1; 0 means unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub file: Arc<PathBuf>,
    pub line: u32,
    pub column: u32,
}

impl Location {
    /// Of a stand-in for something that could not be read.
    pub fn is_nowhere(&self) -> bool {
        self.file.as_os_str().is_empty()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Loads; an operator should know. `check --strict` makes it an error.
    Warning,
    /// A policy that cannot be built: never stops a start or a reload, its requests get 503; `check` fails.
    Policy,
    /// The document cannot be used.
    Error,
}

/// One problem: `file:line:column: path: text`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub severity: Severity,
    pub location: Location,
    /// Where in the resource: `orders.spec.policies[0].config.username`.
    pub path: String,
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { file, line, column } = &self.location;
        match line {
            0 => write!(f, "{}: {}: {}", file.display(), self.path, self.text),
            _ => write!(f, "{}:{line}:{column}: {}: {}", file.display(), self.path, self.text),
        }
    }
}
