//! What became of calls, for the metrics page: by policy and destination, and bounded.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Pairs of a policy and a destination; further ones are counted together.
const PAIRS_MAX: usize = 256;
const OTHERS: &str = "others";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// By status class (`2xx`) or the reason of the fault.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub duration: Duration,
}

#[derive(Debug, Default)]
pub struct Counts(Mutex<BTreeMap<(&'static str, String), Total>>);

impl Counts {
    pub fn count(&self, policy: &'static str, destination: String, outcome: &'static str, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut pair = (policy, destination);
        if all.len() >= PAIRS_MAX && !all.contains_key(&pair) {
            pair.1 = OTHERS.to_owned();
        }
        let total = all.entry(pair).or_default();
        *total.outcomes.entry(outcome).or_default() += 1;
        total.duration += took;
    }

    pub fn totals(&self) -> BTreeMap<(&'static str, String), Total> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_pairs_and_no_more() {
        let counts = Counts::default();
        let second = Duration::from_secs(1);
        (0..1000).for_each(|at| counts.count("p", format!("http://{at}"), "2xx", second));
        counts.count("p", "http://0".to_owned(), "timeout", second);
        let totals = counts.totals();
        assert_eq!(totals.len(), PAIRS_MAX + 1);
        assert_eq!(totals[&("p", OTHERS.to_owned())].outcomes["2xx"], 1000 - PAIRS_MAX as u64);
        let both = Total { outcomes: BTreeMap::from([("2xx", 1), ("timeout", 1)]), duration: 2 * second };
        assert_eq!(totals[&("p", "http://0".to_owned())], both);
    }
}
