//! A destination that has failed often enough in a row is left alone for a while, and then tried with one call. Does no I/O.

use std::time::Duration;

use tokio::time::Instant;

use crate::management::chance::jittered;

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
}

impl Circuit {
    /// Whether a call may be made now.
    pub fn admits(&mut self, now: Instant) -> bool {
        match self.open_until {
            None => true,
            Some(until) if until > now || self.is_probed => false,
            Some(_) => {
                self.is_probed = true;
                true
            }
        }
    }

    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    pub fn failed(&mut self, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.is_probed = false;
        if self.failures >= FAILURES_MAX {
            let pause = PAUSE_MIN * 2_u32.saturating_pow((self.failures - FAILURES_MAX).min(16));
            self.open_until = Some(now + jittered(pause.min(PAUSE_MAX)));
        }
    }

    /// Nothing was learned from a call.
    pub fn given_up(&mut self) {
        self.is_probed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_after_one_success() {
        let (mut circuit, now) = (Circuit::default(), Instant::now());
        (1..FAILURES_MAX).for_each(|_| circuit.failed(now));
        circuit.succeeded();
        (1..FAILURES_MAX).for_each(|_| circuit.failed(now));
        assert!(circuit.admits(now));
        circuit.failed(now);
        assert!(!circuit.admits(now + PAUSE_MIN / 2 - Duration::from_millis(1)));
        let later = now + PAUSE_MIN;
        assert!(circuit.admits(later) && !circuit.admits(later), "one probe");
        circuit.failed(later);
        assert!(!circuit.admits(later + PAUSE_MIN - Duration::from_millis(1)) && circuit.admits(later + 2 * PAUSE_MIN));
        circuit.given_up();
        assert!(circuit.admits(later + 2 * PAUSE_MIN));
        circuit.succeeded();
        assert!(circuit.admits(now) && circuit.admits(now));
    }
}
