//! Tells the time to those who run what is computed here.

use std::time::Instant;

use super::Tick;

/// One for all of a replica: its cores, its ledger and whoever asks the authority.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins at 0.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Tick {
        Tick(self.0.elapsed().as_micros() as u64)
    }
}
