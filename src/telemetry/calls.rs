//! What became of calls of policies: by policy and destination, and bounded.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use super::counts::{Count, Kind, Value};

/// Pairs of a policy and a destination; further ones are counted together.
pub const PAIRS_MAX: usize = 256;
pub const OTHERS: &str = "others";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// By status class (`2xx`) or the reason of the fault.
    pub outcomes: BTreeMap<&'static str, u64>,
    pub duration: Duration,
}

/// By policy and destination.
pub type Totals = BTreeMap<(&'static str, String), Total>;

impl Total {
    pub fn count(&mut self, outcome: &'static str, took: Duration) {
        *self.outcomes.entry(outcome).or_default() += 1;
        self.duration += took;
    }
}

/// Where a pair is counted.
pub fn of<'t>(totals: &'t mut Totals, policy: &'static str, destination: String) -> &'t mut Total {
    let mut pair = (policy, destination);
    if totals.len() >= PAIRS_MAX && !totals.contains_key(&pair) {
        pair.1 = OTHERS.to_owned();
    }
    totals.entry(pair).or_default()
}

/// Adds others' totals.
pub fn merge(mine: &mut Totals, theirs: &Totals) {
    for ((policy, destination), theirs) in theirs {
        let total = of(mine, policy, destination.clone());
        theirs.outcomes.iter().for_each(|(outcome, count)| *total.outcomes.entry(outcome).or_default() += count);
        total.duration += theirs.duration;
    }
}

/// One core's.
#[derive(Debug, Default)]
pub struct Calls(RefCell<Totals>);

impl Calls {
    pub fn count(&self, policy: &'static str, destination: String, outcome: &'static str, took: Duration) {
        of(&mut self.0.borrow_mut(), policy, destination).count(outcome, took);
    }
}

impl Count for Calls {
    const KIND: Kind = Kind::Counter;
    type Copy = Totals;

    fn copy(&self) -> Totals {
        self.0.borrow().clone()
    }

    fn merge(mine: &mut Totals, theirs: &Totals) {
        merge(mine, theirs);
    }

    fn show(copy: &Totals) -> Value<'_> {
        Value::Count(copy.values().flat_map(|total| total.outcomes.values()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_pairs_and_no_more() {
        let calls = Calls::default();
        let second = Duration::from_secs(1);
        (0..1000).for_each(|at| calls.count("p", format!("http://{at}"), "2xx", second));
        calls.count("p", "http://0".to_owned(), "timeout", second);
        let mut totals = calls.copy();
        assert_eq!(totals.len(), PAIRS_MAX + 1);
        assert_eq!(totals[&("p", OTHERS.to_owned())].outcomes["2xx"], 1000 - PAIRS_MAX as u64);
        let both = Total { outcomes: BTreeMap::from([("2xx", 1), ("timeout", 1)]), duration: 2 * second };
        assert_eq!(totals[&("p", "http://0".to_owned())], both);
        let theirs = Totals::from([(("p", "http://0".to_owned()), both.clone()), (("p", "new".to_owned()), both)]);
        Calls::merge(&mut totals, &theirs);
        assert_eq!(totals.len(), PAIRS_MAX + 1);
        assert_eq!(totals[&("p", "http://0".to_owned())].outcomes["timeout"], 2);
        assert_eq!(totals[&("p", OTHERS.to_owned())].outcomes["timeout"], 1);
    }
}
