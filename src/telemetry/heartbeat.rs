//! A core's sign of life: one padded word that the core writes and liveness reads.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Shared by a core, which beats about every 100 ms, and the management thread, which reads.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Beat>);

/// On a cache line of its own, so that one core's beat does not cost another core a miss.
#[derive(Debug)]
#[repr(align(64))]
struct Beat {
    origin: Instant,
    last_ms: AtomicU64,
}

impl Heartbeat {
    /// Counts as alive from now on: a core that never starts is dead after the same time as one that stops.
    pub fn new() -> Self {
        Self(Arc::new(Beat { origin: Instant::now(), last_ms: AtomicU64::new(0) }))
    }

    pub fn beat(&self) {
        self.beat_at(Instant::now());
    }

    /// For a core that has read the clock already.
    pub fn beat_at(&self, now: Instant) {
        let since = now.saturating_duration_since(self.0.origin);
        self.0.last_ms.store(since.as_millis() as u64, Ordering::Relaxed);
    }

    /// How long ago the last beat was.
    pub fn age(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.0.origin);
        since.saturating_sub(Duration::from_millis(self.0.last_ms.load(Ordering::Relaxed)))
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_counts_from_the_last_beat() {
        let heart = Heartbeat::new();
        let start = heart.0.origin;
        assert_eq!(heart.age(start + Duration::from_secs(7)), Duration::from_secs(7));
        heart.beat_at(start + Duration::from_secs(6));
        assert_eq!(heart.age(start + Duration::from_secs(7)), Duration::from_secs(1));
        assert_eq!(heart.age(start), Duration::ZERO);
    }
}
