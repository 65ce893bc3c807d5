//! A destination that has failed often enough in a row is left alone for a while, and then tried with one call. Does no I/O.

use std::time::{Duration, Instant};

use super::chance::jittered;
use crate::telemetry::fault::Fault;

/// In a row.
const FAILURES_MAX: u32 = 5;
/// Doubling with each probe that failed.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Circuit {
    failures: u32,
    /// Nobody calls before; the first one after it is a probe.
    open_until: Option<Instant>,
    is_probed: bool,
    /// How often it has opened and closed.
    changes: u64,
}

/// The leave to call. What comes of a call is told with it: of calls that were under way together when the circuit opened, one
/// has opened it, and the others say nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leave {
    is_probe: bool,
    changes: u64,
}

impl Circuit {
    /// Whether a call may be made now.
    pub fn admits(&mut self, now: Instant) -> Option<Leave> {
        let is_probe = match self.open_until {
            None => false,
            Some(until) if until > now || self.is_probed => return None,
            Some(_) => {
                self.is_probed = true;
                true
            }
        };
        Some(Leave { is_probe, changes: self.changes })
    }

    pub fn succeeded(&mut self) {
        let changes = self.changes + u64::from(self.open_until.is_some());
        *self = Self { changes, ..Self::default() };
    }

    pub fn failed(&mut self, leave: Leave, now: Instant) {
        if leave.changes != self.changes {
            return;
        }
        self.failures = self.failures.saturating_add(1);
        self.is_probed &= !leave.is_probe;
        if self.failures >= FAILURES_MAX {
            self.changes += u64::from(self.open_until.is_none());
            let pause = PAUSE_MIN * 2_u32.saturating_pow((self.failures - FAILURES_MAX).min(16));
            self.open_until = Some(now + jittered(pause.min(PAUSE_MAX)));
        }
    }

    /// Nothing was learned from a call.
    pub fn given_up(&mut self, leave: Leave) {
        self.is_probed &= !leave.is_probe;
    }
}

/// Why nobody was asked.
pub fn closed_to_calls() -> Fault {
    Fault::new("circuit_open", "it has failed too often; it is tried again after a pause")
}

/// What a proxy or a server answers that does not do its work.
pub fn is_failure(status: u16) -> bool {
    matches!(status, 502..=504)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let fail = |circuit: &mut Circuit, now| {
            let leave = circuit.admits(now).expect("it may be called");
            circuit.failed(leave, now);
        };
        (1..FAILURES_MAX).for_each(|_| fail(&mut circuit, now));
        circuit.succeeded();
        (0..FAILURES_MAX).for_each(|_| fail(&mut circuit, now));
        assert_eq!(circuit.admits(now + PAUSE_MIN / 2 - Duration::from_millis(1)), None);
        let later = now + PAUSE_MIN;
        let probe = circuit.admits(later).expect("a probe");
        assert_eq!(circuit.admits(later), None, "one probe");
        circuit.failed(probe, later);
        assert_eq!(circuit.admits(later + PAUSE_MIN - Duration::from_millis(1)), None);
        let latest = later + 2 * PAUSE_MIN;
        let probe = circuit.admits(latest).expect("a probe");
        circuit.given_up(probe);
        assert!(circuit.admits(latest).is_some(), "another in its place");
        circuit.succeeded();
        assert!(circuit.admits(now).is_some() && circuit.admits(now).is_some());
    }

    #[test]
    fn calls_that_fail_together_count_as_what_they_are() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        let together: Vec<_> = (0..50).map(|_| circuit.admits(now).expect("closed")).collect();
        let (fresh, late) = together.split_at(40);
        fresh.iter().for_each(|leave| circuit.failed(*leave, now));
        let probe = circuit.admits(now + PAUSE_MIN).expect("the shortest pause");
        late[..3].iter().for_each(|leave| circuit.failed(*leave, now + PAUSE_MIN));
        late[3..5].iter().for_each(|leave| circuit.given_up(*leave));
        assert_eq!(circuit.admits(now + PAUSE_MIN), None, "still one probe");
        circuit.succeeded();
        late[5..].iter().for_each(|leave| circuit.failed(*leave, now + PAUSE_MIN));
        assert!(circuit.admits(now + PAUSE_MIN).is_some(), "they began before it opened");
        circuit.given_up(probe);
    }
}
