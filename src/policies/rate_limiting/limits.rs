//! Limits as they are written: in the policy itself, and in the tier of a contract.

use serde::Deserialize;

use crate::{policies::Fault, quota};

/// So many at the most of one policy or tier: each takes part in every decision.
pub const LIMITS_MAX: usize = 16;
/// Redis counts in 64-bit floating-point numbers, and is far from their end with this.
pub const REQUESTS_MAX: u64 = 1_000_000_000_000;
/// A year.
pub const PERIOD_MS_MAX: u64 = 366 * DAY_MS;
const DAY_MS: u64 = 86_400_000;
/// A shorter window may be over before a storage has answered.
const PERIOD_MS_FEW: u64 = 10;
/// Whoever counts for longer should know what a restart forgets.
const PERIOD_MS_MANY: u64 = 31 * DAY_MS;

/// At most so many requests in a window of so many milliseconds, which begins with the first of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Limit {
    pub maximum_requests: u64,
    pub time_period_in_milliseconds: u64,
}

impl Limit {
    /// As it is counted.
    pub fn counted(self) -> quota::Limit {
        quota::Limit { maximum: self.maximum_requests, period: self.time_period_in_milliseconds * 1000 }
    }

    /// As it is told to clients: requests in milliseconds.
    pub fn told(self) -> (u64, u64) {
        (self.maximum_requests, self.time_period_in_milliseconds)
    }
}

/// What is wrong with a list of limits. `list` is its field.
pub fn faults(list: &str, limits: &[Limit]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if limits.is_empty() {
        faults.push(Fault::at(list, "must have one limit at least"));
    }
    if limits.len() > LIMITS_MAX {
        faults.push(Fault::at(list, format!("more than {LIMITS_MAX} limits")));
    }
    for (at, limit) in limits.iter().enumerate() {
        for (field, value, most) in [
            ("maximumRequests", limit.maximum_requests, REQUESTS_MAX),
            ("timePeriodInMilliseconds", limit.time_period_in_milliseconds, PERIOD_MS_MAX),
        ] {
            if !(1..=most).contains(&value) {
                faults.push(Fault::at(format!("{list}[{at}].{field}"), format!("expected 1 to {most}")));
            }
        }
    }
    faults
}

/// What works and is hardly meant.
pub fn remarks(list: &str, limits: &[Limit]) -> Vec<Fault> {
    let mut remarks = Vec::new();
    for (at, limit) in limits.iter().enumerate() {
        let mut remark = |field: &str, text: String| remarks.push(Fault::at(format!("{list}[{at}]{field}"), text));
        let period = limit.time_period_in_milliseconds;
        if (1..PERIOD_MS_FEW).contains(&period) {
            let text = "a window this short may be over before a storage that replicas share has answered";
            remark(".timePeriodInMilliseconds", text.to_owned());
        }
        if period > PERIOD_MS_MANY {
            let text = "more than 31 days: without a storage that keeps it, a restart begins the window anew";
            remark(".timePeriodInMilliseconds", text.to_owned());
        }
        let before = limits[..at].iter();
        let after = limits[at + 1..].iter();
        if let Some(first) = before.clone().position(|other| other.time_period_in_milliseconds == period) {
            remark("", format!("has the period of {list}[{first}]: the smaller of the two limits holds"));
        } else if before.chain(after).any(|other| other.hides(*limit)) {
            remark("", "is never reached: another limit does not let so many pass in that time".to_owned());
        }
    }
    remarks
}

impl Limit {
    /// Whether no window of the other, longer one can be filled while this one holds.
    fn hides(&self, other: Self) -> bool {
        let (mine, theirs) = (self.time_period_in_milliseconds, other.time_period_in_milliseconds);
        // One window of mine may have begun before theirs.
        let windows = theirs.div_ceil(mine.max(1)).saturating_add(1);
        mine < theirs && self.maximum_requests.saturating_mul(windows) <= other.maximum_requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(limits: &[(u64, u64)]) -> Vec<Limit> {
        let limit =
            |&(maximum_requests, time_period_in_milliseconds)| Limit { maximum_requests, time_period_in_milliseconds };
        limits.iter().map(limit).collect()
    }

    fn texts(faults: Vec<Fault>) -> Vec<String> {
        faults.into_iter().map(|fault| format!("{}: {}", fault.field, fault.text)).collect()
    }

    #[test]
    fn numbers_out_of_range_are_faults() {
        let check = |written: &[(u64, u64)]| texts(faults("l", &limits(written)));
        assert_eq!(check(&[(1, 1), (REQUESTS_MAX, PERIOD_MS_MAX)]), <[String; 0]>::default());
        assert_eq!(check(&[]), ["l: must have one limit at least"]);
        assert_eq!(check(&[(1, 1); LIMITS_MAX + 1]), ["l: more than 16 limits"]);
        assert_eq!(
            check(&[(0, PERIOD_MS_MAX + 1), (REQUESTS_MAX + 1, 0)]),
            [
                "l[0].maximumRequests: expected 1 to 1000000000000",
                "l[0].timePeriodInMilliseconds: expected 1 to 31622400000",
                "l[1].maximumRequests: expected 1 to 1000000000000",
                "l[1].timePeriodInMilliseconds: expected 1 to 31622400000",
            ]
        );
    }

    #[test]
    fn limits_that_are_hardly_meant_are_remarked_on() {
        let check = |written: &[(u64, u64)]| texts(remarks("l", &limits(written)));
        let none = <[String; 0]>::default();
        assert_eq!(check(&[(10, 1000), (100, 60_000), (1, 10)]), none);
        assert_eq!(check(&[(1, 9), (1, 32 * DAY_MS)]).len(), 2);
        assert_eq!(
            check(&[(10, 1000), (5, 1000)]),
            ["l[1]: has the period of l[0]: the smaller of the two limits holds"]
        );
        // Eleven windows of a second may touch ten seconds.
        assert_eq!(check(&[(10, 1000), (109, 10_000)]), none);
        let never = "l[1]: is never reached: another limit does not let so many pass in that time";
        assert_eq!(check(&[(10, 1000), (110, 10_000)]), [never]);
        assert_eq!(check(&[(110, 10_000), (10, 1000)]), [never.replace("l[1]", "l[0]")]);
        assert_eq!(check(&[(0, 0), (u64::MAX, u64::MAX)]).len(), 2, "what is a fault too does no harm here");
    }
}
