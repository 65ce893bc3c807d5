//! What the questions of each policy have come to, for the metrics page.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Wanted, Watched};
use crate::{
    management::exposition::Page,
    telemetry::{counts::Kind, fault::Fault},
};

/// How an answer that is as it should be is counted.
const WELL: &str = "healthy";

/// By the policy's identity; those of policies that are asked for no more are forgotten.
#[derive(Debug, Default)]
pub struct Standings(Mutex<HashMap<u64, Standing>>);

#[derive(Debug)]
struct Standing {
    namespace: String,
    api: String,
    binding: String,
    /// By the last answer; one that was never asked is taken to be well.
    healthy: bool,
    outcomes: BTreeMap<&'static str, u64>,
    became_healthy: u64,
    became_unhealthy: u64,
}

impl Standings {
    pub(super) fn keep(&self, wanted: &Wanted) {
        self.lock().retain(|identity, _| wanted.contains_key(identity));
    }

    /// Counts an answer; true where the upstream was well before it and is not any more, or the other way round.
    pub fn count(&self, identity: u64, watched: &Watched, result: &Result<(), Fault>) -> bool {
        let (namespace, api) = watched.monitor.api.split_once('/').unwrap_or(("", &watched.monitor.api));
        let new = || Standing {
            namespace: namespace.to_owned(),
            api: api.to_owned(),
            binding: watched.binding.clone(),
            healthy: true,
            outcomes: BTreeMap::new(),
            became_healthy: 0,
            became_unhealthy: 0,
        };
        let mut standings = self.lock();
        let standing = standings.entry(identity).or_insert_with(new);
        *standing.outcomes.entry(result.as_ref().map_or_else(|fault| fault.reason, |()| WELL)).or_default() += 1;
        let has_changed = standing.healthy != result.is_ok();
        standing.healthy = result.is_ok();
        standing.became_healthy += u64::from(has_changed && standing.healthy);
        standing.became_unhealthy += u64::from(has_changed && !standing.healthy);
        has_changed
    }

    /// Nothing where nobody was asked.
    pub fn render(&self, page: &mut Page) {
        let standings = self.lock();
        if standings.is_empty() {
            return;
        }
        let mut standings: Vec<&Standing> = standings.values().collect();
        standings.sort_by_key(|standing| standing.labels().map(|(_, value)| value));
        let help =
            "1: the last answer to a health-check-flex policy was as it should be; 0: it was not, or there was none.";
        let mut family = page.family(Kind::Gauge, "ringway_health_check_healthy", help);
        for standing in &standings {
            family.sample(&standing.labels(), u8::from(standing.healthy));
        }
        let help = "Answers to health-check-flex policies: healthy, or why not.";
        let mut family = page.family(Kind::Counter, "ringway_health_checks_total", help);
        for standing in &standings {
            let [namespace, api, binding] = standing.labels();
            for (outcome, count) in &standing.outcomes {
                family.sample(&[namespace, api, binding, ("outcome", outcome)], count);
            }
        }
        let help = "Times that what a health-check-flex policy watches became unhealthy, or healthy again.";
        let mut family = page.family(Kind::Counter, "ringway_health_check_changes_total", help);
        for standing in &standings {
            let [namespace, api, binding] = standing.labels();
            family.sample(&[namespace, api, binding, ("to", "healthy")], standing.became_healthy);
            family.sample(&[namespace, api, binding, ("to", "unhealthy")], standing.became_unhealthy);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Standing {
    fn labels(&self) -> [(&'static str, &str); 3] {
        [("namespace", &self.namespace), ("api", &self.api), ("binding", &self.binding)]
    }
}
