//! One thing that a replica has from somebody outside, such as a token of its own: asked for by the first who needs it, and anew
//! while it is still good. After a failure whoever has it is left alone for a while.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{Flights, Key, Lead, Look, Wake};

/// The part of its lifetime after which it is asked for anew.
const FRESH: f64 = 0.8;
/// After a failure, doubling.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// There is one.
const KEY: Key = [0; 32];

pub struct Renewed<V, E> {
    flights: Arc<Flights<Held<V, E>>>,
    pausing: Mutex<Pausing>,
}

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held<V, E> {
    Good { value: V, refresh_at: Instant },
    None(E),
}

/// How long it is good for, and how long it is handed out: less, since it has yet to reach whoever it is for.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    pub good: Duration,
    pub serves: Duration,
}

/// Failures in a row, and until when it is not asked for ahead of time.
#[derive(Default)]
struct Pausing {
    failures: u32,
    until: Option<Instant>,
}

impl<V: Clone + Send, E: Clone + Send> Renewed<V, E> {
    pub fn look(&self, now: Instant, bell: impl FnOnce() -> Option<Wake>) -> Look<Held<V, E>> {
        self.flights.look(&KEY, now, bell)
    }

    /// The right to ask for the next one while this one is good; for whoever comes first.
    pub fn renew(&self, held: &Held<V, E>, now: Instant) -> Option<Lead<Held<V, E>>> {
        let Held::Good { refresh_at, .. } = held else { return None };
        let is_due = *refresh_at <= now && self.pausing().until.is_none_or(|until| until <= now);
        is_due.then(|| self.flights.lead(&KEY)).flatten()
    }

    /// What came of it. `is_needed`: nobody has one, so that its lack is an answer too, and holds for a pause.
    pub fn settle(&self, lead: Lead<Held<V, E>>, outcome: Result<(V, Lifetime), E>, is_needed: bool, now: Instant) {
        match outcome {
            Ok((value, Lifetime { good, serves })) => {
                *self.pausing() = Pausing::default();
                let held = Held::Good { value, refresh_at: now + good.mul_f64(FRESH) };
                lead.settle(held, Some(now + serves).filter(|until| *until > now));
            }
            Err(error) => {
                let until = self.failed(now);
                if is_needed {
                    lead.settle(Held::None(error), Some(until));
                }
            }
        }
    }

    /// Until when it is not asked for.
    fn failed(&self, now: Instant) -> Instant {
        let mut pausing = self.pausing();
        let pause = PAUSE_MIN.saturating_mul(1 << pausing.failures.min(16)).min(PAUSE_MAX);
        pausing.failures = pausing.failures.saturating_add(1);
        let until = now + pause;
        pausing.until = Some(until);
        until
    }

    fn pausing(&self) -> MutexGuard<'_, Pausing> {
        self.pausing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone + Send, E: Clone + Send> Default for Renewed<V, E> {
    fn default() -> Self {
        Self { flights: Flights::new(1, 1), pausing: Mutex::default() }
    }
}

impl<V, E> fmt::Debug for Renewed<V, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.flights.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent() -> Option<Wake> {
        Some(Box::new(|| ()))
    }

    fn hour(value: &'static str) -> Result<(&'static str, Lifetime), &'static str> {
        let good = Duration::from_secs(3600);
        Ok((value, Lifetime { good, serves: good - Duration::from_secs(5) }))
    }

    #[test]
    fn the_next_one_is_asked_for_while_the_last_is_good_and_failures_wait_longer_each_time() {
        let renewed = Renewed::<&str, &str>::default();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        let Look::Asks(lead, _) = renewed.look(now, silent) else { panic!("nobody has asked") };
        renewed.settle(lead, hour("a"), true, now);
        let Look::Known(held) = renewed.look(after(3594), silent) else { panic!("it is known") };
        assert!(renewed.renew(&held, after(2879)).is_none());
        let lead = renewed.renew(&held, after(2880)).expect("it is due");
        assert!(renewed.renew(&held, after(2880)).is_none(), "somebody asks");
        renewed.settle(lead, Err("late"), false, after(2880));
        assert_eq!(renewed.renew(&held, after(2880)).map(drop), None, "after a pause");
        let lead = renewed.renew(&held, after(2881)).expect("the pause is over");
        assert!(matches!(renewed.look(after(2881), silent), Look::Known(Held::Good { value: "a", .. })), "still good");
        renewed.settle(lead, Err("late"), false, after(2881));
        assert!(renewed.renew(&held, after(2882)).is_none(), "twice as long");
        let lead = renewed.renew(&held, after(2883)).expect("the pause is over");
        renewed.settle(lead, hour("b"), false, after(2883));
        assert!(matches!(renewed.look(after(3700), silent), Look::Known(Held::Good { value: "b", .. })));
        let Look::Asks(lead, _) = renewed.look(after(9000), silent) else { panic!("it has run out") };
        renewed.settle(lead, Err("late"), true, after(9000));
        assert!(matches!(renewed.look(after(9000), silent), Look::Known(Held::None("late"))));
        assert!(
            matches!(renewed.look(after(9001), silent), Look::Asks(..)),
            "pauses begin anew after one that was good"
        );
    }
}
