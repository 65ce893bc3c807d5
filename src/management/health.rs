//! Active health checks: a GET to every endpoint of a Service that asks for it, at its interval.
//!
//! An endpoint is well until it has failed often enough in a row, and then ill until it has answered often enough in a row.
//! State stays with the Service's identity, so a reload that leaves the Service alone does not start over.

mod check;

use std::{collections::HashMap, sync::Arc};

use tokio::time::Instant;

pub use self::check::Check;
pub(super) use self::check::{connect, insecure, lost};
use crate::{config::endpoints::Place, telemetry::fault::Fault};

/// A Service by identity, and one of its addresses.
pub type Target = (u64, Place);

/// Every endpoint that is checked, how it is, and when to ask again. Does no I/O.
#[derive(Debug, Default)]
pub struct Checks {
    targets: HashMap<Target, State>,
}

#[derive(Debug)]
struct State {
    check: Arc<Check>,
    /// Why it is ill, by its last check; `None`: it is well.
    fault: Option<Fault>,
    /// Results in a row that contradict that.
    against: u32,
    /// `None`: a check is under way.
    due: Option<Instant>,
}

impl Checks {
    /// From now on these endpoints are checked; others are forgotten.
    pub fn keep(&mut self, wanted: HashMap<Target, Arc<Check>>, now: Instant) {
        self.targets.retain(|target, _| wanted.contains_key(target));
        for (target, check) in wanted {
            let new = || State { check: check.clone(), fault: None, against: 0, due: Some(now) };
            self.targets.entry(target).or_insert_with(new).check = check.clone();
        }
    }

    /// Endpoints to check now, at most `count`; each stays out of the next lists until it is [`Checks::answered`].
    pub fn take_due(&mut self, now: Instant, count: usize) -> Vec<(Target, Arc<Check>)> {
        let due = self.targets.iter_mut().filter(|(_, state)| state.due.is_some_and(|due| due <= now));
        due.take(count)
            .map(|(target, state)| {
                state.due = None;
                (*target, state.check.clone())
            })
            .collect()
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.targets.values().filter_map(|state| state.due).min()
    }

    /// Takes a result; true where the endpoint became well or ill by it, or is ill for another reason.
    pub fn answered(&mut self, target: Target, result: Result<(), Fault>, now: Instant) -> bool {
        let Some(state) = self.targets.get_mut(&target) else {
            return false; // not wanted any more
        };
        let settings = &state.check.settings;
        state.due = Some(now + settings.interval);
        let fault = result.err();
        if fault.is_some() == state.fault.is_some() {
            state.against = 0;
            let is_news = fault != state.fault;
            state.fault = fault;
            return is_news;
        }
        state.against += 1;
        let threshold = if fault.is_some() { settings.unhealthy_threshold } else { settings.healthy_threshold };
        if state.against < threshold {
            return false;
        }
        let (upstream, address) = (&state.check.authority, state.check.reached(target.1));
        match &fault {
            None => tracing::info!(upstream, %address, "endpoint is healthy again"),
            Some(Fault { reason, text }) => tracing::warn!(upstream, %address, reason, text, "endpoint is unhealthy"),
        }
        state.fault = fault;
        state.against = 0;
        true
    }

    pub fn unhealthy(&self) -> impl Iterator<Item = (Target, Fault)> {
        self.targets.iter().filter_map(|(target, state)| Some((*target, state.fault.clone()?)))
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use super::*;
    use crate::config::snapshot::HealthCheck;

    #[test]
    fn thresholds_count_results_in_a_row() {
        let settings = HealthCheck {
            path: "/health".to_owned(),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            unhealthy_threshold: 3,
            healthy_threshold: 2,
        };
        let authority = "orders.internal".to_owned();
        let check = Arc::new(Check {
            settings,
            authority,
            proxy_protocol: None,
            tls: None,
            multiplexes: false,
            endpoints: Vec::new(),
            carried: None,
        });
        let target = (1, SocketAddr::from(([192, 0, 2, 1], 80)).into());
        let now = Instant::now();
        let mut checks = Checks::default();
        let wanted = || HashMap::from([(target, check.clone())]);
        checks.keep(wanted(), now);
        assert_eq!(checks.take_due(now, 1).len(), 1);
        // `+`: well, else the reason; the digit says whether there is news.
        for (step, result) in
            ["a0", "a0", "+0", "a0", "b0", "a1", "a0", "b1", "+0", "a1", "+0", "+1", "+0"].iter().enumerate()
        {
            let outcome = match &result[..1] {
                "+" => Ok(()),
                "a" => Err(Fault::new("a", "")),
                _ => Err(Fault::new("b", "")),
            };
            assert_eq!(checks.answered(target, outcome, now), result.ends_with('1'), "step {step}");
            checks.keep(wanted(), now); // a reload in between changes nothing
        }
        assert_eq!(checks.next_due(), Some(now + Duration::from_secs(10)));
        checks.keep(HashMap::new(), now);
        assert!(!checks.answered(target, Ok(()), now));
    }
}
