//! Idle time-out: how long a connection to a Service may wait for its next request.
//!
//! It is of connections, which carry requests of every API: so it is read with the Service, and no chain runs it.

use std::time::Duration;

use super::{
    Category, ConfigError, Core, Fault, Field, Policy, Site,
    seconds::{self, Config},
};

#[derive(Debug)]
pub struct IdleTimeout {
    /// `None`: no limit.
    pub limit: Option<Duration>,
}

impl Policy for IdleTimeout {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = seconds::FIELDS;

    fn remarks(config: &Config) -> Vec<Fault> {
        config.remark("connections stay until the upstream closes them")
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        Ok(Self { limit: config.read()? })
    }

    fn state(&self, _: &Core) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    #[test]
    fn the_limit_is_in_seconds() {
        let check = |config: &str, expected| {
            let policy = testing::compile::<IdleTimeout>(config).expect("valid");
            assert_eq!(policy.limit, expected, "{config}");
        };
        check("timeout: 60", Some(Duration::from_secs(60)));
        check("timeout: 0", None);
        let remarks = testing::remarks::<IdleTimeout>("timeout: 0");
        assert_eq!(remarks, ["config.timeout: 0: connections stay until the upstream closes them"]);
        assert_eq!(testing::faults::<IdleTimeout>("{}"), ["config.timeout: required, but missing"]);
    }
}
