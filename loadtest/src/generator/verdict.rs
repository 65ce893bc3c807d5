//! Whether a result is one of the server: a generator that was itself the bottleneck reports that, and no number.

use super::{Loop, Outcome};

/// How much the generator may be in the way.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Of its CPU. Above, it had no time to be on time.
    pub cpu_share: f64,
    /// 99th percentile of its own lateness, in microseconds; open loop only.
    pub lag_us: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { cpu_share: 0.95, lag_us: 1_000.0 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Valid,
    /// The generator was the bottleneck, or nothing was measured; the reason is a sentence.
    Refused(String),
}

pub fn judge(outcome: &Outcome, pace: Loop, limits: Limits) -> Verdict {
    if outcome.completed == 0 {
        let reason = outcome.first_error.as_ref().map_or(String::new(), |reason| format!("; {reason}"));
        return Verdict::Refused(format!("no response came to its end ({}{reason})", errors(outcome)));
    }
    let share = outcome.cpu_share();
    if share > limits.cpu_share {
        let percent = share * 100.0;
        return Verdict::Refused(format!(
            "the generator was the bottleneck: its thread used {percent:.0} % of its CPU (limit {:.0} %)",
            limits.cpu_share * 100.0
        ));
    }
    let lag_us = outcome.lag.value_at_quantile(0.99) as f64 / 1e3;
    if matches!(pace, Loop::Open { .. }) && lag_us > limits.lag_us {
        return Verdict::Refused(format!(
            "the generator was the bottleneck: it sent {lag_us:.0} us late at the 99th percentile (limit {:.0} us)",
            limits.lag_us
        ));
    }
    Verdict::Valid
}

fn errors(outcome: &Outcome) -> String {
    let errors = &outcome.errors;
    format!(
        "{} could not connect, {} were cut off, {} took too long, {} were malformed, {} reset, {} refused",
        errors.connect, errors.closed, errors.timeout, errors.malformed, errors.reset, errors.refused
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedule::Shape;

    fn outcome(cpu_share: f64, lag_us: u64) -> Outcome {
        let mut outcome = Outcome::new();
        outcome.completed = 10;
        outcome.window_ns = 1_000_000_000;
        outcome.cpu_ns = vec![(cpu_share * 1e9) as u64];
        outcome.lag.saturating_record_n(lag_us * 1_000, 10);
        outcome
    }

    #[test]
    fn a_generator_in_the_way_gives_no_number() {
        let open = Loop::Open { per_second: 10.0, shape: Shape::Constant };
        let refusal = |outcome: &Outcome, pace| match judge(outcome, pace, Limits::default()) {
            Verdict::Valid => String::new(),
            Verdict::Refused(reason) => reason,
        };
        assert_eq!(refusal(&outcome(0.5, 100), open), "");
        assert!(refusal(&outcome(0.97, 100), open).contains("97 % of its CPU"));
        assert!(refusal(&outcome(0.97, 100), Loop::Closed).contains("97 % of its CPU"));
        assert!(refusal(&outcome(0.5, 5_000), open).contains("us late"));
        // A closed loop has no schedule to be late for.
        assert_eq!(refusal(&outcome(0.5, 5_000), Loop::Closed), "");
        assert!(refusal(&Outcome::new(), open).starts_with("no response"));
    }
}
