//! `timeout`, the one field of the policies that set a time limit.

use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, Fault, Field};
use crate::document::duration;

/// As the operator writes it: seconds, in fractions too. 0 is no limit, as in `Configuration.timeouts`.
#[derive(Deserialize)]
pub struct Config {
    timeout: f64,
}

pub const FIELDS: &[Field] =
    &[Field::new("timeout", "Time-out", "0 to 86400, fractions too. 0: no limit, with a warning.")
        .unit("seconds")
        .range(0, 86_400)];

impl Config {
    pub fn read(&self) -> Result<Option<Duration>, ConfigError> {
        let limit = duration(self.timeout).map_err(|text| ConfigError::at("timeout", text))?;
        Ok(Some(limit).filter(|limit| !limit.is_zero()))
    }

    /// What a limit of none means, in words that stand behind it.
    pub fn remark(&self, none: &str) -> Vec<Fault> {
        if self.timeout == 0.0 { vec![Fault::at("timeout", format!("0: {none}"))] } else { Vec::new() }
    }
}
