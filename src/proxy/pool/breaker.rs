//! What one core may have of a Service at a time: its share of the replica's limits, and what is counted against it.

use super::{Unavailable, Upstream};

/// `usize::MAX` is no limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    pub connections: usize,
    pub pending: usize,
    pub requests: usize,
    pub retries: usize,
}

impl Upstream {
    /// Counts a request among those under way until it has its lease, which counts it from then on.
    pub(super) fn admit(&self) -> Result<Admitted<'_>, Unavailable> {
        if self.requests.get() >= self.limits.get().requests {
            return Err(Unavailable::RequestLimit);
        }
        self.requests.set(self.requests.get() + 1);
        Ok(Admitted(self))
    }

    /// Whether one more request may be retried.
    pub fn may_retry(&self) -> bool {
        self.retries.get() < self.limits.get().retries
    }

    pub fn retry_begins(&self) {
        self.retries.set(self.retries.get() + 1);
    }

    pub fn retry_ends(&self) {
        self.retries.set(self.retries.get() - 1);
    }
}

/// A request without a lease yet; dropped, it has one, or waits, or has failed.
pub(super) struct Admitted<'a>(&'a Upstream);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.requests.set(self.0.requests.get() - 1);
    }
}
