//! Quotas: how many requests of a key a window admits, exactly, over cores and replicas.
//!
//! Counters live on three levels, and each spends only what the one above has granted it: the *authority* (Redis, where
//! replicas share; else the ledger itself), the [`Ledger`] of a replica, and each core's [`Balances`]. What a core has in its
//! balance it spends by one compare-and-swap in memory that only it writes. What it has not spent the ledger takes back before
//! it says no. So within a replica nobody waits for a thread, and nothing is refused that could have been admitted.
//!
//! What holds:
//!
//! - A window begins with the first request that all limits admit (its start may be rounded down to 1 ms), has the configured
//!   length, and admits at most its limit: over cores and replicas, whatever is lost, late, doubled or reordered between them
//!   and the authority, whoever crashes, and whatever clocks say, as long as none runs faster than another by a thousandth.
//! - Nothing opens a window ahead of a request, and nobody waits for longer than [`WAIT_MAX_US`].
//! - Windows survive a reload: counters belong to the limiter's identity, the key, the period and its ordinal among equal ones.
//!   A changed maximum keeps the count.
//! - No window that is open is forgotten to make room for a key (`Ledger::find`).
//!
//! What it costs: a lease that its replica does not need is returned after an eighth of the window, and of the window in which
//! that happens it may go unused. Leases end up to 1 ms and a thousandth of their length before their window does.
//!
//! Where it ends:
//!
//! - *The authority is away*, and the limiter counts [`OnStorageFailure::Local`]ly: leases are spent to their end, then each
//!   replica has windows of its own with `max(1, limit / replicas)`. A window that the storage left, or that began when it was
//!   back for all replicas, admits at most twice its limit. While some replicas have the authority and others do not, the
//!   others' windows are not its windows: up to two of each may meet in one of its own. A replica that is started anew does not
//!   know its windows. With [`OnStorageFailure::Deny`] none of this happens.
//! - *An answer is missed* or refused while the authority is there, and the limiter counts locally: the key is counted here for a
//!   second, or for its shortest window, as if the authority were away. What is granted between two such times prolongs the
//!   windows that are open here, so all of them together admit what one does.
//! - *The authority forgets* what it has acknowledged: each time may begin a key's window anew once. A clock of the authority's
//!   that is set forward is such a time; one that is set back stretches windows.
//! - *A changed maximum*: of a window the larger one may be admitted that held while it was open.
//!
//! This is pure computation: no I/O, no thread, and no clock; every function is told what time it is. [`Clock`] is for who
//! calls them.

pub mod authority;
mod balances;
mod cell;
mod clock;
mod entry;
mod lease;
mod ledger;
mod name;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod windows;

pub use authority::{Answer, Asked, Field, Lost, Question, Returned, Stands};
pub use balances::Balances;
pub use clock::Clock;
pub use ledger::{Counts, Ledger, Storage, Ticket};

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use serde::Deserialize;

/// Microseconds since a start that all cores of the replica share. It never goes back on one core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tick(pub u64);

impl Tick {
    /// So many microseconds later.
    pub fn after(self, us: u64) -> Self {
        Self(self.0.saturating_add(us))
    }

    /// Microseconds since then; 0 where that is still to come.
    pub fn since(self, then: Self) -> u64 {
        self.0.saturating_sub(then.0)
    }

    /// Until then, in whole milliseconds, rounded up.
    fn ms_until(self, then: Self) -> u64 {
        then.since(self).div_ceil(1000)
    }
}

/// At most `maximum` requests in a window of `period` microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    pub maximum: u64,
    pub period: u64,
}

/// What becomes of a request that only the authority could decide, while it does not answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnStorageFailure {
    /// Each replica admits its share of the limit.
    #[default]
    Local,
    /// [`Decision::Unavailable`].
    Deny,
    /// Admitted, without being counted.
    Allow,
}

/// Limits that a request spends together or not at all, as one policy has them.
#[derive(Debug)]
pub struct Limiter {
    /// The same on all replicas and over reloads; of all that is configured but the limits.
    pub identity: u64,
    pub limits: Box<[Limit]>,
    /// Counted for all replicas together, where there is a storage.
    pub shared: bool,
    pub on_storage_failure: OnStorageFailure,
    /// A client is told how the limits stand. Then every [`Standing`] is exact, and cores share one balance for it; else
    /// the standing of an admitted request is what this core knows.
    pub tells: bool,
    /// Later ones have a larger number: so cores that have not heard of a new configuration yet do not bring the old one back.
    age: u64,
    /// The limits as the authority is asked for them.
    asked: Arc<[Asked]>,
}

impl Limiter {
    /// Of two with one identity the one that was made later holds, for all cores as soon as one of them spends from it.
    ///
    /// # Panics
    /// Without limits, or with a period of nought.
    pub fn new(
        identity: u64,
        limits: impl Into<Box<[Limit]>>,
        shared: bool,
        on_storage_failure: OnStorageFailure,
        tells: bool,
    ) -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let limits = limits.into();
        assert!(!limits.is_empty() && limits.iter().all(|limit| limit.period > 0), "limits that can be counted");
        let (asked, age) = (authority::asked(&limits), MADE.fetch_add(1, Ordering::Relaxed));
        Self { identity, limits, shared, on_storage_failure, tells, age, asked }
    }

    fn shortest_period(&self) -> u64 {
        self.limits.iter().map(|limit| limit.period).min().unwrap_or_default()
    }
}

/// Looked at again when it is called; any thread may.
pub type Wake = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Admitted(Standing),
    Refused(Standing),
    /// The storage is away, and without it nothing is admitted.
    Unavailable,
    /// Only the authority knows. Spend again when the bell rings, or so many microseconds later if it does not. No request
    /// waits for more than [`WAIT_MAX_US`] in all.
    Wait {
        at_most_us: u64,
    },
}

/// A quarter of a second: then it is decided without the authority.
pub const WAIT_MAX_US: u64 = 250_000;

/// How the most restrictive limit stands: the one with least remaining, then the latest reset. The default: nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub limit: u64,
    pub remaining: u64,
    /// Milliseconds until the window ends, rounded up; never 0 where the request was refused.
    pub reset_ms: u64,
}
