//! What policies decide, and what a sample of their turns costs: each where it is bound, by series number.

use std::cell::{Cell, RefCell};

use super::{
    core::slot,
    cost::Costs,
    counts::Reasons,
    histogram::{Histogram, merge_histogram},
    series::SeriesId,
};

/// The turns of one exchange in so many are measured, on each core: a clock read is dear beside a policy.
const MEASURED_IN: u32 = 64;

/// What a policy has decided when its turn ends. The texts are reason codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The exchange goes on.
    Continue,
    /// It waits, and decides when it goes on.
    Wait,
    /// An answer of its own.
    Respond(&'static str),
    /// It could not do what it is there for, and the exchange has an answer that says so.
    Fail(&'static str),
    /// One of the two before, had it not been in shadow.
    ShadowDeny(&'static str),
}

/// One core's counts of all policies.
#[derive(Debug, Default)]
pub struct Policies {
    counts: RefCell<Vec<PolicyCounts>>,
    exchanges: Cell<u32>,
}

impl Policies {
    /// Whether the turns of the exchange that begins are measured; asked once an exchange, where it has policies.
    pub fn measures_next(&self) -> bool {
        let number = self.exchanges.get();
        self.exchanges.set(number.wrapping_add(1));
        number.is_multiple_of(MEASURED_IN)
    }

    pub fn decided(&self, policy: SeriesId, decision: Decision) {
        slot(&mut self.counts.borrow_mut(), policy).add(decision);
    }

    /// A turn that was measured.
    pub fn took(&self, policy: SeriesId, ns: u64) {
        slot(&mut self.counts.borrow_mut(), policy).turns.get_or_insert_default().record(ns);
    }

    pub fn waited(&self, policy: SeriesId, ns: u64) {
        slot(&mut self.counts.borrow_mut(), policy).waits.get_or_insert_default().record(ns);
    }

    /// Nothing yet, with room for all.
    pub fn begin_copy(&self) -> Vec<PolicyCounts> {
        Vec::with_capacity(self.counts.borrow().len())
    }

    /// Adds the next ones to a copy, at most so many; false when there are none left.
    pub fn copy_more(&self, copy: &mut Vec<PolicyCounts>, most: usize) -> bool {
        let mine = self.counts.borrow();
        let end = mine.len().min(copy.len() + most);
        copy.extend_from_slice(&mine[copy.len()..end]);
        end < mine.len()
    }
}

/// One policy where it is bound.
#[derive(Clone, Debug, Default)]
pub struct PolicyCounts {
    continued: u64,
    waited: u64,
    responded: Reasons,
    failed: Reasons,
    shadow_denied: Reasons,
    /// A sample.
    pub turns: Option<Box<Costs>>,
    pub waits: Option<Box<Histogram>>,
}

impl PolicyCounts {
    fn add(&mut self, decision: Decision) {
        match decision {
            Decision::Continue => self.continued += 1,
            Decision::Wait => self.waited += 1,
            Decision::Respond(reason) => self.responded.add(reason, 1),
            Decision::Fail(reason) => self.failed.add(reason, 1),
            Decision::ShadowDeny(reason) => self.shadow_denied.add(reason, 1),
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.continued += other.continued;
        self.waited += other.waited;
        self.responded.merge(&other.responded);
        self.failed.merge(&other.failed);
        self.shadow_denied.merge(&other.shadow_denied);
        if let Some(theirs) = &other.turns {
            self.turns.get_or_insert_default().merge(theirs);
        }
        merge_histogram(&mut self.waits, &other.waits);
    }

    /// What was decided so far: the decision, its reason code or nothing, how often.
    pub fn decisions(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let plain = [("continue", self.continued), ("wait", self.waited)];
        let plain = plain.into_iter().map(|(decision, count)| (decision, "", count)).filter(|(.., count)| *count > 0);
        let by_reason = [("respond", &self.responded), ("fail", &self.failed), ("shadow_deny", &self.shadow_denied)];
        plain.chain(
            by_reason
                .into_iter()
                .flat_map(|(decision, reasons)| reasons.iter().map(move |(reason, count)| (decision, reason, count))),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::histogram::Distribution;

    const POLICY: SeriesId = SeriesId(3);

    #[test]
    fn decisions_count_by_reason_and_cores_add_up() {
        let cores = [Policies::default(), Policies::default()];
        for decision in [Decision::Continue, Decision::Wait, Decision::Continue, Decision::Respond("blocked")] {
            cores[0].decided(POLICY, decision);
        }
        for decision in [Decision::Fail("policy_failed"), Decision::ShadowDeny("blocked"), Decision::Respond("blocked")]
        {
            cores[1].decided(POLICY, decision);
        }
        cores[1].waited(POLICY, 5_000_000);
        let copies = cores.each_ref().map(|core| {
            let mut copy = core.begin_copy();
            while core.copy_more(&mut copy, 3) {}
            copy.pop().expect("the last one counted")
        });
        let mut sum = copies[0].clone();
        sum.merge(&copies[1]);
        let expected = [
            ("continue", "", 2),
            ("wait", "", 1),
            ("respond", "blocked", 2),
            ("fail", "policy_failed", 1),
            ("shadow_deny", "blocked", 1),
        ];
        assert_eq!(sum.decisions().collect::<Vec<_>>(), expected);
        assert_eq!(sum.waits.map(|waits| waits.count()), Some(1));
        assert!(sum.turns.is_none(), "no turn was measured");
    }

    #[test]
    fn few_exchanges_are_measured() {
        let policies = Policies::default();
        let measured: Vec<usize> = (0..200).filter(|_| policies.measures_next()).collect();
        assert_eq!(measured, [0, 64, 128, 192]);
    }
}
