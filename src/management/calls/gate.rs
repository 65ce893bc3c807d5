//! Who may go to a place now: so many at a time, so many that wait for their turn, and nobody while its circuit is open.

use std::{
    future::Future,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::{
    calls::circuit::{Circuit, Leave, closed_to_calls},
    management::within::within,
    telemetry::fault::Fault,
};

/// Under way at one place, and those that wait for one of them to end.
const UNDER_WAY_MAX: usize = 64;
const WAITING_MAX: usize = 256;

pub struct Gate {
    permits: Semaphore,
    waiting: AtomicUsize,
    circuit: Mutex<Circuit>,
}

impl Default for Gate {
    fn default() -> Self {
        let permits = Semaphore::new(UNDER_WAY_MAX);
        Self { permits, waiting: AtomicUsize::new(0), circuit: Mutex::default() }
    }
}

impl Gate {
    /// Has `ask` done in its turn and in the time, and tells the circuit what came of it: an answer that `is_well` or not, or
    /// a fault. What is too large says nothing of the place.
    pub async fn pass<T, F: Future<Output = Result<T, Fault>>>(
        &self,
        time_max: Duration,
        ask: impl FnOnce() -> F,
        is_well: impl FnOnce(&T) -> bool,
    ) -> Result<T, Fault> {
        let Some(leave) = self.circuit().admits(now()) else {
            return Err(closed_to_calls());
        };
        let mut learning = Learning { gate: self, leave, learned: false };
        let has_begun = AtomicBool::new(false);
        let in_turn = async {
            let turn = self.turn().await.map_err(|fault| (fault, false))?;
            has_begun.store(true, Ordering::Relaxed);
            // Boxed: those that wait for their turn need no room for it.
            let answer = Box::pin(ask()).await.map_err(|fault| (fault, true));
            drop(turn);
            answer
        };
        match within(time_max, in_turn).await {
            Some(Ok(answer)) => {
                learning.learn(is_well(&answer));
                Ok(answer)
            }
            Some(Err((fault, is_its))) => {
                if is_its && fault.reason != "too_large" {
                    learning.learn(false);
                }
                Err(fault)
            }
            None if has_begun.load(Ordering::Relaxed) => {
                learning.learn(false);
                Err(Fault::new("timeout", format!("not done in {time_max:?}")))
            }
            // It never came to the place, which may be well.
            None => Err(Fault::new("full", format!("no turn in {time_max:?}: too many calls of this destination"))),
        }
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to a call, when there is room for it.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, Fault> {
        if let Ok(turn) = self.permits.try_acquire() {
            return Ok(turn);
        }
        let _waiting = Waiting::one_of(&self.waiting)?;
        self.permits.acquire().await.map_err(|_| Fault::new("ended", "nobody calls any more"))
    }
}

/// Tells the circuit what came of a call, also of one that was given up.
struct Learning<'g> {
    gate: &'g Gate,
    leave: Leave,
    learned: bool,
}

impl Learning<'_> {
    fn learn(&mut self, is_well: bool) {
        self.learned = true;
        match is_well {
            true => self.gate.circuit().succeeded(),
            false => self.gate.circuit().failed(self.leave, now()),
        }
    }
}

impl Drop for Learning<'_> {
    fn drop(&mut self) {
        if !self.learned {
            self.gate.circuit().given_up(self.leave);
        }
    }
}

/// By the runtime's clock.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// One of those that wait for their turn.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn one_of(all: &'w AtomicUsize) -> Result<Self, Fault> {
        let waiting = Self(all);
        match all.fetch_add(1, Ordering::Relaxed) < WAITING_MAX {
            true => Ok(waiting),
            false => Err(Fault::new("full", "too many calls of this destination wait for their turn")),
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
