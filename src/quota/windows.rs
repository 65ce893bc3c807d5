//! The windows of one key, where this replica counts for itself.

use super::{Limit, Standing, Tick};

/// A replica's part of each limit, where it counts for one of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share(pub u64);

impl Share {
    pub const WHOLE: Self = Self(1);

    /// At least one, of a limit that admits any: so limits below the number of replicas may reach that number.
    fn of(self, limit: &Limit) -> u64 {
        (limit.maximum / self.0.max(1)).max(1).min(limit.maximum)
    }
}

/// One for each limit, in their order.
#[derive(Debug)]
pub struct Windows(Box<[Window]>);

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    /// Exclusive. Nought where none has begun.
    ends: Tick,
    /// Admitted, or lent to cores.
    used: u64,
}

/// Which limit has nothing left, the one with the latest end where there are several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exhausted {
    pub until: Tick,
    pub limit: u64,
}

impl Exhausted {
    pub const NOTHING: Self = Self { until: Tick(0), limit: 0 };

    pub fn standing(&self, now: Tick) -> Standing {
        Standing { limit: self.limit, remaining: 0, reset_ms: now.ms_until(self.until).max(1) }
    }
}

impl Windows {
    pub fn new(limits: &[Limit]) -> Self {
        Self(limits.iter().map(|_| Window::default()).collect())
    }

    /// Whether one that was open is over now: then what was lent has ended too, and is to be given back before [`Self::close`].
    pub fn have_ended(&self, now: Tick) -> bool {
        self.0.iter().any(|window| window.is_open() && window.ends <= now)
    }

    pub fn close(&mut self, now: Tick) {
        self.0.iter_mut().filter(|window| window.ends <= now).for_each(|window| *window = Window::default());
    }

    /// Whether none is open any more.
    pub fn are_over(&self, now: Tick) -> bool {
        self.0.iter().all(|window| window.ends <= now)
    }

    /// What was lent and not spent.
    pub fn give_back(&mut self, requests: u64) {
        for window in &mut self.0 {
            window.used = window.used.saturating_sub(requests);
        }
    }

    /// How many more requests all limits admit.
    pub fn free(&self, limits: &[Limit], share: Share) -> u64 {
        let each = limits.iter().zip(&self.0);
        each.map(|(limit, window)| share.of(limit).saturating_sub(window.used)).min().unwrap_or_default()
    }

    /// Spends from all limits; those whose window is closed open one. Returns when the first of them ends.
    pub fn take(&mut self, limits: &[Limit], requests: u64, now: Tick) -> Tick {
        for (limit, window) in limits.iter().zip(&mut self.0) {
            if !window.is_open() {
                window.ends = now.after(limit.period);
            }
            window.used += requests;
        }
        self.0.iter().map(|window| window.ends).min().unwrap_or_default()
    }

    /// Where nothing is free.
    pub fn exhausted(&self, limits: &[Limit], share: Share, now: Tick) -> Exhausted {
        let each = limits.iter().zip(&self.0).filter(|(limit, window)| window.used >= share.of(limit));
        let exhausted = each.map(|(limit, window)| {
            // A limit of nought has no window, and is asked after again in a period.
            let until = if window.is_open() { window.ends } else { now.after(limit.period) };
            Exhausted { until, limit: limit.maximum }
        });
        exhausted.max_by_key(|exhausted| exhausted.until).unwrap_or(Exhausted { until: now, limit: 0 })
    }

    /// With what is lent counted as used.
    pub fn standing(&self, limits: &[Limit], share: Share, now: Tick) -> Standing {
        let each = limits.iter().zip(&self.0).map(|(limit, window)| {
            let remaining = share.of(limit).saturating_sub(window.used);
            Standing { limit: limit.maximum, remaining, reset_ms: now.ms_until(window.ends) }
        });
        most_restrictive(each)
    }

    /// Windows that are open last for a period from now, and keep their counts.
    pub fn prolong(&mut self, limits: &[Limit], now: Tick) {
        for (limit, window) in limits.iter().zip(&mut self.0) {
            if window.ends > now {
                window.ends = now.after(limit.period);
            }
        }
    }

    /// The same windows for other limits: those of a period that was there before go on, each for its ordinal among equals.
    pub fn carried(&self, before: &[Limit], limits: &[Limit]) -> Self {
        let carried = limits.iter().enumerate().map(|(at, limit)| {
            let ordinal = limits[..at].iter().filter(|other| other.period == limit.period).count();
            let same = |other: &usize| before[*other].period == limit.period;
            let was = (0..before.len()).filter(same).nth(ordinal);
            was.map(|was| self.0[was]).unwrap_or_default()
        });
        Self(carried.collect())
    }
}

impl Window {
    fn is_open(&self) -> bool {
        self.ends > Tick(0)
    }
}

/// The one with least remaining, then the latest reset.
pub fn most_restrictive(standings: impl Iterator<Item = Standing>) -> Standing {
    standings
        .min_by_key(|standing| (standing.remaining, std::cmp::Reverse(standing.reset_ms)))
        .expect("a limiter has limits")
}
