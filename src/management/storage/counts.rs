//! What is counted of a shared storage, and how it stands: for metrics, pages and the log.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use crate::{
    storage::State,
    telemetry::{fault::Fault, histogram::Histogram},
};

/// How it stands now.
#[derive(Clone, Debug)]
pub struct Standing {
    pub state: State,
    /// `redis`, `sentinel` or `cluster`, as far as it is known; empty for memory.
    pub kind: &'static str,
    /// Why it is away, or what was refused last.
    pub fault: Option<Fault>,
    pub since: SystemTime,
    /// That were seen last, with this one; before any were, as many as there are said to be.
    pub replicas: usize,
    /// Some were seen.
    saw_replicas: bool,
}

#[derive(Clone, Debug)]
pub struct Totals {
    /// As sent; what scripts do inside is not counted.
    pub commands: u64,
    /// Of whole connections and of commands, by reason.
    pub errors: BTreeMap<&'static str, u64>,
    pub connects: u64,
    /// From a batch's first byte to its last answer.
    pub latency: Histogram,
}

/// Shared by everything that speaks with it; held for a few assignments only.
#[derive(Debug)]
pub struct Counts(Mutex<(Standing, Totals)>);

impl Default for Counts {
    fn default() -> Self {
        let since = SystemTime::now();
        let standing =
            Standing { state: State::Memory, kind: "", fault: None, since, replicas: 1, saw_replicas: false };
        let totals = Totals { commands: 0, errors: BTreeMap::new(), connects: 0, latency: Histogram::new() };
        Self(Mutex::new((standing, totals)))
    }
}

impl Counts {
    pub fn sent(&self, commands: usize) {
        self.lock().1.commands += commands as u64;
    }

    pub fn answered(&self, after: Duration) {
        self.lock().1.latency.record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn failed(&self, reason: &'static str) {
        *self.lock().1.errors.entry(reason).or_default() += 1;
    }

    pub fn connected(&self) {
        self.lock().1.connects += 1;
    }

    /// Returns what it was before where it is another now.
    pub fn stands(&self, state: State, kind: &'static str, fault: Option<Fault>) -> Option<Standing> {
        let standing = &mut self.lock().0;
        standing.fault = fault;
        if (standing.state, standing.kind) == (state, kind) {
            return None;
        }
        let before = standing.clone();
        *standing = Standing { state, kind, fault: standing.fault.clone(), since: SystemTime::now(), ..before };
        Some(before)
    }

    pub fn saw_replicas(&self, replicas: usize) {
        let standing = &mut self.lock().0;
        (standing.replicas, standing.saw_replicas) = (replicas, true);
    }

    /// What counts until some were seen.
    pub fn assume_replicas(&self, replicas: usize) {
        let standing = &mut self.lock().0;
        if !standing.saw_replicas {
            standing.replicas = replicas;
        }
    }

    /// Without a storage there is nobody else.
    pub fn sees_nobody(&self) {
        let standing = &mut self.lock().0;
        (standing.replicas, standing.saw_replicas) = (1, false);
    }

    pub fn replicas(&self) -> usize {
        self.lock().0.replicas
    }

    pub fn standing(&self) -> Standing {
        self.lock().0.clone()
    }

    pub fn totals(&self) -> Totals {
        self.lock().1.clone()
    }

    fn lock(&self) -> MutexGuard<'_, (Standing, Totals)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
