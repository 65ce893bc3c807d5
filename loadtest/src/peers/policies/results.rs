//! What policies cost: each round's loads, and medians of what the rounds' differences are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{super::trial::Phase, PolicyWorkload};
use crate::{
    report::{Better, Measurement},
    statistics::Spread,
};

#[derive(Serialize, Deserialize)]
pub struct PolicyReport {
    pub name: String,
    pub title: String,
    /// What it should add at most, as the command line says.
    pub target_us: Option<f64>,
    /// By peer, why it was not asked.
    pub left_out: BTreeMap<String, String>,
    /// By peer, one for each round.
    pub trials: BTreeMap<String, Vec<PolicyTrial>>,
    /// By peer; made of the trials when all rounds are over.
    pub added: BTreeMap<String, Added>,
}

/// One round of one peer: loads that follow each other.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PolicyTrial {
    /// No policy, and nothing in the request that is there for it.
    pub plain: Phase,
    /// No policy; what the policy is asked, where that is another request.
    pub asked: Option<Phase>,
    pub with: Phase,
}

/// CPU microseconds a request.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Added {
    /// By the policy and by what a request carries for it.
    pub us: Spread,
    /// The part of it in user space.
    pub user_us: Spread,
    /// By the policy alone: the request was the same without it.
    pub policy_us: Spread,
}

impl PolicyTrial {
    pub fn phases(&self) -> impl Iterator<Item = &Phase> {
        [Some(&self.plain), self.asked.as_ref(), Some(&self.with)].into_iter().flatten()
    }
}

impl PolicyReport {
    pub fn new(workload: &PolicyWorkload, target_us: Option<f64>, left_out: BTreeMap<String, String>) -> Self {
        Self {
            name: workload.name.to_owned(),
            title: workload.title.clone(),
            target_us,
            left_out,
            trials: BTreeMap::new(),
            added: BTreeMap::new(),
        }
    }

    /// Makes `added` of the trials.
    pub fn summarize(&mut self) {
        let added = self.trials.iter().filter_map(|(peer, trials)| Some((peer.clone(), Added::of(trials)?)));
        self.added = added.collect();
    }
}

impl Added {
    /// Differences are taken within a round, and their median then: what made a round slow is in both of its loads. `None`
    /// of no round.
    fn of(trials: &[PolicyTrial]) -> Option<Self> {
        let spread =
            |difference: fn(&PolicyTrial) -> f64| Spread::of(&trials.iter().map(difference).collect::<Vec<f64>>());
        Some(Self {
            us: spread(|trial| trial.with.us_per_request - trial.plain.us_per_request)?,
            user_us: spread(|trial| trial.with.user_us - trial.plain.user_us)?,
            policy_us: spread(|trial| trial.with.us_per_request - trial.asked.unwrap_or(trial.plain).us_per_request)?,
        })
    }
}

/// For `compare`: the whole cost of a request with the policy. The difference is none of them, as the ratio of two that are
/// near zero says nothing.
pub fn measurements(reports: &[PolicyReport]) -> Vec<Measurement> {
    type Take = fn(&PolicyTrial) -> f64;
    let table: [(&str, Take); 2] =
        [("cpu", |trial| trial.with.us_per_request), ("cpu-user", |trial| trial.with.user_us)];
    let of = |report: &PolicyReport| {
        let all = report.trials.iter().flat_map(|(peer, trials)| table.map(|(what, take)| (peer, trials, what, take)));
        let name = report.name.clone();
        let measurement = move |(peer, trials, what, take): (&String, &Vec<PolicyTrial>, &str, Take)| Measurement {
            name: format!("{peer}/{name}/{what}"),
            unit: "us/request".into(),
            better: Better::Lower,
            samples: trials.iter().map(take).collect(),
        };
        all.map(measurement).collect::<Vec<_>>()
    };
    reports.iter().flat_map(of).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn phase(us: f64, user_us: f64) -> Phase {
        let (others_share, stolen_share) = (0.0, 0.0);
        Phase { us_per_request: us, user_us, core_share: 1.0, per_second: 1e6 / us, others_share, stolen_share }
    }

    fn report(trials: &[PolicyTrial]) -> PolicyReport {
        let trials = BTreeMap::from([("proxy".to_owned(), trials.to_vec())]);
        let mut report = PolicyReport {
            name: "policy-basic".into(),
            title: String::new(),
            target_us: None,
            left_out: BTreeMap::new(),
            trials,
            added: BTreeMap::new(),
        };
        report.summarize();
        report
    }

    #[test]
    fn what_is_added_is_the_median_of_the_rounds_differences() {
        // The second round was slow in all of its loads, which a difference of medians would take for the policy.
        let round = |slow: f64, adds: f64| PolicyTrial {
            plain: phase(20.0 * slow, 4.0),
            asked: Some(phase(20.0 * slow + 0.5, 4.0)),
            with: phase(20.0 * slow + adds, 4.25),
        };
        let report = report(&[round(1.0, 1.5), round(2.0, 2.0), round(1.25, 1.0)]);
        let added = report.added["proxy"];
        assert_eq!(added.us, Spread { median: 1.5, min: 1.0, max: 2.0 });
        assert_eq!(added.user_us, Spread { median: 0.25, min: 0.25, max: 0.25 });
        assert_eq!(added.policy_us, Spread { median: 1.0, min: 0.5, max: 1.5 });
    }

    #[test]
    fn where_the_request_is_the_plain_one_all_is_the_policys() {
        let report = report(&[PolicyTrial { plain: phase(20.0, 4.0), asked: None, with: phase(19.5, 4.0) }]);
        let added = report.added["proxy"];
        assert_eq!((added.us.median, added.policy_us.median), (-0.5, -0.5));
        assert!(self::report(&[]).added.is_empty());
    }

    #[test]
    fn results_are_compared_by_the_whole_cost() {
        let report = report(&[PolicyTrial { plain: phase(20.0, 4.0), asked: None, with: phase(21.0, 5.0) }]);
        let all = measurements(&[report]);
        let seen: Vec<(&str, &[f64])> = all.iter().map(|m| (m.name.as_str(), &m.samples[..])).collect();
        assert_eq!(seen, [("proxy/policy-basic/cpu", &[21.0][..]), ("proxy/policy-basic/cpu-user", &[5.0][..])]);
    }
}
