//! Lists of header names, as they are configured.

use crate::{
    http::bytes::is_token,
    policies::{ConfigError, Fault},
};

/// They compare in any case.
#[derive(Debug, Default)]
pub struct Names(Vec<Box<[u8]>>);

impl Names {
    pub fn compile(field: &str, written: &[String], error: &mut ConfigError) -> Self {
        for (at, name) in written.iter().enumerate() {
            if !is_token(name.trim().trim_start_matches(':').as_bytes()) {
                error.add(Fault::at(format!("{field}[{at}]"), "not a header name"));
            }
        }
        Self(written.iter().map(|name| name.trim().as_bytes().into()).collect())
    }

    pub fn has(&self, name: &[u8]) -> bool {
        self.0.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
