//! Circuit breaker: what the replica may have of a Service at a time, so that one that is slow does not hold everything.
//!
//! The limits are of the Service, whichever API asks it: so they are read with it, and no chain runs this. The proxy counts.

use crate::document::{node::Located, problem::Location};
use serde::Deserialize;

/// The largest threshold.
const MANY: u64 = 10_000_000;

use super::{Category, ConfigError, Core, Fault, Field, Policy, Site};

/// As the operator writes it; the same as `Configuration.circuitBreaker`.
#[derive(Deserialize)]
pub struct Config {
    #[serde(default)]
    thresholds: WrittenThresholds,
}

#[derive(Debug)]
pub struct CircuitBreaker {
    pub thresholds: Thresholds,
}

impl Policy for CircuitBreaker {
    type Config = Config;
    type State = ();
    type PerExchange = ();

    const CATEGORY: Option<Category> = Some(Category::QualityOfService);
    const FIELDS: &'static [Field] = &[
        Field::new(
            "thresholds.maxConnections",
            "Connections",
            "Connections. At the limit a request waits for one to be free.",
        )
        .range(1, MANY as i64),
        Field::new("thresholds.maxPendingRequests", "Waiting requests", "Requests that wait so; 0: none may wait.")
            .range(0, MANY as i64),
        Field::new(
            "thresholds.maxRequests",
            "Requests",
            "Requests under way: those that have a connection, or for which it is being made. Those that \
             wait are not counted. Over HTTP/2, where a connection carries many, these are streams. A \
             WebSocket counts until it is closed.",
        )
        .range(1, MANY as i64),
        Field::new(
            "thresholds.maxRetries",
            "Retries",
            "Requests that are being retried; 0: none is. See retries: `retries.budgetPercent` holds beside \
             it.",
        )
        .range(0, MANY as i64),
        Field::new(
            "thresholds.maxConnectionPools",
            "Connection pools",
            "No effect, with a warning: a Service has one pool on each core.",
        ),
    ];

    fn remarks(Config { thresholds }: &Config) -> Vec<Fault> {
        let mut remarks: Vec<_> =
            thresholds.remark().map(|(field, _, text)| Fault::at(field, text)).into_iter().collect();
        if thresholds.is_empty() {
            remarks.push(Fault::at("", "no threshold that has an effect: nothing is limited by it"));
        }
        remarks
    }

    fn compile(config: Config, _: &mut Site<'_>) -> Result<Self, ConfigError> {
        let mut error = ConfigError::default();
        let thresholds = config.thresholds.read(|field, _, text| error.add(Fault::at(field, text)));
        error.or(Self { thresholds })
    }

    fn state(&self, _: &Core) {}
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WrittenThresholds {
    pub max_connections: Option<Located<u64>>,
    pub max_pending_requests: Option<Located<u64>>,
    pub max_requests: Option<Located<u64>>,
    pub max_retries: Option<Located<u64>>,
    pub max_connection_pools: Option<Located<u64>>,
}

impl WrittenThresholds {
    /// What is no threshold is left out, and `wrong` is told.
    pub fn read(&self, mut wrong: impl FnMut(String, &Location, String)) -> Thresholds {
        let mut read = |name: &str, written: &Option<Located<u64>>, least: u64| {
            let Located { value, location } = written.as_ref()?;
            if (least..=MANY).contains(value) {
                return usize::try_from(*value).ok();
            }
            wrong(format!("thresholds.{name}"), location, format!("expected {least} to {MANY}"));
            None
        };
        Thresholds {
            // None at all would refuse every request.
            connections: read("maxConnections", &self.max_connections, 1),
            pending_requests: read("maxPendingRequests", &self.max_pending_requests, 0),
            requests: read("maxRequests", &self.max_requests, 1),
            retries: read("maxRetries", &self.max_retries, 0),
        }
    }

    /// What is accepted and means nothing here: its field, its place and why.
    pub fn remark(&self) -> Option<(&'static str, &Location, &'static str)> {
        let pools = self.max_connection_pools.as_ref()?;
        Some(("thresholds.maxConnectionPools", &pools.location, "no effect: a Service has one pool on each core"))
    }

    pub fn is_empty(&self) -> bool {
        self.max_connections.is_none()
            && self.max_pending_requests.is_none()
            && self.max_requests.is_none()
            && self.max_retries.is_none()
    }
}

/// What the replica may have of one Service at a time: `circuitBreaker.thresholds`. What is not said is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Thresholds {
    pub connections: Option<usize>,
    pub pending_requests: Option<usize>,
    pub requests: Option<usize>,
    pub retries: Option<usize>,
}

impl Thresholds {
    /// These, and where they say nothing, others.
    pub fn or(self, others: Self) -> Self {
        Self {
            connections: self.connections.or(others.connections),
            pending_requests: self.pending_requests.or(others.pending_requests),
            requests: self.requests.or(others.requests),
            retries: self.retries.or(others.retries),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policies::testing;

    #[test]
    fn thresholds_are_read_one_by_one() {
        let read = |config| testing::compile::<CircuitBreaker>(config).expect("valid").thresholds;
        assert_eq!(
            read("thresholds: {maxConnections: 10, maxPendingRequests: 0, maxRequests: '20', maxRetries: 0}"),
            Thresholds { connections: Some(10), pending_requests: Some(0), requests: Some(20), retries: Some(0) }
        );
        assert_eq!(read("{}"), Thresholds::default());
        let some = Thresholds { connections: Some(1), ..Thresholds::default() };
        let others = Thresholds { connections: Some(2), retries: Some(3), ..Thresholds::default() };
        assert_eq!(some.or(others), Thresholds { connections: Some(1), retries: Some(3), ..Thresholds::default() });
    }

    #[test]
    fn what_has_no_effect_is_remarked() {
        let nothing = "config: no threshold that has an effect: nothing is limited by it";
        let pools = "config.thresholds.maxConnectionPools: no effect: a Service has one pool on each core";
        assert_eq!(testing::remarks::<CircuitBreaker>("{}"), [nothing]);
        assert_eq!(testing::remarks::<CircuitBreaker>("thresholds: {maxConnectionPools: 2}"), [pools, nothing]);
        assert_eq!(testing::remarks::<CircuitBreaker>("thresholds: {maxConnectionPools: 2, maxRetries: 1}"), [pools]);
    }

    #[test]
    fn every_fault_is_reported() {
        let faults = testing::faults::<CircuitBreaker>;
        assert_eq!(
            faults("thresholds: {maxConnections: 0, maxPendingRequests: 10000001, maxRequests: 0}"),
            [
                "config.thresholds.maxConnections: expected 1 to 10000000",
                "config.thresholds.maxPendingRequests: expected 0 to 10000000",
                "config.thresholds.maxRequests: expected 1 to 10000000",
            ]
        );
        assert_eq!(
            faults("thresholds: {maxRetries: -1}"),
            ["config.thresholds.maxRetries: expected a whole number, 0 or more"]
        );
        assert_eq!(faults("thresholds: {maxRetries: 1.5}"), ["config.thresholds.maxRetries: expected a whole number"]);
        assert_eq!(faults("thresholds: {maxRetries: many}"), ["config.thresholds.maxRetries: expected a whole number"]);
        assert_eq!(faults("thresholds: [1]"), ["config.thresholds: expected a map, found a list"]);
    }
}
