//! What became of the calls that the management thread has made, for the metrics page.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::telemetry::calls::{self, Totals};

#[derive(Debug, Default)]
pub struct Counts(Mutex<Totals>);

impl Counts {
    pub fn count(&self, policy: &'static str, destination: String, outcome: &'static str, took: Duration) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        calls::of(&mut all, policy, destination).count(outcome, took);
    }

    pub fn totals(&self) -> Totals {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
