//! Stream idle time-out: how long no byte may move, for one API or some of its requests.
//!
//! It holds for bodies in both directions and for WebSocket tunnels. The proxy counts; the policy only says how long.

use std::time::Duration;

use super::{
    Category, ConfigError, Core, Exchange, Fault, Field, Flow, Policy, Site, Turn,
    seconds::{self, Config},
};

#[derive(Debug)]
pub struct StreamIdleTimeout {
    /// `None`: no limit.
    limit: Option<Duration>,
}

impl Policy for StreamIdleTimeout {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = seconds::FIELDS;

    fn remarks(config: &Config) -> Vec<Fault> {
        config.remark("an exchange may stand still without limit")
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        Ok(Self { limit: config.read()? })
    }

    fn state(&self, _: &Core) {}

    fn on_request(&self, _: Turn<'_, Self>, exchange: &mut Exchange<'_>) -> Flow {
        exchange.set_stream_idle_timeout(self.limit);
        Flow::Continue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::{
        exchange::Timeouts,
        testing::{self, Trial},
    };

    /// The limit of an exchange after its turn, where the gateway's own is a minute.
    fn check(config: &str, expected: Option<Duration>) {
        let policy = testing::compile::<StreamIdleTimeout>(config).expect("valid");
        let mut trial = Trial::new("GET", "/", &[]);
        assert!(matches!(trial.ask(&policy), Flow::Continue));
        let minute = Some(Duration::from_secs(60));
        let before = Timeouts { response: minute, stream_idle: minute };
        assert_eq!(trial.timeouts, Timeouts { stream_idle: expected, ..before }, "{config}");
    }

    #[test]
    fn the_limit_is_in_seconds() {
        check("timeout: 2", Some(Duration::from_secs(2)));
        check("TIMEOUT: '2.5'", Some(Duration::from_millis(2500)));
        check("timeout: 86400", Some(Duration::from_secs(86_400)));
        check("timeout: 0", None);
    }

    #[test]
    fn no_limit_is_remarked() {
        assert_eq!(
            testing::remarks::<StreamIdleTimeout>("timeout: 0"),
            ["config.timeout: 0: an exchange may stand still without limit"]
        );
        assert_eq!(testing::remarks::<StreamIdleTimeout>("timeout: 1"), [""; 0]);
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for (config, expected) in [
            ("{}", "config.timeout: required, but missing"),
            ("timeout: ", "config.timeout: required, but missing"),
            ("timeout: -1", "config.timeout: expected 0 to 86400 seconds"),
            ("timeout: 86401", "config.timeout: expected 0 to 86400 seconds"),
            ("timeout: .nan", "config.timeout: expected 0 to 86400 seconds"),
            ("timeout: .inf", "config.timeout: expected 0 to 86400 seconds"),
            ("timeout: 15s", "config.timeout: expected a number"),
            ("timeout: [1]", "config.timeout: expected a number, found a list"),
        ] {
            assert_eq!(testing::faults::<StreamIdleTimeout>(config), [expected], "{config}");
        }
    }
}
