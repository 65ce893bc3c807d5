//! The language that configuration is written in: YAML as trees with positions, problems that name their place, and what every
//! resource has. It knows nothing of what the resources mean.

pub mod address;
pub mod hash;
pub mod node;
pub mod problem;

use std::{collections::BTreeMap, fmt, time::Duration};

use problem::Location;

/// Namespace and name, unique within a kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    pub namespace: String,
    pub name: String,
}

impl Id {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One resource: its envelope, and its specification by kind.
#[derive(Clone, Debug)]
pub struct Resource<T> {
    pub id: Id,
    pub labels: BTreeMap<String, String>,
    /// Of the name.
    pub location: Location,
    /// Counts the documents of all files, in order.
    pub position: usize,
    pub spec: T,
}

/// A day. Longer waits are taken for a mistake in the unit.
const SECONDS_MAX: f64 = 86_400.0;

/// Seconds, in fractions too.
///
/// # Errors
/// What was expected, in words.
pub fn duration(seconds: f64) -> Result<Duration, String> {
    if (0.0..=SECONDS_MAX).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(format!("expected 0 to {SECONDS_MAX} seconds"))
    }
}
